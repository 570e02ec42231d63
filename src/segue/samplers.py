"""Where a batch's rows come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from segue.options import option
from segue.replay import Rows, View
from segue.types import Array, Door, Key, Metrics, State

Visible = Literal["all", "closed"]


def uniform(key: Key, view: View, count: int, closed_only: bool) -> Rows:
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


@dataclass(frozen=True)
class Mix:
    """Exactly `offline` rows of the dataset, then exactly `online` rows of own experience, each uniform.

    `visible="closed"` leaves out the rows of the episode that is still open, whose return is not known yet (what a
    calibrated critic needs).  While no online row is visible, its share is drawn from the dataset; the phase's door
    refuses a mix that has neither.
    """

    offline: int = 256
    online: int = 0
    visible: Visible = option("all", when=lambda m: m.online > 0, why="online rows in the batch")

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
            return f"its batch takes {self.offline} rows of a dataset, but the task has none"
        if self.online and not self.offline and not (closed if self.visible == "closed" else written):
            return f"its batch takes {self.online} rows of own experience and there is none yet; add a warm-up phase"
        return None


@dataclass(frozen=True)
class Union:
    """`batch` rows, uniform over dataset and own experience together: the offline share falls as experience grows."""

    batch: int = 256
    visible: Visible = "all"

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
