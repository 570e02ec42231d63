"""Where a batch's rows come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from segue.core.options import option, require, tunable
from segue.core.replay import Rows, View
from segue.core.types import Array, Door, Key, Metrics, Sampler, SegueError, State

Visible = Literal["all", "closed"]


class Retained(NamedTuple):
    """What is left of a dataset: some rows of a view, as a view."""

    view: View
    rows: Array  # (K,) int32 absolute counts

    def span(self, closed_only: bool) -> tuple[Array, Array]:
        """Count of the first row and how many rows may be sampled."""
        _, size = self.view.span(closed_only)
        return jnp.int32(0), jnp.minimum(size, len(self.rows))

    def take(self, count: Array) -> Rows:
        """Rows (B, ...) as they are in the whole dataset, the action that followed included."""
        return self.view.take(self.rows[count])


def room(view: View | Retained) -> int:
    """Most rows that a view can ever show (a plain number: shapes are made with it)."""
    return len(view.rows) if isinstance(view, Retained) else view.replay.capacity


def uniform(key: Key, view: View | Retained, count: int, closed_only: bool) -> Rows:
    """`count` rows drawn with replacement; row 0 when there is none yet."""
    oldest, size = view.span(closed_only)
    return view.take(oldest + jax.random.randint(key, (count,), 0, jnp.maximum(size, 1)))


def where(choose: Array, yes: Rows, no: Rows) -> Rows:
    """Take the row from `yes` where `choose` (scalar or (B,)) holds, else from `no`."""
    pick = lambda a, b: jnp.where(choose.reshape(choose.shape + (1,) * (a.ndim - choose.ndim)), a, b)  # noqa: E731
    return Rows(*(pick(a, b) for a, b in zip(yes, no)))


def join(*parts: Rows) -> Rows:
    """Concatenate batches in the order given."""
    return parts[0] if len(parts) == 1 else Rows(*(jnp.concatenate(xs) for xs in zip(*parts)))


def rows_at(offline: View | Retained, online: View, leaves: Array) -> Rows:
    """Rows (B, ...) at leaves (B,): the dataset's rows, then the ring of own experience."""
    place = leaves - room(offline)
    newest = online.replay.written[online.world] - 1
    # The newest row at a place of the ring: `take` wants absolute counts.
    return where(place >= 0, online.take(newest - (newest - place) % online.replay.capacity), offline.take(leaves))


