"""D4RL's layout: one long stream of rows in HDF5 or npz, cut by the rules of the offline-to-online papers.

      row          t-2   t-1    t   | t+1            row t carries the timeout flag
      kept         yes   yes    no                   its next observation was never logged, so it is dropped
      ends as                truncated               and the row before it becomes the end of the episode

A terminal row is kept.  Its next observation is row t+1, which belongs to another episode: nothing bootstraps from it.
A row with both flags counts as a timeout.  The last row of the stream is never kept, whatever its flags, and rows after
the last end are dropped.  These are the rules of Cal-QL's reader (parity fixture `mc_returns`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from segue.core.log import TOLERANCE, Data
from segue.core.types import SegueError
from segue.data.facts import Environment, Facts
from segue.data.readers.named import correspond, environment, limit_of, load
from segue.data.readers.reader import Options, Source
from segue.data.recorded import CLIP_ACTION, Recorded, bounded, joined, recorded

OPTIONS = ("max_episode_steps", "reward")
LARGE = ("observations", "actions")
SUCCESS = "infos/success"
BLOCK = 65_536  # rows that are read at a time: a compressed file is read in chunks, and an episode is shorter than one


class Stream(NamedTuple):
    """A stream of N rows, of which K in E episodes are kept; observations and actions are read later."""

    where: str
    reward: np.ndarray
    """(N,) raw."""
    success: np.ndarray | None
    """(N,), where the log says it."""
    kept: np.ndarray
    """Rows (K,) that are kept."""
    ends: np.ndarray
    """Index (E,) into `kept` behind each episode's last row."""
    terminated: np.ndarray
    """Whether each episode (E,) ended, and was not cut."""
    read: Callable[[slice], Mapping[str, np.ndarray]]
    """Observations and actions of some rows."""
    block: int
    """Rows to read at a time."""


def source(where: str, options: Options) -> Source:
    """Open a file in D4RL's layout, HDF5 or npz.

    `max_episode_steps` cuts a stream without timeouts.  `reward=binary` makes Adroit's binary task, success - 1, of
    `infos/success`.
    """
    path = Path(where)
    binary = options.choice("reward", ("env", "binary")) == "binary"
    stream = open_stream(path, options.number("max_episode_steps"), SUCCESS if binary else None)
    with contextlib.suppress(SegueError):  # most logs do not say
        stream = stream._replace(success=load(path, (SUCCESS,))[0][SUCCESS])
    if stream.success is not None:
        _one_a_row(SUCCESS, stream.success, stream.reward, stream.where)
    known = environment(path)
    facts: Facts = {"source": options.source, "environment": None}
    if "env_id" in known:
        named: Environment = {"env_kwargs": {}, **known}
        facts["environment"] = {**named, "reward": "binary"} if binary else named
    return Source(facts, episodes(stream), len(stream.kept))


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
    stream = open_stream(Path(path), max_episode_steps, rewards_from)
    return _whole(stream._replace(block=len(stream.reward)), clip_action, clip_outside)


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
    """Cut one stream of N rows into episodes by the rules of D4RL's layout and return checked `Data`.

    Actions are kept within +-`clip_action` (None: as they are).  An action outside [-1, 1] is an error unless
    `clip_outside`, because a clipped wrong unit looks like a good dataset.
    """
    flags = {"rewards": rewards, "terminals": terminals} | ({} if timeouts is None else {"timeouts": timeouts})
    large = {"observations": np.asarray(observations), "actions": np.asarray(actions)}
    for name, array in large.items():
        correspond(name, array.shape, len(rewards), source)
    read = lambda rows: {name: array[rows] for name, array in large.items()}  # noqa: E731
    named = {name: np.asarray(array) for name, array in flags.items()}
    return _whole(_stream(named, max_episode_steps, source, read, len(rewards)), clip_action, clip_outside)


def open_stream(path: Path, max_episode_steps: int | None = None, rewards_from: str | None = None) -> Stream:
    """Read all of a file but its observations and actions; raises and takes arguments as `read_d4rl` does."""
    wanted = ("rewards", "terminals", "timeouts", *(() if rewards_from is None else (rewards_from,)))
    flags, attrs = load(path, wanted, needed=LARGE)
    if rewards_from is not None:
        flags["rewards"] = flags[rewards_from].astype(np.float32) - 1.0
    n, limit = flags["rewards"].size, limit_of(path, attrs) if max_episode_steps is None else max_episode_steps
    read = lambda rows: load(path, LARGE, rows, n)[0]  # noqa: E731
    return _stream(flags, limit, str(path), read, BLOCK if h5py.is_hdf5(path) else n)


def _stream(
    flags: Mapping[str, np.ndarray],
    limit: int | None,
    where: str,
    read: Callable[[slice], Mapping[str, np.ndarray]],
    block: int,
) -> Stream:
    reward = flags["rewards"]
    for name, column in flags.items():
        _one_a_row(name, column, reward, where)
    kept, terminated, truncated = cut(flags["terminals"], flags.get("timeouts"), limit, where)
    ends = np.flatnonzero(terminated | truncated) + 1
    return Stream(where, reward.reshape(-1), None, kept, ends, terminated[ends - 1], read, block)


