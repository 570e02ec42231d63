"""The live view of a run: a panel on a terminal, plain lines in a log.  A display never stops a run.

`tick` counts from 0 in each phase; of `environment_step` and `update`, only differences within a phase are used.
"""

from __future__ import annotations

import contextlib
import io
import math
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Literal, NamedTuple, Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from segue.record import Row, to_stderr

Plan = Sequence[Mapping[str, Any]]
Values = Sequence[float | None]
Styled = tuple[str, str]
Cell = tuple[Styled, Styled, Styled]

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
        """Return environment steps and updates per second, over the last minute of the phase."""
        first, last = self._samples[0], self._samples[-1]
        seconds = last.time - first.time or math.nan
        steps, updates = last.environment_step - first.environment_step, last.update - first.update
        return f"{number(steps / seconds)} steps/s {number(updates / seconds)} updates/s"

    def left(self) -> str:
        """Return the time left of the phase and of the run; `>` where the speed of a later phase is not known yet."""
        ticks = [phase["ticks"] * (1 - self.fraction(k)) for k, phase in enumerate(self.plan)]
        paces = [self._seconds_per_tick(phase["collect"], phase["updates"]) for phase in self.plan]
        seconds = [count * pace if count else 0.0 for count, pace in zip(ticks, paces)]
        known = [s for s in seconds if math.isfinite(s)]
        run = ">" * (len(known) < len(seconds)) + duration(sum(known)) if self._pace else "?"
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


class Face(Protocol):
    """How progress is shown; may fail."""

    def start(self) -> None:
        """Begin to show."""
        ...

    def show(self, row: Row | None = None) -> None:
        """Show the progress, which a row (None: a pulse) has just moved; or skip it, if the last time was just now."""
        ...

    def say(self, text: str) -> None:
        """Show a line of text."""
        ...

    def stop(self) -> None:
        """Show the last state and let go of the terminal."""
        ...


class LiveView:
    """What a run talks to.  The face's first error ends the show, in one line on stderr, and not the run."""

    def __init__(self, progress: Progress, face: Face):
        self.progress, self.face = progress, face
        self.well = True

    def start(self) -> None:
        """Begin to show."""
        self._try(self.face.start)

    def row(self, row: Row) -> None:
        """Show a row that the run emitted."""
        self._try(lambda: self.progress.row(row))
        self._try(lambda: self.face.show(row))

    def pulse(self, phase_index: int, tick: int, environment_step: int, update: int) -> None:
        """Show how far the run is; cheap: it may be called every tick."""
        self._try(lambda: self.progress.pulse(phase_index, tick, environment_step, update))
        self._try(self.face.show)

    def message(self, text: str) -> None:
        """Show a line of text."""
        self._try(lambda: self.face.say(text))

    def stop(self) -> None:
        """Show the last state and let go of the terminal."""
        self._try(self.face.stop)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _try(self, action: Callable[[], Any]) -> None:
        if not self.well:
            return
        try:
            action()
        except Exception as error:
            self.well = False
            with contextlib.suppress(Exception):  # a panel has hidden the cursor
                self.face.stop()
            to_stderr(f"warning: the live view stopped, the run goes on ({type(error).__name__}: {error})")


class PlainView:
    """Lines for a log: one for each evaluation, hand-over and phase change, else one per `interval` seconds."""

    def __init__(self, progress: Progress, stream: TextIO, interval: float = 15.0):
        self._progress, self._stream, self._interval = progress, stream, interval
        self._last = -math.inf

    def start(self) -> None:
        """Say nothing yet."""

    def show(self, row: Row | None = None) -> None:
        """Say what is new, and where the run stands."""
        p = self._progress
        match (row or {}).get("kind"):
            case "evaluation":
                values = [f"{name} {p.show(past[-1])}" for name, past in p.latest() if past]
                self._state(f"{p.measure}: {', '.join(values)}")
            case "phase":
                self._state((row or {}).get("event", ""))
            case "handover":
                self._state(handover(row or {}))
            case _ if p.clock() - self._last >= self._interval:
                self._state(", ".join(f"{name} {number(value)}" for name, value in p.metrics()))

    def say(self, text: str) -> None:
        """Write a line with the time."""
        line = printable(text, self._stream.encoding)
        self._stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} | {line}\n")
        self._stream.flush()

    def stop(self) -> None:
        """Say where the run stands."""
        self._state("stop")

    def _state(self, more: str) -> None:
        p = self._progress
        self._last = p.clock()
        phase = f"phase {p.index + 1}/{len(p.plan)} {p.plan[p.index]['name']} {100 * p.fraction(p.index):.1f} %"
        self.say(" | ".join(part for part in (phase, p.clocks(), p.speed(), p.left(), more) if part))


