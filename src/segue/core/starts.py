"""Where whole windows of rows begin: what a phase that learns from chunks of actions may draw.

A chunk of h actions wants h rows of one episode.  A window is whole where they are there, and also where the episode
terminates among them: nothing follows a terminal, so the return is known and later actions do not matter.  It is not
whole where a time limit, a gap, the newest row or the edge of a ring cuts it: later actions were not taken, or are not
known.

The beginnings are listed, and not found by drawing again and again: every sampler draws from the list as it draws from
rows, a draw costs the same however short episodes are, no start is ever wrong, and whether there is one at all is a
number.  The list is in the order of time, so that a part of the experience is a range of it.  Where several simulators
write, a window waits for its place until it is known of all rows before it whether one begins there: h - 1 steps.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from segue.core.log import whole as whole
from segue.core.types import Array


class Starts(NamedTuple):
    """The first rows of whole windows of each lane, in the order of time, in a ring."""

    at: Array  # (lanes, capacity) int32: absolute counts of rows, ascending
    total: Array  # (lanes,) int32: how many there ever were
    length: Array  # int32: rows of a window

    def row(self, lane: Array | int, number: Array) -> Array:
        """The start's row for each number (...)."""
        return self.at[lane, number % self.at.shape[1]]

    def begins(self, lane: Array | int, count: Array) -> Array:
        """Whether a row (...) is a start."""
        number = self.number(lane, count)
        return (number < self.total[lane]) & (self.row(lane, number) == count)

    def number(self, lane: Array | int, count: Array) -> Array:
        """Number of the first start at or after each row (...)."""
        total = self.total[lane]
        low, high = jnp.full(count.shape, jnp.maximum(total - self.at.shape[1], 0)), jnp.full(count.shape, total)
        for _ in range(self.at.shape[1].bit_length()):
            middle = (low + high) // 2
            before = (low < high) & (self.row(lane, middle) < count)
            low, high = jnp.where(before, middle + 1, low), jnp.where(before, high, middle)
        return low


def empty(lanes: int, capacity: int, length: int) -> Starts:
    """No whole window yet."""
    return Starts(jnp.zeros((lanes, capacity), jnp.int32), jnp.zeros((lanes,), jnp.int32), jnp.int32(length))


def span(view: Any, starts: Starts | None, lane: Array, closed_only: bool) -> tuple[Array, Array]:
    """Number of the first start that a view shows and how many it shows; its rows where single rows are drawn."""
    oldest, size = view.rows(closed_only)
    if starts is None:
        return oldest, size
    stop = oldest + size
    if not closed_only:  # of the episode that is open where the view ends, the last windows are cut
        first, closed = view.rows(True)
        stop = jnp.maximum(first + closed, stop - (starts.length - 1) * view.stride)
    low = starts.number(lane, oldest)
    return low, jnp.maximum(starts.number(lane, stop) - low, 0)


def shown(view: Any, length: int) -> Starts:
    """The whole windows of a view that shows the same rows for ever, counts 0 to `view.room` - 1."""
    count = jnp.arange(view.room, dtype=jnp.int32)
    here, done = jnp.ones(view.room, jnp.bool_), jnp.zeros(view.room, jnp.bool_)
    for _ in range(length - 1):
        done = done | (here & (view.take(count).terminated > 0))
        here = here & view.followed(count)
        count = count + view.stride * here
    whole = here | done
    at = jnp.nonzero(whole, size=view.room, fill_value=0)[0].astype(jnp.int32)
    return Starts(at[None], jnp.sum(whole, dtype=jnp.int32)[None], jnp.int32(length))
