"""Run the engine with evaluation, files, signals and the live view."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from segue.bonuses import Nothing
from segue.core import files
from segue.core.scaling import plain_scaling
from segue.core.types import Acting, EnvError, Interrupted, Remarking, SegueError, Task
from segue.engine import loop
from segue.engine.diagnostics import handover
from segue.engine.envs import Episode, Simulator, here
from segue.engine.evaluate import Evaluator
from segue.engine.state import Diverged, Record, RunState
from segue.recipes import Plan
from segue.report import write_report
from segue.runs import checkpoint, manifest
from segue.runs.checkpoint import Extra
from segue.runs.fork import keep_end, keep_missing
from segue.runs.live import view
from segue.runs.lock import full_disk, signals
from segue.runs.moves import Moves
from segue.runs.policy import save_policy
from segue.runs.progress import duration
from segue.runs.sinks import Fan, Jsonl, Row, Sink, Values, to_stderr
from segue.runs.trackers import Page, track
from segue.runs.watch import Watch

SAVE_EVERY = 60.0  # seconds between checkpoints; overridden by SEGUE_SAVE_EVERY


def drive(
    folder: Path,
    decided: Plan,
    task: Task,
    seeds: tuple[int, ...],
    watch: Watch,
    trackers: Sequence[str] = (),
    resumed: tuple[RunState, Extra] | None = None,
    notes: Sequence[str] = (),
    stream: TextIO | None = None,
    simulators: Callable[[], Simulator] | None = None,
    keep: int | None = None,
) -> Path:
    """Run to its end the run that run.json in `folder` (locked by the caller) describes; return the folder.

    `watch` sees each row and may end the run before: it is saved, its status is "stopped", and `resume` goes on.
    `simulators` makes a simulator; by default one of the task in this process.  The ends of the last `keep` phases are
    kept, None keeps all.

    Raises `Interrupted` when a signal stopped the run, and `SegueError`; in both cases `resume` goes on.
    """
    interval = save_interval()
    try:
        with full_disk(folder), ExitStack() as stack:
            _run(
                folder, decided, task, seeds, watch, trackers, resumed, notes, stream, interval, stack, simulators, keep
            )
        if watch.ends and watch.by is not None:
            manifest.stop(folder, watch.by, watch.row)
        else:
            manifest.set_status(folder, "finished")
    except (Interrupted, KeyboardInterrupt):
        _note(folder, "interrupted")
        raise
    except BaseException:
        _note(folder, "failed")
        raise
    try:
        write_report([folder], folder / "report.html")
    except Exception as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        again = f"segue report {files.word(folder)}"
        ended = "has stopped early" if watch.ends else "is finished"
        to_stderr(f"segue: {folder}: the run {ended}, but its report failed ({cause}); try again with `{again}`")
    return folder


def _run(
    folder: Path,
    decided: Plan,
    task: Task,
    seeds: tuple[int, ...],
    watch: Watch,
    trackers: Sequence[str],
    resumed: tuple[RunState, Extra] | None,
    notes: Sequence[str],
    stream: TextIO | None,
    interval: float,
    stack: ExitStack,
    simulators: Callable[[], Simulator] | None,
    keep: int | None,
) -> None:
    state, extra = resumed or (None, {"position": 0, "wall_s": 0.0})
    if state is not None and state.envs is not None:
        stack.callback(state.envs.close)  # the engine closes them too, once it has begun
    if state is not None:
        keep_missing(folder, state, decided.phases, keep)
    described = manifest.read(folder)
    stopping = stack.enter_context(signals())
    show = stack.enter_context(view(described["phases"], seeds, stream))
    for note in notes:
        show.message(note)
    log = Jsonl(folder / "metrics.jsonl", extra["position"])
    config = {k: v["value"] for k, v in described["config"].items()}
    told = config | {"recipe": described["recipe"], "task": described["task"]}
    page = Page(folder, told, None if state is None else state.updates)
    copies = [*(track(t, page, show.message) for t in trackers), *watch.begin(log.path, show.message)]
    sinks = Fan([log, *copies], tell=show.message)
    stack.callback(watch.close)
    stack.callback(sinks.close)
    episodes = decided.evaluation.episodes
    evaluator = Evaluator(task, seeds, episodes, simulators=simulators) if episodes else None
    if evaluator is not None:
        stack.callback(evaluator.close)
    book = _Book(folder, task, seeds, sinks, (watch, show.row), evaluator, extra["wall_s"])
    manifest.set_status(folder, "running")
    last = time.monotonic()
    moves = Moves(folder) if task.real else None
    if moves is not None:
        stack.callback(moves.close)
    records = loop.run(
        decided.phases,
        task,
        seeds,
        decided.scaling,
        capacity=decided.experience.capacity,
        envs=decided.experience.envs,
        state=state,
        keep_rows=True,
        checked=True,
        simulators=simulators if moves is None else here(moves.counting(task.make_env)),
    )
    stack.callback(records.close)  # and with them the simulators, whatever stops the run

    def save() -> None:
        stands: Extra = {"position": log.position(), "rows": log.digest(), "wall_s": book.wall()}
        stands |= {} if moves is None else {"moves": moves.steps}
        saved = checkpoint.save(folder, record.state, stands)
        if record.phase_step and record.phase.updates:
            book.keep(record)
        if record.ends and keep != 0:
            keep_end(folder, saved, record.index, record.phase, keep)

    again = f"`segue resume {files.word(folder)}`"
    try:
        for record in records if not watch.ends else ():  # a kill may have come between a stop and its note
            book.write(record)
            show.pulse(record.index, record.phase_step, record.environment_step, record.update)
            number = stopping()
            due = record.begins or record.ends or time.monotonic() - last >= interval
            if due or number is not None or watch.ends:
                save()
                last = time.monotonic()
            if watch.failed is not None:
                what, error = watch.failed
                raise SegueError(f"{what}; everything up to here is saved: mend it, then {again}") from error
            if watch.ends:
                break
            if number is not None:
                show.message(f"stopped and saved; continue with {again}")
                raise Interrupted(number)
    except Diverged as error:
        raise Diverged(f"{error}{_lower(folder, decided, error.phase)}", error.phase) from error
    except EnvError as error:
        save()
        steps = record.state.environment_steps
        raise SegueError(
            f"{error}; everything up to environment step {steps:,} is saved: fix it, then {again}"
        ) from error
    early = f"stopped early by {watch.by}, after {duration(book.wall())}; all is saved, and {again} goes on"
    show.message(early if watch.ends else f"finished in {duration(book.wall())}")


def _lower(folder: Path, decided: Plan, phase: str) -> str:
    """The command that goes on with a tenth of a phase's first learning rate, where it has one that is a number."""
    for path, value in decided.options().items():
        if path.startswith(f"{phase}.learner.") and path.endswith("learning_rate") and isinstance(value, float):
            command = f"segue resume {files.word(folder)} --set {path}={value / 10:.3g}"
            return f" (from the last checkpoint, which is finite: `{command}`, now {value:g})"
    return ""


