"""Sinks: where the rows of a run go.  The JSONL file is the record; trackers are copies that may fail.

    row -> Fan -> Jsonl   essential: its error stops the run; `segue resume` goes on from the file
               -> Extra   a tracker: its first error is told in one line and switches it off; the run goes on

A row is a plain dict: `kind`, `phase`, `phase_index`, three clocks (`phase_step`, `environment_step`, `update`),
`wall_s`, `seeds` and `values`: {name: [float or None, one per seed]}; other keys are kept as they are.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NotRequired, Protocol, TypedDict

import numpy as np

from segue.core.types import SegueError

Values = Sequence[float | None] | np.ndarray


class Row(TypedDict):
    """What a run emits.  Rows of a kind may have more keys, which are kept as they are."""

    kind: str
    phase: str
    phase_index: int
    phase_step: int
    environment_step: int
    update: int
    wall_s: float
    seeds: list[int]
    values: Mapping[str, Values]
    event: NotRequired[str]
    remark: NotRequired[str]


Folder = str | os.PathLike[str]
Tell = Callable[[str], None]
Post = Callable[[Row], object]
Finish = Callable[[], object]


class Sink(Protocol):
    """A place that rows are written to."""

    essential: bool  # whether its failure must stop the run

    def write(self, row: Row) -> None:
        """Take one row."""

    def close(self) -> None:
        """Finish; closing twice does nothing."""


def plain(value: object) -> object:
    """Rewrite a value as strictly valid JSON: arrays become lists, NaN and infinities None, all else its `str`."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    array = np.asarray(value)  # numpy's scalars and arrays, and JAX's
    if array.dtype.kind in "biu":
        return array.tolist()
    if array.dtype.kind == "f" or array.dtype.name.startswith(("bfloat", "float8")):  # the latter are ml_dtypes'
        return plain(array.astype(float).tolist())
    return [plain(entry) for entry in array] if array.ndim else str(value)


class Jsonl:
    """One compact line of strict JSON per row, in an append-only file.

    `truncate_to` is the `position()` that a checkpoint stored: rows after it are cut off, and the resumed run writes
    them again.  None keeps every whole row that is there.
    """

    essential = True

    def __init__(self, path: Folder, truncate_to: int | None = None):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._end = _length_to_keep(self.path, truncate_to)
        # Unbuffered: a row is with the kernel when `write` returns, and nothing is left to fail in a destructor.
        self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115 - held until close()
        self._file.truncate(self._end)
        with open(self.path, "rb") as file:
            self._hash = hashlib.file_digest(file, "sha256")

    def write(self, row: Row) -> None:
        """Append one row.  A full disk is a `SegueError`, and leaves whole rows only."""
        line = json.dumps(plain(row), allow_nan=False, separators=(",", ":")).encode() + b"\n"
        with self._room():
            left = memoryview(line)
            while left:  # a nearly full disk takes a part of a row
                left = left[self._file.write(left) :]
        self._end += len(line)
        self._hash.update(line)

    def sync(self) -> None:
        """Force what was written to the disk."""
        with self._room():
            os.fsync(self._file.fileno())

    def position(self) -> int:
        """Return the byte offset after the last row, once that row is safely on the disk."""
        self.sync()
        return self._end

    def digest(self) -> str:
        """SHA-256 of all rows so far."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Sync and close."""
        if not self._file.closed:
            with contextlib.closing(self._file):
                self.sync()

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            cause = "disk is full" if error.errno == errno.ENOSPC else "disk quota is used up"
            raise SegueError(f"{self.path}: the {cause}; free some space, then run `segue resume`") from error


def unchanged(path: Path, position: int, digest: str | None) -> bool:
    """Whether the first `position` bytes of a log are as at the checkpoint; without a digest, whether they exist."""
    try:
        with path.open("rb") as file:
            seen = file.read(position)
    except OSError:
        return position == 0
    return len(seen) == position and (digest is None or hashlib.sha256(seen).hexdigest() == digest)


def _length_to_keep(path: Path, truncate_to: int | None) -> int:
    """Return `truncate_to`, checked against the file; without it, the length of the file up to a torn last line."""
    with open(path if path.exists() else os.devnull, "rb") as file:
        if truncate_to is None:
            return sum(len(line) for line in file if line.endswith(b"\n"))
        file.seek(max(0, truncate_to - 1))
        if truncate_to and file.read(1) != b"\n":  # nothing at all, if the file is shorter
            raise SegueError(
                f"{path}: no row ends at byte {truncate_to}, where the checkpoint was taken; "
                "the file was changed: restore it, or start a new run"
            )
    return truncate_to


def scalars(row: Row) -> dict[str, float]:
    """Name a row's finite numbers for trackers: `kind/name/seed_k`, `kind/name/mean` over seeds, `clock/*`."""
    flat = {f"clock/{clock}": float(row[clock]) for clock in ("phase_step", "environment_step", "update")}
    for name, values in row["values"].items():
        finite = {k: float(v) for k, v in zip(row["seeds"], values) if v is not None and math.isfinite(v)}
        flat |= {f"{row['kind']}/{name}/seed_{k}": v for k, v in finite.items()}
        if finite:
            flat[f"{row['kind']}/{name}/mean"] = sum(finite.values()) / len(finite)
    return flat


def to_stderr(line: str) -> None:
    """Print a warning line."""
    with contextlib.suppress(OSError, ValueError):  # a closed stderr stops nothing
        print(line, file=sys.stderr, flush=True)


class Extra:
    """A sink that may fail.  `begin` opens it and returns (post, finish); the first error switches it off."""

    essential = False

    def __init__(self, name: str, begin: Callable[[], tuple[Post, Finish]], tell: Tell = to_stderr):
        self._name, self._tell = name, tell
        self._post: Post = lambda row: None
        self._finish: Finish = lambda: None
        with self._guard():
            self._post, self._finish = begin()

    def write(self, row: Row) -> None:
        """Post a row."""
        with self._guard():
            self._post(row)

    def close(self) -> None:
        """Send the rest and close."""
        with self._guard():
            self._finish()
        self._switch_off()

    def _switch_off(self) -> None:
        self._post, self._finish = lambda row: None, lambda: None

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._switch_off()
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            self._tell(f"warning: {self._name} is switched off, the run goes on ({cause})")


def _guarded(sink: Sink, tell: Tell) -> Extra:
    return Extra(type(sink).__name__, lambda: (sink.write, sink.close), tell)


class Fan:
    """Sends each row to several sinks.  An essential sink's error is raised; another sink is dropped, in one line."""

    essential = True

    def __init__(self, sinks: Iterable[Sink], tell: Tell = to_stderr):
        guarded: list[Sink] = [sink if sink.essential else _guarded(sink, tell) for sink in sinks]
        self._sinks = sorted(guarded, key=lambda sink: not sink.essential)

    def write(self, row: Row) -> None:
        """Send a row to all, essential sinks first."""
        for sink in self._sinks:
            sink.write(row)

    def close(self) -> None:
        """Close all, whatever fails, then raise an essential sink's error if there was one."""
        with contextlib.ExitStack() as stack:
            for sink in self._sinks:
                stack.callback(sink.close)
