"""Start and resume a run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

import gymnasium

from segue.core import files
from segue.core.types import SegueError, Task
from segue.engine.envs import Simulator, here
from segue.engine.estimate import Costs, Estimate, estimate
from segue.engine.state import RunState
from segue.recipes import Plan, Recipe, find_recipe
from segue.recipes.common import Settings
from segue.recipes.rules import words_of
from segue.runs import checkpoint, manifest, moves
from segue.runs.changes import refuse_changed, with_settings
from segue.runs.checkpoint import Extra, Manifest
from segue.runs.checks import check, check_real, device, notes
from segue.runs.drive import drive, save_interval
from segue.runs.fork import End, check_origin, end_of, find_end, plant
from segue.runs.lock import lock
from segue.runs.manifest import Described
from segue.runs.request import Origin, Request, lasting, listed, plan_of, request_of, seeds_of, settings_of
from segue.runs.sinks import Sink, unchanged
from segue.runs.trackers import ready
from segue.runs.watch import OnRecord, Watch
from segue.tasks import GymTask, find_task


def train(
    recipe: Recipe | str,
    task: Task | str,
    seeds: int | Sequence[int] | None = None,
    settings: Settings | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    track: str | Sequence[str] = (),
    rules: Sequence[object] = (),
    untrained: bool = False,
    env_workers: int = 0,
    init_from: str | os.PathLike[str] | None = None,
    with_experience: bool = False,
    keep: int | None = None,
    stop_when: str | None = None,
    on_record: OnRecord | None = None,
    sinks: Sequence[Sink] = (),
) -> Path:
    """Do in Python what `segue run` does; return the run's folder.

    `seeds` is how many, or which ones; 4 by default.  `settings` are options by path ({"online.utd_ratio": 2}), `rules`
    hand-over rules ([segue.recipes.rules.freeze_actor(2_000)]).  If the task has no known name, continue the run with
    `resume(folder, lambda name: task)`.  A recipe of your own is found again if it is named module:name; otherwise give
    `recipe_of` to `resume`.  `untrained` lets an untrained policy move a robot.  The simulators live in `env_workers`
    processes, which step them beside each other (0: one after the other, in this process); what makes them must then
    stand in a module.

    `init_from` names another run, "RUN" or "RUN@PHASE": this one begins at the end of its phase (by default the last
    before the world moves), with its seeds, in place of the recipe's own phases up to there; `with_experience` takes
    its own rows too.  The ends of the last `keep` phases are kept; None keeps all.

    `on_record` gets each row of metrics.jsonl as a dict, once it is written.  Where it returns `segue.STOP`, the run is
    saved, its report is written, and it ends.  `stop_when` is a condition that does the same ("success>=0.95,for=3",
    see `segue.runs.stopping`).  Each of `sinks` gets the rows too: `write(row)`, and `close()` at the end.  One that
    fails is dropped in one line, unless it says `essential = True`.  Raises `SegueError`, also where `on_record` fails;
    the run is saved then, and `resume` goes on.
    """
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    if isinstance(task, gymnasium.Env):
        task = GymTask.custom(task)  # which says what to give instead
    found = find_task(task) if isinstance(task, str) else task
    name = lasting(task) if isinstance(task, str) else found.name
    origin = None if init_from is None else find_end(init_from).origin(with_experience)
    request = Request(
        chosen.name,
        name,
        default_seeds(origin) if seeds is None else seeds_of(seeds, f"seeds={seeds!r}"),
        settings_of(settings),
        listed(track),
        words_of(listed(rules)),
        untrained,
        origin,
        keep,
        stop_when,
    )
    listens: Any = {"on_record": on_record, "sinks": sinks}
    return start(chosen, found, request, None if folder is None else Path(folder), env_workers=env_workers, **listens)


@contextmanager
def simulators_of(task: Task, workers: int) -> Iterator[Callable[[], Simulator] | None]:
    """What makes a task's simulators in so many processes, which end here; None where there are to be none."""
    if not workers:
        yield None
        return
    if workers < 0:
        raise SegueError(f"--env-workers {workers}: give a number of processes, or 0 for none")
    if task.real:
        raise SegueError(f"{task.name} is real and exists once, so no worker can make it; leave out --env-workers")
    from segue.tasks.apart import Workers

    processes = Workers(task.make_env, workers)
    try:
        yield processes.make
    finally:
        processes.close()


