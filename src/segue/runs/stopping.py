"""Early stopping as data: a run ends when an evaluation's value has reached a number.

    success>=0.95                        a value of an evaluation, averaged over seeds
    success>=0.95,for=3                  three evaluations in a row
    return>-50,phase=offline             evaluations of one phase

Without a phase, evaluations of phases that move the world count; in a run that learns offline only, all do.  The rows
of metrics.jsonl alone decide, so a resumed run stops where an undisturbed one does.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from segue.core.options import unknown
from segue.core.types import Acting, SegueError
from segue.engine.phase import Phase
from segue.recipes import Plan
from segue.runs.request import Request

VALUES = ("return", "length", "success", "score")  # of `segue.engine.evaluate.Evaluation`
SIGNS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
FORM = re.compile(r"(\w+)(>=|<=|>|<)([^,<>=]+)((?:,[^,]*)*)")


@dataclass(frozen=True)
class StopWhen:
    """A condition that ends a run."""

    word: str
    value: str
    sign: str
    number: float
    times: int = 1
    """How many evaluations in a row it must hold."""
    phase: str | None = None

    @property
    def name(self) -> str:
        """What it is called in run.json, where it has stopped a run."""
        return f"--stop-when {self.word}"

    def holds(self, row: Mapping[str, Any]) -> bool:
        """Whether it holds for a row of an evaluation; not where a seed has no such value."""
        values = row["values"].get(self.value) or [None]
        known = [x for x in values if x is not None and math.isfinite(x)]
        return len(known) == len(values) and SIGNS[self.sign](math.fsum(known) / len(known), self.number)


def parsed(text: str) -> StopWhen:
    """Read a condition; `SegueError` says what is wrong with it."""
    word, shown = "".join(text.split()), f"--stop-when {text}"
    if (found := FORM.fullmatch(word)) is None:
        raise SegueError(f"{shown}: write it as VALUE>=NUMBER, in quotes, for example 'success>=0.95,for=3'")
    value, sign, number, rest = found.groups()
    if value not in VALUES:
        unknown(f"{shown}: value", value, VALUES)
    more: dict[str, str] = {}
    for part in rest.split(",")[1:]:
        name, _, said = part.partition("=")
        if name not in ("for", "phase"):
            unknown(shown, name, ("for", "phase"))
        if not said or name in more:
            raise SegueError(f"{shown}: give {name}= once, with a value")
        more[name] = said
    try:
        limit, times = float(number), int(more.get("for", 1))
    except ValueError as error:
        raise SegueError(f"{shown}: {error}; write it as success>=0.95,for=3") from error
    if not math.isfinite(limit) or times < 1:
        raise SegueError(f"{shown}: give a finite number, and for=1 or more")
    if value == "success" and not 0 <= limit <= 1:
        raise SegueError(f"{shown}: success is a share, from 0 to 1")
    return StopWhen(word, value, sign, limit, times, more.get("phase"))


def stop_when(plan: Plan, request: Request) -> tuple[StopWhen, frozenset[int]] | None:
    """The condition that a run is to stop at, and the places of the phases whose evaluations count; None without one.

    Raises `SegueError` where it could never hold: a phase that is not there or that another run has done, and fewer
    evaluations than it asks for.
    """
    if request.stop_when is None:
        return None
    rule, shown = parsed(request.stop_when), f"--stop-when {request.stop_when}"
    if not plan.evaluation.episodes:
        raise SegueError(f"{shown}: there are no evaluations to stop at (evaluation.episodes=0); leave it out")
    inherited = 0 if request.origin is None else request.origin.count
    own = dict(enumerate(plan.phases[inherited:], inherited))
    if rule.phase is not None and rule.phase not in [phase.name for phase in own.values()]:
        unknown(f"{shown}: phase", rule.phase, [phase.name for phase in own.values()])
    chosen = {n: p for n, p in own.items() if rule.phase in (None, p.name)}
    counts = {n: evaluations(p, n == 0) for n, p in chosen.items()}
    if rule.phase is None:
        moving = {n: count for n, count in counts.items() if chosen[n].moves}
        counts = moving if any(moving.values()) else counts
    if sum(counts.values()) < rule.times:
        names = ", ".join(chosen[n].name for n in counts)
        raise SegueError(
            f"{shown}: asks for {rule.times} evaluation{'s' * (rule.times > 1)}, and there are {sum(counts.values())} "
            f"in {names}; set evaluate_every of the phase, or name another phase"
        )
    return rule, frozenset(counts)


def evaluations(phase: Phase, first: bool) -> int:
    """How many evaluations a phase has; the first phase of a run has one more, at its beginning."""
    if not isinstance(phase.learner, Acting):
        return 0
    begins = int(first or phase.steps == 0)
    every = phase.evaluate_every or max(phase.steps, 1)
    return begins + (-(-phase.steps // every) if phase.updates else 0)
