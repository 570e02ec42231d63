"""The robot of `server.py` as a Gymnasium environment: `gym:robot_env:Robot-v0`, with this folder on PYTHONPATH.

    python server.py --port 5555 &
    export PYTHONPATH=. ROBOT=127.0.0.1:5555
    segue data collect joint --task gym:robot_env:Robot-v0 --steps 400
    segue run iql data:joint --seeds 0, --set evaluation=none offline.gradient_steps=2000 online.environment_steps=500

The log is of random actions; with one of your own: `segue data import npz:log.npz joint --env robot_env:Robot-v0`.

`metadata["real"]` says that it exists once.  Segue then opens one connection, moves it in phases that collect and
nowhere else, evaluates nothing on it, and replays nothing when a run is resumed.
"""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import gymnasium
import numpy as np

HORIZON = 20


class Robot(gymnasium.Env):
    """Hold the joint at zero; the reward is minus the distance."""

    metadata = {"real": True}  # noqa: RUF012 - Gymnasium's own form
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self) -> None:
        # Nothing is opened here: whoever only asks for the spaces does not reach the robot.
        self._socket: socket.socket | None = None

    def connect(self) -> None:
        """Take the robot; it serves one client at a time."""
        host, _, port = os.environ["ROBOT"].partition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._file = self._socket.makefile("rw")

    def _ask(self, **message: Any) -> np.ndarray:
        if self._socket is None:
            self.connect()
        self._file.write(json.dumps(message) + "\n")
        self._file.flush()
        answer = json.loads(self._file.readline() or '{"error": "the robot has gone"}')
        if "error" in answer:
            raise ConnectionError(answer["error"])
        return np.asarray(answer["observation"], np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Drive to the start.  A robot has no seed."""
        super().reset(seed=seed)
        return self._ask(do="reset"), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Accelerate for one control period."""
        seen = self._ask(do="step", action=float(action[0]))
        return seen, -abs(float(seen[0])), False, False, {}

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


gymnasium.register("Robot-v0", entry_point="robot_env:Robot", max_episode_steps=HORIZON)