def needs(decided: Plan, task: Task, request: Request, timed: bool = False, costs: Costs | None = None) -> Estimate:
    """What a run will need; `timed` lowers its updates to count their operations, which takes seconds, but for those in
    `costs`."""
    data = task.dataset()
    rows = 0 if data is None else len(data)
    kept = decided.experience
    about = task.spec, decided.scaling, len(request.seeds), rows, timed, kept.capacity, kept.envs, request.keep
    return estimate(decided.phases, *about, costs)


def start(
    recipe: Recipe,
    task: Task,
    request: Request,
    folder: Path | None = None,
    root: Path = Path("runs"),
    stream: TextIO | None = None,
    env_workers: int = 0,
    recipe_of: Callable[[str], Recipe] = find_recipe,
    on_record: OnRecord | None = None,
    sinks: Sequence[Sink] = (),
) -> Path:
    """Run a recipe on a task from its beginning, or from another run's; return the run's folder.

    `folder` must be new or empty; without one, the next free `root`/RECIPE-TASK-NNN is taken.  `env_workers`,
    `on_record` and `sinks` are those of `train`.  `recipe_of` finds the recipe of the other run.  Raises `SegueError`,
    and `Interrupted` after SIGINT or SIGTERM.
    """
    decided, origin, end = plan_of(request, task, recipe_of, recipe), request.origin, None
    if origin is not None:
        end = end_of(origin)
        check_origin(end, origin, request, task, decided)
    if folder is not None:
        refuse_used(folder)
    check(decided, task, request)
    watch = Watch(decided, request, on_record, sinks)
    described = manifest.describe(decided, task, asdict(request))
    with simulators_of(task, env_workers) as simulators:
        try:
            if folder is None:
                folder = free_folder(root, f"{request.recipe}-{task.name}")
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            where = f"{folder or root}: cannot make this folder ({error.strerror})"
            raise SegueError(f"{where}; give another --out") from error
        with lock(folder):
            refuse_used(folder)  # another process may have been faster
            manifest.write(folder, described)
            # Without a log a run is as long as somebody has said, or a million steps: its time is worth half a second.
            told = [needs(decided, task, request, timed=task.dataset() is None).words(), *notes(decided)]
            resumed = None
            if origin is not None and end is not None:
                told += planted(folder, end, origin, decided)
                resumed = loaded(folder, decided, task, simulators)
            seeds, trackers, keep = request.seeds, request.trackers, request.keep
            return drive(folder, decided, task, seeds, watch, trackers, resumed, told, stream, simulators, keep)


def refuse_used(folder: Path) -> None:
    """Raise `SegueError` where a new run would mix with something; hidden files do not count."""
    if (folder / "run.json").exists():
        raise SegueError(f"{folder}: already holds a run; give another --out, or `segue resume {files.word(folder)}`")
    if folder.is_dir() and any(not p.name.startswith(".") for p in folder.iterdir()):
        raise SegueError(f"{folder}: is not empty; give another --out")


