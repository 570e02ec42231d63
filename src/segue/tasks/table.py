"""Tasks by name: those of the records, and those named by their data or environment."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium

from segue.core.named import is_named, named
from segue.core.parts import made, missing
from segue.core.types import SegueError, Task
from segue.data.facts import Environment, cells_of, known_of
from segue.data.readers.d4rl import read_d4rl
from segue.data.readers.minari import read_environment
from segue.data.readers.named import environment
from segue.data.store import find_stored, stored_names
from segue.tasks.catalogue import records, task_of
from segue.tasks.layouts import BINARY, LAYOUTS, Layout
from segue.tasks.own import GROUPS as OWN
from segue.tasks.records import Record
from segue.tasks.residual import split
from segue.tasks.scores import SUCCESS
from segue.tasks.task import GymTask

PREFIX = "hdf5:"
MINARI = "minari:"
GYM = "gym:"
STORED = "data:"
MORE = ("those of D4RL and OGBench (segue list tasks)",)
FORMS = ("data:NAME", "hdf5:PATH", "minari:DATASET", "gym:ID")
NONE = "none"  # ?env=none: the log alone
REWARDS = {"env": "env", "binary": "success-1"}  # ?reward=... -> reward rule


class Query(NamedTuple):
    """Options after "?" in a task's name."""

    env: str = ""
    keys: str = ""
    reward: str = "env"
    real: str = ""

    @property
    def parts(self) -> tuple[str, ...]:
        """Keys of a dictionary observation, in order."""
        return tuple(self.keys.split(",")) if self.keys else ()

    def layout(self, env: str) -> Layout:
        """What is known of an environment (nothing for one that is not in the table), with the keys asked for."""
        known = LAYOUTS.get(env, Layout("custom", None))
        return replace(known, keys=self.parts or known.keys)


def task_names() -> tuple[str, ...]:
    """Return the names of all records; those in `FORMS` come on top."""
    return tuple(records())


def find_task(name: str) -> Task:
    """Return the task of that name, or of its data or environment.

    "data:NAME" (an imported dataset), "hdf5:PATH" and "minari:DATASET" are a log and the environment that it names.
    "gym:ID" is an environment without a log, "gym:NAME" a named task without its log.  Options follow "?", joined by
    "&": `env=ID` gives or replaces the environment of a log; `keys=a,b` are the parts of a dictionary observation to
    concatenate; `real=true` marks a robot; `reward=binary` is for files only.

    "NAME?success_timing=post" is a named task with a choice that it offers (OGBench's).

    "NAME?residual=FILE.onnx" is the task in which an agent corrects another policy (`segue.tasks.residual`), by at most
    `residual_scale=0.1` of half an action's range.

    "module:name" is a task of one's own: a `Task`, or a class or function that makes one without arguments.
    Raises `SegueError` with the closest names if there is none.  The log of a named task is needed only when its
    `dataset` is read.
    """
    if not isinstance(name, str):
        raise SegueError(
            f"a task's name is a str, not {type(name).__name__}; for your own environment: GymTask.custom(ENV)"
        )
    bare, _, text = name.partition("?")
    rest, residual = split(text)
    if residual is not None:
        plain = f"{bare}?{rest}" if rest else bare
        task = find_gym_task(plain)
        return replace(task, name=name, presets=(*task.presets, task.name), residual=residual)
    kinds = {STORED: _from_stored, PREFIX: _from_file, MINARI: _from_minari, GYM: _from_gym}
    for prefix, make in kinds.items():
        if name.startswith(prefix):
            where, _, query = name.removeprefix(prefix).partition("?")
            asked = _query(name, query)
            task = make(name, where, asked._replace(real=""))
            return replace(task, real=True) if asked.real else task
    if name in records():
        return task_of(records()[name])
    if name.partition("?")[0] in records():
        return task_of(_chosen(name))
    if is_named(name):
        return _own(name)
    if (full := _meant(name)) is not None:
        raise SegueError(f"no task {name!r}; did you mean {full}?")
    close = difflib.get_close_matches(name, task_names(), n=3, cutoff=0.4)
    own = [group.pattern for group in OWN]
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join((*own, *MORE, *FORMS))}"
    raise SegueError(f"no task {name!r}; {hint}")


