"""Numbers that move while a phase goes on: weights in losses."""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp

from segue.core.options import require
from segue.core.types import Array


@dataclass(frozen=True)
class Linear:
    """A number that goes along a straight line from `start` to `end` in a phase's first `updates` updates, and stays.

    The update after n others sees the number of n + 1, so that `end` is there in update number `updates`.
    """

    start: float
    end: float
    updates: int

    def __post_init__(self) -> None:
        require(self, updates=self.updates > 0)

    @classmethod
    def of(cls, number: float, updates: int = 100_000) -> Linear:
        """A line that stays where it begins, for an option whose `end` is set by name (100,000: default of ours)."""
        return cls(number, number, updates)

    def at(self, step: Array) -> Array:
        """The number in the update after `step` others, a scalar."""
        share = jnp.minimum((step + 1.0) / self.updates, 1.0)
        return self.start + share * (self.end - self.start)


Schedule = float | Linear
START = jnp.int32(0)
"""Of a phase: no update before."""


def at(number: Schedule, step: Array) -> Array | float:
    """A number in the update after `step` others of its phase."""
    return number.at(step) if isinstance(number, Linear) else number


def ends(number: Schedule) -> tuple[float, float]:
    """The first and the last number; what must hold of it must hold of both."""
    return (number.start, number.end) if isinstance(number, Linear) else (number, number)


def reported(step: Array, **numbers: Schedule) -> dict[str, Array]:
    """Those of the numbers that move, as they stand in the update after `step` others."""
    return {name: number.at(step) for name, number in numbers.items() if isinstance(number, Linear)}
