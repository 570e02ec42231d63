"""Where logs come from: one reader for each format, each of which yields episodes one at a time.

    segue data import d4rl:PATH NAME            read(where, options) -> Source(episodes, facts)
                      |    |
                      |    +-- path, id or address, and options behind a "?":  csv:log.csv?action=a0,a1&episode=trial
                      +-- a name of SOURCES

A reader opens what it is given and says what it found (`facts`) before the first episode is read.  It needs memory for
one episode, or for a block of rows, not for the log.  Its errors are `SegueError`s of one line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from segue.data.sources import d4rl, minari, run
from segue.data.sources.reader import Options, Source
from segue.options import unknown
from segue.types import SegueError


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
}


def open_source(text: str) -> Source:
    """Open a source by its text, "d4rl:PATH?option=value&..."; `SegueError` where nothing can be made of it."""
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
        if name not in SOURCES[kind].options:
            unknown(f"source {text}", name, SOURCES[kind].options)
        given[name] = value
    return SOURCES[kind].read(where, Options(text, given))


__all__ = ["SOURCES", "Entry", "Options", "Source", "open_source"]