def _one_a_row(name: str, column: np.ndarray, reward: np.ndarray, where: str) -> None:
    if column.ndim == 0 or column.size != len(column):
        raise SegueError(f"{where}: '{name}' has shape {column.shape}; it needs one number per row")
    if len(column) != len(reward):
        raise SegueError(
            f"{where}: '{name}' has shape {column.shape} and 'rewards' {reward.shape}; rows must correspond"
        )


def episodes(stream: Stream, clip: float = CLIP_ACTION, floats: bool = False) -> Iterator[Recorded]:
    """Yield the episodes of a stream; actions in [-1, 1] are kept within +-`clip`, others are left as they are.

    `floats`: whether actions that are whole numbers are an error.
    """
    begins, lasts = stream.kept[np.append(0, stream.ends[:-1])], stream.kept[stream.ends - 1]
    first = 0
    while first < len(begins):
        lowest = int(begins[first])
        after = max(int(np.searchsorted(lasts, lowest + stream.block)), first + 1)
        rows = stream.read(slice(lowest, int(lasts[after - 1]) + 2))
        seen, action = rows["observations"], rows["actions"]
        if action.ndim != 2 or (floats and action.dtype.kind != "f"):
            raise SegueError(
                f"{stream.where}: 'actions' has shape {action.shape} and type {action.dtype}; "
                "continuous actions of shape (rows, size) are needed"
            )
        action = bounded(action.astype(np.float32, copy=False), clip)
        for number in range(first, after):
            begin, stop, over = int(begins[number]), int(lasts[number]) + 1, bool(stream.terminated[number])
            given = {
                "observation": seen[begin - lowest : stop - lowest + 1],
                "action": action[begin - lowest : stop - lowest],
                "reward": stream.reward[begin:stop],
                "terminated": over,
            }
            if stream.success is not None:  # the row after a cut is the episode's own; after an end it is another's
                given["success"] = float(np.any(stream.success[begin : stop + (not over)]))
            one = recorded(given, f"{stream.where}, episode {number}")
            if one is not None:
                yield one
        first = after


def _whole(stream: Stream, clip: float | None, clip_outside: bool) -> Data:
    """Checked `Data` of a stream."""
    data = joined(episodes(stream, math.inf if clip is None else clip, floats=True), stream.where)
    outside = np.abs(data.action).max(axis=1, initial=0.0) > 1.0 + TOLERANCE
    if outside.any() and not clip_outside:
        raise SegueError(
            f"{stream.where}: {outside.sum()} rows have actions outside [-1, 1] (largest "
            f"{np.abs(data.action).max():.4g}); rescale them, or pass clip_outside=True"
        )
    bound = np.float32(1.0 if clip is None else clip)
    return (replace(data, action=np.clip(data.action, -bound, bound)) if clip_outside else data).check()


def cut(
    terminals: np.ndarray, timeouts: np.ndarray | None, max_episode_steps: int | None, where: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows (K,) of a stream (N,) that are kept by the rules above, and whether each is terminated or truncated there.

    The next observation of a kept row is always the stream's next row.
    """
    n = len(terminals)
    if n == 0:
        raise SegueError(f"{where}: the file has no rows; give a file with at least one episode")
    terminal = np.asarray(terminals).reshape(n).astype(bool)
    flags = _every(max_episode_steps, terminal, where) if timeouts is None else timeouts
    timeout = np.asarray(flags).reshape(n).astype(bool)
    end = terminal | timeout
    if not end.any():
        raise SegueError(
            f"{where}: no episode ends in {n} rows, so none is complete; mark ends in 'terminals' or 'timeouts', "
            "or give max_episode_steps where the file has no 'timeouts'"
        )
    keep = ~timeout
    keep[int(np.flatnonzero(end)[-1]) + 1 :] = False
    keep[n - 1] = False
    kept = np.flatnonzero(keep)
    if len(kept) == 0:
        raise SegueError(
            f"{where}: every episode is one row long, so no next observation is known; log longer episodes"
        )
    return kept, terminal[kept], ~terminal[kept] & ~keep[kept + 1]


def _every(limit: int | None, terminal: np.ndarray, where: str) -> np.ndarray:
    """Timeout flags (N,) of a stream that has none: each `limit`-th row since the last end."""
    timeout = np.zeros(len(terminal), bool)
    if limit is None:
        if not terminal.any():
            raise SegueError(f"{where}: no 'timeouts' and no terminal row; give max_episode_steps to cut episodes")
        return timeout
    if limit < 1:
        raise SegueError(f"{where}: max_episode_steps is {limit}; give a whole number above 0")
    starts = np.concatenate([[0], np.flatnonzero(terminal) + 1, [len(terminal)]])
    for start, stop in pairwise(starts.tolist()):
        timeout[start + limit - 1 : stop : limit] = True
    return timeout
