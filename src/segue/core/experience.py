"""A run's own experience while it is written: the host's side of a `Replay`.

On a CPU the device's arrays are the host's own memory: a row is written in place, no program is called for it, and
memory is taken from the system when a row first needs it.  Elsewhere rows go to the device as they come.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segue.core import starts
from segue.core.groups import Group, Groups
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

    `given` is what the programs of a group of lanes read; all lanes are one group unless `groups` says otherwise.
    """

    def __init__(self, lanes: int, capacity: int, spec: Spec, groups: Groups | None = None) -> None:
        self.lanes, self.capacity, self.ledger = lanes, max(capacity, 1), Ledger(lanes)
        self.groups = groups or Groups((Group(0, lanes),))
        self.written, self.closed = np.zeros(lanes, np.int32), np.zeros(lanes, np.int32)
        self._ends = np.zeros(lanes, np.int64)  # episodes that have ended: each has its place in `final`
        self.chunk, self.starts = 1, np.zeros(lanes, np.int32)
        """Rows of a whole window, and how many windows have become whole (lanes,)."""
        self._begun = [0] * lanes  # rows before each open episode, where windows are listed
        shapes = columns(lanes, capacity, spec.observation, spec.action, spec.dtype)[: -len(_COUNTS)]
        self._device: list[dict[str, jax.Array]] = [{} for _ in self.groups.members]
        self._host: dict[str, np.ndarray] = {}
        """Columns that programs read in the host's own memory; elsewhere rows are sent to the groups' arrays."""
        for name, (shape, kind) in zip(Replay._fields, shapes):
            if (column := self._take(name, shape, kind)) is not None:
                self._host[name] = column

    def _take(self, name: str, shape: tuple[int, ...], kind: str) -> np.ndarray | None:
        """Make a column of zeros for the groups' programs; return it where they read the host's own memory."""
        column = _lazy(shape, kind, len(self._device)) if jax.default_backend() == "cpu" else None
        for group, held in zip(self.groups.members, self._device):
            part = jnp.zeros((group.size, *shape[1:]), kind) if column is None else jax.device_put(column[group.lanes])
            held[name] = group.place(part)
            if column is not None and not _same_memory(column[group.lanes], held[name]):
                column = None  # this device has a copy, and gets its rows sent
        return column

    @property
    def replay(self) -> Replay:
        """All lanes."""
        parts = [jax.tree.map(jnp.asarray, self.given(n)) for n in range(len(self._device))]
        rows = self.groups.join([part._replace(starts=None) for part in parts])
        if parts[0].starts is None:
            return rows
        whole = self.groups.join([part.starts._replace(length=()) for part in parts])
        return rows._replace(starts=whole._replace(length=parts[0].starts.length))

    def given(self, number: int) -> Replay:
        """What the programs of a group read; counts are NumPy's, which saves making arrays at every step."""
        # Counts are made anew and never written in place: a program may still be waiting to read them.
        lanes, held = self.groups.members[number].lanes, self._device[number]
        rows: dict[str, Any] = {**held, "written": self.written[lanes], "closed": self.closed[lanes]}
        if self.chunk > 1:
            rows["starts"] = Starts(rows["starts"], self.starts[lanes], np.int32(self.chunk))  # type: ignore[arg-type]
        return Replay(**rows)

    def append(self, step: Step, wait: Callable[[], object]) -> None:
        """Write one row for each lane; its return is NaN until `close`.

        `wait` returns when no program reads rows any more: a row that one may read is not touched before.
        """
        self.extend(Step(*(x[None] for x in step)), wait)

    def extend(self, steps: Step, wait: Callable[[], object] = lambda: None) -> None:
        """As `append`, for several steps (T, W, ...), of which the newest `capacity` are kept."""
        ended = steps.terminated | steps.truncated
        if not len(ended):
            return
        self.ledger.add(steps.reward, steps.terminated, ended)
        begin = int(self.written[0])
        self.written = self.written + np.int32(len(ended))
        stop = int(self.written[0])
        sent = len(self._host) < len(self._device[0])  # an array is given away for one with the row
        if stop > self.capacity or (sent and self.groups.threads > 1):  # a thread may not have begun its call
            wait()
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
        self._host.pop("starts", None)
        if chunk == 1:
            for held in self._device:
                del held["starts"]
            return
        _, terminated, ended = self.ledger.columns()
        if (column := self._take("starts", (self.lanes, self.capacity), "int32")) is not None:
            self._host["starts"] = column
        for w in range(self.lanes):
            at = starts.whole(terminated[:, w], ended[:, w], chunk)
            kept = np.arange(max(len(at) - self.capacity, 0), len(at))
            if len(kept):
                self._set("starts", w, kept % self.capacity, at[kept].astype(np.int32))
            self.starts[w], self._begun[w] = len(at), int(np.max(np.flatnonzero(ended[:, w]) + 1, initial=0))

    def close(self, lane: int, returns: np.ndarray, wait: Callable[[], object]) -> None:
        """Close a lane's open episode, whose returns (T,) are known now."""
        stop = int(self.written[lane])
        count = np.arange(max(stop - len(returns), stop - self.capacity, 0), stop)
        wait()
        self._set("mc_return", lane, count % self.capacity, returns[len(returns) - len(count) :])
        self.closed = self.closed.copy()
        self.closed[lane] = stop

    def compile(self, longest: int) -> None:
        """Compile what `append` and `close` call, for episodes of up to so many rows; nothing is written."""

        def outside(column: str, lanes: Any, count: int) -> None:
            if column not in self._host:
                target = self._device[0][column]
                shape = (*np.shape(lanes)[:1], count, *target.shape[2:])
                self._set(column, lanes, np.full(count, target.shape[1]), np.zeros(shape, target.dtype))

        for column in self._device[0]:
            outside(column, np.arange(self.lanes)[:, None], 1)
        for group in self.groups.members:
            outside("final", group.first, 1)
            for size in range(max(min(longest, self.capacity) - 1, 0).bit_length() + 1):
                outside("mc_return", group.first, 1 << size)
            for size in range((self.chunk - 1).bit_length() + 1 if self.chunk > 1 else 0):
                outside("starts", group.first, 1 << size)

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
        """Write values (W, T, ...) of all lanes (W, 1), or (T, ...) of one lane, at places (T,) of a column."""
        if column in self._host:
            self._host[column][lanes, places] = values
            return
        for group, held in zip(self.groups.members, self._device):
            if np.ndim(lanes):
                held[column] = _written(held[column], np.arange(group.size)[:, None], places, values[group.lanes])
            elif group.first <= lanes < group.first + group.size:
                held[column] = _written(held[column], np.int64(lanes - group.first), places, values)


