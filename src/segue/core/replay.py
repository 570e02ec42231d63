"""Experience as it was: raw rewards, `terminated` and `truncated` apart, episode ends known.

A dataset and a run's own experience are the same type.  Rewards are scaled, shifted and augmented on copies, on
the way out.

The device side (`Replay`) is a ring of rows with a leading axis of worlds: one for the dataset, one per seed for
own experience.  Each world writes its rows in the order of time, so the rows of closed episodes are a prefix:

      oldest                 closed              written
        |-- closed episodes ----|-- open episode ---|        (absolute counts; row = count mod capacity)

A sampler says which rows it wants as `Indices`; `gather` is the one function that reads rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segue.core.scaling import BLOCK, Units, moments, returns_to_go
from segue.core.types import Array, Part, SegueError, Transition

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

    def __len__(self) -> int:
        return len(self.reward)

    def ends(self) -> np.ndarray:
        """Row after the last row of each episode (ascending, the last one equals N)."""
        ends = np.flatnonzero(self.terminated | self.truncated) + 1
        return ends if len(ends) and ends[-1] == len(self) else np.append(ends, len(self))

    def mc_returns(self, units: Units) -> np.ndarray:
        """Return-to-go (N,) of every row under `units`."""
        starts = np.concatenate([[0], self.ends()[:-1]])
        pieces = [returns_to_go(self.reward[a:b], self.terminated[a:b], units) for a, b in zip(starts, self.ends())]
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


@jax.tree_util.register_static
class Outside:
    """Rows (1, N, ...) of a dataset that is larger than the device: they stay with the host, which is asked for them.

    `rows` gives rows for arrays of integers (`segue.data.store.DiskRows`).  Each batch costs a call to the host.
    """

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""
        return np.dtype(self.rows.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, N, ...)."""
        return (1, *self.rows.shape)

    def __getitem__(self, at: tuple[Array, Array]) -> Array:
        found = jax.ShapeDtypeStruct((*at[1].shape, *self.rows.shape[1:]), self.dtype)
        return jax.pure_callback(lambda wanted: self.rows[np.asarray(wanted)], found, at[1], vmap_method="expand_dims")


class Rows(NamedTuple):
    """Rows of experience in raw units (shapes as in `Transition`)."""

    observation: Array
    action: Array
    reward: Array
    terminated: Array
    next_observation: Array
    mc_return: Array
    online: Array
    next_action: Array

    def transition(self, units: Units) -> Transition:
        """Apply the learner's units."""
        return Transition(
            units.see(self.observation),
            self.action,
            units.reward(self.reward),
            units.discount * (1.0 - self.terminated),
            units.see(self.next_observation),
            self.mc_return,
            self.online,
            self.next_action,
        )


class Replay(NamedTuple):
    """Device-side experience; arrays have leading axes (worlds, capacity), counts are (worlds,) int32.

    Each observation is there once.  What follows a row is the observation at the next place; where that is another
    one, as at an episode's end, `final_at` is above 0 and `final[final_at - 1]` holds it.  `observation` has a ring of
    its own length, at least one place longer than the others where rows are still written.
    """

    observation: Array
    action: Array
    reward: Array
    terminated: Array
    ended: Array  # bool: the last row of its episode
    final: Array
    final_at: Array  # int32
    mc_return: Array
    written: Array
    closed: Array

    def moments(self) -> tuple[Array, Array]:
        """Mean and standard deviation (*observation) of a dataset's observations."""
        if isinstance(self.observation, Outside):
            mean, spread = moments(self.observation.rows)
            return jnp.asarray(mean, self.observation.dtype), jnp.asarray(spread, self.observation.dtype)
        return jnp.mean(self.observation[0], axis=0), jnp.std(self.observation[0], axis=0)

    @property
    def capacity(self) -> int:
        """Rows per world."""
        return self.reward.shape[1]


