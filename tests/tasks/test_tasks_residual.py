"""Residual tasks: an agent corrects a policy that Segue did not train."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

import segue
from segue.core.log import Data
from segue.core.types import SegueError
from segue.tasks.residual import Residual
from tests.engine.test_guides import Counting

HERE = "tests.tasks.test_tasks_residual"


class Line(gymnasium.Env):
    """Moves by its action, which lies in [0, 4]; an episode has 5 steps."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gymnasium.spaces.Box(0.0, 4.0, (1,))

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.x = 0.0
        return self._see(), {}

    def step(self, action: np.ndarray) -> Any:
        self.x += float(action[0])
        return self._see(), -abs(self.x - 6.0), False, False, {}

    def _see(self) -> np.ndarray:
        return np.asarray([self.x, 1.0], np.float32)


class Pushes:
    """Pushes by as much as steps have been taken in the episode, in the environment's own units."""

    def reset(self) -> None:
        self.steps = -1

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.steps += 1
        return np.asarray([min(self.steps, 4)])


def task(**changes: Any) -> Any:
    made = segue.GymTask.custom(Line, horizon=5, **changes)
    return replace(made, residual=Residual(f"{HERE}:Pushes", 0.5))


def test_actions_are_corrections_of_what_the_base_would_do() -> None:
    world = task().make_env()
    seen = world.reset(0)
    np.testing.assert_allclose(seen, [0.0, 1.0, -1.0])  # 0 of [0, 4] is -1
    xs = [0.0]
    for correction in (0.0, 1.0, -1.0, 0.0, 1.0):
        seen, *_, over, _ = world.step(np.asarray([correction]))
        xs.append(float(seen[0]))
    # Half of half the range, 2, is 1: 0, 1 + 1, 2 - 1, 3, 4 + 1 kept within 4.
    np.testing.assert_allclose(np.diff(xs), [0.0, 2.0, 1.0, 3.0, 4.0], atol=1e-6)
    assert over
    np.testing.assert_allclose(world.reset(1)[2], -1.0)  # the base policy has forgotten
    np.testing.assert_allclose(world.action_bounds, [[-1.0], [1.0]])
    assert task().spec == segue.Spec((3,), 1)


def test_a_log_becomes_one_of_corrections() -> None:
    """Two episodes in which the base acts with noise: corrections are the noise, and what is out of reach is cut."""
    noise = np.asarray([0.1, -0.2, 0.3, 0.9, -0.4, 0.2])[:, None]
    base = np.asarray([0, 1, 2, 0, 1, 2])[:, None] / 2.0 - 1.0
    seen = np.arange(12, dtype=np.float32).reshape(6, 2)
    ends = np.asarray([0, 0, 1, 0, 0, 1], bool)
    log = Data(seen, np.clip(base + noise, -1, 1), np.zeros(6), ends, np.zeros(6, bool), seen + 2)
    found = task(data=log).dataset()
    np.testing.assert_allclose(found.observation[:, 2:], base, atol=1e-6)
    np.testing.assert_allclose(found.next_observation[:, 2], [-0.5, 0.0, 0.5, -0.5, 0.0, 0.5], atol=1e-6)
    np.testing.assert_allclose(found.action, np.clip((np.clip(base + noise, -1, 1) - base) / 0.5, -1, 1), atol=1e-6)
    assert found.action.max() == 1.0
    assert found.sha256() != log.sha256()


def test_by_name_and_bad_words() -> None:
    name = f"gym:Pendulum-v1?residual=tests.engine.test_guides:{Counting.__name__}&residual_scale=0.2"
    found = segue.find_task(name)
    assert found.name == name
    assert "Pendulum-v1" in found.presets
    assert found.spec == segue.Spec((4,), 1)
    assert found.card()["residual"] == {"policy": "tests.engine.test_guides:Counting", "scale": 0.2}
    for wrong, says in (
        ("residual_scale=0.1", "name the policy that is corrected"),
        ("residual=me", "name the policy that is corrected"),
        ("residual=a:b&residual_scale=much", "residual_scale=much: is not a number"),
        ("residual=a:b&residual_scale=0", "scale=0"),
        ("residual=nothing.onnx", "there is no such file"),
    ):
        with pytest.raises(SegueError, match=says):
            segue.find_task(f"gym:Pendulum-v1?{wrong}").spec  # noqa: B018
