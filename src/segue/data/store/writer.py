"""Writing into the store: one episode at a time, whole or not at all.

A dataset is written beside its place and takes it when it is complete (`segue.core.files.swap`).  Writing needs memory
for one episode and for the index.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from segue.core import files
from segue.core.log import Hashes
from segue.core.observations import plain
from segue.core.types import Part, SegueError
from segue.data.facts import Described, Facts
from segue.data.recorded import Recorded, numbered
from segue.data.store.dataset import INDEX, Stored
from segue.data.store.folder import FORMAT, is_stored, place


class _Column:
    """A .npy file that grows at its end; its header is written again when its length is known."""

    def __init__(self, path: Path, row: tuple[int, ...], dtype: np.dtype) -> None:
        self.row, self.dtype, self.count = row, dtype, 0
        self.hash = hashlib.sha256()
        self.file: BinaryIO = open(path, "wb")  # noqa: SIM115
        self.header()

    def header(self) -> None:
        facts = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        # numpy pads the header so that the first dimension may grow without moving the data.
        np.lib.format.write_array_header_1_0(self.file, facts | {"shape": (self.count, *self.row)})

    def add(self, rows: np.ndarray) -> None:
        content = np.ascontiguousarray(rows, self.dtype).tobytes()
        self.hash.update(content)
        self.file.write(content)
        self.count += len(rows)

    def close(self) -> None:
        start = self.file.tell()
        self.file.seek(0)
        self.header()
        self.file.seek(start)
        self.file.flush()
        os.fsync(self.file.fileno())
        self.file.close()


class _Writer:
    """Writes episodes into a folder, one at a time, and knows their hash in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.columns: dict[str, _Column] = {}
        self.hashes = Hashes()
        self.index: dict[str, list[float]] = {name: [] for name in INDEX}
        self.parts: dict[str, int] = {}
        self.rows = 0
        self.made_of: tuple[Part, ...] = ()

    def add(self, episode: Recorded, where: str) -> None:
        if not self.columns:
            self.columns = {n: self._column(n, a.shape[1:], a.dtype) for n, a in _arrays(episode).items()}
            self.made_of = episode.made_of
        if episode.made_of != self.made_of:
            raise SegueError(
                f"{where}: observations are made of {[*episode.made_of]}, in the episodes before it of "
                f"{[*self.made_of]}; every step needs the same"
            )
        apart = "next_observation" in self.columns
        if not apart and episode.next_observation is not None:
            self._split()
        elif apart and episode.next_observation is None:
            episode = replace(episode, observation=episode.current, next_observation=episode.following)
        arrays = _arrays(episode)
        for name, array in arrays.items():
            column = self.columns[name]
            if array.shape[1:] != column.row or array.dtype != column.dtype:
                raise SegueError(
                    f"{where}: '{name}' has rows of {array.shape[1:]} {array.dtype}, the episodes before it of "
                    f"{column.row} {column.dtype}; every step needs the same"
                )
        for name, array in arrays.items():
            self.columns[name].add(array)
        self.rows += len(episode)
        self.hashes.add(episode.current, episode.action, episode.reward, episode.terminated, episode.following)
        part = self.parts.setdefault(episode.source, len(self.parts))
        for name, value in zip(INDEX, (self.rows, episode.terminated, episode.success, part)):
            self.index[name].append(value)

    def _column(self, name: str, row: tuple[int, ...], dtype: np.dtype) -> _Column:
        return _Column(self.folder / f"{name}.npy", row, dtype)

    def _split(self) -> None:
        """Rewrite the observations of all episodes so far as two columns."""
        old = self.columns.pop("observation")
        old.close()
        path = self.folder / "observation.npy"
        joined = path.rename(self.folder / "joined.npy")
        rows = np.load(joined, mmap_mode="r")
        for name in ("observation", "next_observation"):
            self.columns[name] = self._column(name, old.row, old.dtype)
        start = 0
        for number, stop in enumerate(map(int, self.index["end"])):
            self.columns["observation"].add(rows[start + number : stop + number])
            self.columns["next_observation"].add(rows[start + number + 1 : stop + number + 1])
            start = stop
        del rows
        joined.unlink()

    def close(self) -> dict[str, str]:
        """Finish all files; return the SHA-256 of each one's content, without its header."""
        types = {"end": np.int64, "terminated": np.bool_, "success": np.float32, "part": np.int32}
        for name, values in self.index.items():
            self.columns[name] = self._column(name, (), np.dtype(types[name]))
            self.columns[name].add(np.asarray(values, types[name]))
        for column in self.columns.values():
            column.close()
        return {name: column.hash.hexdigest() for name, column in self.columns.items()}


