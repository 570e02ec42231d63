"""D4RL's layout: one long stream of rows in HDF5 (or npz), read by the rules of the offline-to-online papers.

      row          t-2   t-1    t   | t+1            the row t carries the timeout flag
      kept         yes   yes    no                   its next observation was never logged, so it is dropped
      ends as                truncated               and the row before it becomes the end of the episode

A terminal row is kept; its `next_observation` is row t+1, which belongs to another episode and is never used
(nothing bootstraps from a terminal row).  A row with both flags counts as a timeout.  The very last row of the
stream is never kept, whatever its flags, and rows after the last end marker are dropped: the rules of Cal-QL's
reader (parity fixture `mc_returns`).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from segue.core.replay import TOLERANCE, Data
from segue.core.types import SegueError
from segue.data.damage import broken as broken
from segue.data.damage import numeric, reading, sensible
from segue.data.scaling import CLIP_ACTION

REQUIRED = ("observations", "actions", "rewards", "terminals")


def read_d4rl(
    path: str | Path,
    *,
    max_episode_steps: int | None = None,
    clip_action: float | None = CLIP_ACTION,
    clip_outside: bool = False,
    rewards_from: str | None = None,
) -> Data:
    """Read a D4RL-layout file (HDF5, or npz with the same names) as checked `Data` in raw rewards.

    Needs `observations` (N, ...), `actions` (N, A), `rewards` (N,), `terminals` (N,); `timeouts` (N,) is optional.
    Without it an episode ends every `max_episode_steps` rows (the file's attribute of that name unless given).
    `clip_action`, `clip_outside`: as in `from_stream`.  `rewards_from` names a boolean array to make a binary task
    of: reward = value - 1 (Adroit: "infos/success").
    Raises `SegueError` for a file that is missing, broken, empty, incomplete or not fit to learn from.
    """
    wanted = (*REQUIRED, "timeouts") if rewards_from is None else (*REQUIRED, "timeouts", rewards_from)
    arrays, attributes = load(path, wanted)
    if rewards_from is not None:
        arrays["rewards"] = arrays[rewards_from].astype(np.float32) - 1.0
    limit = max_episode_steps if max_episode_steps is not None else attributes.get("max_episode_steps")
    return from_stream(
        arrays["observations"],
        arrays["actions"],
        arrays["rewards"],
        arrays["terminals"],
        arrays.get("timeouts"),
        max_episode_steps=None if limit is None else int(limit),
        clip_action=clip_action,
        clip_outside=clip_outside,
        source=str(path),
    )


def from_stream(
    observations: np.ndarray,
    actions: np.ndarray,
    rewards: np.ndarray,
    terminals: np.ndarray,
    timeouts: np.ndarray | None = None,
    *,
    max_episode_steps: int | None = None,
    clip_action: float | None = CLIP_ACTION,
    clip_outside: bool = False,
    source: str = "stream",
) -> Data:
    """Cut one stream of N rows into episodes (rules above) and return checked `Data`.

    Actions are kept within +-`clip_action` (None: as they are).  An action outside [-1, 1] is an error unless
    `clip_outside`, because a clipped wrong unit looks like a good dataset.
    """
    n = len(rewards)
    named = {"observations": observations, "actions": actions, "terminals": terminals}
    if timeouts is not None:
        named["timeouts"] = timeouts
    for name, array in named.items():
        if len(array) != n:
            raise SegueError(f"{source}: '{name}' has {len(array)} rows and 'rewards' has {n}; rows must correspond")
    kept, terminated, truncated = cut(terminals, timeouts, max_episode_steps, source)
    return Data(
        observation=_narrow(np.asarray(observations))[kept],
        action=_actions(np.asarray(actions)[kept], clip_action, clip_outside, source),
        reward=np.asarray(rewards, np.float32).reshape(n)[kept],
        terminated=terminated,
        truncated=truncated,
        next_observation=_narrow(np.asarray(observations))[kept + 1],
        source=source,
    ).check()


def cut(
    terminals: np.ndarray, timeouts: np.ndarray | None, max_episode_steps: int | None, source: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of a stream (N,) that are kept by the rules above, and whether each is terminated or truncated there.

    The next observation of a kept row is always the stream's next row.
    """
    n = len(terminals)
    if n == 0:
        raise SegueError(f"{source}: the file has no rows; give a file with at least one episode")
    terminal, flags = np.asarray(terminals).reshape(n).astype(bool), timeouts
    if flags is None:
        flags = _every(max_episode_steps, terminal, source)
    timeout = np.asarray(flags).reshape(n).astype(bool)
    end = terminal | timeout
    if not end.any():
        raise SegueError(
            f"{source}: no episode ends in {n} rows, so none is complete; mark ends in 'terminals' or 'timeouts', "
            "or give max_episode_steps where the file has no 'timeouts'"
        )
    last = int(np.flatnonzero(end)[-1])
    keep = ~timeout
    keep[last + 1 :] = False
    keep[n - 1] = False
    kept = np.flatnonzero(keep)
    if len(kept) == 0:
        raise SegueError(
            f"{source}: every episode is one row long, so no next observation is known; log longer episodes"
        )
    return kept, terminal[kept], ~terminal[kept] & ~keep[kept + 1]


def load(path: str | Path, wanted: tuple[str, ...]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays of the wanted names ("timeouts" may be absent) and the file's attributes, of an HDF5 or npz file."""
    path = Path(path)
    if not path.is_file():
        raise SegueError(f"{path}: no such file; check the path or make the dataset first")
    if zipfile.is_zipfile(path):
        with reading(path), zipfile.ZipFile(path) as packed, np.load(path, allow_pickle=False) as file:
            for entry in packed.infolist():
                if entry.filename.removesuffix(".npy") in wanted:
                    sensible(path, entry.filename, entry.file_size)
            return _pick(file, wanted, set(file.files), path), {}
    if not h5py.is_hdf5(path):
        raise SegueError(f"{path}: neither an HDF5 nor an npz file; give a file of D4RL's layout, or use from_arrays")
    with reading(path), h5py.File(path, "r") as file:
        found: dict[str, h5py.Dataset] = {}
        file.visititems(lambda name, item: found.update({name: item} if isinstance(item, h5py.Dataset) else {}))
        for name in dict.fromkeys((*wanted, *REQUIRED)):
            if name in found:
                numeric(path, name, found[name])
            elif file.get(name, getlink=True) is not None:
                raise SegueError(f"{path}: '{name}' is a link or a group, and no array; put the array itself there")
        return _pick(found, wanted, set(found), path), dict(file.attrs)


def attributes(path: str | Path) -> dict[str, Any]:
    """Return the attributes of an HDF5 file, without reading its arrays."""
    return load(path, ())[1]


def _pick(file: Mapping[str, Any], wanted: tuple[str, ...], names: set[str], path: Path) -> dict[str, np.ndarray]:
    missing = [name for name in wanted if name not in names and name != "timeouts"]
    if missing:
        there = ", ".join(name if name.isprintable() else repr(name) for name in sorted(names))
        raise SegueError(f"{path}: no array '{missing[0]}'; the file has {there or 'none'}")
    found = {name: np.asarray(file[name][()]) for name in wanted if name in names}
    for name, array in found.items():
        if array.dtype.kind not in "fiub":
            raise SegueError(f"{path}: '{name}' does not hold numbers but {array.dtype}; write numbers there")
    return found


def _every(limit: int | None, terminal: np.ndarray, source: str) -> np.ndarray:
    """Timeout flags (N,) of a stream that has none: each `limit`-th row since the last end."""
    timeout = np.zeros(len(terminal), bool)
    if limit is None:
        if not terminal.any():
            raise SegueError(f"{source}: no 'timeouts' and no terminal row; give max_episode_steps to cut episodes")
        return timeout
    starts = np.concatenate([[0], np.flatnonzero(terminal) + 1, [len(terminal)]])
    for start, stop in pairwise(starts.tolist()):
        timeout[start + limit - 1 : stop : limit] = True
    return timeout


def _narrow(array: np.ndarray) -> np.ndarray:
    """Float32 for floats; images keep their bytes."""
    return array.astype(np.float32, copy=False) if array.dtype.kind == "f" else array


def _actions(action: np.ndarray, bound: float | None, clip_outside: bool, source: str) -> np.ndarray:
    if action.ndim != 2 or action.dtype.kind != "f":
        raise SegueError(
            f"{source}: 'actions' has shape {action.shape} and type {action.dtype}; "
            "continuous actions of shape (rows, size) are needed"
        )
    action = action.astype(np.float32, copy=False)
    outside = np.abs(action).max(axis=1) > 1.0 + TOLERANCE
    if outside.any() and not clip_outside:
        raise SegueError(
            f"{source}: {outside.sum()} rows have actions outside [-1, 1] (largest {np.abs(action).max():.4g}); "
            "rescale them, or pass clip_outside=True"
        )
    if bound is None:
        return np.clip(action, -1.0, 1.0) if clip_outside else action
    return np.clip(action, np.float32(-bound), np.float32(bound))
