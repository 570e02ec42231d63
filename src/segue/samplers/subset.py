"""A part of the experience: a random share of a dataset, the first or the last rows of own experience."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from segue.core import starts
from segue.core.indices import Indices
from segue.core.options import option, require
from segue.core.replay import Replay, Rows, View
from segue.core.starts import Starts
from segue.core.types import Array, Handover, Key, Metrics, Sampler, SegueError, State


class SubsetView(NamedTuple):
    """What is left of a dataset: some rows of a view, as a view."""

    view: Shown
    kept: Array  # (K,) int32 absolute counts
    starts: Starts | None = None

    def span(self, closed_only: bool) -> tuple[Array, Array]:
        """The first number and how many may be drawn."""
        return starts.span(self, self.starts, jnp.int32(0), closed_only)

    def at(self, number: Array) -> Array:
        """Places among the kept rows at numbers (...)."""
        return number if self.starts is None else self.starts.row(0, number)

    def number(self, count: Array) -> Array:
        """Numbers of kept rows (...) that may be drawn."""
        return count if self.starts is None else self.starts.number(0, count)

    def rows(self, closed_only: bool) -> tuple[Array, Array]:
        """Place of the first row and how many there are."""
        _, size = self.view.rows(closed_only)
        return jnp.int32(0), jnp.minimum(size, len(self.kept))

    @property
    def room(self) -> int:
        """Most rows that it can ever show."""
        return len(self.kept)

    @property
    def stride(self) -> int:
        """How many places after a row the next one of its episode is."""
        return 1

    @property
    def online(self) -> float:
        """Whose rows they are."""
        return self.view.online

    def more(self, count: Array) -> Array:
        """Whether the next row is there too, of whatever episode, (B,)."""
        following = self.kept[jnp.minimum(count + 1, len(self.kept) - 1)]
        return following == self.kept[count] + 1

    def followed(self, count: Array) -> Array:
        """Whether the next row of the same episode is there too, (B,)."""
        return self.view.followed(self.kept[count]) & self.more(count)

    def take(self, count: Array) -> Rows:
        """Rows (B, ...) as they are in the whole dataset, the action that followed included."""
        return self.view.take(self.kept[count])


class SubsetState(NamedTuple):
    """State of `Subset`: the rows that are kept (K,) int32, ascending, the inner sampler's state, and where whole
    windows of the kept rows begin."""

    rows: Array
    inner: State
    starts: Starts | None = None


@dataclass(frozen=True)
class Subset:
    """Let another sampler use only a random `share` of the dataset's rows.

    round(share * N) rows are drawn once without replacement when the phase begins; each seed has its own.  With n-step
    returns or chunks whole episodes are drawn, the last one cut to fit.  A share of 1 keeps all rows; 0 is an error.
    """

    share: float
    inner: Sampler

    def __post_init__(self) -> None:
        if self.share == 0.0:
            raise SegueError("Retain: share=0 keeps nothing of the dataset; use Mix(0, n) instead")
        require(self, share=0.0 < self.share <= 1.0)

    def init(self, key: Key, handover: Handover) -> State:
        """Choose the rows."""
        k_rows, k_inner = jax.random.split(key)
        everything = handover.offline.room
        if handover.n_steps == handover.chunk == 1:
            order = jax.random.permutation(k_rows, everything)
        else:
            ended = handover.offline.replay.ended[handover.offline.lane]
            turn = jax.random.uniform(k_rows, (everything,))[jnp.cumsum(ended) - ended]
            order = jnp.argsort(turn, stable=True)
        chosen = order[: round(self.share * everything)]
        rows = jnp.sort(chosen).astype(jnp.int32)
        kept = SubsetView(handover.offline, rows)
        if handover.chunk > 1:
            kept = kept._replace(starts=starts.shown(kept, handover.chunk))
        return SubsetState(rows, self.inner.init(k_inner, handover._replace(offline=kept)), kept.starts)

    def sample(self, state: State, key: Key, offline: Shown, online: Own) -> tuple[State, Indices, Metrics]:
        """Rows as the inner sampler takes them."""
        kept = SubsetView(offline, state.rows, state.starts)
        inner, rows, metrics = self.inner.sample(state.inner, key, kept, online)
        return state._replace(inner=inner), rows, metrics

    def validate(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        if not offline:
            return f"it keeps {self.share:g} of a dataset, but the task has none; use the inner sampler without Retain"
        if not round(self.share * offline):
            return f"{self.share:g} of {offline} rows is less than one row; raise share or use Mix(0, n)"
        return self.inner.validate(round(self.share * offline), written, closed)


class Part(NamedTuple):
    """A part of own experience, as if there were nothing else: the rows from count `start` up to `stop`, as a view."""

    view: Own
    start: Array
    stop: Array
    closed: Array  # rows before it belong to episodes that ended before `stop`

    @property
    def replay(self) -> Replay:
        """The whole replay."""
        return self.view.replay

    @property
    def lane(self) -> Array:
        """Its world."""
        return self.view.lane

    @property
    def room(self) -> int:
        """Most rows that it can ever show."""
        return self.view.room

    @property
    def stride(self) -> int:
        """How many counts after a row the next one of its episode is."""
        return self.view.stride

    @property
    def online(self) -> float:
        """Whose rows they are."""
        return self.view.online

    def span(self, closed_only: bool) -> tuple[Array, Array]:
        """The first number and how many may be drawn (never negative)."""
        return starts.span(self, self.replay.starts, self.lane, closed_only)

    def at(self, number: Array) -> Array:
        """Absolute counts of the rows at numbers (...)."""
        return self.view.at(number)

    def number(self, count: Array) -> Array:
        """Numbers of rows (...) that may be drawn."""
        return self.view.number(count)

    def rows(self, closed_only: bool) -> tuple[Array, Array]:
        """Absolute count of the oldest row and how many rows there are (never negative)."""
        oldest, size = self.view.rows(closed_only)
        first = jnp.maximum(oldest, self.start)
        last = jnp.minimum(oldest + size, self.closed if closed_only else self.stop)
        return first, jnp.maximum(last - first, 0)

    def more(self, count: Array) -> Array:
        """Whether the row after each count (B,) shows, of whatever episode."""
        return self.view.more(count) & (count + self.stride < self.stop)

    def followed(self, count: Array) -> Array:
        """Whether the row after each count (B,) shows and belongs to the same episode."""
        return self.view.followed(count) & (count + self.stride < self.stop)

    def take(self, count: Array) -> Rows:
        """Rows (B, ...); what came after `stop`, the rest of an episode that was open then, is not known."""
        rows = self.view.take(count)
        return rows._replace(
            mc_return=jnp.where(count < self.closed, rows.mc_return, jnp.nan),
            next_action=jnp.where((count + self.stride < self.stop)[:, None], rows.next_action, jnp.nan),
        )


Own = View | Part
"""Rows of own experience, all or some of them."""
Shown = View | Part | SubsetView
"""Rows that a sampler draws from."""


class PrefixState(NamedTuple):
    """State of `Prefix`: how many rows show, where their last ended episode ends, and the inner sampler's state."""

    rows: Array
    closed: Array
    inner: State


