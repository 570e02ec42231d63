"""Tasks: a dataset, simulators with actions in [-1, 1], and a score of returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.core.lazy import face

if TYPE_CHECKING:
    from segue.tasks.catalogue import sources_of
    from segue.tasks.envs import GymEnv, make_env
    from segue.tasks.records import Group, Record
    from segue.tasks.scores import reference_score, reference_scores
    from segue.tasks.table import find_gym_task, find_task, task_from_file, task_names
    from segue.tasks.task import GymTask
else:
    __getattr__, __dir__ = face(__name__)

__all__ = [
    "Group",
    "GymEnv",
    "GymTask",
    "Record",
    "find_gym_task",
    "find_task",
    "make_env",
    "reference_score",
    "reference_scores",
    "sources_of",
    "task_from_file",
    "task_names",
]