class RichView:
    """A panel that is redrawn in place, at most four times a second.

    It draws when it is told something and has no thread: simulators may fork, and a thread's locks would not survive.
    """

    def __init__(self, progress: Progress, console: Console):
        self._progress, self._console = progress, console
        self._last = -math.inf
        self._unicode = console.encoding.lower().startswith("utf")
        self._live = Live(console=console, auto_refresh=False, get_renderable=self.panel)

    def start(self) -> None:
        """Draw the panel."""
        self._live.start(refresh=True)

    def show(self, row: Row | None = None) -> None:
        """Redraw; a hand-over is printed above the panel."""
        if row and row["kind"] == "handover":
            self.say(handover(row))
        now = self._progress.clock()
        if now - self._last >= 0.25:
            self._last = now
            self._live.refresh()

    def say(self, text: str) -> None:
        """Print a text above the panel."""
        self._console.print(self._text(text))

    def stop(self) -> None:
        """Draw the last state, leave it, and give the terminal back."""
        self._live.stop()  # draws once more

    def _text(self, text: str, style: str = "") -> Text:
        overflow: Literal["ellipsis", "crop"] = "ellipsis" if self._unicode else "crop"
        return Text(printable(text, self._console.encoding), style, overflow=overflow)

    def panel(self) -> Panel:
        """Return the picture."""
        p, inner = self._progress, self._console.width - 4
        state = Group(self._text(p.clocks(), "dim"), self._text(p.speed(), "dim"))
        parts: list[RenderableType] = [self._phases(inner), state]
        if any(p.history):
            parts += ["", self._text(f"{p.measure} at {len(p.latest()[0][1])} evaluations", "bold"), self._seeds(inner)]
        if p.training:
            parts += [
                "",
                self._cells([((name, "dim"), (number(v), ""), ("", "")) for name, v in p.metrics()], inner // 26),
            ]
        foot = f"{duration(p.clock() - p.began)} elapsed, {p.left()}"
        return Panel(Group(*parts), title="segue", subtitle=foot, border_style="dim")

    def _phases(self, inner: int) -> Table:
        p = self._progress
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(width=1)
        table.add_column(max_width=inner // 2, no_wrap=True)
        table.add_column(ratio=1)
        table.add_column(justify="right", no_wrap=True)
        first = max(0, min(p.index - 2, len(p.plan) - 6))  # six fit: cycles have dozens
        marks = ("✓", "▸", " ") if self._unicode else ("x", ">", " ")
        for k, phase in list(enumerate(p.plan))[first : first + 6]:
            done = p.fraction(k)
            kind = 0 if k < p.index or (k == p.index and p.ended) else 1 if k == p.index else 2
            style = ("green", "bold", "dim")[kind]
            bar = ProgressBar(total=1.0, completed=done, complete_style="cyan", finished_style="green")
            name = f"{k + 1}/{len(p.plan)} {phase['name']}"
            table.add_row(Text(marks[kind], style), self._text(name, style), bar, Text(f"{100 * done:.0f} %", style))
        return table

    def _seeds(self, inner: int) -> Table:
        p = self._progress
        lines = min(6, len(p.plan)) + 13  # of the panel, without the seeds
        columns = 1 if len(p.seeds) + lines <= self._console.height else max(1, inner // 25)
        known = finite(value for past in p.history for value in past)
        low, high = (0.0, 1.0) if p.measure == "success" else (min(known), max(known))
        levels = LEVELS if self._unicode else ASCII_LEVELS
        room = max(0, min(40, inner // columns - 17))
        cells = [
            (
                (name, "dim"),
                (p.show(past[-1] if past else math.nan), ""),
                (sparkline(past, room, low, high, levels), "cyan"),
            )
            for name, past in p.latest()
        ]
        return self._cells(cells, columns)

    def _cells(self, cells: Sequence[Cell], columns: int) -> Table:
        """Lay cells (name, value, picture) out in columns, row by row."""
        table = Table.grid(padding=(0, 1))
        for _ in range(columns):
            table.add_column(no_wrap=True, max_width=max(8, (self._console.width - 4) // columns - 12))
            table.add_column(no_wrap=True, justify="right")
            table.add_column(no_wrap=True)
        for start in range(0, len(cells), columns):
            table.add_row(*(self._text(*part) for cell in cells[start : start + columns] for part in cell))
        return table


def view(plan: Plan, seeds: Sequence[int], stream: TextIO | None = None) -> LiveView:
    """Return the view that fits the stream (standard output unless given): a panel on a terminal, else lines."""
    progress = Progress(plan, seeds, time.monotonic)
    stream = stream or sys.stdout or io.StringIO()
    with contextlib.suppress(Exception):  # a closed stream, an odd terminal
        console = Console(file=stream)
        if stream.isatty() and not console.is_dumb_terminal:
            return LiveView(progress, RichView(progress, console))
    return LiveView(progress, PlainView(progress, stream))
