"""Experience on the device, as it was: rewards are scaled, shifted and augmented on copies, on the way out.

A dataset and a run's own experience are the same type, a ring of rows with a leading axis of lanes: one for the
dataset, one per seed for own experience.  Each lane writes its rows in the order of time, so there is a prefix of
closed episodes:

      oldest                 closed              written
        |-- closed episodes ----|-- open episode ---|        (absolute counts; row = count mod capacity)

Several simulators of a seed write in turn, a row each.  The rows of one of them, and so of an episode, lie `stride`
apart, and the prefix ends where the first open episode begins: rows of other episodes behind it may be closed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segue.core import starts
from segue.core.log import Data
from segue.core.outside import Outside
from segue.core.scaling import Scaling, moments
from segue.core.starts import Starts
from segue.core.types import Array, Spec, Transition


class Rows(NamedTuple):
    """Rows of experience unscaled (shapes as in `Transition`)."""

    observation: Array
    action: Array
    reward: Array
    terminated: Array
    next_observation: Array
    mc_return: Array
    online: Array
    next_action: Array

    def transition(self, scaling: Scaling) -> Transition:
        """Apply the learner's scaling."""
        return Transition(
            scaling.see(self.observation),
            self.action,
            scaling.reward(self.reward),
            scaling.discount * (1.0 - self.terminated),
            scaling.see(self.next_observation),
            self.mc_return,
            self.online,
            self.next_action,
        )


class Replay(NamedTuple):
    """Device-side experience; arrays have leading axes (lanes, capacity), counts are (lanes,) int32.

    Each observation is there once.  What follows a row is the observation at the next place; where that is another
    one, as at an episode's end, `final_at` is above 0 and `final[final_at - 1]` holds it.  `observation` has a ring of
    its own length: where rows are still written it has one place more for each simulator of a seed.
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
    starts: Starts | None = None  # where whole windows begin; None where single rows are drawn

    def moments(self) -> tuple[Array, Array]:
        """Mean and standard deviation (*observation) of a dataset's observations."""
        if isinstance(self.observation, Outside):
            mean, spread = moments(self.observation.rows)
            return jnp.asarray(mean, self.observation.dtype), jnp.asarray(spread, self.observation.dtype)
        return jnp.mean(self.observation[0], axis=0), jnp.std(self.observation[0], axis=0)

    def begins(self, lane: Array, count: Array) -> Array:
        """Whether rows (...) of a lane may be drawn, once it is known of them."""
        return jnp.ones(count.shape, jnp.bool_) if self.starts is None else self.starts.begins(lane, count)

    @property
    def capacity(self) -> int:
        """Rows per lane."""
        return self.reward.shape[1]

    @property
    def stride(self) -> int:
        """How many rows after a row the next one of the same simulator is."""
        return max(self.observation.shape[1] - self.capacity, 1)


class View(NamedTuple):
    """One lane's rows of a `Replay`, without copying them: the replay and the index of the lane.

    What may be drawn is numbered in the order of time.  A number is the absolute count of a row; where a phase learns
    from chunks of actions it is that of a start (`segue.core.starts`), and `at` says at which row that is.
    """

    replay: Replay
    lane: Array
    online: float

    @property
    def room(self) -> int:
        """Most rows that it can ever show (a plain number: shapes are made with it)."""
        return self.replay.capacity

    @property
    def stride(self) -> int:
        """How many counts after a row the next one of its episode is (a plain number)."""
        return self.replay.stride

    def span(self, closed_only: bool) -> tuple[Array, Array]:
        """The first number and how many may be drawn (never negative)."""
        return starts.span(self, self.replay.starts, self.lane, closed_only)

    def at(self, number: Array) -> Array:
        """Absolute counts of the rows at numbers (...)."""
        return number if self.replay.starts is None else self.replay.starts.row(self.lane, number)

    def number(self, count: Array) -> Array:
        """Numbers of rows (...) that may be drawn; of others, that of the next one that may."""
        return count if self.replay.starts is None else self.replay.starts.number(self.lane, count)

    def rows(self, closed_only: bool) -> tuple[Array, Array]:
        """Absolute count of the oldest row and how many rows there are (never negative)."""
        newest = (self.replay.closed if closed_only else self.replay.written)[self.lane]
        oldest = jnp.maximum(self.replay.written[self.lane] - self.replay.capacity, 0)
        return oldest, jnp.maximum(newest - oldest, 0)

    def more(self, count: Array) -> Array:
        """Whether its simulator's next row after each count (B,) is there, of whatever episode."""
        return count + self.stride < self.replay.written[self.lane]

    def followed(self, count: Array) -> Array:
        """Whether the next row after each count (B,) is there and belongs to the same episode."""
        return ~self.replay.ended[self.lane, count % self.replay.capacity] & self.more(count)

    def take(self, count: Array) -> Rows:
        """Rows (B, ...) at absolute counts (B,) int32."""
        r, at = self.replay, (self.lane, count % self.replay.capacity)
        following = r.action[self.lane, (count + self.stride) % r.capacity]
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
        return self.replay.observation[self.lane, count % self.replay.observation.shape[1]]

    def _next(self, count: Array) -> Array:
        final, at = self.replay.final, self.replay.final_at[self.lane, count % self.replay.capacity]
        apart = final[self.lane, jnp.maximum(at - 1, 0)]
        if isinstance(final, Outside):  # which keeps them all
            return apart
        return jnp.where((at > 0).reshape(-1, *(1,) * (apart.ndim - 1)), apart, self._observed(count + self.stride))


