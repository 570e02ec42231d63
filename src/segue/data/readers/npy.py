"""Arrays of .npy and .npz files, read by blocks of rows: never unpickled, never larger than the file."""

from __future__ import annotations

import contextlib
import math
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from segue.core.types import SegueError
from segue.data.readers.damage import reading, sensible

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class Array:
    """What the header of an array in a file says."""

    path: Path
    name: str
    entry: str
    """Name in the zip file; empty where the array has a file of its own."""
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    begin: int
    """Byte at which the numbers begin."""

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def row(self) -> int:
        """Bytes of a row."""
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    def some(self, file: IO[bytes], rows: int) -> np.ndarray:
        """The next rows of the open file."""
        with reading(self.path):
            content = file.read(rows * self.row)
            if len(content) != rows * self.row:
                raise EOFError(f"'{self.name}' ends before its rows do")
            return np.frombuffer(content, self.dtype).reshape(rows, *self.shape[1:])

    def whole(self, file: IO[bytes]) -> np.ndarray:
        """All rows, for an array that is not stored row by row."""
        with reading(self.path):
            content = file.read(len(self) * self.row)
            return np.frombuffer(content, self.dtype).reshape(self.shape[::-1]).T


def names(path: Path) -> list[str]:
    """Names of the arrays in an .npz file, or of the .npy files in a folder; `SegueError` if it is neither."""
    if path.is_dir():
        found = [file.stem for file in sorted(path.glob("*.npy"), key=natural)]
        if not found:
            raise SegueError(f"{path}: no .npy file in this folder; name one that has some, or an .npz file")
        return found
    if not path.is_file():
        raise SegueError(f"{path}: no such file or folder; check the path")
    if not zipfile.is_zipfile(path):
        raise SegueError(f"{path}: not an .npz file, or one that is cut short; give one, or a folder of .npy files")
    with reading(path), zipfile.ZipFile(path) as packed:
        entries = dict.fromkeys(packed.namelist())
    return [entry.removesuffix(".npy") for entry in entries if entry.endswith(".npy")]


def headers(path: Path, wanted: Iterable[str]) -> dict[str, Array]:
    """Headers of arrays in that file or folder.

    Raises `SegueError` if one does not hold numbers or words, has no rows, or claims more bytes than there are.
    """
    if path.is_dir():
        return {name: _own(path / f"{name}.npy", name) for name in wanted}
    with reading(path), zipfile.ZipFile(path) as packed:
        return {name: _packed(path, name, packed) for name in wanted}


def count(wanted: Mapping[str, Array]) -> int:
    """Rows of the arrays; `SegueError` unless they all have as many."""
    (first, some), *others = wanted.items()
    for name, array in others:
        if len(array) != len(some):
            raise SegueError(
                f"{array.path}: '{name}' has {len(array)} rows and '{first}' has {len(some)}; rows must correspond"
            )
    return len(some)


def blocks(wanted: Mapping[str, Array], rows: int) -> Iterator[dict[str, np.ndarray]]:
    """All arrays side by side, `rows` rows at a time; they have the same number of rows."""
    (path,) = {array.path if array.entry else None for array in wanted.values()}
    with contextlib.ExitStack() as stack:
        opened: dict[str, IO[bytes]] = {}
        with reading(path or next(iter(wanted.values())).path):
            packed = None if path is None else stack.enter_context(zipfile.ZipFile(path))
            for name, array in wanted.items():
                file = open(array.path, "rb") if packed is None else packed.open(array.entry)  # noqa: SIM115
                opened[name] = stack.enter_context(file)
                file.read(array.begin)
        loaded = {name: array.whole(opened[name]) for name, array in wanted.items() if array.fortran}
        total = count(wanted)
        for start in range(0, total, rows):
            n = min(rows, total - start)
            yield {
                name: loaded[name][start : start + n] if array.fortran else array.some(opened[name], n)
                for name, array in wanted.items()
            }


def _packed(path: Path, name: str, packed: zipfile.ZipFile) -> Array:
    entry = packed.getinfo(f"{name}.npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise SegueError(f"{path}: '{name}' has a compression that NumPy does not use; save it again")
    with packed.open(entry) as file:
        return _header(path, name, entry.filename, file, entry.file_size)


def _own(path: Path, name: str) -> Array:
    with reading(path), open(path, "rb") as file:
        return _header(path, name, "", file, path.stat().st_size)


def _header(path: Path, name: str, entry: str, file: IO[bytes], size: int) -> Array:
    with warnings.catch_warnings(action="ignore"):  # of headers that Python 2 wrote
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise SegueError(f"{path}: '{name}' is not a plain array (version {version}); save it again")
        shape, fortran, dtype = _HEADERS[version](file)
    begin, claimed = file.tell(), math.prod(shape) * dtype.itemsize
    if dtype.kind not in "fiubUS":
        what = "Python objects" if dtype.hasobject else f"{dtype}"
        raise SegueError(f"{path}: '{name}' holds {what} instead of numbers; save it as an array of numbers")
    if not shape:
        raise SegueError(f"{path}: '{name}' is one number; name an array with a row for each step")
    sensible(path, name, max(claimed, size))
    if min(shape) < 0 or claimed > size - begin:
        raise SegueError(f"{path}: '{name}' claims {shape} {dtype} and has {size - begin:,} bytes; repair the file")
    if claimed == 0 and shape[0]:
        raise SegueError(f"{path}: '{name}' has shape {shape}, so its rows are empty; name another array")
    return Array(path, name, entry, shape, dtype, fortran and len(shape) > 1, begin)


def natural(path: Path) -> list[int | str]:
    """Order of files by name in which part-2 comes before part-10."""
    words = re.split("([0-9]+)", path.name)
    return [int(word) if i % 2 else word for i, word in enumerate(words)]
