"""Arrays by name in an HDF5 or npz file: how D4RL's layout is stored."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from pathlib import Path

import h5py
import numpy as np

from segue.core.types import SegueError
from segue.data.facts import Environment, cells_of
from segue.data.readers.damage import numeric, reading, sensible

REQUIRED = ("observations", "actions", "rewards", "terminals")
EVERYTHING = slice(None)


def load(
    path: str | Path,
    wanted: tuple[str, ...],
    rows: slice = EVERYTHING,
    count: int | None = None,
    needed: tuple[str, ...] = (),
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Some rows of the wanted arrays ("timeouts" may be absent), and the attributes, of an HDF5 or npz file.

    Raises `SegueError` if the file is broken, if an array is missing that is wanted now or `needed` later, or if a
    wanted one holds no numbers or has another number of rows than `count`.
    """
    path = Path(path)
    if not path.is_file():
        raise SegueError(f"{path}: no such file; check the path or make the dataset first")
    if zipfile.is_zipfile(path):
        with reading(path), zipfile.ZipFile(path) as packed, np.load(path, allow_pickle=False) as arrays:
            for entry in packed.infolist():
                if entry.filename.removesuffix(".npy") in wanted:
                    sensible(path, entry.filename, entry.file_size)
            _there(path, (*needed, *wanted), set(arrays.files))
            return _pick(arrays, wanted, path, rows, count), {}
    if not h5py.is_hdf5(path):
        raise SegueError(f"{path}: neither an HDF5 nor an npz file; give a file of D4RL's layout, or use from_arrays")
    with reading(path), h5py.File(path, "r") as file:
        found: dict[str, h5py.Dataset] = {}
        file.visititems(lambda name, item: found.update({name: item} if isinstance(item, h5py.Dataset) else {}))
        for name in dict.fromkeys((*wanted, *REQUIRED)):
            if name in found:
                numeric(path, name, found[name])
            elif file.get(name, getlink=True) is not None:
                raise SegueError(f"{path}: '{name}' is a link or a group, not an array; store the array itself there")
        _there(path, (*needed, *wanted), set(found))
        return _pick(found, wanted, path, rows, count), dict(file.attrs)


def environment(path: str | Path) -> Environment:
    """Return what a file's attributes say of its environment; its arrays are not read."""
    attrs = load(path, ())[1]
    found: Environment = {**cells_of({k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in attrs.items()})}
    if "env_id" in attrs:
        found["env_id"] = str(attrs["env_id"])
    if "max_episode_steps" in attrs:
        found["max_episode_steps"] = limit_of(path, attrs)
    if "env_kwargs" in attrs:
        try:
            found["env_kwargs"] = json.loads(str(attrs["env_kwargs"]))
        except json.JSONDecodeError as error:
            raise SegueError(f"{path}: attribute 'env_kwargs' is not JSON ({error}); repair it") from error
    return found


def limit_of(path: str | Path, attrs: Mapping[str, object]) -> int | None:
    """Return the time limit among a file's attributes, or None."""
    try:
        limit = attrs.get("max_episode_steps")
        return None if limit is None else int(np.asarray(limit).reshape(()))
    except (TypeError, ValueError, OverflowError) as error:
        raise SegueError(f"{path}: attribute 'max_episode_steps' is not a whole number; repair it") from error


def _there(path: Path, wanted: tuple[str, ...], names: set[str]) -> None:
    missing = [name for name in wanted if name not in names and name != "timeouts"]
    if missing:
        there = ", ".join(name if name.isprintable() else repr(name) for name in sorted(names))
        raise SegueError(f"{path}: no array '{missing[0]}'; the file has {there or 'none'}")


def _pick(
    file: Mapping[str, h5py.Dataset], wanted: tuple[str, ...], path: Path, rows: slice, count: int | None
) -> dict[str, np.ndarray]:
    found = {}
    for name in wanted:
        if name in file:
            array = file[name]  # of an npz file, this reads it
            if array.dtype.kind not in "fiub":
                raise SegueError(f"{path}: '{name}' has type {array.dtype}, not numbers; write numbers there")
            if count is not None:
                correspond(name, array.shape, count, str(path))
            found[name] = np.asarray(array[rows if array.shape else ()])
    return found


def correspond(name: str, shape: tuple[int, ...], count: int, where: str) -> None:
    """Raise `SegueError` unless an array of that shape has a row for each of `count` rewards."""
    if shape[:1] != (count,):
        there = f"has {shape[0]} rows" if shape else "is one number"
        raise SegueError(f"{where}: '{name}' {there} and 'rewards' has {count}; rows must correspond")