class View(NamedTuple):
    """One world's rows of a `Replay`, without copying them: the replay and the index of the world."""

    replay: Replay
    world: Array
    online: float

    @property
    def room(self) -> int:
        """Most rows that it can ever show (a plain number: shapes are made with it)."""
        return self.replay.capacity

    def span(self, closed_only: bool) -> tuple[Array, Array]:
        """Absolute count of the oldest row and how many rows may be sampled (never negative)."""
        newest = (self.replay.closed if closed_only else self.replay.written)[self.world]
        oldest = jnp.maximum(self.replay.written[self.world] - self.replay.capacity, 0)
        return oldest, jnp.maximum(newest - oldest, 0)

    def followed(self, count: Array) -> Array:
        """Whether the row after each count (B,) is there and belongs to the same episode."""
        ended = self.replay.ended[self.world, count % self.replay.capacity]
        return ~ended & (count + 1 < self.replay.written[self.world])

    def take(self, count: Array) -> Rows:
        """Rows (B, ...) at absolute counts (B,) int32."""
        r, at = self.replay, (self.world, count % self.replay.capacity)
        following = r.action[self.world, (count + 1) % r.capacity]
        return Rows(
            self._observed(count),
            r.action[at],
            r.reward[at],
            r.terminated[at],
            self._next(count),
            r.mc_return[at],
            jnp.full(count.shape, self.online, r.reward.dtype),
            jnp.where(self.followed(count)[:, None], following, jnp.nan),
        )

    def _observed(self, count: Array) -> Array:
        return self.replay.observation[self.world, count % self.replay.observation.shape[1]]

    def _next(self, count: Array) -> Array:
        final, at = self.replay.final, self.replay.final_at[self.world, count % self.replay.capacity]
        apart = final[self.world, jnp.maximum(at - 1, 0)]
        if isinstance(final, Outside):  # which keeps them all
            return apart
        return jnp.where((at > 0).reshape(-1, *(1,) * (apart.ndim - 1)), apart, self._observed(count + 1))


class Segment(NamedTuple):
    """Rows that one view of the experience shows."""

    view: Any  # View, or what else shows rows as it does
    at: Array  # (B,) int32 absolute counts

    def online(self) -> Array:
        """1 where a row is the run's own, (B,)."""
        return jnp.full(self.at.shape, self.view.online, float)

    def follow(self, length: int) -> tuple[list[Rows], Array]:
        """The rows and those after them, as `window` has them."""
        count, here = self.at, jnp.ones(self.at.shape, jnp.bool_)
        rows, there = [self.view.take(count)], [here]
        for _ in range(length - 1):
            here = here & self.view.followed(count)
            count = jnp.where(here, count + 1, count)
            rows.append(self.view.take(count))
            there.append(here)
        return rows, jnp.stack(there)


class Choice(NamedTuple):
    """Of two equally long parts, the row of `yes` where `choose` (scalar or (B,)) holds, else that of `no`."""

    choose: Array
    yes: Segment | Choice
    no: Segment | Choice

    def online(self) -> Array:
        """1 where a row is the run's own, (B,)."""
        return _select(self.choose, self.yes.online(), self.no.online())

    def follow(self, length: int) -> tuple[list[Rows], Array]:
        """The rows and those after them, as `window` has them."""
        (yes, there), (no, beside) = self.yes.follow(length), self.no.follow(length)
        rows = [Rows(*(_select(self.choose, a, b) for a, b in zip(*both))) for both in zip(yes, no)]
        return rows, jnp.where(self.choose, there, beside)


Indices = tuple[Segment | Choice, ...]
"""Which rows a batch is made of, in this order."""


def either(choose: Array, yes: Indices, no: Indices) -> Indices:
    """Take the row from `yes` where `choose` (scalar or (B,)) holds, else from `no`; a part each."""
    ((one,), (other,)) = yes, no
    return (Choice(choose, one, other),)


def online_share(indices: Indices) -> Array:
    """1 where a row is the run's own, (B,)."""
    return jnp.concatenate([part.online() for part in indices])


def _select(choose: Array, yes: Array, no: Array) -> Array:
    return jnp.where(choose.reshape(choose.shape + (1,) * (yes.ndim - choose.ndim)), yes, no)


