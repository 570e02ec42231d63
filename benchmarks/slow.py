"""HalfCheetah-v5 that may sleep in every step, in a module of its own: other processes import it without JAX."""

from __future__ import annotations

import time
from typing import Any

import gymnasium


class Slow(gymnasium.Wrapper):
    """Sleeps so many seconds in every step."""

    def __init__(self, env: gymnasium.Env, seconds: float) -> None:
        super().__init__(env)
        self.seconds = seconds

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Sleep, and step."""
        time.sleep(self.seconds)
        return self.env.step(action)


def quick() -> gymnasium.Env:
    """As it is: 0.04 ms a step."""
    return gymnasium.make("HalfCheetah-v5")


def slow() -> gymnasium.Env:
    """5 ms a step."""
    return Slow(quick(), 5e-3)
