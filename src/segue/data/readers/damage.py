"""Damaged and hostile files: every error of a file's library becomes one line."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import h5py

from segue.core.types import SegueError

LARGEST, RATIO = 2**30, 1_000  # an array of more bytes, and of this many times the file's, is not believed
PIECES = 2**20  # of an array in HDF5, where they are small


def broken(path: Path, error: Exception) -> SegueError:
    """The error to raise if a file's library cannot read it."""
    reason = (str(error).splitlines() or [""])[0].strip() or type(error).__name__
    reason = reason if reason.isprintable() else repr(reason)
    return SegueError(f"{path}: the file is truncated or corrupt ({reason}); download or make it again")


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a file's library raises into one line: a damaged file makes it raise almost anything."""
    try:
        yield
    except SegueError:
        raise
    except MemoryError as error:
        raise SegueError(f"{path}: does not fit into memory, or is damaged; split it, or write it again") from error
    except Exception as error:
        raise broken(path, error) from error


def sensible(path: Path, name: str, size: int) -> None:
    """Raise `SegueError` if an array claims absurdly more bytes than the file has."""
    if size > LARGEST and size > RATIO * (real := path.stat().st_size):
        raise SegueError(
            f"{path}: '{name}' claims {size:,} bytes in a file of {real:,}; repair the file, or rewrite it"
        )


def numeric(path: Path, name: str, dataset: h5py.Dataset) -> h5py.Dataset:
    """Return an array of an HDF5 file; `SegueError` unless it holds numbers, in this file, and not too many."""
    if dataset.shape is None or dataset.dtype.kind not in "fiub" or dataset.external or dataset.is_virtual:
        what = "is stored in other files" if dataset.external or dataset.is_virtual else f"holds {dataset.dtype}"
        raise SegueError(f"{path}: '{name}' {what} instead of numbers; write it again as plain arrays")
    item = dataset.dtype.itemsize
    sensible(path, name, math.prod(dataset.shape) * item)  # h5py's own sizes overflow
    if dataset.chunks:  # HDF5 itself needs near a kilobyte for each one that it reads
        size = math.prod(dataset.chunks) * item
        count = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks))
        if count > PIECES and size < RATIO:
            raise SegueError(f"{path}: '{name}' has {count:,} chunks of {size} bytes; write it again with larger ones")
    return dataset
