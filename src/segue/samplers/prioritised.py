"""Balanced replay: rows that resemble the run's own experience are drawn more often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from segue.core.indices import Indices, gather, online_share
from segue.core.nets import MLP
from segue.core.optim import Trained, descend, trained
from segue.core.options import require, tunable
from segue.core.replay import Rows
from segue.core.types import Array, Handover, Key, Metrics, State, flat
from segue.samplers import sum_tree
from segue.samplers.subset import Own, Shown
from segue.samplers.sum_tree import Tree
from segue.samplers.uniform import Visible, at_leaves, drawable, uniform


class Priorities(NamedTuple):
    """State of `Balanced`.  The tree's leaves are the dataset's rows, then the ring of own experience."""

    density: Trained
    tree: Tree
    highest: Array  # highest priority so far
    written: Array  # own rows whose place in the ring the tree knows of
    entered: Array  # own rows (or starts of chunks) that have a priority
    mean: Array  # (O,), what the phase's scaling take from observations
    std: Array  # (O,), and divide them by


@dataclass(frozen=True)
class Balanced:
    """`batch` rows of dataset and own experience together, by a learned density ratio (Off2On, arXiv 2107.00591).

    A network w(s, a) = relu(MLP) >= 0 learns p_online / p_offline from `density_batch` uniform rows of each,
    with observations in the phase's scaling (standardised if the learner's are).
    The priority of a row is  clip(w^(1/T) / mean w^(1/T) over the logged rows of the step, low, high):  the mean is
    of w before the step's update, the row's own w after it.  Only rows that are drawn get a new priority; the
    dataset starts at 1, new rows enter at the highest so far; draws are stratified, and losses have no
    weights.  This is the form of OEMA and OPT.  Here the tree has room for the whole dataset and all own experience;
    theirs holds a million rows, so own rows overwrite logged rows.

    `last_bias` is the initial output of the network (Off2On), because a head that starts below zero everywhere has no
    gradient; None is the usual initialisation of OEMA and OPT.  `start_share` (Off2On's initial online fraction) is the
    share of all priority that own rows have at the beginning of the phase.  With `visible="closed"` rows enter when
    their episode ends.
    """

    batch: int = tunable(256, rows=1)
    density_batch: int = tunable(256)
    hidden: tuple[int, ...] = (256, 256)
    learning_rate: float = tunable(3e-4)
    temperature: float = tunable(5.0)
    low: float = tunable(1e-3)
    high: float = tunable(1e3)
    last_bias: float | None = 1.0
    start_share: float | None = None
    visible: Visible = "all"

    def __post_init__(self) -> None:
        require(
            self,
            batch=self.batch >= 1,
            density_batch=self.density_batch >= 1,
            learning_rate=self.learning_rate > 0,
            temperature=self.temperature > 0,
            low=0 < self.low <= 1,
            high=self.high >= 1,
            start_share=self.start_share is None or 0 < self.start_share < 1,
        )

    def init(self, key: Key, handover: Handover) -> State:
        """Make a fresh density and give the dataset its first priorities; own rows enter at the first update."""
        size, scaling = flat(handover.spec, "Balanced"), handover.scaling
        network = MLP.create(key, (size + handover.spec.action, *self.hidden, 1), initialiser="torch", output_gain=1.0)
        if self.last_bias is not None:
            network = eqx.tree_at(lambda n: n.layers[-1].bias, network, jnp.full(1, self.last_bias))
        _, logged = handover.offline.span(False)
        _, own = handover.online.span(self.visible == "closed")
        highest = jnp.asarray(1.0, float)
        if self.start_share is not None:
            share = self.start_share / (1.0 - self.start_share)
            highest = jnp.where(own > 0, share * logged / jnp.maximum(own, 1), highest)
        tree = sum_tree.make(jnp.concatenate([drawable(handover.offline), jnp.zeros(handover.online.room)]))
        mean = jnp.asarray(scaling.observation_mean or (0.0,) * size, float)
        std = jnp.asarray(scaling.observation_std or (1.0,) * size, float)
        return Priorities(trained(network, self.learning_rate), tree, highest, jnp.int32(0), jnp.int32(0), mean, std)

    def sample(self, state: State, key: Key, offline: Shown, online: Own) -> tuple[State, Indices, Metrics]:
        """Indices of (batch,) rows in the order of the tree; while no own row is visible, uniform over the dataset."""
        k_offline, k_online, k_rows = jax.random.split(key, 3)
        closed = self.visible == "closed"
        state = self.hand_over(state, offline.room, online)
        see = lambda rows: rows._replace(observation=(rows.observation - state.mean) / state.std)  # noqa: E731
        logged = see(gather(uniform(k_offline, offline, self.density_batch, False)))
        own = see(gather(uniform(k_online, online, self.density_batch, closed)))
        density, loss, scale = self.learn(state.density, logged, own)

        leaves = sum_tree.draw(state.tree, k_rows, self.batch)
        indices = at_leaves(offline, online, leaves)
        ratio = self.ratio(density.params, see(gather(indices)))
        priority = self.priority(ratio, scale)

        _, size = online.span(closed)
        learned = lambda new, old: jnp.where(size > 0, new, old)  # noqa: E731
        state = state._replace(
            density=jax.tree.map(learned, density, state.density),
            tree=sum_tree.write(state.tree, learned(leaves, -1), priority),
            highest=learned(jnp.maximum(state.highest, jnp.max(priority)), state.highest),
        )
        metrics = {
            "offline_share": jnp.mean(1.0 - online_share(indices)),
            "density_loss": learned(loss, jnp.nan),
            "density_ratio": learned(jnp.mean(ratio), jnp.nan),
            "priority": learned(jnp.mean(priority), jnp.nan),
        }
        return state, indices, metrics

    def hand_over(self, state: Priorities, first: int, online: Own) -> Priorities:
        """Give the own rows written since the last call their first priority; a row that was overwritten loses its."""
        oldest, size = online.span(self.visible == "closed")
        stop, written, capacity = oldest + size, online.replay.written[online.lane], online.replay.capacity
        tree = state.tree
        if self.visible == "closed" or online.replay.starts is not None:
            none = lambda count: jnp.zeros(count.shape)  # noqa: E731
            tree = sum_tree.write_ring(tree, first, capacity, state.written, written, none)
        most = lambda count: jnp.full(count.shape, state.highest)  # noqa: E731
        tree = sum_tree.write_ring(tree, first, capacity, jnp.maximum(state.entered, oldest), stop, most, online.at)
        return state._replace(tree=tree, written=written, entered=jnp.maximum(state.entered, stop))

    def learn(self, density: Trained, logged: Rows, own: Rows) -> tuple[Trained, Array, Array]:
        """One step of the density; its loss, and mean w^(1/T) of the logged rows before the step."""
        (loss, scale), gradient = jax.value_and_grad(self.loss, has_aux=True)(density.params, logged, own)
        return descend(density, self.learning_rate, gradient), loss, scale

    def priority(self, ratio: Array, scale: Array) -> Array:
        """Priorities (B,) of rows with density ratios (B,)."""
        return jnp.clip(ratio ** (1.0 / self.temperature) / (scale + 1e-10), self.low, self.high)

    def ratio(self, network: MLP, rows: Rows) -> Array:
        """w(s, a), (B,), of rows whose observations are in the phase's scaling."""
        return jax.nn.relu(network(jnp.concatenate([rows.observation, rows.action], axis=-1))[..., 0])

    def loss(self, network: MLP, logged: Rows, own: Rows) -> tuple[Array, Array]:
        """Return a bound on the Jensen-Shannon divergence, least at the true ratio, and mean w^(1/T) of logged rows."""
        offline, online = jnp.split(self.ratio(network, jax.tree.map(lambda *x: jnp.concatenate(x), logged, own)), 2)
        loss = -jnp.mean(jnp.log(2.0 / (offline + 1.0) + 1e-10))
        loss -= jnp.mean(jnp.log(2.0 * online / (online + 1.0) + 1e-10))
        return loss, jnp.mean(jax.lax.stop_gradient(offline) ** (1.0 / self.temperature))

    def validate(self, offline: int, written: int, closed: int) -> str | None:
        """Return why the first update could not be served, or None."""
        if not offline:
            return f"its priorities compare own rows with a dataset, but the task has none; use Mix(0, {self.batch})"
        return None