def _written(target: jax.Array, lanes: Any, places: np.ndarray, values: np.ndarray) -> jax.Array:
    """An array with values at lanes and places."""
    # Few sizes, so that few programs are compiled: what is too much lies outside and is dropped.
    more = (1 << (len(places) - 1).bit_length()) - len(places)
    axis = np.ndim(lanes) // 2
    places = np.pad(places, (0, more), constant_values=target.shape[1])
    wide = [(0, more if n == axis else 0) for n in range(np.ndim(values))]
    return _put(target, lanes, places, np.pad(np.asarray(values, target.dtype), wide))


@partial(jax.jit, donate_argnums=0)
def _put(column: jax.Array, lanes: Any, places: jax.Array, values: jax.Array) -> jax.Array:
    return column.at[lanes, places].set(values, mode="drop")


def _lazy(shape: tuple[int, ...], dtype: str, groups: int) -> np.ndarray:
    """Zeros that take up memory, page by page, when they are first written; each group's begin on a page."""
    lanes, size = shape[0], int(np.prod(shape[1:], dtype=np.int64)) * np.dtype(dtype).itemsize
    apart = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE if groups > 1 else size
    flat = np.frombuffer(mmap.mmap(-1, max(lanes * apart, 1)), np.uint8)[: lanes * apart]
    return flat.reshape(lanes, apart)[:, :size].view(dtype).reshape(shape)


def _same_memory(host: np.ndarray, device: jax.Array) -> bool:
    return bool(device.unsafe_buffer_pointer() == host.ctypes.data)
