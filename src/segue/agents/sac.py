"""Soft actor-critic (Haarnoja et al. 2018, arXiv 1812.05905), in the form of JaxCQL and Cal-QL."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from segue.agents.soft import backup, choose, policy_loss, temperature_loss, valued
from segue.core.bounds import Bounds, unbounded
from segue.core.layers import Initialiser
from segue.core.nets import Critics, Maximise, TanhGaussian, own_critics, squash
from segue.core.networks import PUBLISHED, Networks, ours
from segue.core.optim import Trained, descend, polyak
from segue.core.options import option, require, usual
from segue.core.types import Array, Key, Metrics, Spec, Transition


class State(NamedTuple):
    """State of SAC."""

    actor: Trained  # TanhGaussian
    critic: Trained  # Critics
    target: Critics
    temperature: Trained  # log alpha, a scalar
    bounds: Bounds  # of bootstrap values, beside the options


class Noise(NamedTuple):
    """Standard normal draws of one update."""

    actor: Array  # (B, A): the action of the actor's loss
    target: Array  # (B, A), or (B, N, A) for the max-target backup
    subset: Array | None = None  # (M,), indices of target critics; None is all of them


@dataclass(frozen=True)
class SAC:
    """Hyper-parameters of SAC; the defaults are JaxCQL's with the initialisation of Cal-QL's release."""

    policy: ClassVar[tuple[str, ...]] = ("actor",)
    actor_hidden: tuple[int, ...] = ours((256, 256), "actor")
    critic_hidden: tuple[int, ...] = ours((256, 256), "critic")
    critics: int = 2
    layer_norm: bool = ours(False, "actor", "critic")
    networks: Networks = PUBLISHED
    initialiser: Initialiser = ours("orthogonal", "actor", "critic")
    output_gain: float = ours(1e-2, "actor", "critic")
    log_std_multiplier: float = 1.0
    log_std_offset: float = -1.0
    actor_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    temperature_learning_rate: float = option(3e-4, when=lambda a: a.learn_temperature, why="learn_temperature=true")
    target_rate: float = 5e-3
    """Polyak rate of the target critics, applied after every update."""
    temperature: float = 1.0
    """Initial entropy temperature alpha, or its fixed value."""
    learn_temperature: bool = True
    target_entropy: float | None = option(None, when=lambda a: a.learn_temperature, why="learn_temperature=true")
    """Entropy that the temperature aims at; None means minus the number of action dimensions."""
    backup_entropy: bool = False
    target_samples: int = 1
    """Actions per next observation; above 1 the backup takes the best of them (max-target backup)."""
    value_minimum: float = -jnp.inf
    """Lower bound of bootstrap values, before the reward is added (OOO's clip)."""
    value_maximum: float = jnp.inf
    """Upper bound of the same."""
    subset: int = 0
    """Number of target critics whose minimum the bootstrap takes, drawn for every update; 0 takes all."""
    subset_replacement: bool = option(False, when=lambda a: a.subset > 0, why="subset above 0")
    """Draw the subset of critics with replacement (WSRL's code)."""

    def __post_init__(self) -> None:
        require(
            self,
            **usual(self),
            subset=0 <= self.subset <= self.critics,
            value_minimum=self.value_minimum < self.value_maximum,
        )

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state; targets start as copies of the critics."""
        k_actor, k_critic = jax.random.split(key)
        nets: dict[str, Any] = {
            "networks": self.networks,
            "initialiser": self.initialiser,
            "output_gain": self.output_gain,
            "layer_norm": self.layer_norm,
        }
        actor = TanhGaussian.create(
            k_actor,
            spec,
            self.actor_hidden,
            log_std_multiplier=self.log_std_multiplier,
            log_std_offset=self.log_std_offset,
            **nets,
        )
        critic = Critics.create(k_critic, spec, self.critic_hidden, self.critics, **nets)
        return State(
            self.networks.trained(actor, self.actor_learning_rate),
            self.networks.trained(critic, self.critic_learning_rate),
            jax.tree.map(jnp.copy, critic),
            self.networks.trained(jnp.log(jnp.asarray(self.temperature, float)), self.temperature_learning_rate),
            unbounded(),
        )

    def update(
        self, state: State, batch: Transition, key: Key, step: Array, maximise: Maximise = own_critics
    ) -> tuple[State, Metrics]:
        """Do one update of critics, actor and temperature; all losses are taken at the same old parameters."""
        return self.learn(state, batch, self.draw(key, batch.action), maximise)

    def next_action(self, state: State, batch: Transition, key: Key) -> Array:
        """Draw the actions (B, A) that a bootstrap takes at s'."""
        return self.act(state, batch.next_observation, key, True)

    def draw(self, key: Key, action: Array) -> Noise:
        """Draw an update's noise for a batch of actions (B, A)."""
        k_actor, k_target = jax.random.split(key)
        actor = jax.random.normal(k_actor, action.shape)
        subset = choose(key, 0, self.critics, self.subset, self.subset_replacement)
        return Noise(actor, self.draw_target(k_target, action), subset)

    def draw_target(self, key: Key, action: Array) -> Array:
        """Draw the noise of the bootstrap's actions: (B, A), or (B, N, A) for N target samples."""
        (rows, size), n = action.shape, self.target_samples
        return jax.random.normal(key, (rows, size) if n == 1 else (rows, n, size))

    def learn(
        self, state: State, batch: Transition, noise: Noise, maximise: Maximise = own_critics
    ) -> tuple[State, Metrics]:
        """Do one update with the noise given (a deterministic function)."""
        target = self.bellman_target(state, batch, noise.target, noise.subset)
        loss = jax.value_and_grad(self.critic_loss, has_aux=True)
        (bellman, q), gradient = loss(state.critic.params, batch, target)
        critic = descend(state.critic, self.critic_learning_rate, gradient)
        actor, temperature, metrics = self.improve(state, batch, noise.actor, maximise)
        state = state._replace(
            actor=actor,
            critic=critic,
            target=polyak(state.target, critic.params, self.target_rate),
            temperature=temperature,
        )
        return state, metrics | {"critic_loss": bellman, "q_data": jnp.mean(q), "td_target": jnp.mean(target)}

    # -- losses ------------------------------------------------------------------------------------------------

    def alpha(self, state: State) -> Array:
        """Entropy temperature (scalar)."""
        return jnp.exp(state.temperature.params)

    def bellman_target(self, state: State, batch: Transition, noise: Array, subset: Array | None = None) -> Array:
        """y = r + gamma (1 - d) [min_j Q'_j(s', a') - alpha log pi(a'|s') if backup_entropy], (B,)."""
        mean, std = state.actor.params(batch.next_observation)
        if noise.ndim == 3:
            mean, std = mean[:, None], std[:, None]
        action, log_density = squash(mean, std, noise)
        critics = state.target if subset is None else state.target.only(subset)
        value = self.bound(jnp.min(critics(batch.next_observation, action), axis=0), state.bounds)
        return jax.lax.stop_gradient(
            backup(batch, value, log_density, self.alpha(state) if self.backup_entropy else 0.0)
        )

    def bound(self, value: Array, bounds: Bounds) -> Array:
        """Values clipped to their bounds (unchanged unless bounds are set or measured)."""
        return bounds.keep(value, self.value_minimum, self.value_maximum)

    def critic_loss(self, critic: Critics, batch: Transition, target: Array) -> tuple[Array, Array]:
        """sum_j mean (Q_j(s, a) - y)^2, without a half."""
        q = critic(batch.observation, batch.action)
        return jnp.sum(jnp.mean(jnp.square(q - target), axis=-1)), q

    def improve(
        self, state: State, batch: Transition, noise: Array, maximise: Maximise = own_critics
    ) -> tuple[Trained, Trained, Metrics]:
        """One step of the actor and of the temperature, from the old state; critics receive no gradient."""
        alpha = self.alpha(state)

        def actor_loss(actor: TanhGaussian) -> tuple[Array, Array]:  # mean(alpha log pi(a|s) - min_j Q_j(s, a))
            action, log_density = squash(*actor(batch.observation), noise)
            q = jnp.min(maximise(state.critic.params)(batch.observation, action), axis=0)
            return policy_loss(alpha, log_density, q), log_density

        (loss, log_density), gradient = jax.value_and_grad(actor_loss, has_aux=True)(state.actor.params)
        actor = descend(state.actor, self.actor_learning_rate, gradient)
        goal = -float(batch.action.shape[-1]) if self.target_entropy is None else self.target_entropy
        temperature = state.temperature
        if self.learn_temperature:
            slope = jax.grad(temperature_loss)(temperature.params, log_density, goal)
            temperature = descend(temperature, self.temperature_learning_rate, slope)
        return actor, temperature, {"actor_loss": loss, "temperature": alpha, "entropy": -jnp.mean(log_density)}

    # -- use ---------------------------------------------------------------------------------------------------

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """Sample from the policy, or return tanh of its mean: (B, A)."""
        mean, std = state.actor.params(observation)
        return jnp.tanh(mean + std * jax.random.normal(key, mean.shape) if explore else mean)

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Smallest of the critics' values, (B,)."""
        return jnp.min(state.critic.params(observation, action), axis=0)

    def valued(self, state: State, observation: Array, key: Key) -> tuple[Array, Array]:
        """The action that a backup takes, (B, A), and -alpha log pi(a|s), (B,): 0 where it counts no entropy."""
        alpha = self.alpha(state) if self.backup_entropy else 0.0
        return valued(state.actor.params, partial(self.q, state), alpha, self.target_samples, observation, key)
