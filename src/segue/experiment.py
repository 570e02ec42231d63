"""A run from its recipe to its report: what stands around the engine (evaluation, files, signals, the live view)."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import jax
import numpy as np

from segue import checkpoint, engine
from segue.engine import Carry, Record
from segue.evaluate import Evaluator, handover
from segue.live import view
from segue.policy import save_policy
from segue.recipes import Recipe, Resolved, find_recipe, resolve
from segue.record import Fan, Jsonl, Sink, TensorBoard, WandB
from segue.report import write_report
from segue.tasks import find_task
from segue.types import SegueError, Task

PACKAGES = (
    "segue",
    "jax",
    "jaxlib",
    "equinox",
    "optax",
    "numpy",
    "gymnasium",
    "gymnasium-robotics",
    "mujoco",
    "minari",
)
SAVE_EVERY = 60.0  # seconds between checkpoints; overridden by SEGUE_SAVE_EVERY


@dataclass(frozen=True)
class Request:
    """What was asked for: enough to build the same run again."""

    recipe: str
    task: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    trackers: tuple[str, ...] = ()


def train(
    recipe: Recipe | str,
    task: Task | str,
    seeds: int | Sequence[int] = 4,
    settings: Mapping[str, Any] | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    track: Sequence[str] = (),
) -> Path:
    """Do in Python what `segue run` does; return the run's folder.

    `seeds` is how many, or which ones.  `settings` are options by path ({"online.utd_ratio": 2}).  A run of a task
    that is not known by name can be continued with `resume(folder, lambda name: task)`.  Raises `SegueError`.
    """
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    found = find_task(task) if isinstance(task, str) else task
    which = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    request = Request(chosen.name, found.name, which, dict(settings or {}), tuple(track))
    return start(chosen, found, request, None if folder is None else Path(folder))


class Interrupted(Exception):
    """A signal asked the run to stop; everything is saved."""

    def __init__(self, number: int) -> None:
        self.number = number


def resolved(recipe: Recipe, task: Task, settings: Mapping[str, Any]) -> Resolved:
    """Decide all of a recipe's numbers for a task; the task's own facts (its failure reward) come before presets."""
    return resolve(recipe, task.domain, task.name, settings, {"units.failure": task.failure})


def start(
    recipe: Recipe,
    task: Task,
    request: Request,
    folder: Path | None = None,
    root: Path = Path("runs"),
    stream: TextIO | None = None,
) -> Path:
    """Run a recipe on a task from its beginning; return the run's folder.

    `folder` must not exist yet; without one, the next free `root`/RECIPE-TASK-NNN is taken.  Raises `SegueError`, and
    `Interrupted` after SIGINT or SIGTERM.
    """
    decided = resolved(recipe, task, request.settings)
    task.dataset()
    if folder is None:
        folder = free_folder(root, f"{request.recipe}-{request.task}")
    elif folder.exists() and any(folder.iterdir()):
        raise SegueError(f"{folder}: already holds something; give another --out, or `segue resume {folder}`")
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "run.json", describe_run(decided, task, request, folder))
    return _drive(folder, decided, task, request, None, stream)


def resume(folder: Path, task_of: Callable[[str], Task] = find_task, stream: TextIO | None = None) -> Path:
    """Continue a run from its last checkpoint; exact, whatever stopped it.  Return the run's folder.

    Raises `SegueError` when the folder is no run, or when its recipe, task or dataset are not what they were.
    """
    try:
        described = json.loads((folder / "run.json").read_text())
    except (OSError, ValueError) as error:
        raise SegueError(f"{folder}: is not a run (no readable run.json); `segue run` makes one") from error
    if described["status"] == "finished":
        raise SegueError(f"{folder}: the run is finished; `segue report {folder}` shows it")
    asked = described["request"]
    request = Request(
        asked["recipe"], asked["task"], tuple(asked["seeds"]), asked["settings"], tuple(asked["trackers"])
    )
    task = task_of(request.task)
    decided = resolved(find_recipe(request.recipe), task, request.settings)
    table = json.loads(json.dumps(_plain(decided.table())))
    if table != described["config"]:
        changed = [k for k in table.keys() | described["config"].keys() if table.get(k) != described["config"].get(k)]
        raise SegueError(
            f"{folder}: this version's '{request.recipe}' differs from the run's in {', '.join(sorted(changed)[:3])}; "
            f"resume with segue {described['segue']}"
        )
    data = task.dataset()
    was = described["provenance"]["dataset"]
    if data is not None and was is not None and data.sha256() != was["sha256"]:
        raise SegueError(f"{folder}: the dataset of '{request.task}' is not the one that the run began with")
    if checkpoint.latest(folder) is None:
        (folder / "metrics.jsonl").unlink(missing_ok=True)
        return _drive(folder, decided, task, request, None, stream)
    carry, extra = checkpoint.load(
        folder, decided.recipe.phases, task.spec, 0 if data is None else len(data), task.world
    )
    return _drive(folder, decided, task, request, (carry, extra), stream)


def free_folder(root: Path, name: str) -> Path:
    """Return the first `root`/NAME-NNN that does not exist, made so that nobody else takes it."""
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    root.mkdir(parents=True, exist_ok=True)
    for n in range(1, 1000):
        folder = root / f"{name}-{n:03d}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise SegueError(f"{root}: holds 999 runs of {name}; give another --out")


def describe_run(decided: Resolved, task: Task, request: Request, folder: Path) -> dict[str, Any]:
    """Everything that a reader must know to trust or repeat the run: config with sources, versions, data hash."""
    data = task.dataset()
    ends = None if data is None else len(data.ends())
    return {
        "segue": metadata.version("segue"),
        "status": "running",
        "recipe": request.recipe,
        "paper": decided.recipe.paper,
        "task": request.task,
        "seeds": list(request.seeds),
        "command": sys.argv[:1] and [Path(sys.argv[0]).name, *sys.argv[1:]],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "request": {
            "recipe": request.recipe,
            "task": request.task,
            "seeds": list(request.seeds),
            "settings": dict(request.settings),
            "trackers": list(request.trackers),
        },
        "config": _plain(decided.table()),
        "phases": [
            {
                "name": p.name,
                "slot": p.slot,
                "learner": type(p.learner).__name__,
                "ticks": p.ticks,
                "collect": p.collect,
                "updates": p.updates,
            }
            for p in decided.recipe.phases
        ],
        "task_card": _plain(task.card()),
        "provenance": {
            "versions": {"python": platform.python_version(), **_versions()},
            "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "backend": jax.default_backend(),
            "dataset": None
            if data is None
            else {"source": task.source, "sha256": data.sha256(), "transitions": len(data), "episodes": ends},
        },
    }


def _versions() -> dict[str, str]:
    out = {}
    for name in PACKAGES:
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return out


def _drive(
    folder: Path,
    decided: Resolved,
    task: Task,
    request: Request,
    resumed: tuple[Carry, dict[str, Any]] | None,
    stream: TextIO | None,
) -> Path:
    carry, extra = resumed or (None, {"position": 0, "wall_s": 0.0, "checkpoints": 0})
    phases, units = decided.recipe.phases, decided.recipe.units
    described = json.loads((folder / "run.json").read_text())
    with ExitStack() as stack:
        stack.enter_context(_lock(folder))
        stopping = stack.enter_context(_signals())
        show = stack.enter_context(view(described["phases"], request.seeds, stream))
        log = Jsonl(folder / "metrics.jsonl", extra["position"])
        trackers = [_TRACKERS[t](folder, described, carry) for t in request.trackers]
        sinks = Fan([log, *trackers], tell=show.message)
        stack.callback(sinks.close)
        evaluator = Evaluator(task, request.seeds, decided.recipe.evaluation.episodes)
        stack.callback(evaluator.close)
        book = _Book(folder, task, request.seeds, sinks, show.row, evaluator, extra["wall_s"])
        _status(folder, "running")

        def save(carry: Carry) -> None:
            checkpoint.save(folder, carry, {"position": log.position(), "wall_s": book.wall()})

        interval = float(os.environ.get("SEGUE_SAVE_EVERY", SAVE_EVERY))
        saved = time.monotonic()
        try:
            for record in engine.run(
                phases,
                task.spec,
                request.seeds,
                units,
                data=task.dataset(),
                world=task.world,
                horizon=task.horizon,
                carry=carry,
                keep_rows=True,
            ):
                show.pulse(record.index, record.tick, record.environment_step, record.update)
                book.write(record, phases)
                if record.begins or record.ends or stopping() or time.monotonic() - saved >= interval:
                    save(record.carry)
                    saved = time.monotonic()
                if (number := stopping()) is not None:
                    raise Interrupted(number)
        except Interrupted:
            _status(folder, "interrupted")
            show.message(f"stopped and saved; `segue resume {folder}` goes on from here")
            raise
        except BaseException:
            _status(folder, "failed")
            raise
        _status(folder, "finished")
    write_report([folder], folder / "report.html")
    return folder


class _Book:
    """Turns records into rows."""

    def __init__(
        self,
        folder: Path,
        task: Task,
        seeds: tuple[int, ...],
        sinks: Sink,
        show: Callable[[dict[str, Any]], None],
        evaluator: Evaluator,
        wall_s: float,
    ) -> None:
        self.folder, self.task, self.seeds, self.sinks, self.show = folder, task, seeds, sinks, show
        self.evaluator = evaluator
        self.began = time.monotonic() - wall_s

    def wall(self) -> float:
        """Seconds that the run has taken, over all its sessions."""
        return time.monotonic() - self.began

    def write(self, record: Record, phases: Sequence[Any]) -> None:
        """Write what the record holds, and evaluate where it asks for it."""
        if record.begins:
            self.row(record, "phase", {}, event="begin")
        for e in record.episodes:
            values = {"return": [e.raw_return], "length": [e.length], "success": [e.success]}
            self.row(record, "episode", values, seeds=[e.seed], environment_step=e.environment_step)
        if record.metrics:
            self.row(record, "training", record.metrics)
        if record.evaluates:
            slot = record.carry.slots[record.phase.actor or record.phase.slot]
            result = self.evaluator(slot)
            self.row(record, "evaluation", result.values())
            if record.ends:
                units = record.carry.units
                assert units is not None
                found, points = handover(slot, units, self.task.dataset(), result)
                self.row(record, "handover", found, points=points)
                save_policy(self.folder / "policy", slot, self.task.spec, self.seeds, self.facts(record))
        if record.ends:
            self.row(record, "phase", {}, event="end")

    def facts(self, record: Record) -> dict[str, Any]:
        """What a policy's bundle says about itself beside its weights."""
        card = self.task.card()
        low, high = self.task.action_bounds
        return {
            "task": self.task.name,
            "observation": _plain(card["observation"]),
            "action": {"low": np.asarray(low).tolist(), "high": np.asarray(high).tolist()},
            "trained": {
                "phase": record.phase.name,
                "environment_step": record.environment_step,
                "update": record.update,
            },
        }

    def row(self, record: Record, kind: str, values: Mapping[str, Any], **more: Any) -> None:
        """Write one row to the sinks and show it."""
        row = {
            "kind": kind,
            "phase": record.phase.name,
            "phase_index": record.index,
            "tick": record.tick,
            "environment_step": record.environment_step,
            "update": record.update,
            "wall_s": round(self.wall(), 3),
            "seeds": list(self.seeds),
            "values": {k: np.asarray(v) for k, v in values.items()},
            **more,
        }
        self.sinks.write(row)
        self.show(row)


