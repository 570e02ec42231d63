"""What a reader takes (`Options`) and gives (`Source`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from segue.core.types import SegueError
from segue.data.facts import Facts
from segue.data.recorded import Recorded


@dataclass(frozen=True)
class Source:
    """An opened log.  `facts` are for the dataset's description; `episodes` yields each episode once."""

    facts: Facts
    episodes: Iterator[Recorded]
    rows: int | None = None
    """Rows of the log, if they are known before it is read: for progress."""


@dataclass(frozen=True)
class Options:
    """Options of a source, as words."""

    source: str
    words: Mapping[str, str] = field(default_factory=dict)

    def text(self, name: str, default: str = "") -> str:
        """A word."""
        return self.words.get(name, default)

    def names(self, name: str, default: tuple[str, ...] = ()) -> tuple[str, ...]:
        """Words between commas."""
        return tuple(self.words[name].split(",")) if name in self.words else default

    def number(self, name: str) -> int | None:
        """A whole number above 0, or None; `SegueError` for anything else."""
        if name not in self.words:
            return None
        try:
            value = int(self.words[name])
        except ValueError:
            value = 0
        if value < 1:
            raise SegueError(f"source {self.source}: {name}={self.words[name]} is not a whole number above 0")
        return value

    def choice(self, name: str, known: tuple[str, ...]) -> str:
        """One of the known words, the first unless given; `SegueError` for another."""
        value = self.words.get(name, known[0])
        if value not in known:
            raise SegueError(f"source {self.source}: there is no {name}={value}; there are {', '.join(known)}")
        return value