@dataclass(frozen=True)
class Mix:
    """Exactly `offline` rows of the dataset, then exactly `online` rows of own experience, each uniform.

    `visible="closed"` leaves out the rows of the episode that is still open, whose return is not known yet (what a
    calibrated critic needs).  While no online row is visible, its share is drawn from the dataset; the phase's door
    refuses a mix that has neither.
    """

    offline: int = tunable(256)
    online: int = tunable(0)
    visible: Visible = option("all", when=lambda m: m.online > 0, why="online rows in the batch", tunable=True)

    def init(self, key: Key, door: Door) -> State:
        """No state."""
        return ()

    def sample(self, state: State, key: Key, offline: Any, online: Any) -> tuple[State, Rows, Metrics]:
        """Rows (offline + online, ...), the dataset's first."""
        k_offline, k_online, k_instead = jax.random.split(key, 3)
        closed = self.visible == "closed"
        parts = []
        if self.offline:
            parts.append(uniform(k_offline, offline, self.offline, False))
        if self.online:
            own = uniform(k_online, online, self.online, closed)
            if self.offline:
                _, size = online.span(closed)
                own = where(size > 0, own, uniform(k_instead, offline, self.online, False))
            parts.append(own)
        return state, join(*parts), {}

    def refuse(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        if self.offline + self.online < 1:
            return "its batch is empty; give it offline or online rows"
        if self.offline and not offline:
            return (
                f"its batch takes {self.offline} rows of a dataset, but the task has none; take a task with a log, or "
                "a recipe that needs none (sac, td3)"
            )
        if self.online and not self.offline and not (closed if self.visible == "closed" else written):
            return f"its batch takes {self.online} rows of own experience and there is none yet; add a warm-up phase"
        return None


@dataclass(frozen=True)
class Halves:
    """Exactly `rows` rows of the dataset, then as many of own experience: for a learner that tells the two apart."""

    rows: int = tunable(256)
    visible: Visible = tunable("all")

    def __post_init__(self) -> None:
        require(self, rows=self.rows >= 1)

    def init(self, key: Key, door: Door) -> State:
        """No state."""
        return ()

    def sample(self, state: State, key: Key, offline: Any, online: Any) -> tuple[State, Rows, Metrics]:
        """Rows (2 * rows, ...), the dataset's first."""
        return Mix(self.rows, self.rows, self.visible).sample(state, key, offline, online)

    def refuse(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        return Mix(self.rows, self.rows, self.visible).refuse(offline, written, closed)


@dataclass(frozen=True)
class Union:
    """`batch` rows, uniform over dataset and own experience together: the offline share falls as experience grows."""

    batch: int = tunable(256)
    visible: Visible = tunable("all")

    def init(self, key: Key, door: Door) -> State:
        """No state."""
        return ()

    def sample(self, state: State, key: Key, offline: Any, online: Any) -> tuple[State, Rows, Metrics]:
        """Rows (batch, ...) in random order of origin."""
        _, n_offline = offline.span(False)
        oldest, n_online = online.span(self.visible == "closed")
        at = jax.random.randint(key, (self.batch,), 0, jnp.maximum(n_offline + n_online, 1))
        own = online.take(oldest + jnp.maximum(at - n_offline, 0))
        logged = offline.take(jnp.minimum(at, jnp.maximum(n_offline - 1, 0)))
        return state, where(at >= n_offline, own, logged), {"offline_share": jnp.mean(at < n_offline)}

    def refuse(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        if not offline and not (closed if self.visible == "closed" else written):
            return "its batch has neither a dataset nor own experience to draw from"
        return None


@dataclass(frozen=True)
class Blend:
    """`batch` rows of which exactly round(share * batch) are the dataset's, each uniform; the share may move.

    With `share_end`, the share goes there in a straight line over the sampler's first `updates` updates (counted in
    its state) and stays.  While no online row is visible, all rows are the dataset's.  Half and half is RLPD's; the
    line is ours.
    """

    batch: int = tunable(256)
    share: float = 0.5
    share_end: float | None = None
    updates: int = option(100_000, when=lambda b: b.share_end is not None, why="a share that moves (share_end)")
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

    def init(self, key: Key, door: Door) -> State:
        """Updates so far, int32."""
        return jnp.int32(0)

    def sample(self, state: State, key: Key, offline: Any, online: Any) -> tuple[State, Rows, Metrics]:
        """Rows (batch, ...), the dataset's first."""
        k_offline, k_online = jax.random.split(key)
        closed = self.visible == "closed"
        start, end = (self.batch * share for share in self.ends())
        count = jnp.round(start + (end - start) * jnp.minimum(state / self.updates, 1.0))
        _, size = online.span(closed)
        count = jnp.where(size > 0, count, self.batch)
        logged, own = uniform(k_offline, offline, self.batch, False), uniform(k_online, online, self.batch, closed)
        return state + 1, where(jnp.arange(self.batch) < count, logged, own), {"offline_share": count / self.batch}

    def refuse(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        most = round(self.batch * max(self.ends()))
        if most and not offline:
            return f"its batch takes up to {most} rows of a dataset, but the task has none; use Mix(0, {self.batch})"
        if not offline and not (closed if self.visible == "closed" else written):
            return f"its batch takes {self.batch} rows of own experience and there is none yet; add a warm-up phase"
        return None


class Keeping(NamedTuple):
    """State of `Retain`: the rows that are kept (K,) int32, ascending, and the inner sampler's state."""

    rows: Array
    inner: State


@dataclass(frozen=True)
class Retain:
    """Let another sampler see only a random `share` of the dataset's rows: how much of it must be kept?

    round(share * N) whole rows, drawn once without replacement by the door's key, so that each seed keeps its own.
    A share of 1 is all, and 0 is an error.
    """

    share: float
    inner: Sampler

    def __post_init__(self) -> None:
        if self.share == 0.0:
            raise SegueError("Retain: share=0 keeps nothing of the dataset; use Mix(0, n) instead")
        require(self, share=0.0 < self.share <= 1.0)

    def init(self, key: Key, door: Door) -> State:
        """Choose the rows."""
        k_rows, k_inner = jax.random.split(key)
        everything = room(door.offline)
        chosen = jax.random.permutation(k_rows, everything)[: round(self.share * everything)]
        rows = jnp.sort(chosen).astype(jnp.int32)
        return Keeping(rows, self.inner.init(k_inner, door._replace(offline=Retained(door.offline, rows))))

    def sample(self, state: State, key: Key, offline: Any, online: Any) -> tuple[State, Rows, Metrics]:
        """Rows as the inner sampler takes them."""
        inner, rows, metrics = self.inner.sample(state.inner, key, Retained(offline, state.rows), online)
        return state._replace(inner=inner), rows, metrics

    def refuse(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        if not offline:
            return f"it retains {self.share:g} of a dataset, but the task has none; take the inner sampler by itself"
        if not round(self.share * offline):
            return f"{self.share:g} of {offline} rows is less than one row; raise share or use Mix(0, n)"
        return self.inner.refuse(round(self.share * offline), written, closed)
