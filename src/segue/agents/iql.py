"""Implicit Q-learning (Kostrikov et al. 2021, arXiv 2110.06169), as in its official code.

Order of one update: V, then the actor, then Q, then the target; the actor and Q see the new V, and the advantage
uses the target critics.  `stale_value` is CORL's order: both see V as it was before the update.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from segue.core.bounds import Bounds, unbounded
from segue.core.layers import Initialiser
from segue.core.nets import Critics, Gaussian, Maximise, network, normal_log_density, own_critics
from segue.core.networks import PUBLISHED, Network, Networks, ours
from segue.core.optim import Trained, descend, polyak
from segue.core.options import follows, option, require, usual
from segue.core.schedules import START, Schedule, at, ends, reported
from segue.core.types import Array, Key, Metrics, Spec, Transition


class State(NamedTuple):
    """State of IQL."""

    actor: Trained  # Gaussian
    critic: Trained  # Critics
    target: Critics
    value: Trained  # Network, observation -> V
    bounds: Bounds  # of bootstrap values, beside the options


@dataclass(frozen=True)
class IQL:
    """Hyper-parameters of IQL; the defaults are the official AntMaze settings."""

    policy: ClassVar[tuple[str, ...]] = ("actor",)
    actor_hidden: tuple[int, ...] = ours((256, 256), "actor")
    critic_hidden: tuple[int, ...] = ours((256, 256), "critic")
    """Widths of Q and of V."""
    critics: int = 2
    layer_norm: bool = ours(False, "critic")
    """Layer normalisation in Q and V."""
    networks: Networks = PUBLISHED
    initialiser: Initialiser = ours("orthogonal", "actor", "critic")
    output_gain: float = ours(2.0**0.5, "actor", "critic")
    actor_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    value_learning_rate: float = 3e-4
    actor_decay: int | None = follows("steps", lambda a, pace: pace.updates, default=0)
    """Updates over which the actor's learning rate falls to 0 along a cosine; 0 keeps it, None is as many as the phase
    has.

    Counted from the slot's first update; the official offline settings have the length of the run, fine-tuning has no
    decay.  After these updates the rate is 0 and the actor does not learn.  So set it for the offline phase only
    (`offline.actor_decay`), or the actor cannot be fine-tuned.
    """
    expectile: float = 0.9
    inverse_temperature: Schedule = 10.0
    weight_maximum: float = 100.0
    """Upper bound of exp(inverse temperature * advantage)."""
    dropout: float = ours(0.0, "actor")
    """Dropout in the actor's updates."""
    target_rate: float = 5e-3
    stochastic: bool = True
    """A Gaussian actor; if false, a deterministic actor that regresses to the weighted actions (CORL's option)."""
    log_std_minimum: float = option(-5.0, when=lambda a: a.stochastic, why="stochastic=true")
    log_std_maximum: float = option(2.0, when=lambda a: a.stochastic, why="stochastic=true")
    exploration_noise: float = option(0.1, when=lambda a: not a.stochastic, why="stochastic=false")
    """Standard deviation of the noise that a deterministic actor explores with (default of ours)."""
    mean_over_critics: bool = False
    """The critics' errors are averaged (CORL, OOO) instead of summed."""
    stale_value: bool = False
    """CORL's order: the advantage and the bootstrap use V from before the update."""
    value_minimum: float = -jnp.inf
    """Lower bound of target values and of the critics' targets (OOO's clip)."""
    value_maximum: float = jnp.inf
    """Upper bound of the same."""

    def __post_init__(self) -> None:
        require(
            self,
            **usual(self),
            actor_decay=(self.actor_decay or 0) >= 0,
            expectile=0 < self.expectile < 1,
            inverse_temperature=min(ends(self.inverse_temperature)) >= 0,
            value_minimum=self.value_minimum < self.value_maximum,
        )

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state; targets start as copies of the critics."""
        k_actor, k_critic, k_value = jax.random.split(key, 3)
        nets: dict[str, Any] = {
            "networks": self.networks,
            "initialiser": self.initialiser,
            "output_gain": self.output_gain,
        }
        actor = Gaussian.create(k_actor, spec, self.actor_hidden, **nets)
        critic = Critics.create(k_critic, spec, self.critic_hidden, self.critics, layer_norm=self.layer_norm, **nets)
        value = network(k_value, spec, (*self.critic_hidden, 1), "critic", layer_norm=self.layer_norm, **nets)
        return State(
            self.networks.trained(actor, self.actor_learning_rate, self.actor_decay or 0),
            self.networks.trained(critic, self.critic_learning_rate),
            jax.tree.map(jnp.copy, critic),
            self.networks.trained(value, self.value_learning_rate),
            unbounded(),
        )

    def next_action(self, state: State, batch: Transition, key: Key) -> Array:
        """Draw the actions (B, A) that a bootstrap with Q in the place of V would take at s'."""
        return self.act(state, batch.next_observation, key, True)

    def update(
        self, state: State, batch: Transition, key: Key, step: Array, maximise: Maximise = own_critics
    ) -> tuple[State, Metrics]:
        """Do one update of V, the actor, Q and the target."""
        q = jnp.min(maximise(state.target)(batch.observation, batch.action), axis=0)
        old, aim = state.value, self.bound(q, state.bounds)
        (value_loss, v), gradient = jax.value_and_grad(self.value_loss, has_aux=True)(old.params, batch, aim)
        value = descend(old, self.value_learning_rate, gradient)
        seen = old if self.stale_value else value

        advantage = q - seen.params(batch.observation)[..., 0]
        weight = self.weight(advantage, step)
        actor_loss, gradient = jax.value_and_grad(self.actor_loss)(state.actor.params, batch, weight, key)
        actor = descend(state.actor, self.actor_learning_rate, gradient, self.actor_decay or 0)

        target = self.bellman_target(seen.params, batch, state.bounds)
        (critic_loss, q_data), gradient = jax.value_and_grad(self.critic_loss, has_aux=True)(
            state.critic.params, batch, target
        )
        critic = descend(state.critic, self.critic_learning_rate, gradient)
        metrics = {
            "critic_loss": critic_loss,
            "value_loss": value_loss,
            "actor_loss": actor_loss,
            "q_data": jnp.mean(q_data),
            "td_target": jnp.mean(target),
            "value": jnp.mean(v),
            "advantage": jnp.mean(advantage),
            "weight": jnp.mean(weight),
        } | reported(step, inverse_temperature=self.inverse_temperature)
        target_critic = polyak(state.target, critic.params, self.target_rate)
        return State(actor, critic, target_critic, value, state.bounds), metrics

    # -- losses ------------------------------------------------------------------------------------------------

    def bound(self, value: Array, bounds: Bounds) -> Array:
        """Values clipped to their bounds (unchanged unless bounds are set or measured)."""
        return bounds.keep(value, self.value_minimum, self.value_maximum)

    def value_loss(self, value: Network, batch: Transition, q: Array) -> tuple[Array, Array]:
        """mean |expectile - 1(u < 0)| u^2, u = q - V(s)."""
        v = value(batch.observation)[..., 0]
        u = q - v
        return jnp.mean(jnp.where(u < 0, 1.0 - self.expectile, self.expectile) * jnp.square(u)), v

    def weight(self, advantage: Array, step: Array = START) -> Array:
        """min(exp(inverse temperature * advantage), maximum), no gradient."""
        # The exponent is bounded and not only its result: an infinite exponential is finite here, and its gradient too.
        largest = jnp.log(self.weight_maximum)
        return jax.lax.stop_gradient(jnp.exp(jnp.minimum(at(self.inverse_temperature, step) * advantage, largest)))

    def actor_loss(self, actor: Gaussian, batch: Transition, weight: Array, key: Key) -> Array:
        """-mean weight * log pi(a|s); for a deterministic actor mean weight * |a - pi(s)|^2."""
        mean = actor.mean(batch.observation, self.dropout, key)
        if not self.stochastic:
            return jnp.mean(weight * jnp.sum(jnp.square(mean - batch.action), axis=-1))
        return -jnp.mean(weight * normal_log_density(mean, self.std(actor), batch.action))

    def std(self, actor: Gaussian) -> Array:
        """Standard deviation (A,), the same in every state."""
        return jnp.exp(jnp.clip(actor.log_std, self.log_std_minimum, self.log_std_maximum))

    def bellman_target(self, value: Network, batch: Transition, bounds: Bounds) -> Array:
        """clip(r + gamma (1 - d) V(s')), (B,)."""
        following = value(batch.next_observation)[..., 0]
        return jax.lax.stop_gradient(self.bound(batch.reward + batch.continues * following, bounds))

    def critic_loss(self, critic: Critics, batch: Transition, target: Array) -> tuple[Array, Array]:
        """sum_j (or mean_j) mean (Q_j(s, a) - y)^2."""
        q = critic(batch.observation, batch.action)
        errors = jnp.mean(jnp.square(q - target), axis=-1)
        return jnp.mean(errors) if self.mean_over_critics else jnp.sum(errors), q

    # -- use ---------------------------------------------------------------------------------------------------

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """The mean, or a draw from the Gaussian, kept in [-1, 1]: (B, A)."""
        actor: Gaussian = state.actor.params
        mean = actor.mean(observation)
        if not explore:
            return mean
        std = self.std(actor) if self.stochastic else self.exploration_noise
        return jnp.clip(mean + std * jax.random.normal(key, mean.shape), -1.0, 1.0)

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Smallest of the critics' values, (B,)."""
        return jnp.min(state.critic.params(observation, action), axis=0)
