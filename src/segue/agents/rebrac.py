"""ReBRAC (Tarasov et al. 2023, arXiv 2305.09836): TD3 with a cloning term in the actor's loss and in the critic's
target; in the form of CORL's fine-tuning code (numbers in tests/parity), which also bounds targets by the return.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from segue.agents.td3 import TD3, State
from segue.core.nets import Critics
from segue.core.networks import Network
from segue.core.optim import descend, every, polyak
from segue.core.options import require
from segue.core.schedules import Schedule, at, ends, reported
from segue.core.types import Array, Key, Metrics, Spec, Transition


@dataclass(frozen=True)
class ReBRAC:
    """Hyper-parameters of ReBRAC; the networks' defaults are CORL's (three layers, normalised after the activation).

    CORL's biases start at 0.1 in hidden layers, these as PyTorch's do.
    """

    policy: ClassVar[tuple[str, ...]] = ("actor",)
    base: TD3 = field(
        default_factory=lambda: TD3(
            actor_hidden=(256, 256, 256),
            critic_hidden=(256, 256, 256),
            critic_layer_norm=True,
            norm_after=True,
            actor_learning_rate=1e-3,
            critic_learning_rate=1e-3,
            exploration_noise=0.0,
            actor_last_limit=1e-3,
            critic_last_limit=3e-3,
        )
    )
    actor_cloning: Schedule = 0.4
    """Weight of |pi(s) - a|^2 in the actor's loss."""
    critic_cloning: Schedule = 0.1
    """Weight of |a' - next logged action|^2 in the critic's target; 0 in rows whose next action is not known."""
    calibrated: bool = False
    """Bound targets from below by the Monte-Carlo return (CORL's fine-tuning option)."""
    normalise_q: bool = True
    lagging_target: bool = True
    """The target actor moves towards the actor before the gradient step, as in the authors' code and CORL's."""

    def __post_init__(self) -> None:
        require(
            self,
            actor_cloning=min(ends(self.actor_cloning)) >= 0,
            critic_cloning=min(ends(self.critic_cloning)) >= 0,
        )

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state."""
        return self.base.init(key, spec)

    def update(self, state: State, batch: Transition, key: Key, step: Array) -> tuple[State, Metrics]:
        """Do one update of the critics, and in the first and every `policy_delay`-th one after it of the rest."""
        return self.learn(state, batch, jax.random.normal(key, batch.action.shape), step)

    def learn(self, state: State, batch: Transition, noise: Array, step: Array) -> tuple[State, Metrics]:
        """Do one update with the noise (B, A) given (a deterministic function)."""
        target = self.bellman_target(state, batch, noise, at(self.critic_cloning, step))
        loss = jax.value_and_grad(self.base.critic_loss, has_aux=True)
        (critic_loss, q), gradient = loss(state.critic.params, batch, target)
        state = state._replace(critic=descend(state.critic, self.base.critic_learning_rate, gradient))
        metrics = {"critic_loss": critic_loss, "q_data": jnp.mean(q), "td_target": jnp.mean(target)}
        missing = dict.fromkeys(("actor_loss", "cloning_error"), jnp.full((), jnp.nan, q.dtype))
        state, actor_metrics = every(
            self.base.policy_delay, step, lambda c: self.improve(c[0], batch, step), (state, missing)
        )
        moving = reported(step, actor_cloning=self.actor_cloning, critic_cloning=self.critic_cloning)
        return state, metrics | actor_metrics | moving

    def improve(self, state: State, batch: Transition, step: Array) -> tuple[State, Metrics]:
        """Move the actor, then all targets."""
        (loss, cloning), gradient = jax.value_and_grad(self.actor_loss, has_aux=True)(
            state.actor.params, state.critic.params, batch, at(self.actor_cloning, step)
        )
        actor = descend(state.actor, self.base.actor_learning_rate, gradient)
        towards = state.actor.params if self.lagging_target else actor.params
        moved = State(
            actor,
            state.critic,
            polyak(state.target_actor, towards, self.base.target_rate),
            polyak(state.target_critic, state.critic.params, self.base.target_rate),
        )
        return moved, {"actor_loss": loss, "cloning_error": cloning}

    # -- losses ------------------------------------------------------------------------------------------------

    def bellman_target(self, state: State, batch: Transition, noise: Array, weight: Array | float) -> Array:
        """y = r + gamma (1 - d) [min_j Q'_j(s', a') - weight |a' - logged a'|^2], at least the return if calibrated."""
        action = self.base.smoothed(state, batch, noise)
        value = jnp.min(state.target_critic(batch.next_observation, action), axis=0)
        away = jnp.sum(jnp.square(action - batch.next_action), axis=-1)
        penalty = jnp.where(jnp.isnan(away), 0.0, weight * away)
        target = batch.reward + batch.continues * (value - penalty)
        if self.calibrated:
            target = jnp.fmax(target, batch.mc_return)  # fmax: a return that is not known yet (NaN) does not bound
        return jax.lax.stop_gradient(target)

    def actor_loss(
        self, actor: Network, critic: Critics, batch: Transition, weight: Array | float
    ) -> tuple[Array, Array]:
        """mean(weight |pi(s) - a|^2 - min_j Q_j / mean |min_j Q_j|), the scale without a gradient."""
        action = jnp.tanh(actor(batch.observation))
        q = jnp.min(critic(batch.observation, action), axis=0)
        scale = jax.lax.stop_gradient(1.0 / jnp.mean(jnp.abs(q))) if self.normalise_q else 1.0
        cloning = jnp.sum(jnp.square(action - batch.action), axis=-1)
        return jnp.mean(weight * cloning - scale * q), jnp.mean(cloning)

    # -- use ---------------------------------------------------------------------------------------------------

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """Act as TD3 does."""
        return self.base.act(state, observation, key, explore)

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Smallest of the critics' values, (B,)."""
        return self.base.q(state, observation, action)