def _arrays(episode: Recorded) -> dict[str, np.ndarray]:
    """The rows of an episode by the columns that hold them."""
    arrays = {"observation": episode.observation, "action": episode.action, "reward": episode.reward}
    return arrays if episode.next_observation is None else arrays | {"next_observation": episode.next_observation}


def save(
    folder: Path,
    episodes: Iterable[Recorded],
    facts: Facts,
    *,
    replace: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> Stored:
    """Write episodes, one at a time, as the dataset `folder`; `facts` (JSON) go into its dataset.json.

    Needs memory for one episode and the index.  `progress` is told the rows so far.  Raises `SegueError` if there is no
    episode, if steps differ in shape, if the disk is full, or if the folder exists, unless `replace`.
    """
    if (is_stored(folder) or folder.exists()) and not replace:
        raise SegueError(f"dataset {folder.name} exists in {folder.parent}; choose another name, or replace it")
    with _room(folder) as temporary:
        writer = _Writer(temporary)
        try:
            for number, episode in enumerate(episodes):
                if len(episode):
                    writer.add(episode, f"{facts.get('source', folder.name)}, episode {number}")
                    progress(writer.rows)
            if not writer.rows:
                raise SegueError(f"{facts.get('source', folder.name)}: no episode with at least one step; give some")
            described: Described = {
                **facts,
                "format": FORMAT,
                "name": folder.name,
                "transitions": writer.rows,
                "episodes": len(writer.index["end"]),
                "parts": list(writer.parts),
                "columns": {n: {"row": list(c.row), "dtype": c.dtype.str} for n, c in writer.columns.items()},
                "sha256": writer.hashes.digest(),
            }
            described["files"] = writer.close()
        finally:
            for column in writer.columns.values():
                column.file.close()
        if writer.made_of:
            described["observation_parts"] = plain(writer.made_of)
        files.write(temporary / "dataset.json", json.dumps(described, indent=2) + "\n")
        Stored(temporary, described).note()
        files.swap(temporary, folder)
    return Stored(folder, described)


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[Path]:
    """A folder beside `folder`, deleted afterwards unless it was renamed; errors of the disk become one line."""
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise SegueError(
            f"{folder.parent}: cannot write here ({error.strerror}); set SEGUE_DATASETS elsewhere"
        ) from error
    try:
        yield temporary
    except OSError as error:
        raise SegueError(
            f"{folder}: could not be written ({error.strerror or error}); free some space there"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def keep(
    name: str,
    episodes: Iterable[Mapping[str, object]],
    *,
    env: str = "",
    source: str = "episodes",
    replace: bool = False,
) -> Stored:
    """Bring your own episodes into the store, one at a time; then they are the task data:NAME.

    Each episode is a mapping as `from_episodes` takes it: `observation` (T + 1, ...), `action` (T, A) in [-1, 1],
    `reward` (T,), and optionally `terminated`, `success`, `source`, `next_observation`.  `env` is the Gymnasium id of
    the environment that they were logged in.  Raises `SegueError` naming the episode that does not fit.
    """
    facts: Facts = {"source": source, "environment": {"env_id": env} if env else None}
    return save(place(name), numbered(episodes, source), facts, replace=replace)
