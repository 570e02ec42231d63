"""A run from its recipe to its report: what is asked for, checked at the door, begun and taken up again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from segue import checkpoint, files, manifest
from segue.agents import seeing
from segue.carry import check_phase, new_carry
from segue.driver import drive, ready
from segue.estimate import Estimate, estimate
from segue.guards import lock
from segue.phases import RANDOM, Phase, check_doors, fresh, take
from segue.recipes import Recipe, Resolved, extended, find_recipe, resolve
from segue.record import unchanged
from segue.rules import rule_of, words_of
from segue.tasks import GymTask, find_task
from segue.tasks.table import PREFIX
from segue.types import SegueError, Slot, Task, refused

CLOCKS = ("tick", "environment_steps", "updates")


@dataclass(frozen=True)
class Request:
    """What was asked for: enough to build the same run again."""

    recipe: str
    task: str
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    trackers: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    untrained: bool = False
    """Whether a real world may be moved by a policy that has learned nothing."""


def train(
    recipe: Recipe | str,
    task: Task | str,
    seeds: int | Sequence[int] = 4,
    settings: Mapping[str, Any] | None = None,
    *,
    folder: str | os.PathLike[str] | None = None,
    track: str | Sequence[str] = (),
    rules: Sequence[Any] = (),
    untrained: bool = False,
) -> Path:
    """Do in Python what `segue run` does; return the run's folder.

    `seeds` is how many, or which ones.  `settings` are options by path ({"online.utd_ratio": 2}), `rules` hand-over
    rules ([segue.rules.freeze_actor(2_000)]).  A run of a task that is not known by name can be continued with
    `resume(folder, lambda name: task)`, and one of a recipe of your own with `recipe_of`.  `untrained` lets a policy
    that has learned nothing move a real world.  Raises `SegueError`.
    """
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    if isinstance(task, gymnasium.Env):
        task = GymTask.custom(task)  # which says what to give instead
    found = find_task(task) if isinstance(task, str) else task
    which = seeds_of(seeds, f"seeds={seeds!r}")
    name = lasting(task) if isinstance(task, str) else found.name
    request = Request(chosen.name, name, which, _settings(settings), listed(track), words_of(listed(rules)), untrained)
    return start(chosen, found, request, None if folder is None else Path(folder))


MOST_SEEDS = 1000  # more is a seed's name taken for a count


def seeds_of(asked: Any, where: str) -> tuple[int, ...]:
    """(0, ..., n - 1) for a number, else the seeds that are named; `SegueError` for what is neither."""
    whole = lambda x: isinstance(x, (int, np.integer)) and not isinstance(x, bool)  # noqa: E731
    if not (whole(asked) or (isinstance(asked, (Sequence, np.ndarray)) and not isinstance(asked, str))):
        raise SegueError(f"{where}: give how many (8), or which ones ([3, 5, 9])")
    if whole(asked) and asked > MOST_SEEDS:
        raise SegueError(
            f"{where}: that is how many, {MOST_SEEDS} at most; the one seed {asked} is '{asked},' or [{asked}]"
        )
    named = range(int(asked)) if whole(asked) else list(asked)
    if not all(whole(x) for x in named):
        raise SegueError(f"{where}: seeds are whole numbers; give [3, 5, 9]")
    seeds = tuple(int(x) for x in named)
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**31 or len(set(seeds)) < len(seeds):
        raise SegueError(f"{where}: give at least one seed, none negative or above 2147483647, none twice")
    return seeds


def listed(given: Any) -> tuple[Any, ...]:
    """Several words or one: track="wandb" is ["wandb"]."""
    return (given,) if isinstance(given, str) else tuple(given)


def _settings(given: Mapping[str, Any] | None) -> dict[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise SegueError(f"settings={given!r}: give a mapping, for example {{'online.utd_ratio': 2}}")
    return dict(given or {})


def lasting(task: str) -> str:
    """Return a task's name that means the same in every working folder: the path in "hdf5:PATH" becomes absolute."""
    if not task.startswith(PREFIX):
        return task
    path, mark, query = task.removeprefix(PREFIX).partition("?")
    return PREFIX + os.path.abspath(os.path.expanduser(path)) + mark + query