def resume(
    folder: str | os.PathLike[str],
    task_of: Callable[[str], Task] = find_task,
    stream: TextIO | None = None,
    recipe_of: Callable[[str], Recipe] = find_recipe,
    settings: Settings | None = None,
    env_workers: int = 0,
    on_record: OnRecord | None = None,
    sinks: Sequence[Sink] = (),
) -> Path:
    """Continue a run exactly from its newest intact checkpoint, after any kind of stop.  Return the run's folder.

    `task_of` and `recipe_of` return tasks and recipes of your own by their names.  `settings` change options from here
    on (a learning rate, after a divergence); run.json records the change.  `env_workers`, `on_record` and `sinks` are
    those of `train`, and may be others than before; rows after the checkpoint are written and seen again.  A condition
    that has stopped the run does not stop it again.

    Raises `SegueError` if the folder is not a run, if its recipe, task or dataset have changed, or if a setting cannot
    change any more.
    """
    folder = Path(folder)
    manifest.read(folder)
    with lock(folder), ExitStack() as stack:
        described = manifest.read(folder)
        if described["status"] == "finished":
            raise SegueError(
                f"{folder}: the run is finished; `segue report {files.word(folder)}` writes its report again"
            )
        request = request_of(described["request"])
        task = task_of(request.task)
        decided = plan_of(request, task, recipe_of)
        save_interval()
        ready(request.trackers)
        device()
        refuse_changed(folder, described, decided)
        log = folder / "metrics.jsonl"

        def log_fits(found: Manifest) -> str | None:
            extra = found["extra"]
            whole = unchanged(log, extra.get("position", 0), extra.get("rows"))
            return None if whole else f"{log} was changed after the checkpoint"

        data = task.dataset()
        was = described["provenance"]["dataset"]
        if (None if data is None else data.sha256(anew=True)) != (was and was["sha256"]):
            raise SegueError(
                f"{folder}: the dataset of '{request.task}' is not the one that the run began with; restore it, "
                "or start a new run"
            )
        told = changed(described)
        found = checkpoint.latest(folder, log_fits)
        if found is None and (origin := request.origin) is not None:  # killed before it had all that it begins with
            told += planted(folder, end_of(origin), origin, decided)
            found = checkpoint.latest(folder, log_fits)
        if found is not None and found[2] is not None:
            told.append(f"{found[2]}; continuing from checkpoint {found[0].name}")
        if settings:
            stands = None if found is None else found[1]
            request, decided, described = with_settings(described, request, recipe_of, task, settings, stands)
            told += decided.told()
        if task.real:
            check_real(decided, request)
            if steps := moves.lost(folder, {} if found is None else found[1]["extra"]):
                what = "1 step was" if steps == 1 else f"{steps:,} steps were"
                told.append(
                    f"{what} sent to {request.task} after the last checkpoint and are lost: they are not in replay"
                )
        simulators = stack.enter_context(simulators_of(task, env_workers))
        resumed = found and loaded(folder, decided, task, simulators, log_fits)
        if settings:
            manifest.write(folder, described)
        for change in described["provenance"].get("changes", ()):
            if found is not None and change["updates"] > found[1]["updates"]:
                said = ", ".join(change["settings"])
                now = found[1]["updates"]
                told.append(f"{said}: changed at update {change['updates']}, now changes at update {now}")
        watch = Watch(decided, request, on_record, sinks, described.get("stopped", ()))
        seeds, trackers, keep = request.seeds, request.trackers, request.keep
        return drive(folder, decided, task, seeds, watch, trackers, resumed, told, stream, simulators, keep)


def planted(folder: Path, end: End, origin: Origin, decided: Plan) -> list[str]:
    """Write what a run begins with that goes on from another one, and return lines about it.

    Raises `SegueError` where the other one is not what it was when this one was asked for.
    """
    if end.origin(origin.experience) != origin:
        raise SegueError(f"{end.run}: the end of '{end.phase}' is not what it was; start a new run")
    plant(folder, end, origin, decided)
    return [f"begins at the end of '{origin.phase}' of {origin.run}", *changed(end.described)]


def loaded(
    folder: Path,
    decided: Plan,
    task: Task,
    simulators: Callable[[], Simulator] | None,
    fits: Callable[[Manifest], str | None] = lambda found: None,
) -> tuple[RunState, Extra]:
    """The state of a run's newest whole checkpoint that `fits`, and what stands beside it."""
    data = task.dataset()
    rows, make = 0 if data is None else len(data), simulators or here(task.make_env)
    envs = decided.experience.envs
    return checkpoint.load(folder, decided.phases, task.spec, rows, make, fits, task.real, envs)


def changed(described: Described) -> list[str]:
    """One line of what is other than when a run began, if anything is."""
    changes = manifest.moved(described)
    return [f"since the run began: {', '.join(changes)}"] if changes else []


def default_seeds(origin: Origin | None) -> tuple[int, ...]:
    """The seeds of the run that one begins from, or 0 to 3."""
    return (0, 1, 2, 3) if origin is None else tuple(origin.request["seeds"])


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
