"""A run's own experience while it is written: the host's side of a `Replay`.

On a CPU the device's arrays are the host's own memory: a row is written in place, no program is called for it, and
memory is taken from the system when a row first needs it.  Elsewhere rows go to the device as they come.

A lane (S) is a seed.  A world (W) is a simulator: those of a seed stand together, and write its rows in turn.
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
    """One step of all simulators; arrays have a leading axis of worlds (W), or of steps and worlds."""

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_observation: np.ndarray


class Ledger:
    """Reward, `terminated` and `ended` of every row ever written: what returns are computed from in other scaling.

    Grows by doubling; 6 bytes a row.
    """

    def __init__(self, worlds: int) -> None:
        self.count = 0
        """Steps of each world."""
        self._reward = np.zeros((1024, worlds), np.float32)
        self._terminated = np.zeros((1024, worlds), np.bool_)
        self._ended = np.zeros((1024, worlds), np.bool_)

    def add(self, reward: np.ndarray, terminated: np.ndarray, ended: np.ndarray) -> None:
        """Append steps (T, W)."""
        end = self.count + len(reward)
        while end > len(self._reward):
            self._reward, self._terminated, self._ended = (
                np.concatenate([x, np.zeros_like(x)]) for x in (self._reward, self._terminated, self._ended)
            )
        at = slice(self.count, end)
        self._reward[at], self._terminated[at], self._ended[at] = reward, terminated, ended
        self.count = end

    def first_returns(self, episodes: int, worlds: slice) -> float:
        """Mean raw return of the first finished episodes of some worlds; 0 where none is finished."""
        # Rows of the array are steps, so that the first ends come first, whichever world's they are.
        first = np.argwhere(self._ended[: self.count, worlds])[:episodes]
        lengths = {int(world): int(step) + 1 for step, world in first}
        reward = self._reward[:, worlds]
        return sum(float(reward[:n, w].sum(dtype=np.float64)) for w, n in lengths.items()) / max(len(first), 1)

    def returns(self, begin: int, worlds: slice) -> list[float]:
        """Raw returns of the episodes of some worlds that have ended at step `begin` or later, as they ended."""
        reward, over = self._reward[: self.count, worlds], self._ended[: self.count, worlds]
        found: list[tuple[int, int, float]] = []
        for world in range(over.shape[1]):
            ends = np.flatnonzero(over[:, world])
            if len(ends):
                begins = np.concatenate([[0], ends[:-1] + 1])
                sums = np.add.reduceat(reward[: ends[-1] + 1, world].astype(np.float64), begins)
                found += [(int(end), world, float(value)) for end, value in zip(ends, sums) if end >= begin]
        return [value for _, _, value in sorted(found)]

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Reward, terminated and ended, each (T, W)."""
        return self._reward[: self.count], self._terminated[: self.count], self._ended[: self.count]