def resolved(recipe: Recipe, task: Task, settings: Mapping[str, Any], rules: Sequence[str] = ()) -> Resolved:
    """Decide all of a recipe's numbers for a task; the task's own facts (its failure reward) come before presets.

    Where observations are no vectors, learners see through `segue.agents.Seeing`, and nothing is standardised.
    """
    named = {word: rule_of(word) for word in rules}
    facts: dict[str, Any] = {"units.failure": task.failure}
    names = (task.domain, *task.presets, task.name)
    recipe = extended(recipe, names)
    if refused(task.spec, "") is not None:
        facts["units.standardise"] = False
        recipe = replace(recipe, phases=tuple(replace(p, learner=seeing(p.learner, task.spec)) for p in recipe.phases))
    return resolve(recipe, names, settings, facts, named)


def check(decided: Resolved, task: Task, request: Request) -> None:
    """Refuse what cannot work, before anything is compiled or written: each phase's door, the trackers, the seeds.

    How much experience a phase will find is not known yet; the most that it can be is assumed.
    """
    ready(request.trackers)
    device()
    data, recipe = task.dataset(), decided.recipe
    if task.real:
        check_real(recipe, request)
    check_doors(recipe.phases, recipe.units)
    carry = new_carry(request.seeds, task.spec, 1)
    steps = 0
    for phase in recipe.phases:
        check_phase(phase, carry, task.spec, 0 if data is None else len(data), task.horizon)
        _check_learner(phase, task)
        carry.slots[phase.slot] = Slot(phase.learner, (), phase.units or recipe.units)
        if phase.validation.steps:
            carry.slots[phase.validation.keep] = carry.slots[phase.slot]
        steps += phase.ticks * phase.collect
        most = jnp.full(len(request.seeds), min(steps, 2**31 - 1), jnp.int32)
        carry.online = carry.online._replace(written=most, closed=most)


def needs(decided: Resolved, task: Task, request: Request, timed: bool = False) -> Estimate:
    """What a run will need; `timed` lowers its updates to count their operations, which takes seconds."""
    data, recipe = task.dataset(), decided.recipe
    rows = 0 if data is None else len(data)
    return estimate(recipe.phases, task.spec, recipe.units, len(request.seeds), rows, timed)


def device() -> None:
    """Refuse a device that JAX was told to use and cannot."""
    try:
        jax.devices()
    except Exception as error:
        asked = os.environ.get("JAX_PLATFORMS")
        where = f"JAX_PLATFORMS={asked}" if asked else "JAX"
        said = " ".join(str(error).split())[:160] or type(error).__name__
        raise SegueError(f"{where}: no such device here ({said}); unset it, or install JAX's build for it") from error


def check_real(recipe: Recipe, request: Request) -> None:
    """Refuse what would move a world that exists once behind its owner's back."""
    if any(p.collect and p.ticks for p in recipe.phases) and len(request.seeds) > 1:
        raise SegueError(f"{request.task} exists once, and {len(request.seeds)} seeds want to move it; give --seeds 0,")
    if recipe.evaluation.episodes:
        raise SegueError(
            f"{request.task} exists once: evaluations would move it between the steps of an episode; give "
            "--set evaluation=none"
        )
    learned: set[str] = set()
    for phase in recipe.phases:
        learned = _stand_trained(phase, learned)
        if phase.validation.steps:
            raise SegueError(
                f"{request.task} exists once: phase '{phase.name}' would move it to choose among its checkpoints; give "
                f"--set {phase.name}.validation.steps=0"
            )
        new = [name for name in phase.actors if name not in learned]
        if phase.collect and phase.ticks and new and not request.untrained:
            who = "uniformly random actions" if new[0] == RANDOM else f"the policy '{new[0]}', which is not trained"
            raise SegueError(
                f"{request.task} is real, and phase '{phase.name}' would move it with {who}; train it offline first, "
                "or give --untrained if that is safe"
            )
        if phase.learns:
            learned.add(phase.slot)


def _stand_trained(phase: Phase, learned: set[str]) -> set[str]:
    """Slots whose policy has had updates, after a phase's door: one may forget there, or take what another has."""
    if isinstance(phase.enter, take):
        trained = phase.enter.slot in learned
    else:
        trained = phase.slot in learned and phase.enter is not fresh
    return learned | {phase.slot} if trained else learned - {phase.slot}


