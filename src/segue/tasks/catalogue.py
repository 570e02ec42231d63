"""All records, where their logs are, and the task that a record makes."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import TYPE_CHECKING

from segue.core.types import SegueError
from segue.data.store import datasets_folder, is_stored
from segue.tasks import d4rl, ogbench, own
from segue.tasks.records import Group, Record
from segue.tasks.scores import reference_score

if TYPE_CHECKING:
    from segue.tasks.task import GymTask

SHOWN = 3  # names of logs in a listing
FOLDER = "SEGUE_DATA"  # the environment variable that names the folder of files
GROUPS: tuple[Group, ...] = (*own.GROUPS, *d4rl.GROUPS, *ogbench.GROUPS)


@functools.cache
def records() -> dict[str, Record]:
    """All records by name."""
    return {record.name: record for group in GROUPS for record in group.records}


def sources_of(name: str) -> tuple[str, ...] | None:
    """Sources of a task's log in order of preference, as `segue data import` takes them; None for an unknown name.

    Empty for a task whose log is published nowhere, or made by Segue itself.
    """
    known = records()
    return known[known[name].log or name].data if name in known else None


def task_of(record: Record, log: bool = True) -> GymTask:
    """Make a record's task with its log, wherever that is, or without one.

    Where the log is not here, only its `dataset` raises `SegueError`, with the command that brings it.
    """
    from segue.tasks.task import GymTask, pairs  # only words are read before

    source = (log_of(record) or f"absent:{absence(record)}") if log else "none"
    reference = record.reference
    return GymTask(
        name=record.name,
        env=record.env,
        horizon=record.horizon,
        domain=record.domain,
        presets=record.presets,
        env_kwargs=pairs(record.env_kwargs),
        keys=record.keys,
        options=pairs(record.options),
        exact_goal=record.exact_goal,
        reward=record.reward,
        success=record.success,
        terminal_success=record.terminal_success,
        failure=record.failure,
        away=record.away if log else None,
        source=source,
        reference=reference_score(reference) if isinstance(reference, str) else reference,
    )


def log_of(record: Record) -> str | None:
    """Source of a record's log: the dataset of that name, the file of that name, or one made here; None without.

    Raises `SegueError` where the file names another environment than the record.
    """
    from segue.data.readers.named import environment

    source = _found(record)
    if source is not None and source.startswith("d4rl:"):
        path = source.removeprefix("d4rl:")
        logged = environment(path).get("env_id", record.env)
        if logged != record.env:
            raise SegueError(f"{record.name}: {path} was logged in {logged}, not {record.env}; give it as hdf5:{path}")
    return source


def _found(record: Record) -> str | None:
    for name in filter(None, (record.name, record.log)):
        if is_stored(datasets_folder() / name):
            return f"stored:{name}"
    if record.made:
        return record.made
    folder = os.environ.get(FOLDER)
    released = record.file if record.data else ""  # which several tasks share
    own = f"{record.log or record.name}.hdf5" if released else file_of(record)
    if folder and (path := Path(folder) / own).is_file():
        return f"d4rl:{path}"
    for place in (folder, datasets_folder()) if released else ():
        if place and (path := Path(place) / released).is_file():
            published, _, query = record.data[0].partition("?")
            return f"{published.partition(':')[0]}:{path}?{query}"
    return None


def file_of(record: Record) -> str:
    """Name of a record's file in the folder $SEGUE_DATA."""
    return record.file or f"{record.log or record.name}.hdf5"


def absence(record: Record) -> str:
    """What to do about a log that is not here."""
    folder, file = os.environ.get(FOLDER), file_of(record)
    whole = record.log or record.name
    if records()[whole].data:
        bring = f"its log is not here; download it: segue data import {whole}"
        bring += f", or make one like it: segue data make {record.maker}" if record.maker else ""
    elif record.file:
        here = f"no {file} in {folder} ({FOLDER}); put it there" if folder else f"set {FOLDER} to the folder of {file}"
        return f"{here}, or give the task as hdf5:PATH"
    else:
        bring = f"its log is not published; import your own: segue data import SOURCE {record.name}"
    return f"{bring} (recipes that need no log: gym:{record.name})"


def listing() -> dict[str, list[tuple[str, str]]]:
    """Rows for a reader by family: names as a pattern, and whether their logs are here."""
    rows: dict[str, list[tuple[str, str]]] = {}
    for group in GROUPS:
        discount = group.records[0].discount
        hint = f" (discount {discount})" if discount else ""
        rows.setdefault(f"{group.family}; needs the extra {group.needs}", []).append(
            (group.pattern, _whereabouts(group) + hint)
        )
    return rows


def _whereabouts(group: Group) -> str:
    here = [record.name for record in group.records if _found(record)]
    if made := group.records[0].made:
        return "has no log" if made == "none" else "made on first use"
    if len(here) == len(group.records):
        return "here"
    if here:
        return f"here: {', '.join(here)}" if len(here) <= SHOWN else f"{len(here)} of {len(group.records)} are here"
    one = group.records[0]
    return "not here" if one.data or one.file or one.log else "not published"