def from_data(data: Data, scaling: Scaling) -> Replay:
    """Put a dataset on the device once, for all seeds; every episode is closed.

    Observations that are on the disk stay there; on a CPU those of the log itself are read.
    """
    n = len(data)
    ended = np.zeros(n, np.bool_)
    ended[data.ends() - 1] = True
    lead: Any = lambda x: jax.device_put(np.asarray(x)[None])  # noqa: E731
    if isinstance(data.observation, np.ndarray) and isinstance(data.next_observation, np.ndarray):
        observation, final = lead(data.observation), lead(data.next_observation[data.jumps])
    else:
        observation, final = Outside(data.observation), Outside(data.next_observation)
    final_at = np.zeros(n, np.int32)
    final_at[data.jumps] = np.arange(1, len(data.jumps) + 1)
    count = jnp.full((1,), n, jnp.int32)
    return Replay(
        observation,
        lead(np.asarray(data.action, np.float32)),
        lead(np.asarray(data.reward, np.float32)),
        lead(np.asarray(data.terminated, np.float32)),
        lead(ended),
        final,
        lead(final_at),
        lead(data.mc_returns(scaling)),
        count,
        count,
    )


def shape_of(data: Data, spec: Spec) -> Replay:
    """Shapes of what `from_data` makes, without making it."""
    rows = len(data)
    like: Any = jax.eval_shape(lambda: empty(1, rows, spec.observation, spec.action, spec.dtype))
    if isinstance(data.observation, np.ndarray):  # on the disk they stay there, in a form of their own
        kind = jax.dtypes.canonicalize_dtype(data.observation.dtype)
        observation, final = (jax.ShapeDtypeStruct((1, n, *spec.observation), kind) for n in (rows, len(data.jumps)))
        like = like._replace(observation=observation, final=final)
    return like


def starts_of(data: Data | None, chunk: int) -> Starts | None:
    """Where whole windows of so many rows of a dataset begin; None for single rows."""
    if chunk == 1:
        return None
    none = starts.empty(1, 1 if data is None else len(data), chunk)
    if data is None:
        return none
    at = data.whole(chunk)
    return none._replace(at=none.at.at[0, : len(at)].set(at), total=none.total + len(at))


def empty(lanes: int, capacity: int, observation: tuple[int, ...], action: int, dtype: str, envs: int = 1) -> Replay:
    """Make a replay without rows; float32 except for observations, which keep `dtype` (uint8 images stay uint8)."""
    shapes = columns(lanes, capacity, observation, action, dtype, envs)
    rows: list[Any] = [jnp.zeros(shape, kind) for shape, kind in shapes]
    return Replay(*rows)


def columns(
    lanes: int, capacity: int, observation: tuple[int, ...], action: int, dtype: str, envs: int = 1
) -> list[tuple[tuple[int, ...], str]]:
    """Shape and type of each array of a `Replay` that so many simulators of a seed write to."""
    n = max(capacity, 1)
    flat = ((lanes, n), "float32")
    return [
        ((lanes, n + envs, *observation), dtype),
        ((lanes, n, action), "float32"),
        flat,
        flat,
        ((lanes, n), "bool"),
        ((lanes, n, *observation), dtype),
        ((lanes, n), "int32"),
        flat,
        ((lanes,), "int32"),
        ((lanes,), "int32"),
    ]
