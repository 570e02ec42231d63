"""The live view of a run: a panel on a terminal, plain lines in a log.  Its errors never stop the run."""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import Literal, Self, TextIO

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, TaskID, TextColumn
from rich.table import Column, Table
from rich.text import Text

from segue.runs.progress import (
    ASCII_LEVELS,
    LEVELS,
    Plan,
    Progress,
    duration,
    finite,
    handover,
    number,
    printable,
    sparkline,
)
from segue.runs.sinks import Row, to_stderr

PAUSE = 0.25  # seconds between two looks at the clocks, and between two drawings
SHOWN = 6  # phases in the panel: cycles have dozens


class LiveView:
    """The view that a run writes to.  Its first error is told in one line on stderr; the run goes on without a view."""

    def __init__(self, progress: Progress, face: PlainView | RichView):
        self.progress, self.face = progress, face
        self.well = True
        self._last = -math.inf

    def row(self, row: Row) -> None:
        """Show a row that the run emitted."""
        self._try(lambda: self.progress.row(row))
        self._try(lambda: self.face.show(row))
        if remark := row.get("remark"):
            self.message(f"warning: phase '{row['phase']}': {remark}")

    def pulse(self, phase_index: int, phase_step: int, environment_step: int, update: int) -> None:
        """Show how far the run is.  Cheap enough to be called at every step."""
        now = self.progress.clock()
        if now - self._last >= PAUSE:
            self._last = now
            self._try(lambda: self.progress.pulse(phase_index, phase_step, environment_step, update))
            self._try(self.face.show)

    def message(self, text: str) -> None:
        """Show a line of text."""
        self._try(lambda: self.face.say(text))

    def __enter__(self) -> Self:
        self._try(self.face.start)
        return self

    def __exit__(self, *exception: object) -> None:
        self._try(self.face.stop)

    def _try(self, action: Callable[[], object]) -> None:
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
        """Write nothing yet."""

    def show(self, row: Row | None = None) -> None:
        """Write where the run stands, with the row's numbers."""
        p = self._progress
        if row is not None and row["kind"] == "evaluation":
            values = [f"{name} {p.show(past[-1])}" for name, past in p.latest() if past]
            self._state(f"{p.measure}: {', '.join(values)}")
        elif row is not None and row["kind"] == "phase":
            self._state(row.get("event", ""))
        elif row is not None and row["kind"] == "handover":
            self._state(handover(row))
        elif p.clock() - self._last >= self._interval:
            self._state(", ".join(f"{name} {number(value)}" for name, value in p.metrics()))

    def say(self, text: str) -> None:
        """Write a line with the time."""
        line = printable(text, self._stream.encoding)
        self._stream.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} | {line}\n")
        self._stream.flush()

    def stop(self) -> None:
        """Write nothing: the last line says where the run stands."""

    def _state(self, more: str) -> None:
        p = self._progress
        self._last = p.clock()
        phase = f"phase {p.index + 1}/{len(p.plan)} {p.plan[p.index]['name']} {100 * p.fraction(p.index):.1f} %"
        left = "" if p.ended or "phase ?" in p.left() else p.left()
        self.say(" | ".join(part for part in (phase, p.clocks(), p.speed(), left, more) if part))


