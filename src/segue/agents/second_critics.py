"""A second pair of critics beside an agent's own: what both phases of OPT have in common, and how it begins.

OPT (Shin et al. 2025, arXiv 2507.08387) is published on TD3 and SPOT; here it takes every agent whose actor's critics
can be replaced (`Climber`).  The official code was not available: this follows the paper's equations and a
re-implementation that cites the official code.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp

from segue.core.nets import Critics, Maximise, own_critics
from segue.core.optim import Trained, every, polyak, renewed
from segue.core.options import option_of
from segue.core.types import Agent, Array, Handover, Key, Metrics, Spec, Transition


class WithCritics(Protocol):
    """A state with twin critics."""

    @property
    def critic(self) -> Trained:
        """The critics that learn."""
        ...


B = TypeVar("B", bound=WithCritics)


@runtime_checkable
class Climber(Agent[B], Protocol[B]):
    """An agent with twin critics, whose `update` takes what its actor maximises in their place."""

    @property
    def policy(self) -> tuple[str, ...]:
        """Paths of the policy in the state."""
        ...

    def update(
        self, state: B, batch: Transition, key: Key, step: Array, maximise: Maximise = own_critics
    ) -> tuple[B, Metrics]:
        """Do one update of all parts."""
        ...

    def next_action(self, state: B, batch: Transition, key: Key) -> Array:
        """Draw the actions (B, A) that a bootstrap takes at s'."""
        ...


class State(NamedTuple, Generic[B]):
    """The base agent's state and the new critics."""

    base: B
    new: Trained  # Critics
    new_target: Critics
    kappa: Array  # weight of the new critics in what the actor climbs
    began: Array  # mean value of the new critics before their first update


def number_of(base: Climber, own: float | None, name: str) -> float:
    """A number of the new critics: their own, or where it is None that of the base agent's critics."""
    return float(option_of(base, name)) if own is None else own


class Blend(NamedTuple):
    """(1 - kappa) Q_offline + kappa Q_new, critic by critic; called as `Critics` are."""

    offline: Critics
    new: Critics
    kappa: Array

    def first(self, observation: Array, action: Array) -> Array:
        """Blend of the first critics, (B,)."""
        offline, new = (q.first(observation, action) for q in (self.offline, self.new))
        return (1.0 - self.kappa) * offline + self.kappa * new

    def __call__(self, observation: Array, action: Array) -> Array:
        """Blends (E, B) or (E, B, N)."""
        offline, new = (q(observation, action) for q in (self.offline, self.new))
        return (1.0 - self.kappa) * offline + self.kappa * new


def fresh(base: Climber[B], key: Key, spec: Spec) -> State[B]:
    """A base agent that has learned nothing, and new critics like its own."""
    k_base, k_new = jax.random.split(key)
    new = base.init(k_new, spec).critic
    nothing = jnp.asarray(0.0, float)
    return State(base.init(k_base, spec), new, jax.tree.map(jnp.copy, new.params), nothing, nothing)


def bellman_target(target: Critics, batch: Transition, following: Array) -> Array:
    """y = r + gamma (1 - d) min_j Q'_j(s', a'), (B,), no gradient."""
    value = jnp.min(target(batch.next_observation, following), axis=0)
    return jax.lax.stop_gradient(batch.reward + batch.continues * value)


def critic_loss(critic: Critics, batch: Transition, target: Array) -> Array:
    """L = sum_j mean (Q_j(s, a) - y)^2."""
    return jnp.sum(jnp.mean(jnp.square(critic(batch.observation, batch.action) - target), axis=-1))


def trail(target: Critics, new: Trained, rate: float, delay: int, step: Array) -> Critics:
    """Move the new targets towards the new critics in every `delay`-th update."""
    return every(delay, step + 1, lambda t: polyak(t, new.params, rate), target)


def least(critic: Critics, batch: Transition) -> Array:
    """Mean of min_j Q_j(s, a) over a batch."""
    return jnp.mean(jnp.min(critic(batch.observation, batch.action), axis=0))


def progress(state: State[B], batch: Transition) -> Array:
    """How far the new critics have come on a batch, from their first mean value (0) to the offline critics' (1)."""
    there = least(state.base.critic.params, batch) - state.began
    return (least(state.new.params, batch) - state.began) / jnp.where(jnp.abs(there) > 1e-6, there, 1e-6)


def values(base: Climber[B], state: State[B], observation: Array, action: Array) -> Array:
    """(1 - kappa) Q_offline + kappa min_j Q_new, (B,)."""
    new = jnp.min(state.new.params(observation, action), axis=0)
    return (1.0 - state.kappa) * base.q(state.base, observation, action) + state.kappa * new


def grow(handover: Handover, state: State) -> State:
    """Put new critics beside what the slot has learned."""
    return state._replace(base=handover.slots[handover.slot].state)


def renew_base(handover: Handover, state: State) -> State:
    """Go on with what the slot has learned, the base agent with new optimisers (OPT on SPOT)."""
    there: State = handover.slots[handover.slot].state
    return there._replace(base=renewed(there.base, state.base))
