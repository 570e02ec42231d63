"""Callbacks, sinks of one's own and conditions: what looks at each row of a run, and may end it early.

    row -> metrics.jsonl, trackers -> Watch: on_record(row), essential sinks, the condition of --stop-when

Nothing here raises while a record is being written.  A stop or an error is kept until all rows of the record are in the
file; then the run is saved, and ends.  So a resumed run goes on as if nothing had happened.
"""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from segue.core.parts import missing
from segue.core.types import SegueError
from segue.recipes import Plan
from segue.runs.request import Request
from segue.runs.sinks import Extra, Row, Sink, Tell, plain, to_stderr
from segue.runs.stopping import StopWhen, stop_when


class Stop(enum.Enum):
    """What `on_record` returns to end a run early."""

    STOP = "stop"


STOP = Stop.STOP
"""What `on_record` returns to end a run early; the run is saved and can be resumed."""
OnRecord = Callable[[dict[str, Any]], object]


class Watch:
    """Looks at the rows of one run, between a start or a resume and its end."""

    def __init__(
        self,
        plan: Plan,
        request: Request,
        on_record: OnRecord | None = None,
        sinks: Sequence[Any] = (),
        stopped: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """`stopped` are the stops of the run so far: the condition that has stopped it once does not count again."""
        if on_record is not None and not callable(on_record):
            raise SegueError(f"on_record={on_record!r}: give a function that takes a row")
        try:
            sinks = tuple(sinks)
        except TypeError as error:
            raise SegueError(f"sinks={called(sinks)}: give a list of sinks") from error
        for sink in sinks:
            if lacks := missing(sink, Sink):
                raise SegueError(f"sinks: {called(sink)} has no {' and no '.join(lacks)}; a sink has write and close")
        found = stop_when(plan, request)
        if found is not None and found[0].name in [stop["by"] for stop in stopped]:
            found = None
        self._rule: StopWhen | None = None if found is None else found[0]
        self._phases = frozenset[int]() if found is None else found[1]
        self._last = len(plan.phases) - 1
        # Sinks are the user's objects, and need not say that they are not essential.
        essential = [bool(getattr(sink, "essential", False)) for sink in sinks]
        self._essential = [sink for sink, is_one in zip(sinks, essential) if is_one]
        self._extra = [sink for sink, is_one in zip(sinks, essential) if not is_one]
        listens = [] if on_record is None else [(f"on_record={called(on_record)}", on_record)]
        self._listeners = [*((f"the sink {called(s)}", s.write) for s in self._essential), *listens]
        self._held, self._told = 0, False
        self._tell: Tell = to_stderr
        self.row: Mapping[str, Any] = {}
        """The last row; empty before the first."""
        self.by: str | None = None
        """Who wants the run to end."""
        self.failed: tuple[str, Exception | None] | None = None
        """What went wrong in a listener, in words."""

    def begin(self, log: Path, tell: Tell) -> list[Extra]:
        """Read the rows that a run goes on from; return the sinks that may fail, for `segue.runs.sinks.Fan`."""
        self._tell = tell
        with log.open("rb") as file:
            for line in file if self._rule is not None else ():
                self._judge(json.loads(line))
        return [_extra(sink, tell) for sink in self._extra]

    def __call__(self, row: Row) -> None:
        """Take a row that has been written."""
        copy: Callable[[], Any] = lambda: plain(row)  # noqa: E731
        self._judge(copy())
        for name, take in self._listeners:
            if self.failed is not None:
                return
            try:
                said = take(copy())
            except Exception as error:
                self.failed = f"{name} raised {' '.join(f'{type(error).__name__}: {error}'.split())}", error
                continue
            if said is STOP:
                self.by = self.by or name
            elif isinstance(said, bool):  # other libraries read it in opposite ways
                self.failed = f"{name} returned {said}, where segue.STOP ends the run and None goes on", None

    @property
    def ends(self) -> bool:
        """Whether the run is to end here; not at the end of its last phase, which it has reached by itself."""
        row, last = self.row, self._last
        over = row.get("event") == "end" and row["phase_index"] == last
        return self.failed is not None or (self.by is not None and not over)

    def close(self) -> None:
        """Close the essential sinks, whatever fails; the others are closed with the trackers."""
        with contextlib.ExitStack() as stack:
            for sink in self._essential:
                stack.callback(_close, sink)

    def _judge(self, row: Mapping[str, Any]) -> None:
        self.row, rule = row, self._rule
        if rule is None or row["kind"] != "evaluation" or row["phase_index"] not in self._phases:
            return
        if not self._told and None in row["values"].get(rule.value, [None]):
            self._told = True
            self._tell(f"{rule.name}: an evaluation without {rule.value} cannot stop the run")
        self._held = self._held + 1 if rule.holds(row) else 0
        if self._held >= rule.times:
            self.by = self.by or rule.name


def called(thing: Any) -> str:
    """What a message calls a function or an object."""
    return str(getattr(thing, "__qualname__", type(thing).__qualname__))


def _close(sink: Sink) -> None:
    try:
        sink.close()
    except Exception as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise SegueError(f"the sink {called(sink)} did not close ({cause}); the run is saved") from error


def _extra(sink: Sink, tell: Tell) -> Extra:
    def write(row: Row) -> None:
        copy: Any = plain(row)
        sink.write(copy)

    return Extra(called(sink), lambda: (write, sink.close), tell)
