"""What the doctor says: findings, and the report that holds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
SHOWN = 5  # rows that a finding names (default of ours)
MARKS = 1_000_000  # rows that are kept for a mend; where more are at fault, none is offered (default of ours)


@dataclass(frozen=True)
class Finding:
    """One fault, or one thing worth knowing, of a log.

    An `error` makes learning from the log wrong or impossible, a `warning` makes it worse, a `note` says what is
    there.  It concerns `count` of `of` (episodes, rows, columns, ...); `rows` are the first of them as (episode, step),
    both from 0 and in the order of the log.  `fix` names a safe mend of `MENDS`, or is None.
    `numbers` is JSON.
    """

    severity: Severity
    title: str
    why: str
    cure: str
    count: int = 1
    of: str = "log"
    rows: tuple[tuple[int, int], ...] = ()
    fix: str | None = None
    numbers: Mapping[str, object] = field(default_factory=dict)
    marked: np.ndarray | None = field(default=None, compare=False, repr=False)
    """What `fix` works on, (K, 2) or (K, 3) int64: episode, step and a flag that the mend knows."""
    code: str = ""
    """Of the check, by the table `CHECKS`, which fills it in."""

    def table(self) -> dict[str, object]:
        """The finding as JSON."""
        shown = ("code", "severity", "title", "count", "of", "rows", "why", "cure", "fix", "numbers")
        return {name: plain(getattr(self, name)) for name in shown}


@dataclass(frozen=True)
class Report:
    """What was found, worst first; `left_out` names the checks that could not be made, and why."""

    findings: tuple[Finding, ...]
    episodes: int
    rows: int
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def worst(self) -> Severity | None:
        """The worst severity, or None if nothing was found."""
        return self.findings[0].severity if self.findings else None

    @property
    def fixes(self) -> tuple[str, ...]:
        """Names of the mends that would be made."""
        return tuple(dict.fromkeys(f.fix for f in self.findings if f.fix is not None))

    def codes(self, *severities: Severity) -> tuple[str, ...]:
        """Codes of the findings, of these severities (all unless given)."""
        wanted = severities or SEVERITIES
        return tuple(dict.fromkeys(f.code for f in self.findings if f.severity in wanted))

    def table(self) -> list[dict[str, object]]:
        """All findings as JSON, worst first."""
        return [finding.table() for finding in self.findings]


@dataclass
class Rows:
    """Counts rows that are at fault, and keeps the first few."""

    count: int = 0
    episodes: list[int] = field(default_factory=list)
    first: list[tuple[int, int]] = field(default_factory=list)

    def add(self, number: int, bad: np.ndarray) -> None:
        """Add flags (T,) of an episode."""
        steps = np.flatnonzero(bad)
        if len(steps):
            self.count += len(steps)
            self.episodes.append(number)
            self.first += [(number, int(s)) for s in steps[: SHOWN - len(self.first)]]

    @property
    def found(self) -> tuple[int, str, tuple[tuple[int, int], ...]]:
        """What a finding says of them, as `counted` has it."""
        return self.count, "rows", tuple(self.first)

    @property
    def marked(self) -> np.ndarray:
        """The episodes, as a mend wants them."""
        return np.stack([np.asarray(self.episodes, np.int64), np.zeros(len(self.episodes), np.int64)], 1)


def ordered(findings: list[Finding]) -> tuple[Finding, ...]:
    """Findings, worst first, and otherwise in the order of the checks."""
    return tuple(sorted(findings, key=lambda f: SEVERITIES.index(f.severity)))


def shown(episode: ArrayLike, step: ArrayLike) -> tuple[tuple[int, int], ...]:
    """The first few of some rows, as a finding names them; `step` may be one number for all."""
    episodes = np.atleast_1d(episode)[:SHOWN]
    steps = np.broadcast_to(step, np.atleast_1d(episode).shape)[:SHOWN]
    return tuple((int(e), int(s)) for e, s in zip(episodes, steps))


def counted(of: str, episode: np.ndarray, step: ArrayLike) -> tuple[int, str, tuple[tuple[int, int], ...]]:
    """How many, of what, and the first few: what a finding says of rows (K,) or of episodes."""
    return len(episode), of, shown(episode, step)


def plain(value: object) -> object:
    """Numbers of NumPy as JSON; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.6g}") if np.isfinite(value) else None
    return value