def gather(indices: Indices) -> Rows:
    """Rows (B, ...) in raw units."""
    return window(indices, 1)[0][0]


def window(indices: Indices, length: int) -> tuple[list[Rows], Array]:
    """The rows at each index and those that follow them: `length` times Rows (B, ...), and which are there (length, B).

    A row is there where it is the next one of the same episode and its view shows it; where none is, the last one that
    was stands again.  What a view hides (rows after a moment, rows that were not chosen) ends a window.
    """
    parts = [part.follow(length) for part in indices]
    rows = [_joined([found[n] for found, _ in parts]) for n in range(length)]
    return rows, jnp.concatenate([there for _, there in parts], axis=1)


def _joined(parts: list[Rows]) -> Rows:
    return parts[0] if len(parts) == 1 else Rows(*(jnp.concatenate(xs) for xs in zip(*parts)))


def fold(rows: Sequence[Transition], there: Array) -> Transition:
    """n-step returns: one transition (B, ...) over the rows of a window that are there, k of them.

        r = sum_{l < k} gamma^l r_l,        continues = gamma^k (1 - terminated)

    State, action and Monte-Carlo return are those of the first row, what follows is what follows the last one
    (Sutton 1988; no correction for the policy that acted).
    """
    first = last = rows[0]
    reward, weight = first.reward, first.continues
    for row, here in zip(rows[1:], there[1:]):
        last = jax.tree.map(partial(_select, here), row, last)
        reward = reward + jnp.where(here, weight * row.reward, 0.0)
        weight = jnp.where(here, weight * row.continues, weight)
    return first._replace(
        reward=reward,
        continues=weight,
        next_observation=last.next_observation,
        next_action=last.next_action,
    )


def from_data(data: Data, units: Units) -> Replay:
    """Put a dataset on the device once, for all seeds; every episode is closed.

    Observations that are on the disk stay there.
    """
    n = len(data)
    ended = np.zeros(n, np.bool_)
    ended[data.ends() - 1] = True
    lead: Any = lambda x: jnp.asarray(x)[None]  # noqa: E731
    if isinstance(data.observation, np.ndarray) and isinstance(data.next_observation, np.ndarray):
        apart = np.flatnonzero(np.append(~_same(data.next_observation[:-1], data.observation[1:]), True))
        observation, final = lead(data.observation), lead(data.next_observation[apart])
    else:
        apart = np.arange(n)
        observation, final = Outside(data.observation), Outside(data.next_observation)
    final_at = np.zeros(n, np.int32)
    final_at[apart] = np.arange(1, len(apart) + 1)
    count = jnp.full((1,), n, jnp.int32)
    return Replay(
        observation,
        lead(np.asarray(data.action, np.float32)),
        lead(np.asarray(data.reward, np.float32)),
        lead(np.asarray(data.terminated, np.float32)),
        lead(ended),
        final,
        lead(final_at),
        lead(data.mc_returns(units)),
        count,
        count,
    )


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


def empty(worlds: int, capacity: int, observation: tuple[int, ...], action: int, dtype: str) -> Replay:
    """Make a replay without rows; float32 except for observations, which keep `dtype` (uint8 images stay uint8)."""
    return Replay(*(jnp.zeros(shape, kind) for shape, kind in columns(worlds, capacity, observation, action, dtype)))


def columns(
    worlds: int, capacity: int, observation: tuple[int, ...], action: int, dtype: str
) -> list[tuple[tuple[int, ...], str]]:
    """Shape and type of each array of a `Replay`."""
    n = max(capacity, 1)
    flat = ((worlds, n), "float32")
    return [
        ((worlds, n + 1, *observation), dtype),
        ((worlds, n, action), "float32"),
        flat,
        flat,
        ((worlds, n), "bool"),
        ((worlds, n, *observation), dtype),
        ((worlds, n), "int32"),
        flat,
        ((worlds,), "int32"),
        ((worlds,), "int32"),
    ]
