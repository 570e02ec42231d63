"""What `segue data` prints: tables, findings, progress."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import DownloadColumn, Progress

from segue.cli.tables import console

if TYPE_CHECKING:
    from segue.data.doctor import Report
    from segue.data.recorded import Recorded


def show_report(name: str, report: Report) -> None:
    """Print what the doctor found, worst first."""
    from segue.data.doctor import SEVERITIES

    out = console()
    counts = ", ".join(f"{n} {s}{'s' * (n != 1)}" for s in SEVERITIES if (n := len(report.codes(s))))
    out.print(f"{name}: {report.rows:,} transitions in {report.episodes:,} episodes; {counts or 'nothing was found'}")
    colours = {"error": "bold red", "warning": "yellow", "note": "dim"}
    for f in report.findings:
        at = "; ".join(f"episode {e} step {s}" for e, s in f.rows[:3])
        out.print(f"\n[{colours[f.severity]}]{f.severity}[/] [bold]{escape(f.title)}[/] [dim]{f.code}[/]")
        out.print(f"  {f.count:,} {escape(f.of)}" + (f": {at}" if at else ""))
        out.print(f"  why: {escape(f.why)}")
        out.print(f"  cure: {escape(f.cure)}" + (" (--fix does it, in a copy)" if f.fix else ""))
    if report.left_out:
        by_reason: dict[str, list[str]] = {}
        for code, reason in report.left_out.items():
            by_reason.setdefault(reason, []).append(code)
        out.print()
        for reason, codes in by_reason.items():
            out.print(f"[dim]not checked: {', '.join(codes)} ({escape(reason)})[/]")


def progress(episodes: Iterator[Recorded], rows: int | None) -> Iterator[Recorded]:
    """The same episodes, with a bar on a terminal that says how far they are."""
    if not sys.stderr.isatty():
        yield from episodes
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("rows", total=rows)
        for episode in episodes:
            yield episode
            bar.advance(task, len(episode))


T = TypeVar("T")


def told(parts: Iterator[T], count: int, what: str) -> Iterator[T]:
    """The same parts, with a line on stderr after each twentieth of them."""
    began = time.monotonic()
    for number, part in enumerate(parts, 1):
        if number * 20 // count > (number - 1) * 20 // count:
            left = (time.monotonic() - began) / number * (count - number)
            print(f"{what}: {number:,} of {count:,} episodes, {left / 60:.0f} minutes to go", file=sys.stderr)
        yield part


@contextlib.contextmanager
def waiting(what: str) -> Iterator[None]:
    """Show that something goes on, on a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    with Console(stderr=True).status(what):
        yield


@contextlib.contextmanager
def received() -> Iterator[Callable[[int, int | None], None]]:
    """What a download tells its bytes to: a bar on a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    with Progress(
        *Progress.get_default_columns(), DownloadColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("download", start=True, visible=False)
        yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)


def plain(value: object) -> str:
    """A JSON value in a table's cell."""
    if isinstance(value, dict):
        return ", ".join(f"{k} {plain(v)}" for k, v in value.items())
    if isinstance(value, list):
        return ", ".join(map(plain, value)) if len(value) <= 12 else f"{len(value)} values"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
