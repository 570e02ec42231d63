"""A log on the host: raw rewards, `terminated` and `truncated` apart, episode ends known."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from segue.core.scaling import BLOCK, Scaling, returns_to_go
from segue.core.types import Part, SegueError

ALIGNED = 64  # bytes: at a multiple of it XLA takes an array as it stands
TOLERANCE = 1e-5  # how far outside the bounds an action may lie before it is a fault and not rounding


@dataclass(frozen=True)
class Data:
    """Logged transitions on the host, in the order of time.

    Shapes: `observation`, `next_observation` (N, *observation); `action` (N, A) in [-1, 1]; `reward` (N,) raw;
    `terminated`, `truncated` (N,) bool.  An episode ends at a row where either flag is set, and at the last row.
    """

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_observation: np.ndarray
    source: str = "arrays"
    digest: str | None = None
    """Content hash, where it is known already."""
    made_of: tuple[Part, ...] = ()
    """Parts of observations that are rows of bytes, where the log says them (`segue.core.observations`)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "observation", aligned(self.observation))

    def __len__(self) -> int:
        return len(self.reward)

    def ends(self) -> np.ndarray:
        """Row after the last row of each episode (ascending, the last one equals N)."""
        ends = np.flatnonzero(self.terminated | self.truncated) + 1
        return ends if len(ends) and ends[-1] == len(self) else np.append(ends, len(self))

    @cached_property
    def jumps(self) -> np.ndarray:
        """Rows (ascending) that are not followed, in the log, by a row with their next observation; all if they are on
        the disk."""
        if not (isinstance(self.observation, np.ndarray) and isinstance(self.next_observation, np.ndarray)):
            return np.arange(len(self))
        same = _same(self.next_observation[:-1], self.observation[1:])
        return np.flatnonzero(np.append(~same, True))

    def whole(self, length: int) -> np.ndarray:
        """First rows of the whole windows of so many rows, ascending (`segue.core.starts`)."""
        ended = np.zeros(len(self), np.bool_)
        ended[self.ends() - 1] = True
        return whole(np.asarray(self.terminated, np.bool_), ended, length)

    def mc_returns(self, scaling: Scaling) -> np.ndarray:
        """Return-to-go (N,) of every row under `scaling`."""
        starts = np.concatenate([[0], self.ends()[:-1]])
        pieces = [returns_to_go(self.reward[a:b], self.terminated[a:b], scaling) for a, b in zip(starts, self.ends())]
        return np.concatenate(pieces)

    def sha256(self, anew: bool = False) -> str:
        """Content hash of all rows, however they are stored; see `Hashes`.  `anew` trusts none that is known."""
        if self.digest is not None and not anew:
            return self.digest
        hashes, start = Hashes(), 0
        for stop in self.ends().tolist():
            rows = slice(start, stop)
            ends = bool(self.terminated[stop - 1])
            hashes.add(self.observation[rows], self.action[rows], self.reward[rows], ends, self.next_observation[rows])
            start = stop
        return hashes.digest()

    def check(self) -> Data:
        """Return self if the arrays are fit to learn from; raise `SegueError` naming the first bad row otherwise."""
        n = len(self)
        if n == 0:
            raise SegueError(f"{self.source}: the dataset has no transitions; give a file with at least one episode")
        for name in ("observation", "action", "terminated", "truncated", "next_observation"):
            if len(getattr(self, name)) != n:
                raise SegueError(
                    f"{self.source}: '{name}' has {len(getattr(self, name))} rows and 'reward' has {n}; "
                    "every array needs one row per transition"
                )
        for name in ("observation", "action", "reward", "next_observation"):
            array = getattr(self, name)
            if array.dtype.kind != "f":
                continue
            blocks = (array[start : start + BLOCK] for start in range(0, n, BLOCK))
            bad = np.concatenate([~np.isfinite(b.reshape(len(b), -1)).all(axis=1) for b in blocks])
            if bad.any():
                raise SegueError(
                    f"{self.source}: '{name}' has NaN or infinity in {bad.sum()} rows, the first is row "
                    f"{int(np.argmax(bad))}; drop those episodes or repair the log"
                )
        outside = np.abs(self.action).max(axis=1) > 1.0 + TOLERANCE
        if outside.any():
            row = int(np.argmax(outside))
            raise SegueError(
                f"{self.source}: {outside.sum()} rows have actions outside the environment's bounds, the first is row "
                f"{row} (largest {np.abs(self.action[row]).max():.4g} times the bound); rescale or clip the actions"
            )
        return self


class Hashes:
    """A content hash that grows by one episode at a time: SHA-256 of each column's bytes, types and shapes, and of
    where episodes end and how.  Two datasets with the same hash teach the same.
    """

    def __init__(self) -> None:
        self._columns = [hashlib.sha256() for _ in range(4)]
        self._ends = hashlib.sha256()
        self._shapes: list[str] = []

    def add(
        self,
        observation: np.ndarray,
        action: np.ndarray,
        reward: np.ndarray,
        terminated: bool,
        next_observation: np.ndarray,
    ) -> None:
        """Add an episode of T rows."""
        columns = (observation, action, reward, next_observation)
        if not self._shapes:
            self._shapes = [f"{x.dtype.str} {x.shape[1:]}" for x in columns]
        for digest, column in zip(self._columns, columns):
            digest.update(np.ascontiguousarray(column).data)
        self._ends.update(f"{len(reward)} {int(terminated)};".encode())

    def digest(self) -> str:
        """The hash, in hexadecimal digits."""
        parts = [*self._shapes, *(d.hexdigest() for d in self._columns), self._ends.hexdigest()]
        return hashlib.sha256("|".join(parts).encode()).hexdigest()


def aligned(array: Any) -> Any:
    """An array that begins where programs on a CPU can read the host's own memory; it is copied if it does not."""
    if not isinstance(array, np.ndarray) or (array.flags.c_contiguous and array.ctypes.data % ALIGNED == 0):
        return array
    room = np.empty(array.nbytes + ALIGNED, np.uint8)
    begin = -room.ctypes.data % ALIGNED
    found = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    found[...] = array
    return found


def whole(terminated: np.ndarray, ended: np.ndarray, length: int) -> np.ndarray:
    """First rows of the whole windows among rows (N,) bool in the order of time, ascending; the last may be open."""
    ends, episode = np.flatnonzero(ended), np.cumsum(ended) - ended
    last = np.append(ends, len(ended) - 1)[episode]
    terminal = np.append(terminated[ends], False)[episode]
    return np.flatnonzero((np.arange(len(ended)) + length - 1 <= last) | terminal)


def _same(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Which rows (N,) are equal byte for byte."""
    same = np.zeros(len(one), np.bool_)
    if one.dtype != other.dtype:
        return same
    for start in range(0, len(one), BLOCK):
        here = slice(start, start + BLOCK)
        a, b = (np.ascontiguousarray(x[here]).reshape(len(x[here]), -1).view(np.uint8) for x in (one, other))
        same[here] = (a == b).all(axis=1)
    return same
