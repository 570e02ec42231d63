"""Tasks: a dataset, simulators in the learner's coordinates, and how a return becomes a score."""

from segue.tasks.scores import reference_score, reference_scores
from segue.tasks.table import find_task, task_from_file, task_names
from segue.tasks.task import GymTask
from segue.tasks.worlds import GymWorld, make_env

__all__ = [
    "GymTask",
    "GymWorld",
    "find_task",
    "make_env",
    "reference_score",
    "reference_scores",
    "task_from_file",
    "task_names",
]
