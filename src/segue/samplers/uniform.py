"""Uniform draws from dataset and own experience: fixed counts, the union of both, a changing ratio."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from segue.core.indices import Indices, Segment, either
from segue.core.options import option, require, tunable
from segue.core.types import Array, Handover, Key, Metrics, State
from segue.samplers.subset import Own, Shown

Visible = Literal["all", "closed"]


def uniform(key: Key, view: Shown, count: int, closed_only: bool) -> Indices:
    """`count` rows drawn with replacement; row 0 when there is none yet."""
    oldest, size = view.span(closed_only)
    return (Segment(view, oldest + jax.random.randint(key, (count,), 0, jnp.maximum(size, 1))),)


def at_leaves(offline: Shown, online: Own, leaves: Array) -> Indices:
    """Rows at leaves (B,) of a tree: the dataset's rows, then the ring of own experience."""
    place = leaves - offline.room
    newest = online.replay.written[online.lane] - 1
    # The newest row at a place of the ring: a view wants absolute counts.
    own = Segment(online, online.number(newest - (newest - place) % online.replay.capacity))
    return either(place >= 0, (own,), (Segment(offline, offline.number(leaves)),))


def drawable(view: Shown) -> Array:
    """Which of a dataset's rows (N,) may be drawn."""
    first, size = view.span(False)
    number = jnp.arange(view.room)
    row = jnp.where(number < size, view.at(first + number), view.room)
    return jnp.zeros(view.room, jnp.bool_).at[row].set(True, mode="drop")


@dataclass(frozen=True)
class Mix:
    """Exactly `offline` rows of the dataset, then exactly `online` rows of own experience, each uniform.

    `visible="closed"` leaves out the rows of the open episode, whose return is not known yet but needed by a calibrated
    critic.  While no online row is visible, its share is drawn from the dataset.  A mix without any rows is an error.
    """

    offline: int = tunable(256, rows=1)
    online: int = tunable(0, rows=1)
    visible: Visible = option("all", when=lambda m: m.online > 0, why="online rows in the batch", tunable=True)

    def init(self, key: Key, handover: Handover) -> State:
        """No state."""
        return ()

    def sample(self, state: State, key: Key, offline: Shown, online: Own) -> tuple[State, Indices, Metrics]:
        """Indices of (offline + online,) rows, the dataset's first."""
        k_offline, k_online, k_instead = jax.random.split(key, 3)
        closed = self.visible == "closed"
        parts: Indices = ()
        if self.offline:
            parts += uniform(k_offline, offline, self.offline, False)
        if self.online:
            own = uniform(k_online, online, self.online, closed)
            if self.offline:
                _, size = online.span(closed)
                own = either(size > 0, own, uniform(k_instead, offline, self.online, False))
            parts += own
        return state, parts, {}

    def validate(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        if self.offline + self.online < 1:
            return "its batch is empty; give it offline or online rows"
        if self.offline and not offline:
            return (
                f"its batch takes {self.offline} rows of a dataset, but the task has none; take a task with a log, or "
                "a recipe that needs none (sac, td3)"
            )
        if self.online and not self.offline and not (closed if self.visible == "closed" else written):
            return f"its batch takes {self.online} rows of own experience, but there is none yet; add a warm-up phase"
        return None


@dataclass(frozen=True)
class Halves:
    """Exactly `rows` rows of the dataset, then as many own rows, for a learner that treats the two differently."""

    rows: int = tunable(256, rows=2)
    visible: Visible = tunable("all")

    def __post_init__(self) -> None:
        require(self, rows=self.rows >= 1)

    def init(self, key: Key, handover: Handover) -> State:
        """No state."""
        return ()

    def sample(self, state: State, key: Key, offline: Shown, online: Own) -> tuple[State, Indices, Metrics]:
        """Indices of (2 * rows,) rows, the dataset's first."""
        return Mix(self.rows, self.rows, self.visible).sample(state, key, offline, online)

    def validate(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        return Mix(self.rows, self.rows, self.visible).validate(offline, written, closed)


@dataclass(frozen=True)
class Union:
    """`batch` rows, uniform over dataset and own experience together: the offline share falls as experience grows."""

    batch: int = tunable(256, rows=1)
    visible: Visible = tunable("all")

    def init(self, key: Key, handover: Handover) -> State:
        """No state."""
        return ()

    def sample(self, state: State, key: Key, offline: Shown, online: Own) -> tuple[State, Indices, Metrics]:
        """Indices of (batch,) rows in random order of origin."""
        _, n_offline = offline.span(False)
        oldest, n_online = online.span(self.visible == "closed")
        at = jax.random.randint(key, (self.batch,), 0, jnp.maximum(n_offline + n_online, 1))
        own = (Segment(online, oldest + jnp.maximum(at - n_offline, 0)),)
        logged = (Segment(offline, jnp.minimum(at, jnp.maximum(n_offline - 1, 0))),)
        return state, either(at >= n_offline, own, logged), {"offline_share": jnp.mean(at < n_offline)}

    def validate(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        if not offline and not (closed if self.visible == "closed" else written):
            return "there is neither a dataset nor own experience to draw from; give a log, or add a warm-up phase"
        return None


@dataclass(frozen=True)
class Blend:
    """`batch` rows of which exactly round(share * batch) are the dataset's, each uniform; the share may change.

    With `share_end`, the share changes linearly to it over the sampler's first `updates` updates (counted in its state)
    and then stays.  While no online row is visible, all rows are the dataset's.  Half and half is RLPD's; the
    line is ours.
    """

    batch: int = tunable(256, rows=1)
    share: float = 0.5
    share_end: float | None = None
    updates: int = option(100_000, when=lambda b: b.share_end is not None, why="share_end")
    visible: Visible = option("all", when=lambda b: min(b.ends()) < 1.0, why="online rows in the batch", tunable=True)

    def __post_init__(self) -> None:
        require(
            self,
            batch=self.batch >= 1,
            share=0.0 <= self.share <= 1.0,
            share_end=self.share_end is None or 0.0 <= self.share_end <= 1.0,
            updates=self.updates >= 1,
        )

    def ends(self) -> tuple[float, float]:
        """First and last share."""
        return self.share, self.share if self.share_end is None else self.share_end

    def init(self, key: Key, handover: Handover) -> State:
        """Updates so far, int32."""
        return jnp.int32(0)

    def sample(self, state: State, key: Key, offline: Shown, online: Own) -> tuple[State, Indices, Metrics]:
        """Indices of (batch,) rows, the dataset's first."""
        k_offline, k_online = jax.random.split(key)
        closed = self.visible == "closed"
        start, end = (self.batch * share for share in self.ends())
        count = jnp.round(start + (end - start) * jnp.minimum(state / self.updates, 1.0))
        _, size = online.span(closed)
        count = jnp.where(size > 0, count, self.batch)
        logged, own = uniform(k_offline, offline, self.batch, False), uniform(k_online, online, self.batch, closed)
        return state + 1, either(jnp.arange(self.batch) < count, logged, own), {"offline_share": count / self.batch}

    def validate(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        most = round(self.batch * max(self.ends()))
        if most and not offline:
            return f"its batch takes up to {most} rows of a dataset, but the task has none; use Mix(0, {self.batch})"
        if not offline and not (closed if self.visible == "closed" else written):
            return f"its batch takes {self.batch} rows of own experience, but there is none yet; add a warm-up phase"
        return None
