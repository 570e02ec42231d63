"""Tiny worlds with known answers."""

from __future__ import annotations

import numpy as np

from segue.agents import CQL, SAC
from segue.core.log import Data
from segue.core.scaling import Scaling
from segue.core.types import Spec
from tests.corridor import HORIZON, Corridor

SPEC = Spec((2,), 1)
UNITS = Scaling(reward_scale=10.0, reward_shift=-5.0, discount=0.9, failure=0.0)


class CorridorTask:
    """The corridor as a task; `data=None` is a task without a dataset."""

    name, domain, presets, source = "corridor", "toy", (), "corridor"
    horizon, failure, spec, real, absent = HORIZON, 0.0, SPEC, False, False
    action_bounds = (np.asarray([-1.0]), np.asarray([1.0]))

    def __init__(self, data: Data | None = None) -> None:
        self.data = data

    def dataset(self) -> Data | None:
        return self.data

    def make_env(self) -> Corridor:
        return Corridor()

    def card(self) -> dict:
        return {"name": self.name, "observation": {"keys": [], "shape": [2], "dtype": "float32"}}

    def score(self, raw_return: np.ndarray, success: np.ndarray) -> np.ndarray:
        return 100.0 * np.asarray(success)


def corridor_data(episodes: int = 60, seed: int = 0, skill: float = 0.3) -> Data:
    """Noisy walks, mostly to the right."""
    rng, world = np.random.default_rng(seed), Corridor()
    rows: list[tuple] = []
    for e in range(episodes):
        observation = world.reset(seed * 1000 + e)
        while True:
            action = np.clip(rng.normal(skill, 0.7, 1), -1, 1).astype(np.float32)
            following, reward, terminated, truncated, _ = world.step(action)
            rows.append((observation, action, reward, terminated, truncated, following))
            observation = following
            if terminated or truncated:
                break
    columns = [np.asarray(c) for c in zip(*rows)]
    return Data(*(c.astype(np.float32) if c.dtype != bool else c for c in columns), source="corridor")


def small_cql(**changes: object) -> CQL:
    base = SAC(actor_hidden=(16,), critic_hidden=(16, 16), target_samples=2)
    return CQL(**({"base": base, "samples": 3} | changes))  # type: ignore[arg-type]
