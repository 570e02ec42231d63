"""How simulators are put into the state that a logged observation tells.

    observation of Hopper   z, angles | velocities       x is left out of it, and nothing depends on x

The table goes by the class of the environment, so that its versions and mazes share an entry.  Nothing here is trusted:
`Simulator` first tries an entry on steps of its own, and drops it if they do not come out the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Recoverer(NamedTuple):
    """How an environment's state is read off an observation.

    `put(env, observation)` puts the unwrapped environment into the state of an observation (O,) float64 and returns
    the number of leading columns that are state, or 0 if the observation does not tell the state.  `goal`: a
    goal follows the state, so that rewards depend on more than the state.  `position`: columns of x and y.
    """

    put: Callable[[Any, np.ndarray], int]
    goal: bool = False
    position: slice | None = None


def _mujoco(inner: str, hidden: int, clip: float = math.inf, moved: int = 0) -> Callable[[Any, np.ndarray], int]:
    """Positions but the first `hidden`, then velocities, which the observation clips at +-`clip`.

    The first `moved` positions stand behind the velocities, if the keys of the observation have that order.
    """

    def put(env: Any, observation: np.ndarray) -> int:
        body = getattr(env, inner) if inner else env
        positions, speeds = int(body.model.nq), int(body.model.nv)
        size = positions - hidden + speeds
        told = np.roll(observation[:size], moved)
        state = np.concatenate([np.zeros(hidden), told])
        if len(state) < positions + speeds or (np.abs(state[positions:]) >= clip).any():
            return 0
        body.set_state(state[:positions], state[positions:])
        return size

    return put


def _pendulum(env: Any, observation: np.ndarray) -> int:
    """Cosine and sine of the angle, and its speed."""
    env.state = np.array([math.atan2(observation[1], observation[0]), observation[2]])
    env.last_u = None
    return 3


def _car(env: Any, observation: np.ndarray) -> int:
    """Position and speed."""
    env.state = np.array(observation[:2])
    return 2


XY = slice(0, 2)
RECOVERERS: dict[str, tuple[Recoverer, ...]] = {
    "HopperEnv": (Recoverer(_mujoco("", 1, 10.0)),),
    "Walker2dEnv": (Recoverer(_mujoco("", 1, 10.0)),),
    "HalfCheetahEnv": (Recoverer(_mujoco("", 1)),),
    "AntEnv": (Recoverer(_mujoco("", 2)),),
    "SwimmerEnv": (Recoverer(_mujoco("", 2)),),
    "InvertedPendulumEnv": (Recoverer(_mujoco("", 0)),),
    "PointMazeEnv": (Recoverer(_mujoco("point_env", 0), goal=True, position=XY),),
    "AntMazeEnv": (
        Recoverer(_mujoco("ant_env", 0), goal=True, position=XY),
        Recoverer(_mujoco("ant_env", 0, moved=2), goal=True, position=slice(27, 29)),
    ),
    "PendulumEnv": (Recoverer(_pendulum),),
    "Continuous_MountainCarEnv": (Recoverer(_car),),
}
