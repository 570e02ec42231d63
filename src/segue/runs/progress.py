"""How far a run is and how fast it goes, for every view of it.  Rates and bars are those of `rich.progress`.

`phase_step` counts from 0 in each phase; of `environment_step` and `update`, only differences within a phase are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from itertools import zip_longest

from rich.progress import Progress as Bars
from rich.progress import TaskID

from segue.runs.manifest import PhaseFacts
from segue.runs.sinks import Row

Plan = Sequence[PhaseFacts]

MEASURES = ("success", "score", "return")  # the first that an evaluation has is shown
TELLING = ("critic_loss", "actor_loss", "q_data", "bound_rate", "temperature")
LEVELS, ASCII_LEVELS = "▁▂▃▄▅▆▇█", "_.:-=+*#"
WINDOW = 300.0  # seconds that rates are averaged over
STEPS, UPDATES = TaskID(0), TaskID(1)


class Progress:
    """Where the run is, how fast it goes, and the last numbers."""

    def __init__(self, plan: Plan, seeds: Sequence[int], clock: Callable[[], float]):
        self.plan: list[PhaseFacts] = []
        self.seeds, self.clock = list(seeds), clock
        self.began = clock()
        self.index, self.ended, self._told = 0, False, False  # `ended`: the current phase
        self.measure = ""
        self.history: list[list[float]] = [[] for _ in seeds]  # of the measure, by seed
        self.training: dict[str, float] = {}  # means over seeds
        self.bars = Bars(auto_refresh=False, expand=True, get_time=clock, speed_estimate_period=WINDOW)  # one per phase
        self._clocks = Bars(auto_refresh=False, get_time=clock, speed_estimate_period=WINDOW)  # STEPS and UPDATES
        for name in ("steps", "updates"):
            self._clocks.add_task(name, total=None)
        for phase in plan:
            self._add(phase)
        self._now = (0, 0, 0)  # step of the phase, environment step, update
        self._pace: dict[tuple[bool, float], float] = {}  # (collects, utd_ratio) -> seconds per step of a phase

    def _add(self, phase: PhaseFacts) -> None:
        self.plan.append({**phase})
        self.bars.add_task("", total=steps_of(phase) or None)

    def pulse(self, index: int, phase_step: int, environment_step: int, update: int, begin: bool = False) -> None:
        """Move the clocks."""
        while index >= len(self.plan):  # a run that decides its phases as it goes
            self._add(
                {
                    "name": f"phase {len(self.plan) + 1}",
                    "gradient_steps": 0,
                    "environment_steps": None,
                    "utd_ratio": 0.0,
                }
            )
        anew = begin or not self._told or index != self.index or phase_step < self._now[0]
        if anew:
            self.index, self.ended, self._told = index, False, True
            for earlier in range(index):
                self._finish(earlier)
        self._now = now = phase_step, environment_step, update
        for bars, task, count in zip((self.bars, self._clocks, self._clocks), (TaskID(index), STEPS, UPDATES), now):
            if anew:
                bars.reset(task, completed=count)
            else:  # a rate starts with the first of these, which has compilation behind it
                bars.update(task, completed=count)
        if speed := self.bars.tasks[index].speed:
            self._pace[kind_of(self.plan[index])] = 1 / speed

    def row(self, row: Row) -> None:
        """Take a row's clocks and numbers."""
        begin = row["kind"] == "phase" and row.get("event") == "begin"
        self.pulse(row["phase_index"], row["phase_step"], row["environment_step"], row["update"], begin)
        self.plan[self.index]["name"] = row["phase"]
        values = row["values"]
        if row["kind"] == "phase" and not begin:
            self.ended = True
            self._finish(self.index)
        elif row["kind"] == "training":
            self.training |= {name: mean(numbers) for name, numbers in values.items() if finite(numbers)}
        elif row["kind"] == "evaluation":
            measure = next((name for name in MEASURES if finite(values.get(name, ()))), self.measure)
            if measure != self.measure:
                self.measure, self.history = measure, [[] for _ in self.seeds]
            for seed, value in zip(row["seeds"], values.get(measure, ())):
                self.history[self.seeds.index(seed)].append(math.nan if value is None else value)

    def _finish(self, index: int) -> None:
        """Fill a phase's bar, which may have stopped early or in an earlier process."""
        done = max(1.0, self.bars.tasks[index].completed)
        self.bars.update(TaskID(index), total=done, completed=done)

    def fraction(self, index: int) -> float:
        """Return the done part of a phase."""
        return self.bars.tasks[index].percentage / 100

    def clocks(self) -> str:
        """Return the three clocks in words."""
        done, step, update = self._now
        return f"{done:,}/{steps_of(self.plan[self.index]):,} step {step:,} update {update:,}"

    def speed(self) -> str:
        """Return environment steps and updates per second in this phase; "" when not known."""
        steps, updates = (task.speed for task in self._clocks.tasks)
        return f"{number(steps or 0)} steps/s {number(updates or 0)} updates/s" if steps or updates else ""

    def left(self) -> str:
        """Return the time left of the phase and of the run; `>` where the speed of a later phase is not known yet."""
        steps = [math.nan if task.remaining is None else task.remaining for task in self.bars.tasks]
        paces = [self._seconds_per_step(*kind_of(phase)) for phase in self.plan]
        seconds = [count * pace if count else 0.0 for count, pace in zip(steps, paces)]
        known = finite(seconds)
        total, more = math.fsum(known), len(known) < len(seconds)
        run = ">" * more + duration(total) if self._pace and (total or not more) else "?"
        return f"ETA phase {duration(seconds[self.index])} run {run}"

    def _seconds_per_step(self, collects: bool, utd_ratio: float) -> float:
        """Return the pace of phases of this kind: measured, else from the cost of updates and of steps, else NaN."""
        if (collects, utd_ratio) in self._pace:
            return self._pace[collects, utd_ratio]
        pace = sorted(self._pace.items())  # phases that do not collect come first: they tell the cost of an update
        update = next((s / u for (_, u), s in pace if u), math.nan)
        step = next((max(s - (u and u * update), 0.0) for (c, u), s in pace if c), math.nan)
        return (step if collects else 0.0) + (utd_ratio and utd_ratio * update)

    def metrics(self) -> list[tuple[str, float]]:
        """Return the six most informative training metrics."""
        rank = {name: next((k for k, t in enumerate(TELLING) if name.startswith(t)), 99) for name in self.training}
        return [(name, self.training[name]) for name in sorted(rank, key=lambda name: rank[name])][:6]

    def latest(self) -> list[tuple[str, list[float]]]:
        """Return the measure's history: the mean over seeds, then each seed."""
        means = [mean(values) for values in zip_longest(*self.history)]
        return [("mean", means), *((f"seed {seed}", past) for seed, past in zip(self.seeds, self.history))]

    def show(self, value: float) -> str:
        """Format a value of the measure."""
        return f"{100 * value:.0f} %" if self.measure == "success" and math.isfinite(value) else number(value)


