"""Datasets that are made once and kept in the cache: files in D4RL's layout with a hash of their content."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import h5py
import numpy as np

from segue.core.types import SegueError
from segue.data.files import write_atomically
from segue.data.readers.named import load


def content_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of named arrays with their shapes and types; compression and order do not matter."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def write_d4rl(path: str | Path, arrays: Mapping[str, np.ndarray], attrs: Mapping[str, object]) -> str:
    """Write named arrays in D4RL's layout with attributes, atomically; return the content hash, which is one of them.

    Names with a slash ("infos/goal") become groups.  Attributes that `segue.find_task("hdf5:PATH")` reads: `env_id`,
    `env_kwargs` (JSON), `max_episode_steps`, and for mazes `reset_cell`, `goal_cell`.
    """
    digest = content_hash(arrays)

    def write(temporary: Path) -> None:
        with h5py.File(temporary, "w") as file:
            for name, array in arrays.items():
                file.create_dataset(name, data=array, compression="gzip", compression_opts=1, shuffle=True)
            file.attrs.update({**attrs, "sha256": digest, "arrays": json.dumps(sorted(arrays))})

    write_atomically(Path(path), write)
    return digest


def verify(path: str | Path) -> None:
    """Raise `SegueError` unless the file of `write_d4rl` holds exactly what was written."""
    attrs = load(path, ())[1]
    if "sha256" not in attrs or "arrays" not in attrs:
        raise SegueError(f"{path}: no content hash in its attributes; write it with write_d4rl")
    arrays = load(path, tuple(json.loads(str(attrs["arrays"]))))[0]
    if content_hash(arrays) != attrs["sha256"]:
        raise SegueError(f"{path}: the content does not match its hash; delete the file and make it again")


def made(path: Path, make: Callable[[], None]) -> None:
    """Call `make`, which writes the file, unless a whole one is there; a broken one is made again with a warning."""
    if path.exists():
        try:
            verify(path)
        except SegueError as broken:
            warnings.warn(f"{broken}; Segue makes it again now", stacklevel=3)
            path.unlink()
    if not path.exists():
        make()