class Experience:
    """Rows of all lanes in the order of time, the newest `capacity` of each, that `envs` simulators of each write.

    `given` is what the programs of a group of lanes read; all lanes are one group unless `groups` says otherwise.
    """

    def __init__(self, lanes: int, capacity: int, spec: Spec, groups: Groups | None = None, envs: int = 1) -> None:
        self.lanes, self.capacity, self.envs, self.ledger = lanes, max(capacity, 1), envs, Ledger(lanes * envs)
        self.groups = groups or Groups((Group(0, lanes),))
        self.written, self.closed = np.zeros(lanes, np.int32), np.zeros(lanes, np.int32)
        self._ends = np.zeros(lanes, np.int64)  # episodes that have ended: each has its place in `final`
        self._begun = np.tile(np.arange(envs), (lanes, 1))
        """Count of the first row of each world's open episode (S, envs)."""
        self.chunk, self.starts = 1, np.zeros(lanes, np.int32)
        """Rows of a whole window, and how many windows are listed (lanes,)."""
        self._whole: list[list[int]] = [[] for _ in range(lanes)]
        """First rows of whole windows that wait for their place in the list: it is ascending."""
        self._unknown = self._begun.copy()
        """Count of the first row of each world of which it is not known yet whether a whole window begins there."""
        shapes = columns(lanes, capacity, spec.observation, spec.action, spec.dtype, envs)[: -len(_COUNTS)]
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
        """Write one row for each world; its return is NaN until `close`.

        `wait` returns when no program reads rows any more: a row that one may read is not touched before.
        """
        self.extend(Step(*(x[None] for x in step)), wait)

    def extend(self, steps: Step, wait: Callable[[], object] = lambda: None) -> None:
        """As `append`, for several steps (T, W, ...), of which the newest `capacity` are kept."""
        ended = steps.terminated | steps.truncated
        if not len(ended):
            return
        self.ledger.add(steps.reward, steps.terminated, ended)
        begin, envs = int(self.written[0]), self.envs
        self.written = self.written + np.int32(len(ended) * envs)
        stop = int(self.written[0])
        sent = len(self._host) < len(self._device[0])  # an array is given away for one with the row
        if stop > self.capacity or (sent and self.groups.threads > 1):  # a thread may not have begun its call
            wait()
        count = np.arange(max(begin, stop - self.capacity), stop)
        kept = Step(*(self._rows(x)[:, count - begin] for x in steps))
        ended = self._rows(ended)
        ends, place, ring = ended[:, count - begin], count % self.capacity, self.capacity + envs
        every = np.arange(self.lanes)[:, None]
        # What follows an open episode's row stands at the place of its next row, which will find it there.
        self._set("observation", every, (count + envs) % ring, kept.next_observation)
        self._set("observation", every, count % ring, kept.observation)
        self._set("action", every, place, kept.action)
        self._set("reward", every, place, kept.reward)
        self._set("terminated", every, place, kept.terminated)
        self._set("ended", every, place, ends)
        number = self._ends[:, None] + np.cumsum(ended, axis=1)
        self._ends, final = number[:, -1], (number[:, count - begin] - 1) % self.capacity
        self._set("final_at", every, place, np.where(ends, final + 1, 0))
        self._set("mc_return", every, place, np.full(ends.shape, np.nan))
        for w in np.flatnonzero(ends.any(axis=1)):
            self._set("final", w, final[w, ends[w]], kept.next_observation[w, ends[w]])
        terminated = self._rows(steps.terminated)
        for lane, n in np.argwhere(ended) if self.chunk == 1 else np.ndindex(ended.shape):
            if self.chunk > 1:
                self._start(lane, begin + n, bool(terminated[lane, n]), bool(ended[lane, n]))
            if ended[lane, n]:
                self._begun[lane, n % envs] = begin + n + envs
        if self.chunk > 1:
            self._list()

    def _rows(self, x: np.ndarray) -> np.ndarray:
        """Steps (T, W, ...) as rows (S, T * envs, ...) in the order of time."""
        apart = x.reshape(len(x), self.lanes, self.envs, *x.shape[2:])
        return np.swapaxes(apart, 0, 1).reshape(self.lanes, -1, *x.shape[2:])

    def _start(self, lane: int, row: int, terminated: bool, ended: bool) -> None:
        """Note the windows that a row makes whole: the one that it is the last of, at a terminal all that it is in."""
        world, first = row % self.envs, row - (self.chunk - 1) * self.envs
        begun = int(self._begun[lane, world])
        first, inside = max(first, begun), first >= begun
        self._whole[lane] += range(first, row + 1 if terminated else first + inside, self.envs)
        self._unknown[lane, world] = row + self.envs if ended else first + inside * self.envs

    def _list(self) -> None:
        """List the whole windows up to the first row of which it is not known whether one begins there."""
        self.starts = self.starts.copy()
        for lane, waiting in enumerate(self._whole):
            known = int(self._unknown[lane].min())
            whole = sorted(first for first in waiting if first < known)
            self._whole[lane] = [first for first in waiting if first >= known]
            kept = whole[-self.capacity :]
            if kept:
                number = self.starts[lane] + np.arange(len(whole) - len(kept), len(whole))
                self._set("starts", lane, number % self.capacity, np.asarray(kept, np.int32))
                self.starts[lane] += len(whole)

    def windows(self, chunk: int) -> None:
        """List where whole windows of so many rows begin; 1 lists nothing.  No program may be reading."""
        if chunk == self.chunk:
            return
        self.chunk, self.starts, self._whole = chunk, np.zeros(self.lanes, np.int32), [[] for _ in range(self.lanes)]
        self._host.pop("starts", None)
        if chunk == 1:
            for held in self._device:
                del held["starts"]
            return
        _, terminated, ended = self.ledger.columns()
        if (column := self._take("starts", (self.lanes, self.capacity), "int32")) is not None:
            self._host["starts"] = column
        for lane, world in np.ndindex(self._begun.shape):
            w = lane * self.envs + world
            whole = starts.whole(terminated[:, w], ended[:, w], chunk)
            self._whole[lane] += (whole * self.envs + world).tolist()
            newest = (self.ledger.count - chunk + 1) * self.envs + world
            self._unknown[lane, world] = max(newest, self._begun[lane, world])
        self._list()

    def close(self, world: int, returns: np.ndarray, wait: Callable[[], object]) -> None:
        """Write the returns (T,) of the episode that a world has ended with its last row."""
        lane, place = divmod(world, self.envs)
        count = self._begun[lane, place] - self.envs * np.arange(len(returns), 0, -1)
        there = count >= max(int(self.written[lane]) - self.capacity, 0)
        wait()
        self._set("mc_return", lane, count[there] % self.capacity, returns[there])
        self.closed = self.closed.copy()
        self.closed[lane] = self._begun[lane].min()

    def compile(self, longest: int) -> None:
        """Compile what `append` and `close` call, for episodes of up to so many rows; nothing is written."""

        def outside(column: str, lanes: Any, count: int) -> None:
            if column not in self._host:
                target = self._device[0][column]
                shape = (*np.shape(lanes)[:1], count, *target.shape[2:])
                self._set(column, lanes, np.full(count, target.shape[1]), np.zeros(shape, target.dtype))

        for column in self._device[0]:
            outside(column, np.arange(self.lanes)[:, None], self.envs)
        for group in self.groups.members:
            for size in range((self.envs - 1).bit_length() + 1):
                outside("final", group.first, 1 << size)
            for size in range(max(min(longest, self.capacity) - 1, 0).bit_length() + 1):
                outside("mc_return", group.first, 1 << size)
            for size in range((self.chunk * self.envs - 1).bit_length() + 1 if self.chunk > 1 else 0):
                outside("starts", group.first, 1 << size)

    def reopen(self) -> None:
        """Count as closed what comes before the first row of an open episode, whose returns must be there."""
        self.closed = self._begun.min(axis=1).astype(np.int32)

    def rewrite(self, scaling: Scaling) -> None:
        """Write the returns of all closed episodes anew, in other scaling.  No program may be reading."""
        reward, terminated, ended = self.ledger.columns()
        for w in range(self.lanes * self.envs):
            returns, start = np.full(len(reward), np.nan, np.float32), 0
            for end in (np.flatnonzero(ended[:, w]) + 1).tolist():
                returns[start:end] = returns_to_go(reward[start:end, w], terminated[start:end, w], scaling)
                start = end
            lane, world = divmod(w, self.envs)
            count = np.arange(len(reward)) * self.envs + world
            kept = count >= len(reward) * self.envs - self.capacity
            self._set("mc_return", lane, count[kept] % self.capacity, returns[kept])

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
