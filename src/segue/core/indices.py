"""Which rows a batch is made of, and how rows become a batch.

A sampler says which rows it wants as `Indices`; `gather` and `window` are the only functions that read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segue.core.replay import Rows
from segue.core.types import Array, Transition


class Segment(NamedTuple):
    """Rows that one view of the experience shows."""

    view: Any  # View, or what else shows rows as it does
    at: Array  # (B,) int32 numbers, as the view's `span` has them

    def online(self) -> Array:
        """1 where a row is the run's own, (B,)."""
        return jnp.full(self.at.shape, self.view.online, float)

    def follow(self, length: int) -> tuple[list[Rows], Array]:
        """The rows and those after them, as `window` has them."""
        count, here = self.view.at(self.at), jnp.ones(self.at.shape, jnp.bool_)
        counts, there = [count], [here]
        for _ in range(length - 1):
            here = here & self.view.followed(count)
            count = jnp.where(here, count + self.view.stride, count)
            counts.append(count)
            there.append(here)
        return self._taken(counts), jnp.stack(there)

    def plan(self, length: int) -> tuple[Array, Array]:
        """The actions as `plans` has them."""
        count, here = self.view.at(self.at), jnp.ones(self.at.shape, jnp.bool_)
        counts, there = [count], [here]
        for _ in range(2 * length - 1):
            here = here & self.view.followed(count)
            count = count + self.view.stride * self.view.more(count)
            counts.append(count)
            there.append(here)
        rows, known = self._taken(counts), there[-1]
        for row, here in zip(rows[length:], there[length:]):
            known = known | (here & (row.terminated > 0))
        return jnp.stack([row.action for row in rows], axis=1), known

    def _taken(self, counts: list[Array]) -> list[Rows]:
        """Rows at several places of each window; all are looked up at once, or a program would grow with the window."""
        if len(counts) == 1:
            return [self.view.take(counts[0])]
        rows = self.view.take(jnp.concatenate(counts))
        return [Rows(*part) for part in zip(*(jnp.split(x, len(counts)) for x in rows))]


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

    def plan(self, length: int) -> tuple[Array, Array]:
        """The actions as `plans` has them."""
        (yes, known), (no, beside) = self.yes.plan(length), self.no.plan(length)
        return _select(self.choose, yes, no), jnp.where(self.choose, known, beside)


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
    """Rows (B, ...) in raw scaling."""
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


def plans(indices: Indices, length: int) -> tuple[Array, Array]:
    """Actions (B, 2 * length, A) from each index on, and whether the second half is a whole window's (B,).

    Behind an end stand the actions that are stored there, another episode's: no reward depends on them, and a value
    that is learned with many of them does not either.  Where a view shows no more rows the last action stands again.
    """
    actions, known = zip(*(part.plan(length) for part in indices))
    return jnp.concatenate(actions), jnp.concatenate(known)


def chunked(rows: Sequence[Transition], there: Array, actions: Array, known: Array) -> list[Transition]:
    """The rows of a window of h as rows whose actions are chunks, (B, h * A) in the order of time.

    Row k's chunk is the h actions from row k on; `actions` and `known` are those of `plans`.  What follows the window
    is the next h actions, NaN where they are not all known.
    """
    h = len(rows)
    chunk = lambda n: actions[:, n : n + h].reshape(len(actions), -1)  # noqa: E731
    following, valid = jnp.where(known[:, None], chunk(h), jnp.nan), there.T.astype(actions.dtype)
    return [row._replace(action=chunk(n), next_action=following, valid=valid) for n, row in enumerate(rows)]


def uncut(rows: Sequence[Rows], there: Array) -> Array:
    """Which windows (B,) are whole (`segue.core.starts`): all rows are there, or the episode terminates among them."""
    over = [row.terminated > 0 for row in rows]
    return there[-1] | jnp.any(jnp.stack(over), axis=0)


def fold(rows: Sequence[Transition], there: Array) -> Transition:
    """n-step returns, and those of chunks: one transition (B, ...) over the rows of a window that are there, k of them.

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


def mean_error(error: Array, batch: Transition) -> Array:
    """Mean of errors (B, D) over batch and dimensions; what lies behind an episode's end in a chunk counts 0."""
    if batch.valid is None:
        return jnp.mean(error)
    rows, steps = batch.valid.shape
    return jnp.mean(error.reshape(rows, steps, -1) * batch.valid[..., None])
