"""A task and a recipe that the processes of a study import by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from segue.agents import IQL
from segue.engine.phase import Phase
from segue.recipes.method import published
from segue.recipes.plan import Evaluation
from segue.samplers.uniform import Mix
from tests.corridor import Corridor
from tests.toys import UNITS, CorridorTask, corridor_data

NETS = {"actor_hidden": (8,), "critic_hidden": (8,)}
TASK, RECIPE = "tests.study.own:Task", "tests.study.own:recipe"


class Task(CorridorTask):
    """The corridor with its log."""

    name = TASK

    def __init__(self) -> None:
        super().__init__(corridor_data())

    make_env = Corridor  # type: ignore[assignment]

    def card(self) -> dict[str, Any]:
        return {**super().card(), "env": "Corridor", "env_kwargs": {}, "horizon": self.horizon, "options": {}}


recipe = published(
    RECIPE,
    "no paper",
    "nothing",
    (
        Phase("offline", IQL(**NETS), gradient_steps=40, batch=Mix(16), log_every=10),  # type: ignore[arg-type]
        Phase("online", IQL(**NETS), environment_steps=40, batch=Mix(8, 8), log_every=10, evaluate_every=20),  # type: ignore[arg-type]
    ),
    UNITS,
    Evaluation(2),
)


AIM, DIAL, AIMED = 0.3, "tests.study.own:Dial", "tests.study.own:aimed"


class Dialled:
    """One step; its reward says how far the action is from a planted one."""

    def reset(self, seed: int) -> np.ndarray:
        return np.zeros(2, np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, bool]:
        return np.zeros(2, np.float32), -abs(float(action[0]) - AIM), True, False, False

    def close(self) -> None:
        pass


class Dial(CorridorTask):
    """A task without a log whose score is the reward."""

    name, horizon = DIAL, 1
    make_env = Dialled  # type: ignore[assignment]

    def score(self, raw_return: np.ndarray, success: np.ndarray) -> np.ndarray:
        return np.asarray(raw_return)


@dataclass(frozen=True)
class Aimer:
    """An agent that learns nothing: its option is its action."""

    policy: ClassVar[tuple[str, ...]] = ()
    aim: float = 0.0

    def init(self, key: Any, spec: Any) -> Any:
        return jnp.zeros(1)

    def update(self, state: Any, batch: Any, key: Any, step: Any) -> Any:
        return state, {}

    def act(self, state: Any, observation: Any, key: Any, explore: bool) -> Any:
        return jnp.full((len(observation), 1), self.aim) + state

    def q(self, state: Any, observation: Any, action: Any) -> Any:
        return jnp.zeros(len(observation))


aimed = published(
    AIMED,
    "no paper",
    "nothing",
    (Phase("online", Aimer(), slot="agent", environment_steps=4, batch=Mix(0, 4)),),
    UNITS,
    Evaluation(1),
)
