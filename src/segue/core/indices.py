"""Which rows a batch is made of, and how rows become a batch.

A sampler says which rows it wants as `Indices`; `gather` and `window` are the only functions that read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from segue.core.replay import Rows
from segue.core.types import Array, Transition


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
        last = Transition(*(_select(here, new, old) for new, old in zip(row, last)))
        reward = reward + jnp.where(here, weight * row.reward, 0.0)
        weight = jnp.where(here, weight * row.continues, weight)
    return first._replace(
        reward=reward,
        continues=weight,
        next_observation=last.next_observation,
        next_action=last.next_action,
    )