def _tensorboard(folder: Path, described: dict[str, Any], carry: Carry | None) -> Sink:
    return TensorBoard(folder / "tensorboard", None if carry is None else carry.updates)


def _wandb(folder: Path, described: dict[str, Any], carry: Carry | None) -> Sink:
    config = {k: v["value"] for k, v in described["config"].items()}
    return WandB(folder, "segue", folder.name, config | {"recipe": described["recipe"], "task": described["task"]})


_TRACKERS: dict[str, Callable[..., Sink]] = {"tensorboard": _tensorboard, "wandb": _wandb}
TRACKERS = tuple(_TRACKERS)


def _plain(value: Any) -> Any:
    """JSON with infinities as words, so that run.json stays valid JSON."""
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return _plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=1))
    os.replace(temporary, path)


def _status(folder: Path, status: str) -> None:
    described = json.loads((folder / "run.json").read_text())
    _write_json(folder / "run.json", described | {"status": status})


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Keep two processes from continuing the same run."""
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SegueError(f"{folder}: another process is at work on this run; wait for it or stop it") from error
        yield


@contextmanager
def _signals() -> Iterator[Callable[[], int | None]]:
    """Catch SIGINT and SIGTERM; yields a function that returns the number of the signal seen, if any."""
    seen: list[int] = []

    def note(number: int, frame: Any) -> None:
        if seen and number == signal.SIGINT:
            raise KeyboardInterrupt  # the user means it
        seen.append(number)

    try:
        before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not the main thread: the caller handles signals
        yield lambda: None
        return
    try:
        yield lambda: seen[0] if seen else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
