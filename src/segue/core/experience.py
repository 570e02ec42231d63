"""A run's own experience while it is written: the host's side of a `Replay`.

On a CPU the device's arrays are the host's own memory: a row is written in place, no program is called for it, and
memory is taken from the system when a row first needs it.  Elsewhere rows go to the device as they come.
"""

from __future__ import annotations

import mmap
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segue.core import starts
from segue.core.replay import Replay, columns
from segue.core.scaling import Scaling, returns_to_go
from segue.core.starts import Starts
from segue.core.types import Spec

_COUNTS = ("written", "closed")


class Step(NamedTuple):
    """One environment step of all lanes; arrays have a leading axis of lanes (W), or of steps and lanes."""

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_observation: np.ndarray


class Ledger:
    """Reward, `terminated` and `ended` of every row ever written: what returns are computed from in other scaling.

    Grows by doubling; 6 bytes a row and lane.
    """

    def __init__(self, lanes: int) -> None:
        self.count = 0
        self._reward = np.zeros((1024, lanes), np.float32)
        self._terminated = np.zeros((1024, lanes), np.bool_)
        self._ended = np.zeros((1024, lanes), np.bool_)

    def add(self, reward: np.ndarray, terminated: np.ndarray, ended: np.ndarray) -> None:
        """Append rows (lanes,), or several at once (rows, lanes)."""
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
        """Mean raw return (lanes,) of each lane's first finished episodes; 0 where none is finished."""
        out = np.zeros(self._reward.shape[1])
        for w in range(len(out)):
            ends = np.flatnonzero(self._ended[: self.count, w])[:episodes]
            if len(ends):
                out[w] = self._reward[: ends[-1] + 1, w].sum(dtype=np.float64) / len(ends)
        return out

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reward, terminated and ended, each (rows, lanes)."""
        return self._reward[: self.count], self._terminated[: self.count], self._ended[: self.count]


class Experience:
    """Rows of all lanes in the order of time, the newest `capacity` of each.

    `replay` is what programs read.
    """

    def __init__(self, lanes: int, capacity: int, spec: Spec) -> None:
        self.lanes, self.capacity, self.ledger = lanes, max(capacity, 1), Ledger(lanes)
        self.written, self.closed = np.zeros(lanes, np.int32), np.zeros(lanes, np.int32)
        self._ends = np.zeros(lanes, np.int64)  # episodes that have ended: each has its place in `final`
        self.chunk, self.starts = 1, np.zeros(lanes, np.int32)
        """Rows of a whole window, and how many windows have become whole (lanes,)."""
        self._begun = [0] * lanes  # rows before each open episode, where windows are listed
        shapes = columns(lanes, capacity, spec.observation, spec.action, spec.dtype)[: -len(_COUNTS)]
        self._host: dict[str, np.ndarray] = {}
        if jax.default_backend() == "cpu":
            self._host = {name: _lazy(*shape) for name, shape in zip(Replay._fields, shapes)}
            self._device = {name: jax.device_put(x) for name, x in self._host.items()}
            if not all(_same_memory(x, self._device[name]) for name, x in self._host.items()):
                self._host = {}
        if not self._host:
            self._device = {name: jnp.zeros(*shape) for name, shape in zip(Replay._fields, shapes)}

    @property
    def replay(self) -> Replay:
        """What programs read."""
        return jax.tree.map(jnp.asarray, self.given)

    @property
    def given(self) -> Replay:
        """As `replay`, for a program that is called at every step: counts are NumPy's, which saves making arrays."""
        # Counts are made anew and never written in place: a program may still be waiting to read them.
        counts: dict[str, Any] = {"written": self.written, "closed": self.closed}
        if self.chunk == 1:
            return Replay(**self._device, **counts)
        held = dict(self._device)
        whole: Any = held.pop("starts"), self.starts, np.int32(self.chunk)
        return Replay(**held, **counts, starts=Starts(*whole))

    def append(self, step: Step, readers: Any) -> None:
        """Write one row for each lane; its return is NaN until `close`.

        `readers` are the latest arrays that were computed from `replay`: a row that they may read is not touched before
        they are there.
        """
        self.extend(Step(*(x[None] for x in step)), readers)

    def extend(self, steps: Step, readers: Any = ()) -> None:
        """As `append`, for several steps (T, W, ...), of which the newest `capacity` are kept."""
        ended = steps.terminated | steps.truncated
        if not len(ended):
            return
        self.ledger.add(steps.reward, steps.terminated, ended)
        begin = int(self.written[0])
        self.written = self.written + np.int32(len(ended))
        stop = int(self.written[0])
        if stop > self.capacity:
            jax.block_until_ready(readers)
        count = np.arange(max(begin, stop - self.capacity), stop)
        kept = Step(*(np.swapaxes(x[count - begin], 0, 1) for x in steps))
        ends, place, ring = np.swapaxes(ended[count - begin], 0, 1), count % self.capacity, self.capacity + 1
        every = np.arange(self.lanes)[:, None]
        # What follows an open episode's row stands at the next place, where its next row will find it.
        self._set("observation", every, (count + 1) % ring, kept.next_observation)
        self._set("observation", every, count % ring, kept.observation)
        self._set("action", every, place, kept.action)
        self._set("reward", every, place, kept.reward)
        self._set("terminated", every, place, kept.terminated)
        self._set("ended", every, place, ends)
        number = self._ends[:, None] + np.cumsum(ended, axis=0).T
        self._ends, final = number[:, -1], (number[:, count - begin] - 1) % self.capacity
        self._set("final_at", every, place, np.where(ends, final + 1, 0))
        self._set("mc_return", every, place, np.full(ends.shape, np.nan))
        for w in np.flatnonzero(ends.any(axis=1)):
            self._set("final", w, final[w, ends[w]], kept.next_observation[w, ends[w]])
        if self.chunk > 1:
            self.starts = self.starts.copy()
            for n, w in np.ndindex(ended.shape):
                self._start(w, begin + n, bool(steps.terminated[n, w]), bool(ended[n, w]))

    def _start(self, lane: int, row: int, terminated: bool, ended: bool) -> None:
        """List the windows that a row makes whole: the one that it is the last of, at a terminal all that it is in."""
        first = row - self.chunk + 1
        whole = np.arange(max(first, self._begun[lane]), row + 1 if terminated else first + 1, dtype=np.int32)
        if len(whole):
            self._set("starts", lane, (self.starts[lane] + np.arange(len(whole))) % self.capacity, whole)
            self.starts[lane] += len(whole)
        if ended:
            self._begun[lane] = row + 1

    def windows(self, chunk: int) -> None:
        """List where whole windows of so many rows begin; 1 lists nothing.  No program may be reading."""
        if chunk == self.chunk:
            return
        self.chunk, self.starts = chunk, np.zeros(self.lanes, np.int32)
        self._host.pop("starts", None), self._device.pop("starts", None)
        if chunk == 1:
            return
        _, terminated, ended = self.ledger.columns()
        column = _lazy((self.lanes, self.capacity), "int32")
        for w in range(self.lanes):
            at = starts.whole(terminated[:, w], ended[:, w], chunk)
            kept = np.arange(max(len(at) - self.capacity, 0), len(at))
            column[w, kept % self.capacity] = at[kept]
            self.starts[w], self._begun[w] = len(at), int(np.max(np.flatnonzero(ended[:, w]) + 1, initial=0))
        self._device["starts"] = jax.device_put(column)
        if self._host and _same_memory(column, self._device["starts"]):
            self._host["starts"] = column

    def close(self, lane: int, returns: np.ndarray, readers: Any) -> None:
        """Close a lane's open episode, whose returns (T,) are known now."""
        stop = int(self.written[lane])
        count = np.arange(max(stop - len(returns), stop - self.capacity, 0), stop)
        jax.block_until_ready(readers)
        self._set("mc_return", lane, count % self.capacity, returns[len(returns) - len(count) :])
        self.closed = self.closed.copy()
        self.closed[lane] = stop

    def compile(self, longest: int) -> None:
        """Compile what `append` and `close` call, for episodes of up to so many rows; nothing is written."""
        if self._host:
            return

        def outside(column: str, lanes: Any, count: int) -> None:
            target = self._device[column]
            shape = (*np.shape(lanes)[:1], count, *target.shape[2:])
            self._set(column, lanes, np.full(count, target.shape[1]), np.zeros(shape, target.dtype))

        for column in self._device:
            outside(column, np.arange(self.lanes)[:, None], 1)
        outside("final", np.int64(0), 1)
        for size in range(max(min(longest, self.capacity) - 1, 0).bit_length() + 1):
            outside("mc_return", 0, 1 << size)
        for size in range((self.chunk - 1).bit_length() + 1 if self.chunk > 1 else 0):
            outside("starts", 0, 1 << size)

    def reopen(self) -> None:
        """Count as closed what ended among the rows that `extend` took from a log."""
        _, _, ended = self.ledger.columns()
        if not len(ended):
            return
        last = len(ended) - np.argmax(ended[::-1], axis=0)  # the row after each lane's last end, if it has one
        self.closed = np.where(ended.any(axis=0), last, 0).astype(np.int32)

    def rewrite(self, scaling: Scaling) -> None:
        """Write the returns of all closed episodes anew, in other scaling.  No program may be reading."""
        reward, terminated, ended = self.ledger.columns()
        kept = np.arange(max(len(reward) - self.capacity, 0), len(reward))
        for w in range(self.lanes):
            returns, start = np.full(len(reward), np.nan, np.float32), 0
            for end in (np.flatnonzero(ended[:, w]) + 1).tolist():
                returns[start:end] = returns_to_go(reward[start:end, w], terminated[start:end, w], scaling)
                start = end
            self._set("mc_return", w, kept % self.capacity, returns[kept])

    def _set(self, column: str, lanes: Any, places: np.ndarray, values: np.ndarray) -> None:
        """Write values (W, T, ...), or (T, ...) of one lane, at places (T,) of a column."""
        if column in self._host:
            self._host[column][lanes, places] = values
            return
        # Few sizes, so that few programs are compiled: what is too much lies outside and is dropped.
        target, more = self._device[column], (1 << (len(places) - 1).bit_length()) - len(places)
        axis = np.ndim(lanes) // 2
        places = np.pad(places, (0, more), constant_values=target.shape[1])
        wide = [(0, more if n == axis else 0) for n in range(np.ndim(values))]
        self._device[column] = _put(target, lanes, places, np.pad(np.asarray(values, target.dtype), wide))


@partial(jax.jit, donate_argnums=0)
def _put(column: jax.Array, lanes: Any, places: jax.Array, values: jax.Array) -> jax.Array:
    return column.at[lanes, places].set(values, mode="drop")


def _lazy(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """Zeros that take up memory, page by page, when they are first written."""
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    return np.frombuffer(mmap.mmap(-1, size), dtype).reshape(shape)


def _same_memory(host: np.ndarray, device: jax.Array) -> bool:
    return bool(device.unsafe_buffer_pointer() == host.ctypes.data)