@dataclass(frozen=True)
class Prefix:
    """Let another sampler use only the first part of own experience, as if the run had stopped there.

    OOO's `view(t)`: the dataset and the rows up to time t, without later rows and without the return of an episode that
    was still open.  The part is a `share` of the rows at the beginning of the phase, or a number of `rows`.
    """

    inner: Sampler
    share: float = option(1.0, when=lambda f: f.rows is None, why="rows=none")
    rows: int | None = None

    def __post_init__(self) -> None:
        require(self, share=0 < self.share <= 1, rows=self.rows is None or self.rows >= 1)

    def init(self, key: Key, handover: Handover) -> State:
        """Find where the part ends, and the last episode that ended within it."""
        shown = prefix_rows(handover, self.share, self.rows)
        replay, lane = handover.online.replay, handover.online.lane
        count, stride = counts(handover.online), replay.stride
        ends = replay.ended[lane] & (count >= 0) & (count < shown)
        world = jnp.arange(stride)
        after = world.at[count % stride].max(jnp.where(ends, count + stride, 0))  # first rows of open episodes
        closed = jnp.minimum(jnp.min(after), shown)
        inner = self.inner.init(key, handover._replace(online=Part(handover.online, jnp.int32(0), shown, closed)))
        return PrefixState(shown, closed, inner)

    def sample(self, state: State, key: Key, offline: Shown, online: Own) -> tuple[State, Indices, Metrics]:
        """Rows as the inner sampler takes them."""
        early = Part(online, jnp.int32(0), state.rows, state.closed)
        inner, rows, metrics = self.inner.sample(state.inner, key, offline, early)
        return state._replace(inner=inner), rows, metrics

    def validate(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        if self.rows is not None and written < self.rows:
            return f"it uses the first {self.rows:,} rows of own experience, but there are only {written:,}; lower rows"
        most = int(written * self.share) if self.rows is None else self.rows
        return self.inner.validate(offline, most, min(closed, most))


@dataclass(frozen=True)
class Last:
    """Let another sampler use only the last `rows` of own experience."""

    inner: Sampler
    rows: int

    def __post_init__(self) -> None:
        require(self, rows=self.rows >= 1)

    def init(self, key: Key, handover: Handover) -> State:
        """The inner sampler's state."""
        return self.inner.init(key, handover._replace(online=self.part(handover.online)))

    def sample(self, state: State, key: Key, offline: Shown, online: Own) -> tuple[State, Indices, Metrics]:
        """Rows as the inner sampler takes them."""
        return self.inner.sample(state, key, offline, self.part(online))

    def part(self, online: Own) -> Part:
        """The rows that show."""
        written = online.replay.written[online.lane]
        return Part(online, written - self.rows, written, online.replay.closed[online.lane])

    def validate(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        if written < self.rows:
            return f"it uses the last {self.rows:,} rows of own experience, but there are only {written:,}; lower rows"
        return self.inner.validate(offline, self.rows, min(closed, self.rows))


def prefix_rows(handover: Handover, share: float, rows: int | None) -> Array:
    """How many rows of own experience a part of it is, int32."""
    written: Array = handover.online.replay.written[handover.online.lane]
    return jnp.int32(written * share) if rows is None else jnp.minimum(written, rows)


def counts(view: Own) -> Array:
    """Absolute count of the row at each place of a ring (N,) int32; negative where nothing was written yet."""
    newest = view.replay.written[view.lane] - 1
    return newest - (newest - jnp.arange(view.replay.capacity)) % view.replay.capacity
