"""What a study asks for: recipes on tasks with settings, from a TOML file or from the command line.

    recipes = ["cal-ql", "iql", "opt(spot)"]
    tasks = ["adroit-*-binary"]              # patterns of `segue list tasks`, or any task's name
    seeds = 8                                # how many, or which ones: [3, 5, 9]
    seeds_per_cell = 4
    rules = ["warm_up=2000"]                 # hand-over rules, for all
    budget = 30000                           # the rule budget=30000
    stop_when = "success>=0.95,for=3"        # ends a run early

    [settings]                               # for all
    evaluation.episodes = 10

    [grid]                                   # every combination of these
    online.utd_ratio = [1, 4]
    rules = ["", "freeze_actor=2000"]

    [[runs]]                                 # any number of these: all of the above once more, for a part of the runs
    recipes = ["iql"]
    grid.agent.expectile = [0.7, 0.9]

    [search]                                 # in the place of a grid: options that Optuna chooses
    trials = 40
    goal = "final"                           # or "online"
    space.agent.expectile = [0.5, 0.95]
    space.agent.actor_learning_rate = { low = 1e-5, high = 1e-3, log = true }
    space.online.utd_ratio = { choices = [1, 2, 4] }

What stands above the first [[runs]] holds for each of them, and what a [[runs]] says itself counts more.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from segue.core.options import unknown
from segue.core.types import SegueError
from segue.recipes.rules import words_of
from segue.runs.request import lasting, seeds_of
from segue.runs.stopping import parsed
from segue.study.asked import PATIENCE, SEEDS, SEEDS_PER_CELL, Asked, Runs, Search

EACH = ("recipes", "tasks", "settings", "grid", "rules", "budget", "stop_when")
"""Keys of [[runs]]; they may stand above all too."""
WHOLE = ("seeds", "seeds_per_cell", "cores", "keep", "patience", "search", "track")
"""Keys of the whole study."""


def read_asked(path: Path, before: Asked | None = None) -> Asked:
    """Read a study's file.  `before` is the study that it is to widen: it gives what the file leaves out.

    Raises `SegueError` with the line or the key that is wrong.
    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SegueError(f"{path}: cannot be read ({error.strerror}); give a study's file, or its folder") from error
    except ValueError as error:  # of TOML, or of UTF-8
        raise SegueError(f"{path}: is not TOML ({error}); see docs/studies.md for an example") from error
    return asked_of(table, str(path), before)


def asked_of(table: Mapping[str, Any], where: str, before: Asked | None = None) -> Asked:
    """Read a study from a table, as `read_asked` does from a file; `where` names it in errors.  Raises `SegueError`."""
    _known(table, (*EACH, *WHOLE, "runs"), where)
    if before is not None:
        table = _filled(table, before)
    parts = table.get("runs", [{}])
    if not isinstance(parts, list) or not all(isinstance(part, Mapping) for part in parts):
        raise SegueError(f"{where}: write each part of runs as [[runs]]")
    above = {key: table[key] for key in EACH if key in table}
    runs = []
    for number, part in enumerate(parts, 1):
        here = f"{where}: [[runs]] {number}" if "runs" in table else where
        _known(part, EACH, here)
        runs.append(_runs({**above, **part}, above, here))
    seeds = table.get("seeds", SEEDS)
    return Asked(
        tuple(runs),
        seeds_of(seeds, f"{where}: seeds = {seeds!r}"),
        _count(table, "seeds_per_cell", SEEDS_PER_CELL, 1, where),
        _count(table, "cores", 1, 1, where),
        _count(table, "keep", None, 0, where),
        _count(table, "patience", PATIENCE, 1, where),
        _search(table, runs, where),
        _words(table, "track", where, ()),
    )


def matching(patterns: Iterable[str], names: Iterable[str], where: str) -> tuple[str, ...]:
    """Names of tasks that patterns mean, each once; a word without a star is a name as it is.

    Raises `SegueError` for a pattern that none fits.
    """
    found: list[str] = []
    for pattern in patterns:
        if ":" in pattern or not set("*[") & set(pattern):
            found.append(lasting(pattern))
            continue
        fitting = [name for name in names if fnmatchcase(name, pattern)]
        if not fitting:
            raise SegueError(f"{where}: no task's name fits '{pattern}'; `segue list tasks` shows them")
        found += fitting
    return tuple(dict.fromkeys(found))


def _search(table: Mapping[str, Any], runs: Sequence[Runs], where: str) -> Search | None:
    """A search, which has one recipe and no grid: its trials are compared with each other."""
    known = table.get("search")
    if known is None or isinstance(known, Search):
        return known
    if not isinstance(known, Mapping):
        raise SegueError(f"{where}: write the search as [search]")
    here = f"{where}: [search]"
    _known(known, ("space", "trials", "goal", "sampler", "seed", "prune"), here)
    if len({recipe for part in runs for recipe in part.recipes}) > 1 or any(part.grid for part in runs):
        raise SegueError(f"{here}: a search has one recipe and no grid; make a study for each")
    space = _space(known.get("space", {}), here)
    if not space or "trials" not in known:
        raise SegueError(f"{here}: give trials = 40, and for each option a range, such as space.agent.tau = [0.5, 0.9]")
    goal, sampler = known.get("goal", "final"), known.get("sampler", "tpe")
    for name, value, kinds in (("goal", goal, ("final", "online")), ("sampler", sampler, ("tpe", "random"))):
        if value not in kinds:
            unknown(f"{here}: {name}", str(value), kinds)
    prune = known.get("prune", False)
    if not isinstance(prune, bool):
        raise SegueError(f"{here}: prune = {prune!r}: give true or false")
    count = _count(known, "trials", None, 1, here)
    return Search(space, count, goal, sampler, _count(known, "seed", 0, 0, here), prune)


