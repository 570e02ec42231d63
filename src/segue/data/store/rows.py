"""Rows of a .npy file that stay on the disk until they are read."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from segue.core.types import SegueError

CHUNK = 8192


class DiskRows:
    """An array (N, ...) whose rows are read from a file: `rows[index]` for integers, slices and arrays of integers.

    `mapped`: a .npy file, opened as a map.  Rows are read and not mapped, because pages of a map count as the process's
    memory and stay.  With `ends`, row i of episode e is row i + e + `offset` of the file: each episode has one more row
    there than it has steps.
    """

    def __init__(self, mapped: np.memmap, ends: np.ndarray | None = None, offset: int = 0) -> None:
        self.path, self.begin = Path(str(mapped.filename)), mapped.offset
        self.dtype, self.row = mapped.dtype, mapped.shape[1:]
        self.count = len(mapped) if ends is None else int(ends[-1])
        self.ends, self.offset = ends, offset
        self.file, self.reading = io.FileIO(self.path), threading.Lock()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return (self.count, *self.row)

    @property
    def ndim(self) -> int:
        """Number of dimensions of the whole array."""
        return 1 + len(self.row)

    def __len__(self) -> int:
        return self.count

    def __del__(self) -> None:
        self.file.close()

    def __getitem__(self, index: SupportsIndex | slice | ArrayLike) -> np.ndarray:
        if isinstance(index, slice):
            start, stop, step = index.indices(self.count)
            return self._span(start, stop) if step == 1 else self[np.arange(start, stop, step)]
        wanted = np.asarray(index)
        flat = wanted.reshape(-1).astype(np.int64)
        if flat.size and (flat.min() < -self.count or flat.max() >= self.count):
            raise IndexError(f"row {flat.max()} of {self.count}")
        flat = np.where(flat < 0, flat + self.count, flat)
        flat = self._places(flat)
        out = np.empty((len(flat), *self.row), self.dtype)
        # Rows that follow each other are one read.
        breaks = np.flatnonzero(np.diff(flat) != 1) + 1
        for first, stop in zip([0, *breaks.tolist()], [*breaks.tolist(), len(flat)]):
            if stop > first:
                out[first:stop] = self._read(int(flat[first]), stop - first)
        return out.reshape(*wanted.shape, *self.row)

    def _places(self, rows: np.ndarray) -> np.ndarray:
        """Rows of the file that are these rows."""
        return rows if self.ends is None else rows + np.searchsorted(self.ends, rows, side="right") + self.offset

    def _span(self, start: int, stop: int) -> np.ndarray:
        """Rows that follow each other, in one read: what lies between episodes is read along and left out."""
        if stop <= start:
            return np.empty((0, *self.row), self.dtype)
        if self.ends is None:
            return self._read(start, stop - start)
        places = self._places(np.arange(start, stop))
        return self._read(int(places[0]), int(places[-1] - places[0]) + 1)[places - places[0]]

    def _read(self, first: int, count: int) -> np.ndarray:
        out = np.empty((count, *self.row), self.dtype)
        with self.reading:  # threads share the position: not every system can read at a place without moving it
            self.file.seek(self.begin + first * (out.nbytes // count))
            found = self.file.readinto(out.data.cast("B"))
        if found < out.nbytes:
            raise SegueError(f"{self.path}: ends before its rows do; import the dataset again")
        return out

    def load(self) -> np.ndarray:
        """All rows in memory."""
        out = np.empty(self.shape, self.dtype)
        for start in range(0, self.count, CHUNK):
            out[start : start + CHUNK] = self[start : start + CHUNK]
        return out

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> np.ndarray:
        return self.load() if dtype is None else self.load().astype(dtype)