def _chosen(name: str) -> Record:
    """The record of NAME?keyword=value: a task of the table with a choice that it offers; raises `SegueError`."""
    whole, _, query = name.partition("?")
    record, chosen = records()[whole], dict(item.partition("=")[::2] for item in query.split("&"))
    for key, value in chosen.items():
        if value not in record.choices.get(key, ()):
            offered = ", ".join(f"{k}={'|'.join(v)}" for k, v in record.choices.items()) or "nothing"
            raise SegueError(f"{name}: nothing is known of '?{key}={value}'; {whole} has a choice of {offered}")
    presets, kwargs = (*record.presets, whole), {**record.env_kwargs, **chosen}
    return replace(record, name=name, log=record.log or whole, presets=presets, env_kwargs=kwargs)


def find_gym_task(name: str) -> GymTask:
    """Return the task of that name where a Gymnasium environment must be at its bottom, to write or read a log."""
    task = find_task(name)
    if not isinstance(task, GymTask):
        raise SegueError(f"{name}: is not a task with a Gymnasium environment; make one with segue.GymTask.custom(ENV)")
    return task


def _own(word: str) -> Task:
    found = named(word, "a task")
    if isinstance(found, gymnasium.Env) or (isinstance(found, type) and issubclass(found, gymnasium.Env)):
        raise SegueError(
            f"{word} is an environment; name a task made of it: task = segue.GymTask.custom(ENV, horizon=9)"
        )
    task: Task = made(found, word)
    if lacks := missing(task, Task):
        raise SegueError(
            f"{word} is not a task: it has no {', '.join(lacks)}; make one with segue.GymTask.custom(ENV), or write "
            "what segue.core.types.Task lists"
        )
    return task


def _meant(name: str) -> str | None:
    """The full name of a task of which only the place was given: an environment's id, a file, a dataset."""
    where = name.partition("?")[0]
    if Path(where).suffix.lower() in (".hdf5", ".h5"):
        return f"{PREFIX}{name}"
    if where in stored_names():
        return f"{STORED}{name}"
    if where in gymnasium.registry:
        return f"{GYM}{name}"
    near = difflib.get_close_matches(where, gymnasium.registry, n=1, cutoff=0.85)
    return f"{GYM}{near[0]}" if near else None


def _query(name: str, text: str) -> Query:
    pairs = [item.partition("=")[::2] for item in text.split("&") if item]
    for key, value in pairs:
        if key not in Query._fields or not value:
            raise SegueError(
                f"{name}: nothing is known of '?{key}={value}'; there are env=ID, keys=a,b, reward=binary, real=true"
            )
    query = Query(**dict(pairs))
    if query.reward not in REWARDS:
        raise SegueError(f"{name}: there is no reward={query.reward}; there are {', '.join(REWARDS)}")
    if query.real not in ("", "true"):
        raise SegueError(f"{name}: there is no real={query.real}; write real=true for a world that exists once")
    return query


def task_from_file(path: str | Path, name: str | None = None, query: Query | None = None) -> GymTask:
    """Return the task that a D4RL-layout HDF5 file describes in its attributes, or that of `query`'s environment.

    `env_id`, `env_kwargs` (JSON) and `max_episode_steps` make the environment, `reset_cell` and `goal_cell` fix a
    maze's evaluation.  A file without `max_episode_steps` gets the environment's registered time limit.
    """
    known, query = environment(path), query or Query()
    if query.env == NONE:
        return replace(
            GymTask.custom(None, read_d4rl(path), name=name or Path(path).stem), source=f"d4rl:{path}", data=None
        )
    env = query.env or known.get("env_id", "")
    if not env:
        raise SegueError(
            f"{path}: no attribute 'env_id'; add it, or name the environment: {PREFIX}{path}?env=ID (none, to learn "
            "offline only)"
        )
    if query.env:  # the keywords are those of another one
        known = {**known, "env_kwargs": {}}
    layout = query.layout(env)
    if layout.exact_goal and "goal_cell" not in known:
        raise SegueError(
            f"{path}: {env} needs attributes 'reset_cell' and 'goal_cell', its one evaluation task; add them"
        )
    return _task(name or Path(path).stem, env, layout, f"d4rl:{path}", known, query.reward, path)


def _from_file(name: str, path: str, query: Query) -> GymTask:
    return task_from_file(path, None, query)


