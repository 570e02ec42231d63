"""Parts of the bonuses for rare states: the distance to the k-th neighbour in the batch, and the source of values.

    D_ij = max(|s_i - s_j|, |v_i - v_j|)        eps_i = k-th smallest of D_i, which counts i itself (distance 0)
    bonus_i = digamma(n_i + 1) / dim(s) + log(2 eps_i + 1e-5)         n_i = how many j have |v_i - v_j| < eps_i

This is VCSE's estimator (arXiv 2305.19476); SERA and QCSE use it with Q in the place of V.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp

from segue.bonuses.bonus import Trains
from segue.core.optim import polyak
from segue.core.types import Agent, Array, Handover, SegueError, Slot, Spec, State, flat, refused

Scale = Literal["data", "dimension", "none"]
POOL = 1024  # rows of a batch among which neighbours are looked for; larger batches are thinned evenly


def conditioned_bonus(states: Array, values: Array, neighbours: int) -> Array:
    """The bonus of the module's drawing, (B,), for states (B, O) and values (B,)."""
    apart, pool = _distances(states)
    between = jnp.abs(values[:, None] - values[pool])
    radius = _kth(jnp.maximum(apart, between), pool, neighbours)
    # Strictly closer in value; the row itself is, unless its radius is 0.
    others = (between < radius[:, None]) & (jnp.arange(len(values))[:, None] != pool)
    count = jnp.sum(others, axis=1) + (radius > 0)
    return jax.scipy.special.digamma(count + 1.0) / states.shape[-1] + jnp.log(2.0 * radius + 1e-5)


def state_bonus(states: Array, neighbours: int) -> Array:
    """log(1 + distance to the k-th neighbour), (B,), for states (B, O)."""
    apart, pool = _distances(states)
    return jnp.log1p(_kth(apart, pool, neighbours))


def _distances(states: Array) -> tuple[Array, Array]:
    """Euclidean distances (B, P) to the rows of the pool, and the pool's indices (P,)."""
    rows = states.shape[0]
    pool = jnp.arange(rows) if rows <= POOL else jnp.arange(POOL) * rows // POOL
    return jnp.sqrt(jnp.sum(jnp.square(states[:, None] - states[pool]), axis=-1)), pool


def _kth(distance: Array, pool: Array, neighbours: int) -> Array:
    """k-th smallest entry of each row (B,), counting the row itself, of distances (B, P) to the pool (P,)."""
    rows, size = distance.shape
    if neighbours > size:
        raise SegueError(
            f"state entropy: a batch of {size} rows is too small for {neighbours} neighbours; use a larger batch"
        )
    itself = jnp.arange(rows)[:, None] == pool
    others, _ = jax.lax.top_k(jnp.where(itself, -jnp.inf, -distance), neighbours - 1)
    return -others[:, -1]


class Scaled(NamedTuple):
    """Scale of states: mean and standard deviation (O,)."""

    mean: Array
    std: Array

    def __call__(self, observation: Array) -> Array:
        """States (B, O) as distances see them."""
        return (observation - self.mean) / self.std


def scaled(kind: Scale, handover: Handover, who: str) -> Scaled:
    """The scale at the beginning of a phase, in the learner's scaling."""
    size = flat(handover.spec, who)
    if kind != "data":
        return Scaled(jnp.zeros(size), jnp.full(size, float(size) if kind == "dimension" else 1.0))
    raw, spread = handover.offline.replay.moments()
    mean = handover.scaling.see(raw)
    return Scaled(mean, handover.scaling.see(raw + spread) - mean + 1e-3)


def refuse_scale(who: str, scale: Scale, spec: Spec, offline: int) -> str | None:
    """Return why states cannot be compared, or None."""
    if (reason := refused(spec, who)) is not None:
        return reason
    if scale == "data" and not offline:
        return f"{who} scales states by a dataset, but the task has none; set bonus.scale=dimension"
    return None


@runtime_checkable
class Valuing(Protocol):
    """What an agent has, as far as these bonuses ask."""

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Values (B,) of actions."""


class Critic(eqx.Module):
    """An agent's values, kept apart from what the agent goes on to learn."""

    agent: Valuing = eqx.field(static=True)
    state: State

    def q(self, observation: Array, action: Array) -> Array:
        """Values (B,)."""
        return self.agent.q(self.state, observation, action)

    def followed_by(self, state: State, rate: float) -> Critic:
        """The moving average towards another state of the same structure; what is not a real number stays."""
        move = lambda t, o: polyak(t, o, rate) if jnp.issubdtype(t.dtype, jnp.floating) else t  # noqa: E731
        return Critic(self.agent, jax.tree.map(move, self.state, state))


def copied(handover: Handover, name: str | None, who: str) -> Critic:
    """The critic of a slot (the phase's own for None) at the beginning of the phase."""
    name = name or handover.slot
    slot = handover.slots[name]
    if (slot.scaling.observation_mean, slot.scaling.observation_std) != (
        handover.scaling.observation_mean,
        handover.scaling.observation_std,
    ):
        raise SegueError(
            f"{who}: slot '{name}' was trained on observations in another scaling; give both phases the same"
        )
    if slot.chunk != handover.chunk:
        raise SegueError(
            f"{who}: slot '{name}' was built for chunk={slot.chunk}, and this phase has chunk={handover.chunk}; give "
            "both the same"
        )
    return current(slot)


def current(slot: Slot) -> Critic:
    """The critic of a slot's agent as it stands now; `refuse_values` has seen that it is one."""
    assert isinstance(slot.learner, Valuing)
    return Critic(slot.learner, slot.state)


def refuse_values(
    who: str,
    source: str,
    of: str | None,
    phase: Trains,
    slots: Mapping[str, Slot],
    spec: Spec,
    offline: int,
    scale: Scale,
) -> str | None:
    """Return why a phase cannot have a bonus that looks at values of `source`, or None."""
    if problem := refuse_scale(who, scale, spec, offline):
        return problem
    learner, of = phase.learner, of or phase.slot
    if not isinstance(learner, Agent):
        return f"{who} needs the values of an agent, and {type(learner).__name__} has none"
    if source not in ("frozen", "average"):
        return None
    there = slots[of].learner if of in slots else None
    if not isinstance(there, Agent):
        return (
            f"{who} needs a pre-trained critic, but no earlier phase trains an agent in slot '{of}'; "
            "set bonus.q_source=current"
        )
    if source == "average" and _parts(learner, spec) != _parts(there, spec):
        return (
            f"{who}: {type(there).__name__}'s critic cannot move towards {type(learner).__name__}'s, which has other "
            "parts; set bonus.q_source=frozen"
        )
    return None


def _parts(agent: Agent, spec: Spec) -> tuple[jax.tree_util.PyTreeDef, list[tuple[int, ...]]]:
    """Structure and shapes of an agent's state."""
    state = jax.eval_shape(lambda: agent.init(jax.random.key(0), spec))
    return jax.tree.structure(state), [x.shape for x in jax.tree.leaves(state)]
