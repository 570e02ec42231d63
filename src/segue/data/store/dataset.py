"""A dataset in the store: a folder of flat arrays, with an index of episodes.

    NAME/
      dataset.json           what it is, where it is from, shapes, counts, hashes
      observation.npy        (N + E, ...)  each episode's observations and its final one, one episode after the other
      next_observation.npy   (N, ...)      only if next observations are not the following rows;
                                           `observation` then has N rows
      action.npy             (N, A)        in [-1, 1]
      reward.npy             (N,)          raw
      end.npy                (E,)          row after the last row of each episode
      terminated.npy         (E,)          whether the episode ended, and was not cut
      success.npy            (E,)          1 or 0, or a share; NaN where the log does not say
      part.npy               (E,)          index into `parts` of dataset.json: which part of the log it is from

Every file is a plain .npy, so that numpy alone can read it.  The hash is that of `Data.sha256`, the same however the
rows are stored; `files` of dataset.json has one of each file's content.  verified.json holds the size and the time of
change that each file had when its content was last verified.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from segue.core import files
from segue.core.log import Data, Hashes
from segue.core.observations import parts_of, width
from segue.core.types import Part, SegueError
from segue.data.facts import Described
from segue.data.recorded import Recorded
from segue.data.store.rows import DiskRows

VERIFIED = "verified.json"
CURE = "restore it from a backup, or import the dataset again"
CHUNK = 1 << 22  # bytes that are hashed together
INDEX = ("end", "terminated", "success", "part")
LARGE = 0.25  # share of the machine's memory above which observations stay on the disk (default of ours)


def memory() -> int:
    """Bytes of memory that the machine has; 8 GiB if the system does not say (Windows)."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 8 * 2**30


