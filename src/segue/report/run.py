"""The contents of a run folder as plain arrays.

Time has one axis in a report.  Left of zero are the offline phases, counted in gradient updates still to come;
right of zero is everything from the first phase that steps the environments, counted in environment steps per seed:

    x = update - offline_updates          x = environment_step
    |-------- offline phases -------------|------ online phases ------>
    -offline_updates                      0 = the switch
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segue.report.statistics import Floats


@dataclass(frozen=True)
class Setting:
    """One resolved configuration value and where it came from."""

    value: object
    source: str


@dataclass(frozen=True)
class PhaseLine:
    """A phase as `run.json` announces it; an offline phase has no `environment_steps`."""

    name: str
    slot: str
    learner: str
    gradient_steps: int
    environment_steps: int | None
    utd_ratio: float
    validation: int = 0
    """Environment steps per seed that roll-outs for choosing among checkpoints are charged."""
    origin: str = ""
    """The run that it was taken from, where it is another one."""

    @property
    def collects(self) -> bool:
        """Whether it takes environment steps."""
        return self.environment_steps is not None

    @property
    def updates(self) -> int:
        """Updates as planned."""
        return self.gradient_steps if self.environment_steps is None else round(self.environment_steps * self.utd_ratio)


@dataclass(frozen=True)
class Curve:
    """Rows of one kind in the order of time, S seeds by T rows; NaN where a seed has no number."""

    x: Floats  # (T,) see the module's drawing
    online: np.ndarray  # (T,) bool: right of the switch
    phase: np.ndarray  # (T,) phase index
    environment_step: np.ndarray  # (T,)
    update: np.ndarray  # (T,)
    values: Mapping[str, Floats]  # each (S, T)

    def known(self, name: str) -> bool:
        """Whether any seed has a finite number under `name`."""
        return name in self.values and bool(np.isfinite(self.values[name]).any())


@dataclass(frozen=True)
class Episodes:
    """Finished training episodes, E of them over all seeds, in the order of time."""

    seed: np.ndarray  # (E,) position in `Run.seeds`
    environment_step: np.ndarray  # (E,)
    values: Mapping[str, Floats]  # each (E,)


@dataclass(frozen=True)
class Handover:
    """Diagnostics at the end of one phase: numbers per seed (S,), and pooled pairs (P,) of fresh episodes.

    `episodes` holds, per seed, sums over the rows of each fresh episode (see `segue.engine.diagnostics`); empty in runs
    of earlier versions, whose returns stopped at a time limit where Q does not.
    """

    phase: int
    values: Mapping[str, Floats]
    q: Floats
    mc_return: Floats
    episodes: Mapping[str, tuple[Floats, ...]]
    bonus: bool
    """Whether a bonus was part of the rewards that the critic has learned from, by then."""


@dataclass(frozen=True)
class Logged:
    """Raw returns of the episodes of a run's dataset; NaN where run.json does not say."""

    episodes: int
    mean: float
    std: float
    low: float
    high: float
    success: float
    """Share of episodes that succeed."""
    reference: tuple[float, float] | None
    """(random, expert) raw returns of the task's score; None where its score is the percentage of successes."""


@dataclass(frozen=True)
class Run:
    """A run folder.  `switch` is the index of the first phase that steps the environments, None without one."""

    name: str
    recipe: str
    task: str
    status: str
    version: str
    created: str
    command: tuple[str, ...]
    seeds: tuple[int, ...]
    config: Mapping[str, Setting]
    phases: tuple[PhaseLine, ...]
    provenance: Mapping[str, object]
    switch: int | None
    offline_updates: int
    wall_s: Mapping[int, float]  # seconds spent in each phase that has rows
    training: Curve
    evaluation: Curve
    """Evaluations of the main policy, the one that acts and learns online."""
    stand_in: int
    """Training episodes, the last ones, whose means `evaluation` holds; 0 where it holds evaluations."""
    episodes: Episodes
    handovers: tuple[Handover, ...]
    retrained: Mapping[int, Curve]
    """Evaluations of policies trained beside it (OOO's exploiters), by phase index; x counts the phase's updates."""
    folder: Path
    """As it was given, for commands that name it."""
    beside: Mapping[str, object]
    """What shapes its numbers beside its options: hand-over rules, the data's hash, modules of one's own, changes of
    options in its middle, and whether it began with the experience of another run."""
    inherited: frozenset[str]
    """Last names of the options that were set in the runs whose phases it took over."""
    logged: Logged | None
    request: Mapping[str, object]
    """What was asked for, as run.json has it; empty in runs of earlier versions."""
    horizon: int
    """Longest episode, in environment steps; 0 where run.json does not say."""
    remarks: tuple[str, ...]
    """What learners said at the ends of their phases."""
    kept: bool
    """Whether the end of the last phase before the switch is there to begin from."""

    @property
    def evaluation_episodes(self) -> int:
        """Episodes of each seed in an evaluation; 0 where that is not known."""
        return self.whole("evaluation.episodes")

    def whole(self, option: str) -> int:
        """A whole number of the configuration; 0 where there is none."""
        found = self.config.get(option)
        return found.value if found is not None and isinstance(found.value, int) else 0


def stand_in_words(run: Run) -> str:
    """What stands for evaluations where training episodes do, in words."""
    greedy = any(setting.value is True for key, setting in run.config.items() if key.endswith(".greedy"))
    noise = "as they were acted" if greedy else "with exploration noise"
    return f"the last {run.stand_in} training episodes, {noise}"


def is_bonus(quantity: str) -> bool:
    """Whether a metric says how large a reward bonus is."""
    return "_bonus" in quantity or quantity == "bonus_return" or quantity.endswith("_saturation")
