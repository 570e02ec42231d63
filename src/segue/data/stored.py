"""Segue's own store: a folder of flat arrays that are mapped, not loaded, with an index of episodes.

    NAME/
      dataset.json           what it is, where it is from, shapes, counts, hashes
      observation.npy        (N + E, ...)  each episode's observations and its final one, one episode after the other
      next_observation.npy   (N, ...)      only where a log's next observations are not the rows that follow;
                                           `observation` then has N rows
      action.npy             (N, A)        in [-1, 1]
      reward.npy             (N,)          raw
      end.npy                (E,)          row after the last row of each episode
      terminated.npy         (E,)          whether the episode ended, and was not cut
      success.npy            (E,)          1 or 0, NaN where the log does not say
      part.npy               (E,)          index into `parts` of dataset.json: which part of the log it is from

Every file is a plain .npy, so that numpy alone can read it.  A dataset is whole or absent: it is written beside its
place and renamed.  Its hash is that of `Data.sha256`, the same however the rows are stored.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from segue.data.disk import DiskRows
from segue.data.recorded import Recorded
from segue.replay import Data, Hashes
from segue.types import SegueError

FORMAT = 1
INDEX = ("end", "terminated", "success", "part")
LARGE = 0.25  # share of the machine's memory above which observations stay on the disk (default of ours)


def datasets_folder() -> Path:
    """Return the folder of imported datasets: the environment variable SEGUE_DATASETS, or ~/.local/share/segue."""
    return Path(os.environ.get("SEGUE_DATASETS") or Path.home() / ".local" / "share" / "segue")


def stored_names() -> list[str]:
    """Names of the datasets in the folder."""
    folder = datasets_folder()
    return sorted(p.name for p in folder.iterdir() if (p / "dataset.json").is_file()) if folder.is_dir() else []


class _Column:
    """A .npy file that grows at its end; its header is written again when its length is known."""

    def __init__(self, path: Path, row: tuple[int, ...], dtype: np.dtype) -> None:
        self.row, self.dtype, self.count = row, dtype, 0
        self.file: BinaryIO = open(path, "wb")  # noqa: SIM115
        self.header()

    def header(self) -> None:
        facts = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False}
        # numpy pads the header so that the first dimension may grow without moving the data.
        np.lib.format.write_array_header_1_0(self.file, facts | {"shape": (self.count, *self.row)})

    def add(self, rows: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(rows, self.dtype).tobytes())
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
        self.index: dict[str, list[Any]] = {name: [] for name in INDEX}
        self.parts: dict[str, int] = {}
        self.rows = 0
        self.returns: list[float] = []

    def add(self, episode: Recorded, where: str) -> None:
        apart = episode.next_observation is not None
        arrays = {"observation": episode.observation, "action": episode.action, "reward": episode.reward}
        if apart:
            arrays["next_observation"] = episode.following
        if not self.columns:
            self.columns = {n: _Column(self.folder / f"{n}.npy", a.shape[1:], a.dtype) for n, a in arrays.items()}
        if apart != ("next_observation" in self.columns):
            episode, arrays = self._alike(episode)
        for name, array in arrays.items():
            column = self.columns[name]
            if array.shape[1:] != column.row or array.dtype != column.dtype:
                raise SegueError(
                    f"{where}: '{name}' has rows of {array.shape[1:]} {array.dtype}, the episodes before it of "
                    f"{column.row} {column.dtype}; every step needs the same"
                )
        for name, array in arrays.items():
            self.columns[name].add(array)
        steps = len(episode)
        self.rows += steps
        self.hashes.add(episode.current, episode.action, episode.reward, episode.terminated, episode.following)
        part = self.parts.setdefault(episode.source, len(self.parts))
        for name, value in zip(INDEX, (self.rows, episode.terminated, episode.success, part)):
            self.index[name].append(value)

    def _alike(self, episode: Recorded) -> tuple[Recorded, dict[str, np.ndarray]]:
        """An episode in the form of those before it; all is written anew where those before it had no need of one."""
        if "next_observation" not in self.columns:
            self._split()
        seen, then = episode.current, episode.following
        alike = Recorded(
            seen, episode.action, episode.reward, episode.terminated, episode.success, then, episode.source
        )
        return alike, {
            "observation": seen,
            "action": episode.action,
            "reward": episode.reward,
            "next_observation": then,
        }

    def _split(self) -> None:
        """Rewrite the observations of all episodes so far as two columns."""
        old = self.columns.pop("observation")
        old.close()
        path = self.folder / "observation.npy"
        joined = path.rename(self.folder / "joined.npy")
        rows = np.load(joined, mmap_mode="r")
        for name in ("observation", "next_observation"):
            self.columns[name] = _Column(self.folder / f"{name}.npy", old.row, old.dtype)
        start = 0
        for number, stop in enumerate(self.index["end"]):
            self.columns["observation"].add(rows[start + number : stop + number])
            self.columns["next_observation"].add(rows[start + number + 1 : stop + number + 1])
            start = stop
        del rows
        joined.unlink()

    def close(self) -> None:
        for column in self.columns.values():
            column.close()
        types = {"end": np.int64, "terminated": np.bool_, "success": np.float32, "part": np.int32}
        for name, values in self.index.items():
            np.save(self.folder / f"{name}.npy", np.asarray(values, types[name]))


def save(
    folder: Path,
    episodes: Iterable[Recorded],
    facts: Mapping[str, Any],
    *,
    replace: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> Stored:
    """Write episodes, one at a time, as the dataset `folder`; `facts` (JSON) go into its dataset.json.

    Needs memory for one episode and the index.  `progress` is told the rows so far.  Raises `SegueError` where there is
    no episode, where steps are of different shapes, where the disk is full, and where the folder exists, unless
    `replace`.
    """
    if folder.exists() and not replace:
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
            writer.close()
        finally:
            for column in writer.columns.values():
                column.file.close()
        described = {
            "format": FORMAT,
            "name": folder.name,
            **facts,
            "transitions": writer.rows,
            "episodes": len(writer.index["end"]),
            "parts": list(writer.parts),
            "columns": {n: {"row": list(c.row), "dtype": c.dtype.str} for n, c in writer.columns.items()},
            "sha256": writer.hashes.digest(),
        }
        (temporary / "dataset.json").write_text(json.dumps(described, indent=2) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(temporary, folder)
    return Stored(folder, described)


@contextlib.contextmanager
def _room(folder: Path) -> Iterator[Path]:
    """A folder beside `folder` that is gone afterwards unless it was renamed; what the disk says becomes one line."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise SegueError(
            f"{folder.parent}: cannot write here ({error.strerror}); set SEGUE_DATASETS elsewhere"
        ) from error
    try:
        temporary.chmod(0o755)
        yield temporary
    except OSError as error:
        raise SegueError(f"{folder}: could not be written ({error.strerror or error}); make room there") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def find_stored(name: str) -> Stored:
    """Open the dataset of that name, or the one whose folder `name` is; `SegueError` where there is none."""
    folder = Path(name) if os.sep in name else datasets_folder() / name
    described = folder / "dataset.json"
    if not described.is_file():
        known = ", ".join(stored_names()) or "none"
        raise SegueError(f"no dataset '{name}' in {folder.parent} (there: {known}); import it with segue data import")
    try:
        facts = json.loads(described.read_text())
        newer = facts["format"] > FORMAT
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SegueError(f"{described}: cannot be read ({error}); import the dataset again") from error
    if newer:
        raise SegueError(f"{folder}: written by a newer Segue (format {facts['format']}); update Segue")
    return Stored(folder, facts)