class _Book:
    """Turns records into rows."""

    def __init__(
        self,
        folder: Path,
        task: Task,
        seeds: tuple[int, ...],
        sinks: Sink,
        after: Sequence[Callable[[Row], None]],
        evaluator: Evaluator | None,
        wall_s: float,
    ) -> None:
        self.folder, self.task, self.seeds, self.sinks, self.after = folder, task, seeds, sinks, after
        self.evaluator = evaluator
        self.began = time.monotonic() - wall_s
        self.kept = -1  # the run's updates when a policy was written last

    def wall(self) -> float:
        """Seconds that the run has taken, over all its sessions."""
        return time.monotonic() - self.began

    def write(self, record: Record) -> None:
        """Write what the record holds, and evaluate where it asks for it."""
        if record.begins:
            scaling = manifest.plain(plain_scaling(record.scaling))
            self.row(record, "phase", {}, event="begin", scaling=scaling, **unsuccessful(self.task, record))
        for e in record.episodes:
            values: dict[str, Values] = {"return": [e.raw_return], "length": [e.length], "success": [e.success]}
            values |= {} if e.own is None else {"own": [float(e.own)]}
            self.row(record, "episode", values, seeds=[e.seed], **ended(record, e))
        if record.metrics:
            self.row(record, "training", record.metrics)
        slot = record.acting
        # A phase may train what does not act (a density, a second critic): there is nothing to roll out or to export.
        if record.evaluates and isinstance(slot.learner, Acting):
            result = None if self.evaluator is None else self.evaluator(slot)
            if result is not None:
                self.row(record, "evaluation", result.values())
            if record.ends:
                lived = None if self.evaluator is None or result is None else self.evaluator.lived(slot, result)
                found, more = handover(slot, self.task.dataset(), lived)
                self.row(record, "handover", found, **more)
                self.keep(record, whatever=True)
        if record.ends:
            for tried in record.facts.get("validations", ()):
                values = {"return": tried["return"], "length": tried["steps"]}
                clocks = earlier(record, record.phase_step - tried["phase_step"])
                self.row(record, "validation", values, keeps=record.phase.validation.keep, **clocks)
            self.row(record, "phase", {}, event="end", **remarked(record))

    def keep(self, record: Record, whatever: bool = False) -> None:
        """Write the policy that acts as the run's bundle, where it has had updates since (or `whatever`)."""
        if isinstance(record.acting.learner, Acting) and (whatever or record.update != self.kept):
            save_policy(self.folder / "policy", record.acting, self.task.spec, self.seeds, self.facts(record))
            self.kept = record.update

    def facts(self, record: Record) -> dict[str, object]:
        """What a policy's bundle says about itself beside its weights."""
        card = self.task.card()
        low, high = self.task.action_bounds
        return {
            "task": self.task.name,
            "observation": manifest.plain(card["observation"]),
            "action": {"low": np.asarray(low).tolist(), "high": np.asarray(high).tolist()},
            "trained": {
                "phase": record.phase.name,
                "environment_step": record.environment_step,
                "update": record.update,
            },
            "bonus": not isinstance(record.phase.bonus, Nothing),
        }

    def row(self, record: Record, kind: str, values: Mapping[str, Values], **more: object) -> None:
        """Write one row to the sinks, and let others see it."""
        row: Any = {  # a `Row`, and more
            "kind": kind,
            "phase": record.phase.name,
            "phase_index": record.index,
            "phase_step": record.phase_step,
            "environment_step": record.environment_step,
            "update": record.update,
            "wall_s": round(self.wall(), 3),
            "seeds": list(self.seeds),
            "values": {k: np.asarray(v) for k, v in values.items()},
            **more,
        }
        self.sinks.write(row)
        for see in self.after:
            see(row)


