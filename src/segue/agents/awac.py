"""AWAC (Nair et al. 2020, arXiv 2006.09359), as in CORL's fine-tuning code.

Order of one update: Q, then the actor with the new Q, then the targets.  The actor is a Gaussian without
tanh.  Actions are clipped when they are executed and when the critics evaluate them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from segue.core.layers import Initialiser
from segue.core.nets import Critics, Gaussian, normal_log_density, rows_of
from segue.core.networks import PUBLISHED, Networks, ours
from segue.core.optim import Trained, descend, polyak
from segue.core.options import require, usual
from segue.core.schedules import START, Schedule, at, ends, reported
from segue.core.types import Array, Key, Metrics, Spec, Transition


class State(NamedTuple):
    """State of AWAC."""

    actor: Trained  # Gaussian, its network's output is the mean
    critic: Trained  # Critics
    target: Critics


class Noise(NamedTuple):
    """Standard normal draws (B, A) of one update."""

    target: Array
    actor: Array


@dataclass(frozen=True)
class AWAC:
    """Hyper-parameters of AWAC; the defaults are CORL's."""

    policy: ClassVar[tuple[str, ...]] = ("actor",)
    actor_hidden: tuple[int, ...] = ours((256, 256, 256), "actor")
    critic_hidden: tuple[int, ...] = ours((256, 256, 256), "critic")
    critics: int = 2
    networks: Networks = PUBLISHED
    initialiser: Initialiser = ours("torch", "actor", "critic")
    actor_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    target_rate: float = 5e-3
    advantage_temperature: Schedule = 1.0
    """lambda; the weight of an action is exp(advantage / lambda)."""
    weight_maximum: float = 100.0
    log_std_minimum: float = -20.0
    log_std_maximum: float = 2.0

    def __post_init__(self) -> None:
        require(
            self,
            **usual(self),
            advantage_temperature=min(ends(self.advantage_temperature)) > 0,
            weight_maximum=self.weight_maximum > 0,
        )

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state; targets start as copies of the critics."""
        k_actor, k_critic = jax.random.split(key)
        nets: dict[str, Any] = {"networks": self.networks, "initialiser": self.initialiser, "output_gain": 1.0}
        actor = Gaussian.create(k_actor, spec, self.actor_hidden, **nets)
        critic = Critics.create(k_critic, spec, self.critic_hidden, self.critics, **nets)
        return State(
            self.networks.trained(actor, self.actor_learning_rate),
            self.networks.trained(critic, self.critic_learning_rate),
            jax.tree.map(jnp.copy, critic),
        )

    def update(self, state: State, batch: Transition, key: Key, step: Array) -> tuple[State, Metrics]:
        """Do one update of the critics, the actor and the targets."""
        k_target, k_actor = jax.random.split(key)
        shape = batch.action.shape
        noise = Noise(jax.random.normal(k_target, shape), jax.random.normal(k_actor, shape))
        return self.learn(state, batch, noise, step)

    def learn(self, state: State, batch: Transition, noise: Noise, step: Array = START) -> tuple[State, Metrics]:
        """Do one update with the noise given (a deterministic function)."""
        action = self.sample(state.actor.params, batch.next_observation, noise.target)
        value = jnp.min(state.target(batch.next_observation, action), axis=0)
        target = jax.lax.stop_gradient(batch.reward + batch.continues * value)
        loss = jax.value_and_grad(self.critic_loss, has_aux=True)
        (critic_loss, q), gradient = loss(state.critic.params, batch, target)
        critic = descend(state.critic, self.critic_learning_rate, gradient)

        weight = self.weight(
            state.actor.params, critic.params, batch, noise.actor, at(self.advantage_temperature, step)
        )
        actor_loss, gradient = jax.value_and_grad(self.actor_loss)(state.actor.params, batch, weight)
        actor = descend(state.actor, self.actor_learning_rate, gradient)
        metrics = {
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "q_data": jnp.mean(q),
            "td_target": jnp.mean(target),
            "weight": jnp.mean(weight),
        } | reported(step, advantage_temperature=self.advantage_temperature)
        return State(actor, critic, polyak(state.target, critic.params, self.target_rate)), metrics

    # -- losses ------------------------------------------------------------------------------------------------

    def std(self, actor: Gaussian) -> Array:
        """Standard deviation (A,), the same in every state."""
        return jnp.exp(jnp.clip(actor.log_std, self.log_std_minimum, self.log_std_maximum))

    def sample(self, actor: Gaussian, observation: Array, noise: Array) -> Array:
        """clip(mean + std * noise, -1, 1), (B, A)."""
        return jnp.clip(actor.network(observation) + self.std(actor) * noise, -1.0, 1.0)

    def critic_loss(self, critic: Critics, batch: Transition, target: Array) -> tuple[Array, Array]:
        """sum_j mean (Q_j(s, a) - y)^2."""
        q = critic(batch.observation, batch.action)
        return jnp.sum(jnp.mean(jnp.square(q - target), axis=-1)), q

    def weight(
        self, actor: Gaussian, critic: Critics, batch: Transition, noise: Array, temperature: Array | float
    ) -> Array:
        """min(exp((min_j Q_j(s, a) - min_j Q_j(s, a_pi)) / lambda), maximum), one a_pi per state, no gradient."""
        own = self.sample(actor, batch.observation, noise)
        q = jnp.min(critic(batch.observation, jnp.stack([batch.action, own], axis=1)), axis=0)
        exponent = (q[:, 0] - q[:, 1]) / temperature
        return jax.lax.stop_gradient(jnp.exp(jnp.minimum(exponent, jnp.log(self.weight_maximum))))

    def actor_loss(self, actor: Gaussian, batch: Transition, weight: Array) -> Array:
        """-mean weight * log N(a; mean, std)."""
        mean = actor.network(batch.observation)
        return -jnp.mean(weight * normal_log_density(mean, self.std(actor), batch.action))

    # -- use ---------------------------------------------------------------------------------------------------

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """The mean, or a sample, clipped to [-1, 1]: (B, A)."""
        actor: Gaussian = state.actor.params
        shape = (rows_of(observation), actor.log_std.shape[0])
        noise = jax.random.normal(key, shape) if explore else jnp.zeros(shape)
        return self.sample(actor, observation, noise)

    def valued(self, state: State, observation: Array, key: Key) -> tuple[Array, Array]:
        """The draw that a backup takes, (B, A), and nothing beside its value, (B,)."""
        return self.act(state, observation, key, True), jnp.zeros(rows_of(observation))

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Smallest of the critics' values, (B,)."""
        return jnp.min(state.critic.params(observation, action), axis=0)
