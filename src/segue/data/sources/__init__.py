"""Where logs come from: one reader for each format, each of which yields episodes one at a time.

    segue data import d4rl:PATH NAME            read(where, options) -> Source(episodes, facts)
                      |    |
                      |    +-- path, id or address, and options behind a "?":  csv:log.csv?action=a0,a1&episode=trial
                      +-- a name of SOURCES

A reader opens what it is given and says what it found (`facts`) before the first episode is read.  It needs memory for
one episode, or for a block of rows, not for the log.  Its errors are `SegueError`s of one line.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py

from segue.core.options import unknown
from segue.core.types import SegueError
from segue.data.fetch import Remote, fetch, is_remote
from segue.data.sources import d4rl, lerobot, minari, npz, ogbench, robomimic, run, table
from segue.data.sources.reader import Options, Source


class Entry(NamedTuple):
    """A format, as `segue data sources` shows it."""

    read: Callable[[str, Options], Source]
    what: str
    options: tuple[str, ...] = ()
    """Options that it knows, behind the "?"."""


SOURCES: dict[str, Entry] = {
    "d4rl": Entry(d4rl.read, "HDF5 or npz in D4RL's layout: one stream of rows", d4rl.OPTIONS),
    "minari": Entry(minari.read, "a Minari dataset: an id, or a folder", minari.OPTIONS),
    "run": Entry(run.read, "what a run of Segue has collected: its folder", run.OPTIONS),
    "npz": Entry(npz.read, "an npz file, or a folder of npy files: a row a step, or an episode", npz.OPTIONS),
    "table": Entry(table.read, "Parquet, Arrow or Feather: a file, or a folder of shards", table.OPTIONS),
    "csv": Entry(table.read_csv, "CSV with a line of names: a file, or a folder of shards", table.CSV_OPTIONS),
    "ogbench": Entry(ogbench.read, "OGBench's npz: a file, a folder of shards, or a pattern", ogbench.OPTIONS),
    "robomimic": Entry(robomimic.read, "robomimic's HDF5: a group for each demonstration", robomimic.OPTIONS),
    "lerobot": Entry(lerobot.read, "a LeRobot dataset, version 3 or 2: its folder", lerobot.OPTIONS),
}


ENDINGS = {".npz": "npz", ".csv": "csv", ".parquet": "table", ".arrow": "table", ".feather": "table"}


def guessed(text: str) -> str:
    """A source's text for a plain path whose format can be seen: "log.csv" is "csv:log.csv"; else the text itself."""
    where, mark, query = text.partition("?")
    path = Path(where)
    if text.partition(":")[0] in SOURCES or not path.exists() or (path / "dataset.json").is_file():
        return text
    kind = ENDINGS.get(path.suffix.lower())
    if path.suffix.lower() in (".hdf5", ".h5"):
        kind = "d4rl"
        with contextlib.suppress(OSError), h5py.File(path) as file:
            kind = "robomimic" if isinstance(file.get("data"), h5py.Group) else "d4rl"
    elif path.is_dir():
        seen = {"run.json": "run", "meta/info.json": "lerobot", "data/main_data.hdf5": "minari"}
        kind = next((format for file, format in seen.items() if (path / file).is_file()), None)
        kind = kind or ("npz" if any(path.glob("*.npy")) else None)
    return text if kind is None else f"{kind}:{where}{mark}{query}"


REMOTE = ("sha256", "mirrors")
"""Options of every format whose place is an address."""


def open_source(text: str, progress: Callable[[int, int | None], None] = lambda done, total: None) -> Source:
    """Open a source by its text, "d4rl:PATH?option=value&..."; `SegueError` where nothing can be made of it.

    An address in the place of a path (http or https) is downloaded first and kept, see `segue.data.fetch`; behind the
    "?" may stand `sha256=DIGEST` and `mirrors=ADDRESS,ADDRESS`.  `progress` is told its bytes.
    """
    kind, mark, rest = text.partition(":")
    if not mark or not rest:
        raise SegueError(f"source {text}: write it as FORMAT:PATH; formats: {', '.join(SOURCES)}")
    if kind not in SOURCES:
        unknown(f"source {text}", kind, SOURCES)
    where, _, query = rest.partition("?")
    given: dict[str, str] = {}
    for item in query.split("&") if query else []:
        name, equals, value = item.partition("=")
        if not equals or not name or not value:
            raise SegueError(f"source {text}: write options as name=value, not '{item}'")
        known = (*SOURCES[kind].options, *(REMOTE if is_remote(where) else ()))
        if name not in known:
            unknown(f"source {text}", name, known)
        given[name] = value
    if is_remote(where):
        mirrors = given.pop("mirrors", "").split(",") if "mirrors" in given else []
        where = str(fetch(Remote((where, *mirrors), given.pop("sha256", None)), progress))
    return SOURCES[kind].read(where, Options(text, given))


__all__ = ["SOURCES", "Entry", "Options", "Source", "guessed", "open_source"]
