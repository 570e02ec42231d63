"""PointMaze as a robot would see it: a camera above, and velocity from its own sensors."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from segue.data.extras import robotics
from segue.data.making.mazes import MAZES, PIXELS, REPEAT, VELOCITY, VIEWS
from segue.data.making.pixels import Camera
from segue.tasks.envs import ExactGoal


class PointMazePixels(gymnasium.Wrapper):
    """Gymnasium-robotics' PointMaze with a goal at the centre of its cell; observation: `pixels` and `velocity`.

    Reset with options "reset_cell" and "goal_cell".
    """

    metadata: dict[str, Any] = {"render_modes": []}  # noqa: RUF012 - Gymnasium 1.2 reads it from the class

    def __init__(self, maze: str, **keywords: object) -> None:
        robotics()
        made = gymnasium.make(MAZES[maze].env, max_episode_steps=None, disable_env_checker=True, **keywords)
        super().__init__(ExactGoal(made))
        view, self._point = VIEWS[maze], made.get_wrapper_attr("point_env")
        self._camera = Camera(self._point.model, len(made.get_wrapper_attr("maze").maze_map), view.size)
        self.observation_space = gymnasium.spaces.Dict(
            {
                PIXELS: gymnasium.spaces.Box(0, 255, (view.size, view.size, 3), np.uint8),
                VELOCITY: gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, object] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, object]]:
        """Begin an episode."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._seen(observation), info

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, object]]:
        """Push for `REPEAT` steps of the simulator, or until the goal is reached; their rewards are added."""
        total = 0.0
        for _ in range(REPEAT):
            observation, reward, terminated, truncated, info = self.env.step(action)
            total += float(reward)
            if terminated or truncated:
                break
        return self._seen(observation), total, terminated, truncated, info

    def close(self) -> None:
        """Release camera and simulator."""
        self._camera.close()
        super().close()

    def _seen(self, observation: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {
            PIXELS: self._camera(self._point.data),
            VELOCITY: np.asarray(observation["observation"][2:], np.float32),
        }
