"""What a check is (`Check`), and what it is given (`Case`)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from segue.core.scaling import Scaling
from segue.core.types import Spec, Task
from segue.data.doctor.finding import Finding
from segue.data.doctor.log import Log
from segue.data.doctor.simulator.replayed import Replayed, replay_log
from segue.data.doctor.simulator.world import Simulator
from segue.data.facts import Facts, known_of
from segue.data.recorded import Recorded

LAYOUT = ("observation-layout", "observation-shape", "standardised-observations")
AGAIN = ("ends-mismatch", "dynamics", "action-off-by-one", "reward-mismatch")  # checks that need logged states

SIZES = "the log's observations or actions have other sizes than the environment's"


@dataclass
class Case:
    """A log after its first pass, and what is known beside it.

    `spec` is None unless there is a task whose environment can be made, `simulator` unless it may be moved.
    """

    log: Log
    facts: Facts
    task: Task | None = None
    scaling: Scaling | None = None
    spec: Spec | None = None
    simulator: Simulator | None = None
    left_out: dict[str, str] = field(default_factory=dict)
    found: tuple[Finding, ...] = ()
    """What the checks before this one have found."""

    def leave_all(self, codes: Iterable[str], reason: str) -> None:
        """Note that checks were not made, and why."""
        for code in codes:
            self.leave(code, reason)

    def leave(self, code: str, reason: str) -> None:
        """Say that a check cannot be made, and why."""
        self.left_out[code] = reason

    @cached_property
    def horizon(self) -> int | None:
        """Longest episode of the task, or of the environment that the log names; None if neither is known."""
        if self.task is not None:
            return self.task.horizon
        return known_of(self.facts).get("max_episode_steps")

    @cached_property
    def failure(self) -> float | None:
        """Raw reward of a step without success in a sparse log; None if rewards are dense.

        The task's; without one, the lower of two rewards if most steps have it (a step that is alive may pay 1 too).
        """
        values = self.log.values
        if not values:
            return None
        given = self.task.failure if self.task is not None else None
        lower = min(values)
        usual = len(values) == 2 and 2 * values[lower] > sum(values.values())
        return lower if given == lower or usual else None

    @cached_property
    def fits(self) -> bool:
        """Whether there is an environment whose observations and actions have the log's sizes."""
        if self.spec is None or self.log.shape is None:
            return False
        return (self.spec.observation, self.spec.action) == self.log.shape[:2]

    @cached_property
    def sampled(self) -> dict[str, np.ndarray]:
        """The random sample of rows."""
        return self.log.sample.columns()

    @cached_property
    def replayed(self) -> Replayed | None:
        """Sampled rows, done again in the simulator; None if it cannot be put into a logged state."""
        reason, again = SIZES, None
        if self.fits and self.simulator is not None:
            reason = "the layout of observations differs from the environment's"
            # Columns in another order can make a simulator burst.
            if not any(f.code in LAYOUT and f.severity == "error" for f in self.found):
                again = replay_log(self.simulator, self.log)
                reason = self.simulator.refusal
        if again is None and self.simulator is not None:
            for code in AGAIN:
                self.leave(code, reason)
        return again


class Check(Protocol):
    """One question about a log: it is shown every episode in the second pass, and then says what it found."""

    def see(self, number: int, episode: Recorded) -> None:
        """Look at an episode; not asked for those that are empty or of other shapes than the first."""

    def judge(self) -> Iterable[Finding]:
        """Return the findings."""


Make = Callable[[Case], Check]
"""How a check is made for a case: what the table of checks holds."""


@dataclass
class _Summary:
    case: Case
    judged: Callable[[Case], Iterable[Finding]]

    def see(self, number: int, episode: Recorded) -> None:
        """Nothing: the first pass has gathered what is needed."""

    def judge(self) -> Iterable[Finding]:
        return self.judged(self.case)


def summary(judged: Callable[[Case], Iterable[Finding]]) -> Make:
    """Make a check of a function of the case; it needs no second pass."""
    return lambda case: _Summary(case, judged)
