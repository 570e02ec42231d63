"""A task and a recipe that the processes of a study import by name."""

from __future__ import annotations

from typing import Any

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