def kind_of(phase: PhaseFacts) -> tuple[bool, float]:
    """Whether a phase collects, and its updates per step: phases alike in both go at the same pace."""
    collects = phase["environment_steps"] is not None
    return collects, phase["utd_ratio"] if collects else 1.0


def steps_of(phase: PhaseFacts) -> int:
    """Return a phase's length in its own steps, 0 where it is not known."""
    return phase["environment_steps"] or phase["gradient_steps"]


def finite(values: Iterable[float | None]) -> list[float]:
    """Return the numbers among the values."""
    return [value for value in values if value is not None and math.isfinite(value)]


def mean(values: Iterable[float | None]) -> float:
    """Return the mean of the numbers, NaN if there is none."""
    numbers = finite(values)
    return sum(numbers) / len(numbers) if numbers else math.nan


def number(value: float) -> str:
    """Format a number in at most nine characters."""
    if not math.isfinite(value):
        return "-"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}" if abs(value) < 1e6 else f"{value:.2e}"


def duration(seconds: float) -> str:
    """Format a time as h:mm:ss, with days before it."""
    return str(timedelta(seconds=round(seconds))) if math.isfinite(seconds) else "?"


def sparkline(values: Sequence[float], width: int, low: float, high: float, levels: str = LEVELS) -> str:
    """Draw values between `low` and `high` in at most `width` characters: means of neighbours if need be."""
    count = min(width, len(values))
    bins = [mean(values[k * len(values) // count : (k + 1) * len(values) // count]) for k in range(count)]
    heights = [(value - low) / ((high - low) or 1.0) * (len(levels) - 1) for value in bins]
    return "".join(levels[min(max(round(h), 0), len(levels) - 1)] if math.isfinite(h) else " " for h in heights)


def printable(text: str, encoding: str | None) -> str:
    """Return a text as one line that a stream of this encoding takes, without control characters."""
    line = "".join(c if c.isprintable() else " " for c in text).rstrip()
    return line.encode(encoding or "utf-8", "replace").decode(encoding or "utf-8")


def handover(row: Row) -> str:
    """Return a hand-over's first numbers as one line."""
    numbers = [f"{name} {number(mean(values))}" for name, values in row.get("values", {}).items() if finite(values)]
    return f"handover, {row['phase']}: " + ", ".join(numbers[:4])
