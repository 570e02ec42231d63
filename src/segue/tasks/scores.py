"""Reference scores as data: what a random and an expert policy return, by D4RL's task names."""

from __future__ import annotations

import csv
import functools
from importlib import resources

from segue.core.types import SegueError

SUCCESS = (0.0, 1.0)  # the reference of tasks whose score is the percentage of successes


@functools.cache
def reference_scores() -> dict[str, tuple[float, float]]:
    """(random, expert) raw returns of every task in `scores.csv`, whose first line names the source."""
    lines = (resources.files("segue.tasks") / "scores.csv").read_text().splitlines()
    table = csv.DictReader(line for line in lines if not line.startswith("#"))
    return {row["task"]: (float(row["random_score"]), float(row["expert_score"])) for row in table}


def reference_score(name: str) -> tuple[float, float]:
    """(random, expert) raw returns of one D4RL task, such as "hopper-medium-v2"."""
    if name not in reference_scores():
        raise SegueError(f"no reference score for {name!r} in scores.csv; give (random, expert) raw returns yourself")
    return reference_scores()[name]
