"""VCSE, value-conditional state entropy (Kim et al. 2023, arXiv 2305.19476), and plain state entropy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from segue.bonuses.bonus import Moments, Relabelled, Trains, no_moments, paid
from segue.bonuses.neighbours import (
    Critic,
    Scale,
    Scaled,
    conditioned_bonus,
    copied,
    current,
    refuse_scale,
    refuse_values,
    scaled,
    state_bonus,
)
from segue.core.nets import Critics
from segue.core.optim import Trained, descend, polyak, trained
from segue.core.options import option, require, tunable, usual
from segue.core.types import Agent, Array, Handover, Key, Metrics, Slot, Spec, Transition

_OWN = "q_source=extrinsic"


class Own(NamedTuple):
    """Twin critics of the true reward, and their targets."""

    critic: Trained  # Critics
    target: Critics


class VCSEState(NamedTuple):
    """State of VCSE."""

    critic: Critic | None
    own: Own | None
    scale: Scaled


@dataclass(frozen=True)
class VCSE:
    """Value-conditional state entropy:  r + weight * bonus,  v_i the value of the policy's action in s_i, standardised
    over the batch as layer normalisation does; as in the official code for SAC.

    There the value is the minimum of two *target* critics that learn from true rewards only, separate from the agent's
    (`q_source="extrinsic"`).  Here they have no entropy in their target, so that any agent can have this bonus (ours).
    """

    weight: float = tunable(0.1)
    """beta, the factor on the bonus."""
    neighbours: int = tunable(12)
    q_source: Literal["extrinsic", "frozen", "current"] = "extrinsic"
    slot: str | None = option(None, when=lambda a: a.q_source == "frozen", why="q_source=frozen")
    scale: Scale = "dimension"
    critic_hidden: tuple[int, ...] = option((256, 256), when=lambda a: a.own, why=_OWN)
    critic_learning_rate: float = option(3e-4, when=lambda a: a.own, why=_OWN, tunable=True)
    target_rate: float = option(5e-3, when=lambda a: a.own, why=_OWN, tunable=True)

    def __post_init__(self) -> None:
        require(self, **usual(self), weight=self.weight >= 0, neighbours=self.neighbours >= 2)

    @property
    def own(self) -> bool:
        """Whether the bonus has critics of its own."""
        return self.q_source == "extrinsic"

    def validate(self, phase: Trains, slots: Mapping[str, Slot], spec: Spec, offline: int) -> str | None:
        """Return why a phase cannot have this bonus."""
        return refuse_values("vcse", self.q_source, self.slot, phase, slots, spec, offline, self.scale)

    def init(self, key: Key, handover: Handover) -> VCSEState:
        """Make the critics, or copy the critic at the beginning of the phase."""
        apart, own = None, None
        if self.own:
            critic = Critics.create(key, handover.spec, self.critic_hidden, 2)
            own = Own(trained(critic, self.critic_learning_rate), jax.tree.map(jnp.copy, critic))
        elif self.q_source == "frozen":
            apart = copied(handover, self.slot, "vcse")
        return VCSEState(apart, own, scaled(self.scale, handover, "vcse"))

    def reward(self, state: VCSEState, batch: Transition, key: Key, slot: Slot) -> Relabelled[VCSEState]:
        """Add weight * bonus to the rewards of a batch; with critics of its own, let them learn from it first."""
        agent = slot.learner
        assert isinstance(agent, Agent)  # `validate` has seen that it is one
        k_next, k_now = jax.random.split(key)
        action = agent.act(slot.state, batch.observation, k_now, False)
        metrics: Metrics = {}
        if state.own is not None:
            following = agent.act(slot.state, batch.next_observation, k_next, True)
            own, loss = self.learn(state.own, batch, following)
            state, metrics = state._replace(own=own), {"vcse_critic_loss": loss}
            value = jnp.min(own.target(batch.observation, action), axis=0)
        else:
            value = (state.critic or current(slot)).q(batch.observation, action)
        bonus = conditioned_bonus(state.scale(batch.observation), layer_normalised(value), self.neighbours)
        batch, more = paid(batch, self.weight * bonus, "vcse")
        return state, batch, metrics | more

    def learn(self, own: Own, batch: Transition, following: Array) -> tuple[Own, Array]:
        """One step of the critics of the true reward towards r + gamma (1 - d) min_j Q'_j(s', a')."""
        value = jnp.min(own.target(batch.next_observation, following), axis=0)
        target = jax.lax.stop_gradient(batch.reward + batch.continues * value)

        def loss(critic: Critics) -> Array:
            q = critic(batch.observation, batch.action)
            return jnp.sum(jnp.mean(jnp.square(q - target), axis=-1))

        error, gradient = jax.value_and_grad(loss)(own.critic.params)
        critic = descend(own.critic, self.critic_learning_rate, gradient)
        return Own(critic, polyak(own.target, critic.params, self.target_rate)), error


def layer_normalised(value: Array) -> Array:
    """Values (B,) with mean 0 and variance 1 over the batch (eps 1e-5 under the root)."""
    return (value - jnp.mean(value)) / jnp.sqrt(jnp.var(value) + 1e-5)


class EntropyState(NamedTuple):
    """State of the plain bonus."""

    scale: Scaled
    bonus: Moments


@dataclass(frozen=True)
class StateEntropy:
    """Plain state entropy:  r + weight * log(1 + d_k) / running mean of it  (VCSE's baseline)."""

    weight: float = tunable(0.1)
    neighbours: int = tunable(12)
    scale: Scale = "dimension"

    def __post_init__(self) -> None:
        require(self, weight=self.weight >= 0, neighbours=self.neighbours >= 2)

    def validate(self, phase: Trains, slots: Mapping[str, Slot], spec: Spec, offline: int) -> str | None:
        """Return why a phase cannot have this bonus."""
        return refuse_scale("state-entropy", self.scale, spec, offline)

    def init(self, key: Key, handover: Handover) -> EntropyState:
        """Nothing has been seen yet."""
        return EntropyState(scaled(self.scale, handover, "state-entropy"), no_moments(()))

    def reward(self, state: EntropyState, batch: Transition, key: Key, slot: Slot) -> Relabelled[EntropyState]:
        """Add weight * bonus to the rewards of a batch."""
        raw = state_bonus(state.scale(batch.observation), self.neighbours)
        moments = state.bonus.take(raw)
        batch, metrics = paid(batch, self.weight * raw / jnp.maximum(moments.mean, 1e-8), "state_entropy")
        return EntropyState(state.scale, moments), batch, metrics