def _check_learner(phase: Phase, task: Task) -> None:
    """Refuse a learner that cannot begin with this task; its state's shapes alone are computed."""
    try:
        jax.eval_shape(lambda: phase.learner.init(jax.random.key(0), task.spec))
    except SegueError as error:
        raise SegueError(f"phase '{phase.name}': {error}") from error


def start(
    recipe: Recipe,
    task: Task,
    request: Request,
    folder: Path | None = None,
    root: Path = Path("runs"),
    stream: TextIO | None = None,
) -> Path:
    """Run a recipe on a task from its beginning; return the run's folder.

    `folder` must be new or empty; without one, the next free `root`/RECIPE-TASK-NNN is taken.  Raises `SegueError`,
    and `Interrupted` after SIGINT or SIGTERM.
    """
    decided = resolved(recipe, task, request.settings, request.rules)
    if folder is not None:
        refuse_used(folder)
    check(decided, task, request)
    described = manifest.describe(decided, task, asdict(request))
    try:
        if folder is None:
            folder = free_folder(root, f"{request.recipe}-{task.name}")
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SegueError(f"{folder or root}: cannot make this folder ({error.strerror}); give another --out") from error
    with lock(folder):
        refuse_used(folder)  # another process may have been faster
        manifest.write(folder, described)
        notes = [needs(decided, task, request).words()]
        return drive(folder, decided, task, request.seeds, request.trackers, None, notes, stream)


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
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Continue a run from its newest whole checkpoint; exact, whatever stopped it.  Return the run's folder.

    `task_of` and `recipe_of` find by name what a run was started with, for tasks and recipes of your own.  `settings`
    change options from here on (a learning rate, after a divergence); run.json keeps what changed and when.

    Raises `SegueError` when the folder is no run, when its recipe, task or dataset are not what they were, and when a
    setting cannot change any more.
    """
    folder = Path(folder)
    manifest.read(folder)
    with lock(folder):
        described = manifest.read(folder)
        if described["status"] == "finished":
            raise SegueError(
                f"{folder}: the run is finished; `segue report {files.word(folder)}` writes its report again"
            )
        asked = described["request"]
        request = Request(
            asked["recipe"],
            asked["task"],
            tuple(asked["seeds"]),
            asked["settings"],
            tuple(asked["trackers"]),
            tuple(asked.get("rules", ())),
            asked.get("untrained", False),
        )
        task = task_of(request.task)
        decided = resolved(recipe_of(request.recipe), task, request.settings, request.rules)
        ready(request.trackers)
        device()
        _refuse_changed(folder, described, decided)
        log = folder / "metrics.jsonl"

        def log_fits(found: Mapping[str, Any]) -> str | None:
            extra = found["extra"]
            whole = unchanged(log, extra.get("position", 0), extra.get("rows"))
            return None if whole else f"{log} is not as the checkpoint saw it"

        data = task.dataset()
        was = described["provenance"]["dataset"]
        if (None if data is None else data.sha256(anew=True)) != (was and was["sha256"]):
            raise SegueError(
                f"{folder}: the dataset of '{request.task}' is not the one that the run began with; put that one back, "
                "or start a new run"
            )
        notes = [f"since the run began: {', '.join(changes)}"] if (changes := manifest.moved(described)) else []
        found = checkpoint.latest(folder, log_fits)
        if found is not None and found[2] is not None:
            notes.append(f"{found[2]}; going on from checkpoint {found[0].name}")
        if settings:
            stands = {} if found is None else found[1]
            request, decided, described = _changed(described, request, recipe_of, task, settings, stands)
        if task.real:
            check_real(decided.recipe, request)
        n = 0 if data is None else len(data)
        plan = decided.recipe.phases
        resumed = found and checkpoint.load(folder, plan, task.spec, n, task.world, log_fits, task.real)
        if settings:
            manifest.write(folder, described)
        for change in described["provenance"].get("changes", ()):
            if found is not None and change["updates"] > found[1]["updates"]:
                said = ", ".join(change["settings"])
                notes.append(f"{said}: changed at update {change['updates']}, and now already at {found[1]['updates']}")
        return drive(folder, decided, task, request.seeds, request.trackers, resumed, notes, stream)


def _refuse_changed(folder: Path, described: Mapping[str, Any], decided: Resolved) -> None:
    """Compare values only: a number that now comes from elsewhere is the same number."""
    tables = json.loads(json.dumps(manifest.plain(decided.table()))), described["config"]
    now, was = ({(path, json.dumps(row["value"])) for path, row in table.items()} for table in tables)
    changed = sorted({path for path, _ in now ^ was})
    if changed:
        other = described["segue"] != metadata.version("segue")
        cure = f"resume with segue {described['segue']}" if other else "put the recipe's numbers back"
        raise SegueError(
            f"{folder}: this version's '{described['request']['recipe']}' differs from the run's in "
            f"{', '.join(changed[:3])}; {cure}, or start a new run"
        )


def _changed(
    described: Mapping[str, Any],
    request: Request,
    recipe_of: Callable[[str], Recipe],
    task: Task,
    settings: Mapping[str, Any],
    stands: Mapping[str, Any],
) -> tuple[Request, Resolved, dict[str, Any]]:
    """The request, its numbers and run.json with settings changed in the middle of a run.

    `stands` is the manifest of the checkpoint that the run goes on from.  Finished phases keep their numbers.  Raises
    `SegueError` for what has been used already: the length of phases, which rows of experience are laid out for, and
    the units that returns are written in.
    """
    again = lambda chosen: resolved(recipe_of(request.recipe), task, chosen, request.rules)  # noqa: E731
    tried = again({**request.settings, **settings})
    was, now = described["config"], json.loads(json.dumps(manifest.plain(tried.table())))
    phases, behind = tried.recipe.phases, len(stands.get("history", ()))
    behind += behind < len(phases) and stands.get("entered", False) and stands["tick"] == phases[behind].ticks
    finished = [p.name for p in phases[:behind]]
    moved = {}
    for path in now.keys() | was.keys():
        phase, _, option = path.partition(".")
        if path in was and path in now and (was[path]["value"] == now[path]["value"] or phase in finished):
            continue
        if path not in was or path not in now or phase == "units" or option.startswith("units."):
            raise SegueError(f"{path}: cannot change in a run that has begun; start a new run")
        if option in ("ticks", "collect", "validation.steps"):
            raise SegueError(f"{path}: a run's length cannot change once it has begun; start a new run")
        inside = phase == phases[min(behind, len(phases) - 1)].name and stands.get("entered", False)
        if inside and (option in ("updates", "actor") or option.startswith("validation.")):
            # Its clocks and rows are told from these, and tries with others could not be compared.
            raise SegueError(f"{path}: cannot change in the middle of its phase; start a new run")
        moved[path] = tried.recipe.options()[path]
    if not moved:
        done = f" (finished: {', '.join(finished)})" if finished else ""
        raise SegueError(f"--set {' '.join(settings)}: changes nothing in what is still to come{done}; leave it out")
    asked = replace(request, settings={**request.settings, **moved})
    decided = again(asked.settings)
    for one, other in zip(again(request.settings).recipe.phases, decided.recipe.phases):
        if _shapes(one, task) != _shapes(other, task):  # carried over a door, a network would keep its old shape
            changed = ", ".join(path for path in sorted(moved) if path.startswith(f"{other.name}."))
            raise SegueError(f"{changed}: gives a network another shape than it has; start a new run")
    change = {
        "phase": phases[behind].name,
        **{clock: stands.get(clock, 0) for clock in CLOCKS},
        "settings": {path: [was[path]["value"], now[path]["value"]] for path in sorted(moved)},
    }
    provenance = described["provenance"]
    written = {
        **described,
        "request": manifest.plain(asdict(asked)),
        "config": manifest.plain(decided.table()),
        "provenance": {**provenance, "changes": [*provenance.get("changes", ()), change]},
    }
    return asked, decided, written


def _shapes(phase: Phase, task: Task) -> list[tuple[int, ...]]:
    state = jax.eval_shape(lambda: phase.learner.init(jax.random.key(0), task.spec))
    return [leaf.shape for leaf in jax.tree.leaves(state)]


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
