"""What a study asks for, as data; `segue.study.file` reads it from where it is written."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

SEEDS, SEEDS_PER_CELL, PATIENCE = 4, 4, 60  # defaults of ours


@dataclass(frozen=True)
class Runs:
    """Recipes on tasks, in every combination of a grid."""

    recipes: tuple[str, ...]
    tasks: tuple[str, ...]
    """Names or patterns."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Values of each option; those of "rules" are lists of rules on top."""
    rules: tuple[str, ...] = ()
    stop_when: str | None = None
    """Ends a run early, as --stop-when does."""

    def combinations(self) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
        """Settings and rules of each combination, in the order of the file."""
        for values in itertools.product(*self.grid.values()):
            chosen = dict(zip(self.grid, values))
            more = chosen.pop("rules", ())
            yield {**self.settings, **chosen}, (*self.rules, *more)


@dataclass(frozen=True)
class Search:
    """A search over options, in the place of a grid."""

    space: Mapping[str, Mapping[str, Any]]
    """Of each option "low" and "high" (and "log", "step"), or "choices"."""
    trials: int
    goal: Literal["final", "online"] = "final"
    """What is made as large as can be: the last evaluation, or the mean of those since the switch."""
    sampler: Literal["tpe", "random"] = "tpe"
    seed: int = 0
    prune: bool = False
    """Whether a trial that is behind the median of the others at the same evaluation is ended."""


@dataclass(frozen=True)
class Asked:
    """All that a study asks for."""

    runs: tuple[Runs, ...]
    seeds: tuple[int, ...]
    seeds_per_cell: int = SEEDS_PER_CELL
    cores: int = 1
    """Cores of a worker: results are the same to the last digit for equal numbers."""
    keep: int | None = None
    """How many ends of phases each run keeps, the newest; None keeps all."""
    patience: int = PATIENCE
    """Seconds without a sign of life until a worker counts as lost."""
    search: Search | None = None
    track: tuple[str, ...] = ()
    """Trackers that get a copy of the metrics of all runs."""