class RichView:
    """A panel that is redrawn in place.

    It draws only when it is called and has no thread: simulators may fork, and a thread's locks would not survive.
    """

    def __init__(self, progress: Progress, console: Console):
        self._progress, self._console = progress, console
        self._last = -math.inf
        self._unicode = console.encoding.lower().startswith("utf")
        self._overflow: Literal["ellipsis", "crop"] = "ellipsis" if self._unicode else "crop"
        self._live = Live(console=console, auto_refresh=False, get_renderable=self.panel)
        progress.bars.columns = (
            TextColumn("{task.description}", table_column=Column(no_wrap=True, max_width=28, overflow=self._overflow)),
            BarColumn(bar_width=None, complete_style="cyan", finished_style="green"),
            TextColumn("{task.percentage:.0f} %", justify="right"),
        )

    def start(self) -> None:
        """Draw the panel."""
        self._live.start(refresh=True)

    def show(self, row: Row | None = None) -> None:
        """Redraw, at most once per PAUSE; a hand-over is printed above the panel."""
        if row and row["kind"] == "handover":
            self.say(handover(row))
        now = self._progress.clock()
        if now - self._last >= PAUSE:
            self._last = now
            self._live.refresh()

    def say(self, text: str) -> None:
        """Print a text above the panel."""
        self._console.print(self._text(text))

    def stop(self) -> None:
        """Draw the last state, leave it on the screen, and release the terminal."""
        self._live.stop()  # draws once more

    def _text(self, text: str, style: str = "") -> Text:
        return Text(printable(text, self._console.encoding), style, overflow=self._overflow)

    def panel(self) -> Panel:
        """Return the picture."""
        p, inner = self._progress, self._console.width - 4
        parts: list[RenderableType] = [self._phases(), self._text(p.clocks(), "dim"), self._text(p.speed(), "dim")]
        if any(p.history):
            count = max(map(len, p.history))
            head = f"{p.measure} at {count} evaluation{'s' * (count > 1)}"
            parts += ["", self._text(head, "bold"), self._seeds(inner)]
        if p.training:
            numbers = [(name, number(value), "") for name, value in p.metrics()]
            parts += ["", self._side_by_side(numbers, max(1, inner // 26))]
        foot = f"{duration(p.clock() - p.began)} elapsed, {p.left()}"
        return Panel(Group(*parts), title="segue", subtitle=foot, border_style="dim")

    def _phases(self) -> Table:
        """Bars of the phases around the current one."""
        p = self._progress
        first = max(0, min(p.index - 2, len(p.plan) - SHOWN))
        marks = ("✓", "▸", " ") if self._unicode else ("x", ">", " ")
        shown = range(first, min(first + SHOWN, len(p.plan)))
        for k in shown:
            kind = 0 if k < p.index or (k == p.index and p.ended) else 1 if k == p.index else 2
            name = printable(f"{marks[kind]} {k + 1}/{len(p.plan)} {p.plan[k]['name']}", self._console.encoding)
            p.bars.update(TaskID(k), description=f"[{('green', 'bold', 'dim')[kind]}]{escape(name)}")
        return p.bars.make_tasks_table(p.bars.tasks[first : first + SHOWN])

    def _seeds(self, inner: int) -> Columns:
        p = self._progress
        lines = min(SHOWN, len(p.plan)) + 13  # of the panel, without the seeds
        columns = 1 if len(p.seeds) + lines <= self._console.height else max(1, inner // 25)
        known = finite(value for past in p.history for value in past)
        low, high = (0.0, 1.0) if p.measure == "success" else (min(known), max(known))
        levels = LEVELS if self._unicode else ASCII_LEVELS
        room = max(0, min(40, inner // columns - 17))
        cells = [
            (name, p.show(past[-1] if past else math.nan), sparkline(past, room, low, high, levels))
            for name, past in p.latest()
        ]
        return self._side_by_side(cells, columns)

    def _side_by_side(self, cells: Sequence[tuple[str, str, str]], columns: int) -> Columns:
        """Lay cells (name, value, picture) out in columns, row by row."""
        width = (self._console.width - 4) // columns - 1
        value = max(len(cell[1]) for cell in cells)
        name = max(1, min(max(len(cell[0]) for cell in cells), width - value - 1))
        texts = []
        for called, shown, drawn in cells:
            start = printable(called, self._console.encoding)[:name].ljust(name)
            parts = ((start, "dim"), f" {shown:>{value}} ", (drawn, "cyan"))
            texts.append(Text.assemble(*parts, no_wrap=True, overflow="crop"))
        return Columns(texts, width=width, padding=(0, 1))


def view(plan: Plan, seeds: Sequence[int], stream: TextIO | None = None) -> LiveView:
    """Return the view that fits the stream (standard output by default): a panel on a terminal, else lines (CI too)."""
    progress = Progress(plan, seeds, time.monotonic)
    stream = stream or sys.stdout or io.StringIO()
    with contextlib.suppress(Exception):  # a closed stream, an odd terminal
        console = Console(file=stream)
        if stream.isatty() and not console.is_dumb_terminal and not os.environ.get("CI"):
            return LiveView(progress, RichView(progress, console))
    return LiveView(progress, PlainView(progress, stream))