@dataclass(frozen=True)
class Stored:
    """A dataset in the store."""

    folder: Path
    facts: Described

    def column(self, name: str) -> np.memmap:
        """A column, mapped; `SegueError` if its file is not what dataset.json says."""
        path = self.folder / f"{name}.npy"
        try:
            array: np.memmap = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise SegueError(f"{path}: missing or broken ({error}); import the dataset again") from error
        wanted = self.facts["columns"].get(name)
        rows = self.facts["transitions"]
        if name == "observation" and "next_observation" not in self.facts["columns"]:
            rows += self.facts["episodes"]
        rows = self.facts["episodes"] if wanted is None else rows
        row, dtype = ((), array.dtype) if wanted is None else (tuple(wanted["row"]), np.dtype(wanted["dtype"]))
        if array.shape != (rows, *row) or array.dtype != dtype:
            raise SegueError(
                f"{path}: holds {array.shape} {array.dtype} instead of {(rows, *row)} {dtype}; import the dataset again"
            )
        return array

    def __len__(self) -> int:
        return int(self.facts["transitions"])

    @property
    def source(self) -> str:
        """Where it was imported from."""
        return str(self.facts.get("source", self.folder.name))

    @property
    def made_of(self) -> tuple[Part, ...]:
        """Parts of observations that are rows of bytes, else ()."""
        parts = parts_of(self.facts.get("observation_parts", ()), str(self.folder / "dataset.json"))
        row = tuple(self.facts["columns"]["observation"]["row"])
        if parts and row != (width(parts),):
            raise SegueError(f"{self.folder}: rows of {row} are not made of {[*parts]}; import the dataset again")
        return parts

    def nbytes(self) -> int:
        """Bytes of observations and actions as they would lie in memory."""
        apart = 2 * int(np.prod(self.column("observation").shape[1:])) * self.column("observation").dtype.itemsize
        return len(self) * (apart + 4 * self.column("action").shape[1])

    def episodes(self) -> Iterator[Recorded]:
        """All episodes, one at a time; short ones are read together."""
        apart = "next_observation" in self.facts["columns"]
        end, terminated, success, part = (np.array(self.column(name)) for name in INDEX)
        seen, action, reward = (DiskRows(self.column(name)) for name in ("observation", "action", "reward"))
        then = DiskRows(self.column("next_observation")) if apart else None
        begin, made_of = np.concatenate([[0], end[:-1]]), self.made_of
        more = np.zeros(len(end), int) if apart else np.arange(len(end))  # final observations before an episode's first
        top, bottom = begin + more, end + more + (not apart)
        together, e = max(CHUNK * len(self) // self.nbytes(), 1), 0
        while e < len(end):
            first, last = e, max(int(np.searchsorted(end, begin[e] + together, side="right")), e + 1)
            of_block = slice(begin[first], end[last - 1])
            seens, actions, rewards = seen[top[first] : bottom[last - 1]], action[of_block], reward[of_block]
            thens = None if then is None else then[of_block]
            for e in range(first, last):
                rows = slice(begin[e] - begin[first], end[e] - begin[first])
                yield Recorded(
                    seens[top[e] - top[first] : bottom[e] - top[first]],
                    actions[rows],
                    rewards[rows],
                    bool(terminated[e]),
                    float(success[e]),
                    None if thens is None else thens[rows],
                    str(self.facts["parts"][part[e]]),
                    made_of,
                )
            e = last

    def current(self) -> DiskRows:
        """Observations (N, ...) in which the actions were taken, read when they are indexed."""
        apart = "next_observation" in self.facts["columns"]
        return DiskRows(self.column("observation"), None if apart else np.array(self.column("end")))

    def data(self, resident: bool | None = None) -> Data:
        """All rows as `Data`, not checked; observations stay on the disk if they are large, or `resident` is False.

        Large is more than a quarter of the machine's memory.  Files that have changed since their content was last
        verified are verified first, see `assure`.
        """
        self.assure()
        n, end, over = len(self), np.array(self.column("end")), np.array(self.column("terminated"))
        terminated, truncated = np.zeros(n, bool), np.zeros(n, bool)
        terminated[end - 1], truncated[end - 1] = over, ~over
        if resident is None:
            resident = self.nbytes() <= LARGE * memory()
        seen = self.column("observation")
        if "next_observation" in self.facts["columns"]:
            joined, then = None, self.column("next_observation")
        else:
            joined, then = end, seen
        rows: list[Any] = [DiskRows(seen, joined, 0), DiskRows(then, joined, 1)]  # `Data` is typed for those in memory
        if resident:
            rows = [r.load() for r in rows]
        return Data(
            rows[0],
            np.array(self.column("action")),
            np.array(self.column("reward")),
            terminated,
            truncated,
            rows[1],
            self.source,
            digest=str(self.facts["sha256"]),
            made_of=self.made_of,
        )

    def verify(self) -> None:
        """Raise `SegueError` unless the files hold what was written, and remember that they do."""
        for name, digest in self.facts.get("files", {}).items():  # an older Segue has not written them
            if _content(self.column(name)) != digest:
                raise SegueError(f"{self.folder / name}.npy: is damaged (its SHA-256 differs); {CURE}")
        hashes = Hashes()
        for e in self.episodes():
            hashes.add(e.current, e.action, e.reward, e.terminated, e.following)
        if hashes.digest() != self.facts["sha256"]:
            raise SegueError(f"{self.folder}: the content does not match the hash in dataset.json; {CURE}")
        with contextlib.suppress(OSError):  # a store that is shared may not be ours to write to
            self.note()

    def assure(self) -> None:
        """Verify the files, unless their sizes and times of change are those of the last verification."""
        try:
            known = json.loads((self.folder / VERIFIED).read_text())
        except (OSError, ValueError):
            known = None
        if known != self._stamp():
            self.verify()

    def note(self) -> None:
        """Remember that the files, as they are now, hold what was written."""
        files.write(self.folder / VERIFIED, json.dumps(self._stamp(), indent=1) + "\n")

    def _stamp(self) -> dict[str, object]:
        """The recorded hash, and size and time of the last change (nanoseconds) of each file."""
        stamp: dict[str, object] = {"sha256": self.facts["sha256"]}
        for name in (*self.facts["columns"], *INDEX):
            path = self.folder / f"{name}.npy"
            if path.is_file():
                stamp[name] = [path.stat().st_size, path.stat().st_mtime_ns]
        return stamp


def _content(mapped: np.memmap) -> str:
    """SHA-256 of a file's array, read and not mapped."""
    digest = hashlib.sha256()
    with open(str(mapped.filename), "rb") as opened:
        opened.seek(mapped.offset)
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