def _from_stored(name: str, dataset: str, query: Query) -> GymTask:
    """Return the task of an imported dataset: the environment that it names, or that of the query."""
    known = known_of(find_stored(dataset).facts)
    env = query.env or known.get("env_id")
    if dataset in records() and query == Query() and env in (None, records()[dataset].env):
        return task_of(records()[dataset])
    if not env or env == NONE:
        data = find_stored(dataset).data()
        return replace(GymTask.custom(None, data, name=dataset), source=f"stored:{dataset}", data=None)
    if query.reward != "env":
        raise SegueError(f"{name}: rewards are made at import; leave out reward={query.reward}")
    layout, known = query.layout(env), known if env == known.get("env_id") else {}
    if "rules" in known:
        return _as_played(known, query, dataset)
    layout = replace(layout, keys=query.parts or layout.keys or tuple(known.get("keys", ())))
    if layout.exact_goal and "goal_cell" not in known:
        raise SegueError(f"{name}: {env} needs its one evaluation task, 'reset_cell' and 'goal_cell', from the log")
    return _task(dataset, env, layout, f"stored:{dataset}", known, known.get("reward", "env"), name)


def _as_played(known: Environment, query: Query, dataset: str) -> GymTask:
    """Return the task that a log was made by, with the log in the place of its own; another one's presets are not its.

    Raises `SegueError` where its description has been changed by hand.
    """
    rules: dict[str, Any] = dict(known["rules"])
    layout = LAYOUTS.get(known["env_id"], Layout("custom", None))
    reference = rules.pop("reference", layout.reference)
    try:
        task = GymTask.custom(
            known["env_id"],
            name=dataset,
            horizon=known.get("max_episode_steps"),
            env_kwargs=known.get("env_kwargs"),
            keys=query.parts or tuple(known.get("keys", ())),
            reference=None if reference is None else (float(reference[0]), float(reference[1])),
            **{"success": layout.success, **rules},
        )
    except (TypeError, ValueError, IndexError) as error:
        raise SegueError(f"data:{dataset}: its rules {rules} are no task's ({error}); import it again") from error
    return replace(task, source=f"stored:{dataset}")


def _from_minari(name: str, dataset: str, query: Query) -> GymTask:
    """Return the task of a Minari dataset: its own environment, and all keys of a dictionary observation in order."""
    if query.reward != "env":
        raise SegueError(f"{name}: reward={query.reward} is for files in D4RL's layout; leave it out")
    if query.env:
        return _task(name, query.env, query.layout(query.env), f"{MINARI}{dataset}")
    known = read_environment(dataset)
    layout = Layout("custom", None, query.parts or tuple(known["keys"]))
    return _task(name, known["env_id"], layout, f"{MINARI}{dataset}", known)


def _from_gym(name: str, env: str, query: Query) -> GymTask:
    """Return the task of an environment without a log; a maze draws its goals, and the learner is told them."""
    if query.env:
        raise SegueError(f"{name}: names its environment twice; leave out env={query.env}")
    if env in records():
        if query != Query():
            raise SegueError(f"{name}: {env} is a task with its own keys and rewards; leave out the options after '?'")
        return task_of(records()[env], log=False)
    layout = query.layout(env)
    if layout.exact_goal:
        layout = replace(layout, exact_goal=False, keys=query.parts or ("observation", "achieved_goal", "desired_goal"))
    return _task(env, env, layout, "none", reward=query.reward)


def _task(
    name: str,
    env: str,
    layout: Layout,
    source: str,
    known: Environment | None = None,
    reward: str = "env",
    where: str | Path | None = None,
) -> GymTask:
    """Put together what a log and the table of environments say."""
    known, binary = known or {}, reward == "binary"
    if binary and env not in BINARY:
        raise SegueError(
            f"{where or name}: {env} has no binary task, only {', '.join(BINARY)} have; leave out reward=binary"
        )
    task = GymTask.custom(
        env,
        name=name,
        horizon=known.get("max_episode_steps"),
        domain=BINARY[env] if binary else layout.domain,
        env_kwargs=known.get("env_kwargs"),
        keys=layout.keys,
        options=cells_of(known),
        exact_goal=layout.exact_goal,
        reward=REWARDS[reward],
        success=layout.success,
        terminal_success=binary,
        failure=-1.0 if binary else layout.failure,
        reference=SUCCESS if binary else layout.reference,
    )
    return replace(task, source=source)