@dataclass(frozen=True)
class Stored:
    """A dataset in the store."""

    folder: Path
    facts: Mapping[str, Any]

    def column(self, name: str) -> np.ndarray:
        """A column, mapped; `SegueError` where its file is not what dataset.json says."""
        path = self.folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
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

    def nbytes(self) -> int:
        """Bytes of observations and actions as they would lie in memory."""
        apart = 2 * int(np.prod(self.column("observation").shape[1:])) * self.column("observation").dtype.itemsize
        return len(self) * (apart + 4 * self.column("action").shape[1])

    def episodes(self) -> Iterator[Recorded]:
        """All episodes, one at a time."""
        apart = "next_observation" in self.facts["columns"]
        end, terminated, success, part = (self.column(name) for name in INDEX)
        seen, action, reward = (DiskRows.of(self.column(name)) for name in ("observation", "action", "reward"))
        then = DiskRows.of(self.column("next_observation")) if apart else None
        start = 0
        for e, stop in enumerate(end.tolist()):
            rows = slice(start, stop) if apart else slice(start + e, stop + e + 1)
            yield Recorded(
                seen[rows],
                action[start:stop],
                reward[start:stop],
                bool(terminated[e]),
                float(success[e]),
                None if then is None else then[start:stop],
                str(self.facts["parts"][part[e]]),
            )
            start = stop

    def current(self) -> DiskRows:
        """Observations (N, ...) in which the actions were taken, read when they are asked for."""
        apart = "next_observation" in self.facts["columns"]
        return DiskRows.of(self.column("observation"), None if apart else np.array(self.column("end")))

    def data(self, resident: bool | None = None) -> Data:
        """All rows as `Data`, not checked; observations stay on the disk where they are large, or `resident` is False.

        Large is more than a quarter of the machine's memory.
        """
        n, end, over = len(self), np.array(self.column("end")), np.array(self.column("terminated"))
        terminated, truncated = np.zeros(n, bool), np.zeros(n, bool)
        terminated[end - 1], truncated[end - 1] = over, ~over
        if resident is None:
            resident = self.nbytes() <= LARGE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        seen = self.column("observation")
        if "next_observation" in self.facts["columns"]:
            joined, then = None, self.column("next_observation")
        else:
            joined, then = end, seen
        rows: list[Any] = [DiskRows.of(seen, joined, 0), DiskRows.of(then, joined, 1)]
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
        )

    def verify(self) -> None:
        """Raise `SegueError` unless the files hold what was written."""
        hashes = Hashes()
        for e in self.episodes():
            hashes.add(e.current, e.action, e.reward, e.terminated, e.following)
        if hashes.digest() != self.facts["sha256"]:
            raise SegueError(f"{self.folder}: the content does not match its hash; import the dataset again")
