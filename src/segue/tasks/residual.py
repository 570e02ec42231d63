"""Residual tasks: the agent corrects a policy that Segue did not train (Silver et al. 2018, arXiv 1812.06298; Johannink
et al. 2019, arXiv 1812.03201), as a task like any other.

    observation = (what the world shows, what the base policy would do)         action = base + scale * correction

So every recipe learns corrections, offline too, and the base policy may remember: it is asked once for each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from segue.core.foreign import Foreign, is_foreign
from segue.core.log import Data
from segue.core.options import require
from segue.core.types import SegueError, Spec
from segue.tasks.envs import GymEnv


@dataclass(frozen=True)
class Residual:
    """Which policy is corrected, and by how much at most: `scale` in halves of an action's range (0.1 is a default of
    ours)."""

    policy: str
    """FILE.onnx or module:name (`segue.core.foreign`)."""
    scale: float = 0.1

    def __post_init__(self) -> None:
        require(self, policy=is_foreign(self.policy), scale=0 < self.scale <= 2)


class ResidualEnv(GymEnv):
    """A world whose observations end with the base policy's action in [-1, 1], and whose actions are corrections."""

    def __init__(self, residual: Residual, *made: Any) -> None:
        super().__init__(*made)
        if self.parts or len(self._shape) != 1 or self.observation_dtype != "float32":
            self.close()
            raise SegueError(f"residual={residual.policy}: needs observations that are vectors; these have images")
        self.residual = residual
        self.base = Foreign(residual.policy, Spec(self._shape, self.action_size), self.environment_bounds)
        self.observation_shape = (self._shape[0] + self.action_size,)
        self._action = np.zeros(self.action_size, np.float32)

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode of the world and of the base policy."""
        seen = super().reset(seed)
        self.base.reset(0)
        return self._beside(seen)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, float]:
        """Take base + scale * action, kept in [-1, 1]."""
        corrected = np.clip(self._action + self.residual.scale * np.clip(action, -1.0, 1.0), -1.0, 1.0)
        seen, *rest = super().step(corrected)
        return self._beside(seen), *rest  # type: ignore[return-value]

    @property
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest correction (A,) in the environment's units."""
        low, high = self.environment_bounds
        half = self.residual.scale * (high - low) / 2.0
        return -half, half

    def _beside(self, seen: np.ndarray) -> np.ndarray:
        self._action = self.base.act(0, seen)
        return np.concatenate([seen, self._action])


def corrections(data: Data, residual: Residual, bounds: tuple[np.ndarray, np.ndarray]) -> Data:
    """A log as one of a residual task: the base policy is asked at every row, in order, and what it would not do of
    what was done becomes the correction, kept within the scale.  `bounds` are the environment's, each (A,)."""
    size = data.action.shape[1]
    base = Foreign(residual.policy, Spec(data.observation.shape[1:], size), bounds)
    would, then = (np.zeros((len(data), size), np.float32) for _ in range(2))
    start = 0
    for stop in data.ends().tolist():
        base.reset(0)
        for row in range(start, stop):
            would[row] = base.act(0, np.asarray(data.observation[row]))
        then[start : stop - 1] = would[start + 1 : stop]
        then[stop - 1] = base.act(0, np.asarray(data.next_observation[stop - 1]))
        start = stop
    beside = lambda seen, action: np.concatenate([np.asarray(seen), action], axis=1, dtype=np.float32)  # noqa: E731
    return replace(
        data,
        observation=beside(data.observation, would),
        next_observation=beside(data.next_observation, then),
        action=np.clip((np.asarray(data.action) - would) / residual.scale, -1.0, 1.0).astype(np.float32),
        source=f"{data.source}, corrections of {residual.policy}",
        digest=None,
    )


def split(query: str) -> tuple[str, Residual | None]:
    """A task's options without those of a residual, and the residual: "residual=FILE.onnx&residual_scale=0.2"."""
    pairs = [item.partition("=")[::2] for item in query.split("&") if item]
    asked: Mapping[str, str] = {key: value for key, value in pairs if key in ("residual", "residual_scale")}
    rest = "&".join(f"{key}={value}" for key, value in pairs if key not in asked)
    if not asked:
        return rest, None
    if not is_foreign(asked.get("residual", "")):
        raise SegueError("residual: name the policy that is corrected: residual=FILE.onnx or residual=module:name")
    try:
        return rest, Residual(asked["residual"], float(asked.get("residual_scale", "0.1")))
    except ValueError as error:
        raise SegueError(f"residual_scale={asked['residual_scale']}: is not a number") from error