def _space(table: object, where: str, path: str = "") -> dict[str, dict[str, Any]]:
    """{option: range} of nested tables; [low, high] is a range too."""
    if isinstance(table, list):
        table = dict(zip(("low", "high"), table, strict=True)) if len(table) == 2 else {"choices": table}
    if not isinstance(table, Mapping):
        raise SegueError(f"{where}: {path} = {table!r}: give [low, high], or {{ choices = [...] }}")
    if not path or not table.keys() <= {"low", "high", "log", "step", "choices"}:
        parts = [_space(value, where, f"{path}.{key}" if path else key) for key, value in table.items()]
        return {option: room for part in parts for option, room in part.items()}
    room = dict(table)
    if "choices" in room:
        good = len(room) == 1 and isinstance(room["choices"], list) and len(room["choices"]) > 1
    else:
        ends: list[Any] = [room.get("low"), room.get("high")]
        good = all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends) and ends[0] < ends[1]
        if good and not all(isinstance(end, int) for end in ends):
            room |= {"low": float(ends[0]), "high": float(ends[1])}
        good = good and not (room.get("log") and (room["low"] <= 0 or "step" in room))
    if not good:
        raise SegueError(
            f"{where}: {path} = {table!r}: give low below high (above 0 with log = true), or several choices"
        )
    return {path: room}


def _filled(table: Mapping[str, Any], before: Asked) -> dict[str, Any]:
    """A table with the recipes, tasks, seeds and so on of a study where it names none; without runs of its own where it
    says nothing of them."""
    every = lambda kind: list(dict.fromkeys(x for part in before.runs for x in getattr(part, kind)))  # noqa: E731
    known = {name: getattr(before, name) for name in WHOLE if getattr(before, name) is not None}
    none: dict[str, Any] = {} if any(key in table for key in (*EACH, "runs")) else {"runs": []}
    return {"recipes": every("recipes"), "tasks": every("tasks"), **known, "seeds": list(before.seeds), **none, **table}


def _runs(part: Mapping[str, Any], above: Mapping[str, Any], where: str) -> Runs:
    settings = _flat(above.get("settings", {}), "settings", where) | _flat(part.get("settings", {}), "settings", where)
    return Runs(
        _words(part, "recipes", where),
        _words(part, "tasks", where),
        settings,
        {path: _values(path, values, where) for path, values in _flat(part.get("grid", {}), "grid", where).items()},
        _rules([*_words(part, "rules", where, ()), *_budget(part, where)], where),
        _condition(part, where),
    )


def _condition(part: Mapping[str, Any], where: str) -> str | None:
    text = part.get("stop_when")
    if text is None:
        return None
    if not isinstance(text, str):
        raise SegueError(f'{where}: stop_when = {text!r}: give a condition in quotes, such as "success>=0.95"')
    try:
        return parsed(text).word
    except SegueError as error:
        raise SegueError(f"{where}: {error}") from error


def _budget(part: Mapping[str, Any], where: str) -> list[str]:
    steps = _count(part, "budget", None, 1, where)
    return [] if steps is None else [f"budget={steps}"]


def _values(path: str, values: object, where: str) -> tuple[Any, ...]:
    """The values of an option in a grid; those of "rules" become tuples of rules."""
    if not isinstance(values, list):
        raise SegueError(f"{where}: grid.{path} = {values!r}: give a list of values, for example [1, 4]")
    if not values:
        raise SegueError(f"{where}: grid.{path} is empty; give at least one value, or leave it out")
    if len({repr(value) for value in values}) < len(values):
        raise SegueError(f"{where}: grid.{path} has a value twice; give each once")
    if path != "rules":
        return tuple(values)
    return tuple(_rules([x for x in ([v] if isinstance(v, str) else v) if x], where) for v in values)


def _rules(words: Iterable[str], where: str) -> tuple[str, ...]:
    try:
        return words_of(words)
    except SegueError as error:
        raise SegueError(f"{where}: {error}") from error


def _flat(table: object, where: str, file: str) -> dict[str, Any]:
    """{path: value} of nested tables."""
    if not isinstance(table, Mapping):
        raise SegueError(f"{file}: {where} = {table!r}: give a table of options, as [{where}]")
    found: dict[str, Any] = {}
    for key, value in table.items():
        deeper = _flat(value, f"{where}.{key}", file) if isinstance(value, Mapping) else {"": value}
        found |= {f"{key}.{rest}" if rest else key: leaf for rest, leaf in deeper.items()}
    return found


def _words(part: Mapping[str, Any], key: str, where: str, default: tuple[str, ...] | None = None) -> tuple[str, ...]:
    words = part.get(key, default)
    words = [words] if isinstance(words, str) else words
    if words is None or (not words and default is None):
        raise SegueError(f"{where}: names no {key}; give {key} = [...]")
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) and word for word in words):
        raise SegueError(f"{where}: {key} = {words!r}: give a list of names in quotes")
    return tuple(dict.fromkeys(words))


def _count(part: Mapping[str, Any], key: str, default: Any, least: int, where: str) -> Any:
    value = part.get(key, default)
    if value is not default and (not isinstance(value, int) or isinstance(value, bool) or value < least):
        raise SegueError(f"{where}: {key} = {value!r}: give a whole number of at least {least}")
    return value


def _known(table: Mapping[str, Any], names: Iterable[str], where: str) -> None:
    for key in table:
        if key not in names:
            unknown(where, key, names)
