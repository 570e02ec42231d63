"""The experience as it stood at an earlier time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp

from segue.options import require
from segue.replay import Rows, View
from segue.types import Array, Door, Key, Metrics, Sampler, State


class Early(NamedTuple):
    """The first `rows` of own experience, as if the run had stopped there: a view."""

    view: View
    rows: int
    closed: Array  # the rows before it belong to episodes that ended within the first `rows`

    @property
    def replay(self) -> Any:
        """The whole replay."""
        return self.view.replay

    @property
    def world(self) -> Array:
        """Its world."""
        return self.view.world

    def span(self, closed_only: bool) -> tuple[Array, Array]:
        """Absolute count of the oldest row and how many rows may be sampled (never negative)."""
        oldest, size = self.view.span(closed_only)
        last = jnp.minimum(oldest + size, self.closed if closed_only else self.rows)
        return oldest, jnp.maximum(last - oldest, 0)

    def take(self, count: Array) -> Rows:
        """Rows (B, ...); what came later, the rest of an open episode, is not known."""
        rows = self.view.take(count)
        return rows._replace(
            mc_return=jnp.where(count < self.closed, rows.mc_return, jnp.nan),
            next_action=jnp.where((count + 1 < self.rows)[:, None], rows.next_action, jnp.nan),
        )


class FirstState(NamedTuple):
    """State of `First`: where its last ended episode ends, and the inner sampler's state."""

    closed: Array
    inner: State


@dataclass(frozen=True)
class First:
    """Let another sampler see only the first `rows` of own experience, as if the run had stopped there.

    OOO's `view(t)`: the dataset, and what was collected up to time t; nothing later shows, neither rows nor the return
    of an episode that was still open.
    """

    rows: int
    inner: Sampler

    def __post_init__(self) -> None:
        require(self, rows=self.rows >= 1)

    def init(self, key: Key, door: Door) -> State:
        """Find where the last episode within the rows ends."""
        replay, world = door.online.replay, door.online.world
        place, newest = jnp.arange(replay.capacity), replay.written[world] - 1
        count = newest - (newest - place) % replay.capacity
        ends = replay.ended[world] & (count >= 0) & (count < self.rows)
        closed = jnp.max(jnp.where(ends, count + 1, 0), initial=0)
        online = Early(door.online, self.rows, closed)
        return FirstState(closed, self.inner.init(key, door._replace(online=online)))

    def sample(self, state: State, key: Key, offline: Any, online: Any) -> tuple[State, Rows, Metrics]:
        """Rows as the inner sampler takes them."""
        inner, rows, metrics = self.inner.sample(state.inner, key, offline, Early(online, self.rows, state.closed))
        return state._replace(inner=inner), rows, metrics

    def refuse(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        if written < self.rows:
            return f"it shows the first {self.rows:,} rows of own experience, but only {written:,} are collected before"
        return self.inner.refuse(offline, min(written, self.rows), min(closed, self.rows))