def unsuccessful(task: Task, record: Record) -> dict[str, str]:
    """What there is to say before a run learns offline from a log of a sparse task in which nothing succeeds."""
    if record.index or record.phase.collects or task.failure is None or (data := task.dataset()) is None:
        return {}
    if not (np.asarray(data.reward) == task.failure).all():
        return {}
    return {"remark": "no row of the dataset has success, so offline all actions come to be worth the same"}


def remarked(record: Record) -> dict[str, str]:
    """What the learner says of its last numbers, where it says something."""
    learner = record.phase.learner
    line = learner.remark(record.metrics) if record.metrics and isinstance(learner, Remarking) else None
    return {} if line is None else {"remark": line}


def ended(record: Record, episode: Episode) -> dict[str, int]:
    """Clocks of the turn in which an episode ended: when a record comes depends on the machine, and rows must not."""
    whole = record.environment_step - record.state.moved  # steps that an environment has broken off come next
    turns = (whole - episode.environment_step) // record.phase.train_every
    return earlier(record, turns * record.phase.train_every) | {"environment_step": episode.environment_step}


def earlier(record: Record, steps: int) -> dict[str, int]:
    """The clocks so many steps of its phase before a record."""
    phase = record.phase
    return {
        "phase_step": record.phase_step - steps,
        "environment_step": record.environment_step - steps * phase.collects,
        "update": record.update - steps // phase.round * phase.updates,
    }


def save_interval() -> float:
    """Seconds between checkpoints."""
    text = os.environ.get("SEGUE_SAVE_EVERY", str(SAVE_EVERY))
    try:
        return float(text)
    except ValueError as error:
        raise SegueError(f"SEGUE_SAVE_EVERY={text}: give seconds between checkpoints, for example 60") from error


def _note(folder: Path, status: str) -> None:
    """Note a status if that is possible: what goes wrong on the way out must not hide why the run ends."""
    with contextlib.suppress(OSError, SegueError):
        manifest.set_status(folder, status)
