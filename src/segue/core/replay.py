"""Experience as it was: raw rewards, `terminated` and `truncated` apart, episode ends known.

A dataset and a run's own experience are the same type.  Rewards are scaled, shifted and augmented on copies, on
the way out.

The device side (`Replay`) is a ring of rows with a leading axis of worlds: one for the dataset, one per seed for
own experience.  Each world writes its rows in the order of time, so the rows of closed episodes are a prefix:

      oldest                 closed              written
        |-- closed episodes ----|-- open episode ---|        (absolute counts; row = count mod capacity)
"""

from __future__ import annotations

import hashlib
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

    `rows` gives rows for arrays of integers (`segue.data.disk.DiskRows`).  Each batch costs a call to the host.
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
    """Rows of experience in raw units, as a sampler takes them out of replay (shapes as in `Transition`)."""

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
    """Device-side experience; every array has leading axes (worlds, capacity), counts are (worlds,) int32."""

    observation: Array
    action: Array
    reward: Array
    terminated: Array
    ended: Array  # bool: the last row of its episode
    next_observation: Array
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

    def span(self, closed_only: bool) -> tuple[Array, Array]:
        """Absolute count of the oldest row and how many rows may be sampled (never negative)."""
        newest = (self.replay.closed if closed_only else self.replay.written)[self.world]
        oldest = jnp.maximum(self.replay.written[self.world] - self.replay.capacity, 0)
        return oldest, jnp.maximum(newest - oldest, 0)

    def take(self, count: Array) -> Rows:
        """Rows (B, ...) at absolute counts (B,) int32."""
        r, at = self.replay, (self.world, count % self.replay.capacity)
        followed = ~r.ended[at] & (count + 1 < r.written[self.world])
        following = r.action[self.world, (count + 1) % r.capacity]
        return Rows(
            r.observation[at],
            r.action[at],
            r.reward[at],
            r.terminated[at],
            r.next_observation[at],
            r.mc_return[at],
            jnp.full(count.shape, self.online, r.reward.dtype),
            jnp.where(followed[:, None], following, jnp.nan),
        )


def from_data(data: Data, units: Units) -> Replay:
    """Put a dataset on the device once, for all seeds; every episode is closed.

    Observations that are on the disk stay there.
    """
    n = len(data)
    ended = np.zeros(n, np.bool_)
    ended[data.ends() - 1] = True
    lead: Any = lambda x: jnp.asarray(x)[None] if isinstance(x, np.ndarray) else Outside(x)  # noqa: E731
    count = jnp.full((1,), n, jnp.int32)
    return Replay(
        lead(data.observation),
        lead(np.asarray(data.action, np.float32)),
        lead(np.asarray(data.reward, np.float32)),
        lead(np.asarray(data.terminated, np.float32)),
        lead(ended),
        lead(data.next_observation),
        lead(data.mc_returns(units)),
        count,
        count,
    )


def empty(worlds: int, capacity: int, observation: tuple[int, ...], action: int, dtype: str) -> Replay:
    """Make a replay without rows; float32 except for observations, which keep `dtype` (uint8 images stay uint8)."""
    capacity = max(capacity, 1)
    flat = partial(jnp.zeros, (worlds, capacity), jnp.float32)
    seen = partial(jnp.zeros, (worlds, capacity, *observation), dtype)
    count = partial(jnp.zeros, (worlds,), jnp.int32)
    acted = jnp.zeros((worlds, capacity, action), jnp.float32)
    ended = jnp.zeros((worlds, capacity), jnp.bool_)
    return Replay(seen(), acted, flat(), flat(), ended, seen(), flat(), count(), count())


@partial(jax.jit, donate_argnums=0)
def append(
    replay: Replay,
    observation: Array,
    action: Array,
    reward: Array,
    terminated: Array,
    truncated: Array,
    next_observation: Array,
) -> Replay:
    """Write one row for each world (arrays have a leading axis of worlds); its return is NaN until `close`."""
    at = (jnp.arange(replay.reward.shape[0]), replay.written % replay.capacity)
    return replay._replace(
        observation=replay.observation.at[at].set(observation),
        action=replay.action.at[at].set(action),
        reward=replay.reward.at[at].set(reward),
        terminated=replay.terminated.at[at].set(terminated.astype(jnp.float32)),
        ended=replay.ended.at[at].set(terminated | truncated),
        next_observation=replay.next_observation.at[at].set(next_observation),
        mc_return=replay.mc_return.at[at].set(jnp.nan),
        written=replay.written + 1,
    )


@partial(jax.jit, donate_argnums=0)
def close(replay: Replay, world: Array, mc_return: Array, length: Array) -> Replay:
    """Close the world's open episode of `length` rows: write its returns, padded to (horizon,), and count it."""
    written = replay.written[world]
    t = jnp.arange(mc_return.shape[0])
    count = written - length + t
    kept = (t < length) & (count >= written - replay.capacity)
    row = jnp.where(kept, count % replay.capacity, replay.capacity)
    return replay._replace(
        mc_return=replay.mc_return.at[world, row].set(mc_return, mode="drop"),
        closed=replay.closed.at[world].set(written),
    )


class Ledger:
    """Reward, `terminated` and `ended` of every row ever written: what returns are computed from in other units.

    Grows by doubling; 6 bytes a row and world.
    """

    def __init__(self, worlds: int) -> None:
        self.count = 0
        self._reward = np.zeros((1024, worlds), np.float32)
        self._terminated = np.zeros((1024, worlds), np.bool_)
        self._ended = np.zeros((1024, worlds), np.bool_)

    def add(self, reward: np.ndarray, terminated: np.ndarray, ended: np.ndarray) -> None:
        """Append rows (worlds,), or several at once (rows, worlds)."""
        reward, terminated, ended = (np.atleast_2d(x) for x in (reward, terminated, ended))
        end = self.count + len(reward)
        while end > len(self._reward):
            self._reward, self._terminated, self._ended = (
                np.concatenate([x, np.zeros_like(x)]) for x in (self._reward, self._terminated, self._ended)
            )
        at = slice(self.count, end)
        self._reward[at], self._terminated[at], self._ended[at] = reward, terminated, ended
        self.count = end

    def first_returns(self, episodes: int) -> np.ndarray:
        """Mean raw return (worlds,) of each world's first finished episodes; 0 where none is finished."""
        out = np.zeros(self._reward.shape[1])
        for w in range(len(out)):
            ends = np.flatnonzero(self._ended[: self.count, w])[:episodes]
            if len(ends):
                out[w] = self._reward[: ends[-1] + 1, w].sum(dtype=np.float64) / len(ends)
        return out

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reward, terminated and ended, each (rows, worlds)."""
        return self._reward[: self.count], self._terminated[: self.count], self._ended[: self.count]


def with_returns(replay: Replay, ledger: Ledger, units: Units) -> Replay:
    """Rewrite the returns of own experience in other units; `ledger` holds every row ever written."""
    reward, terminated, ended = ledger.columns()
    n, worlds = reward.shape
    column = np.array(replay.mc_return)
    rows = np.arange(max(n - replay.capacity, 0), n)
    for w in range(worlds):
        returns = np.full(n, np.nan, np.float32)
        start = 0
        for end in np.flatnonzero(ended[:, w]) + 1:
            returns[start:end] = returns_to_go(reward[start:end, w], terminated[start:end, w], units)
            start = int(end)
        column[w, rows % replay.capacity] = returns[rows]
    return replay._replace(mc_return=jnp.asarray(column))
