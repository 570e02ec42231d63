"""How far a run is and how fast it goes, and how numbers are written: what every view of a run knows.

`tick` counts from 0 in each phase; of `environment_step` and `update`, only differences within a phase are used.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

from segue.runs.sinks import Row

Plan = Sequence[Mapping[str, Any]]
Values = Sequence[float | None]

MEASURES = ("success", "score", "return")  # the first that an evaluation has is shown
TELLING = ("critic_loss", "actor_loss", "q_data", "bound_rate", "temperature")
LEVELS, ASCII_LEVELS = "▁▂▃▄▅▆▇█", "_.:-=+*#"
WINDOW = 60.0  # seconds that rates are averaged over


class Sample(NamedTuple):
    """The clocks of a phase at a time."""

    time: float
    tick: int
    environment_step: int
    update: int


class Progress:
    """What both views know: where the run is, how fast it goes, and the last numbers."""

    def __init__(self, plan: Plan, seeds: Sequence[int], clock: Callable[[], float]):
        self.plan, self.seeds, self.clock = [dict(phase) for phase in plan], list(seeds), clock
        self.began = clock()
        self.index, self._told = 0, False
        self.ended = False  # the current phase
        self.measure = ""
        self.history: list[list[float]] = [[] for _ in seeds]  # of the measure, by seed
        self.training: dict[str, float] = {}  # means over seeds
        self._samples = deque([Sample(self.began, 0, 0, 0)])
        self._cold = True  # the first sample of a phase has compilation behind it
        self._pace: dict[tuple[int, int], float] = {}  # (collect, updates) -> seconds per tick

    def pulse(self, index: int, tick: int, environment_step: int, update: int, begin: bool = False) -> None:
        """Move the clocks."""
        while index >= len(self.plan):  # a run that decides its phases as it goes
            self.plan.append({"name": f"phase {len(self.plan) + 1}", "ticks": 0, "collect": 0, "updates": 0})
        samples, now = self._samples, Sample(self.clock(), tick, environment_step, update)
        if begin or not self._told or index != self.index or tick < samples[-1].tick:
            self.index, self.ended, self._cold, self._told = index, False, True, True
            samples.clear()
        if len(samples) > 2 and now.time - samples[-2].time < 0.25:
            samples.pop()
        samples.append(now)
        while len(samples) > 2 and (self._cold or now.time - samples[0].time > WINDOW):
            samples.popleft()
            self._cold = False
        if tick > samples[0].tick:
            phase = self.plan[index]
            seconds = (now.time - samples[0].time) / (tick - samples[0].tick)
            self._pace[phase["collect"], phase["updates"]] = seconds

    def row(self, row: Row) -> None:
        """Take a row's clocks and numbers."""
        begin = row["kind"] == "phase" and row.get("event") == "begin"
        self.pulse(row["phase_index"], row["tick"], row["environment_step"], row["update"], begin)
        self.plan[self.index]["name"] = row["phase"]
        values: dict[str, Values] = row.get("values", {})
        if row["kind"] == "phase":
            self.ended = not begin
        elif row["kind"] == "training":
            self.training |= {name: mean(numbers) for name, numbers in values.items() if finite(numbers)}
        elif row["kind"] == "evaluation":
            measure = next((name for name in MEASURES if finite(values.get(name, ()))), self.measure)
            if measure != self.measure:
                self.measure, self.history = measure, [[] for _ in self.seeds]
            for seed, value in zip(row["seeds"], values.get(measure, ())):
                self.history[self.seeds.index(seed)].append(math.nan if value is None else value)

    def fraction(self, index: int) -> float:
        """Return the done part of a phase."""
        if index != self.index or self.ended:
            return float(index <= self.index)
        return min(1.0, self._samples[-1].tick / max(1, self.plan[index]["ticks"]))

    def clocks(self) -> str:
        """Return the three clocks in words."""
        now = self._samples[-1]
        return (
            f"tick {now.tick:,}/{self.plan[self.index]['ticks']:,} step {now.environment_step:,} update {now.update:,}"
        )

    def speed(self) -> str:
        """Return environment steps and updates per second, over the last minute of the phase; "" when not known."""
        first, last = self._samples[0], self._samples[-1]
        seconds = last.time - first.time
        if not seconds or last.tick == first.tick:
            return ""
        steps, updates = last.environment_step - first.environment_step, last.update - first.update
        return f"{number(steps / seconds)} steps/s {number(updates / seconds)} updates/s"

    def left(self) -> str:
        """Return the time left of the phase and of the run; `>` where the speed of a later phase is not known yet."""
        ticks = [phase["ticks"] * (1 - self.fraction(k)) for k, phase in enumerate(self.plan)]
        paces = [self._seconds_per_tick(phase["collect"], phase["updates"]) for phase in self.plan]
        seconds = [count * pace if count else 0.0 for count, pace in zip(ticks, paces)]
        known = [s for s in seconds if math.isfinite(s)]
        total, more = math.fsum(known), len(known) < len(seconds)
        run = ">" * more + duration(total) if self._pace and (total or not more) else "?"
        return f"ETA phase {duration(seconds[self.index])} run {run}"

    def _seconds_per_tick(self, collect: int, updates: int) -> float:
        """Return the pace of phases of this shape: measured, else from the cost of updates and of steps, else NaN."""
        if (collect, updates) in self._pace:
            return self._pace[collect, updates]
        pace = sorted(self._pace.items())  # phases that do not collect come first: they tell the cost of an update
        update = next((s / u for (_, u), s in pace if u), math.nan)
        step = next((max(s - (u and u * update), 0.0) / c for (c, u), s in pace if c), math.nan)
        return (collect and collect * step) + (updates and updates * update)

    def metrics(self) -> list[tuple[str, float]]:
        """Return the six training metrics that tell most."""
        rank = {name: next((k for k, t in enumerate(TELLING) if name.startswith(t)), 99) for name in self.training}
        return [(name, self.training[name]) for name in sorted(rank, key=lambda name: rank[name])][:6]

    def latest(self) -> list[tuple[str, list[float]]]:
        """Return the measure's history: the mean over seeds, then each seed."""
        means = [mean(values) for values in zip_longest(*self.history)]
        return [("mean", means), *((f"seed {seed}", past) for seed, past in zip(self.seeds, self.history))]

    def show(self, value: float) -> str:
        """Format a value of the measure."""
        return f"{100 * value:.0f} %" if self.measure == "success" and math.isfinite(value) else number(value)


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
    if not math.isfinite(seconds):
        return "?"
    days, rest = divmod(round(seconds), 86400)
    return f"{days}d " * (days > 0) + f"{rest // 3600}:{rest // 60 % 60:02}:{rest % 60:02}"


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
    """Say a hand-over in a line."""
    numbers = [f"{name} {number(mean(values))}" for name, values in row.get("values", {}).items() if finite(values)]
    return f"handover, {row['phase']}: " + ", ".join(numbers[:4])
