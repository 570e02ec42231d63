"""One reader for each format; each yields recorded episodes, one at a time.

    d4rl:PATH                               source(where, options) -> Source(facts, episodes)
    |    |
    |    +-- path, id or address, and options behind a "?":  csv:log.csv?action=a0,a1&episode=trial
    +-- a name of SOURCES

    open_source(text)     an opened log: what it says of itself, and its episodes (`segue data import`)
    read(text)            the whole log in memory

A reader says what it found (`facts`) before it reads the first episode.  It needs memory for an episode or a block of
rows, not for the log.  Its errors are `SegueError`s of one line.  A new format is a module here and a line in SOURCES.

    d4rl, ogbench, minari, robomimic, lerobot, run     a format each
    npz, table (and CSV)                               tables; `columns` says which column is what
    rows                                               where the rows of a table become episodes
    named, npy, video                                  arrays and frames in files
    download, relabel, damage                          downloads; rewards for OGBench; files that are not what they say
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import h5py

from segue.core.log import Data
from segue.core.options import unknown
from segue.core.types import SegueError
from segue.data.readers import d4rl, lerobot, minari, npz, ogbench, robomimic, run, table
from segue.data.readers.download import Remote, fetch, is_remote
from segue.data.readers.reader import Options, Source
from segue.data.recorded import data_of


class Entry(NamedTuple):
    """A format, as `segue data sources` shows it."""

    open: Callable[[str, Options], Source]
    what: str
    options: tuple[str, ...] = ()
    """Options that it knows, behind the "?"."""


SOURCES: dict[str, Entry] = {
    "d4rl": Entry(d4rl.source, "HDF5 or npz in D4RL's layout: one stream of rows", d4rl.OPTIONS),
    "minari": Entry(minari.source, "a Minari dataset: an id, or a folder", minari.OPTIONS),
    "run": Entry(run.source, "the rows that a run of Segue collected: its folder", run.OPTIONS),
    "npz": Entry(npz.source, "an npz file, or a folder of npy files: one row per step, or per episode", npz.OPTIONS),
    "table": Entry(table.source, "Parquet, Arrow or Feather: a file, or a folder of shards", table.OPTIONS),
    "csv": Entry(table.csv_source, "CSV with a header line: a file, or a folder of shards", table.CSV_OPTIONS),
    "ogbench": Entry(ogbench.source, "OGBench's npz: a file, a folder of shards, or a pattern", ogbench.OPTIONS),
    "robomimic": Entry(robomimic.source, "robomimic's HDF5: one group per demonstration", robomimic.OPTIONS),
    "lerobot": Entry(lerobot.source, "a LeRobot dataset, version 3 or 2: its folder", lerobot.OPTIONS),
}


ENDINGS = {".npz": "npz", ".csv": "csv", ".parquet": "table", ".arrow": "table", ".feather": "table"}


def guessed(text: str) -> str:
    """Put the format before a plain path, if it can be seen: "log.csv" is "csv:log.csv"; return other text as it is."""
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
    """Open a source by its text, "d4rl:PATH?option=value&..."; `SegueError` if that cannot be done.

    An address in the place of a path (http or https) is downloaded first and kept, see `download.fetch`.  Behind the
    "?" may stand `sha256=DIGEST` and `mirrors=ADDRESS,ADDRESS`.  `progress` is told the bytes of a download.
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
    return SOURCES[kind].open(where, Options(text, given))


def read(text: str) -> Data:
    """Read a whole log into checked `Data`, by the text of its source ("csv:log.csv", or a path alone).

    Raises `SegueError` as `open_source` does, and where the log is not fit to learn from.
    """
    found = open_source(guessed(text))
    return data_of(found.episodes, str(found.facts["source"]))


__all__ = ["SOURCES", "Entry", "Options", "Source", "guessed", "open_source", "read"]
