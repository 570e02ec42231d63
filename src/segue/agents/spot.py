"""SPOT (Wu et al. 2022, arXiv 2202.06239): TD3 with a penalty for actions that are unlikely under a density model of
the data; and this density, a conditional variational autoencoder.  As in the official code.

The density is trained first, in its own slot; at the hand-over SPOT copies it and keeps it frozen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from segue.agents import td3
from segue.agents.td3 import NOTHING, TD3
from segue.core.nets import MLP, Critics, Maximise, log_normal, own_critics
from segue.core.networks import Network
from segue.core.optim import APART, Trained, descend, trained
from segue.core.options import option, require, usual
from segue.core.schedules import Schedule, at, ends, reported
from segue.core.types import Array, Handover, Key, Metrics, Spec, Transition, flat


class Autoencoder(eqx.Module):
    """Encoder (s, a) -> mean and log std of a latent vector (L,); decoder (s, z) -> action."""

    encoder: MLP
    decoder: MLP

    def encode(self, observation: Array, action: Array) -> tuple[Array, Array]:
        """Mean and standard deviation (B, L) of the latent vector."""
        mean, log_std = jnp.split(self.encoder(jnp.concatenate([observation, action], -1)), 2, axis=-1)
        return mean, jnp.exp(jnp.clip(log_std, -4.0, 15.0))

    def decode(self, observation: Array, latent: Array) -> Array:
        """Actions (B, S, A) of S latent vectors (B, S, L) each."""
        seen = jnp.broadcast_to(observation[:, None], (*latent.shape[:2], observation.shape[-1]))
        return jnp.tanh(self.decoder(jnp.concatenate([seen, latent], -1)))


class DensityState(NamedTuple):
    """State of the density."""

    model: Trained  # Autoencoder


@dataclass(frozen=True)
class VAE:
    """Learner of the density of actions, for a phase of its own; it does not act.  Defaults are SPOT's."""

    hidden: tuple[int, ...] = (750, 750)
    latent: int = 0
    """Size of the latent vector; 0 is twice the number of action dimensions."""
    beta: float = 0.5
    """Weight of the KL divergence."""
    learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        require(self, hidden=all(n > 0 for n in self.hidden), latent=self.latent >= 0, beta=self.beta > 0)

    def init(self, key: Key, spec: Spec) -> DensityState:
        """Return a fresh state."""
        k_encoder, k_decoder = jax.random.split(key)
        size, latent = flat(spec, "this density"), self.latent or 2 * spec.action
        nets: dict[str, Any] = {"initialiser": "torch", "output_gain": 1.0}
        model = Autoencoder(
            MLP.create(k_encoder, (size + spec.action, *self.hidden, 2 * latent), **nets),
            MLP.create(k_decoder, (size + latent, *self.hidden, spec.action), **nets),
        )
        return DensityState(trained(model, self.learning_rate))

    def update(self, state: DensityState, batch: Transition, key: Key, step: Array) -> tuple[DensityState, Metrics]:
        """Do one update."""
        latent = state.model.params.encoder.layers[-1].bias.shape[-1] // 2
        return self.learn(state, batch, jax.random.normal(key, (batch.action.shape[0], 1, latent)))

    def learn(self, state: DensityState, batch: Transition, noise: Array) -> tuple[DensityState, Metrics]:
        """Do one update with the noise (B, 1, L) given: mean squared error + beta KL, both means over dimensions."""

        def loss(model: Autoencoder) -> tuple[Array, tuple[Array, Array]]:
            error, divergence = parts(model, batch.observation, batch.action, noise)
            error, divergence = jnp.mean(error), jnp.mean(divergence)
            return error + self.beta * divergence, (error, divergence)

        (total, (error, divergence)), gradient = jax.value_and_grad(loss, has_aux=True)(state.model.params)
        metrics = {"density_loss": total, "reconstruction_error": error, "divergence": divergence}
        return DensityState(descend(state.model, self.learning_rate, gradient)), metrics


def parts(model: Autoencoder, observation: Array, action: Array, noise: Array) -> tuple[Array, Array]:
    """Squared error (B,) and KL divergence to the prior (B,), both means over dimensions; noise (B, S, L)."""
    mean, std = model.encode(observation, action)
    made = model.decode(observation, mean[:, None] + std[:, None] * noise)
    error = jnp.mean(jnp.square(action[:, None] - made), axis=(1, 2))
    divergence = jnp.mean(-0.5 * (1.0 + 2.0 * jnp.log(std) - jnp.square(mean) - jnp.square(std)), axis=-1)
    return error, divergence


def unlikeliness(model: Autoencoder, observation: Array, action: Array, noise: Array, beta: float) -> Array:
    """Squared error + beta KL, (B,): minus the log-density up to affine terms."""
    error, divergence = parts(model, observation, action, noise)
    return error + beta * divergence


def negative_bound(
    model: Autoencoder, observation: Array, action: Array, noise: Array, beta: float, weighted: bool
) -> Array:
    """Minus a lower bound of log p(a|s), (B,): importance weighted over S samples, or the evidence's."""
    mean, std = model.encode(observation, action)
    latent = mean[:, None] + std[:, None] * noise
    made = model.decode(observation, latent)
    likelihood = jnp.sum(log_normal(action[:, None], made, (beta / 4.0) ** 0.5), axis=-1)
    if not weighted:
        divergence = -0.5 * (1.0 + 2.0 * jnp.log(std) - jnp.square(mean) - jnp.square(std))
        return jnp.sum(divergence, axis=-1) - jnp.mean(likelihood, axis=1)
    prior = jnp.sum(log_normal(latent, 0.0, 1.0), axis=-1)
    proposal = jnp.sum(log_normal(latent, mean[:, None], std[:, None]), axis=-1)
    samples = noise.shape[1]
    return jnp.log(float(samples)) - jax.nn.logsumexp(likelihood + prior - proposal, axis=1)


class State(NamedTuple):
    """TD3's state and the density."""

    td3: td3.State
    density: Autoencoder

    @property
    def critic(self) -> Trained:
        """The critics that learn, TD3's."""
        return self.td3.critic


class Noise(NamedTuple):
    """Standard normal draws of one update."""

    target: Array  # (B, A)
    latent: Array  # (B, S, L)
    dropout: Key | None = None  # a key, for the actor's dropout


@dataclass(frozen=True)
class SPOT:
    """Hyper-parameters of SPOT; the defaults are those of AntMaze umaze."""

    policy: ClassVar[tuple[str, ...]] = ("td3.actor",)
    base: TD3 = field(default_factory=lambda: TD3(actor_learning_rate=1e-4))
    density: VAE = field(default_factory=VAE)
    weight: Schedule = 0.25
    """lambda, the weight of the density's term."""
    estimate: Literal["elbo", "weighted"] = "elbo"
    """Bound on the density: the simple evidence lower bound, or the importance-weighted one with `samples`."""
    samples: int = 1
    dropout: float = option(0.0, when=lambda s: s.base.networks.own("actor") is None, why="networks.actor=none")
    """Dropout in the actor's loss."""
    target_dropout: bool = option(True, when=lambda s: s.dropout > 0, why="dropout above 0")
    """The target actor has dropout too: in the official program it always stays in training mode."""

    def __post_init__(self) -> None:
        require(self, **usual(self), weight=min(ends(self.weight)) >= 0)

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state; its density has learned nothing, see `with_density`."""
        k_agent, k_density = jax.random.split(key)
        return State(self.base.init(k_agent, spec), self.density.init(k_density, spec).model.params)

    def update(
        self, state: State, batch: Transition, key: Key, step: Array, maximise: Maximise = own_critics
    ) -> tuple[State, Metrics]:
        """Do one update as TD3 does, with this actor's loss."""
        k_target, k_latent, k_dropout = jax.random.split(key, 3)
        latent = state.density.encoder.layers[-1].bias.shape[-1] // 2
        shape = (batch.action.shape[0], self.samples, latent)
        noise = Noise(jax.random.normal(k_target, batch.action.shape), jax.random.normal(k_latent, shape), k_dropout)
        return self.learn(state, batch, noise, step, maximise)

    def next_action(self, state: State, batch: Transition, key: Key) -> Array:
        """Draw the actions (B, A) that a bootstrap takes at s'."""
        return self.base.next_action(state.td3, batch, key)

    def learn(
        self, state: State, batch: Transition, noise: Noise, step: Array, maximise: Maximise = own_critics
    ) -> tuple[State, Metrics]:
        """Do one update with the noise given (a deterministic function)."""

        weight = at(self.weight, step)

        def actor_loss(actor: Network, critic: Critics, batch: Transition) -> tuple[Array, Metrics]:
            action = jnp.tanh(actor(batch.observation, self.dropout, noise.dropout))
            q = maximise(critic).first(batch.observation, action)
            scale = jax.lax.stop_gradient(jnp.mean(jnp.abs(q)))
            penalty = self.penalty(state.density, batch.observation, action, noise.latent)
            loss = -jnp.mean(q) / scale + weight * jnp.mean(penalty)
            return loss, {"unlikeliness": jnp.mean(penalty)}

        dropped = NOTHING
        if self.target_dropout and self.dropout and noise.dropout is not None:
            dropped = (self.dropout, jax.random.fold_in(noise.dropout, APART))
        moved, metrics = self.base.learn(state.td3, batch, noise.target, step, actor_loss, dropped)
        return state._replace(td3=moved), metrics | reported(step, weight=self.weight)

    def penalty(self, density: Autoencoder, observation: Array, action: Array, noise: Array) -> Array:
        """How unlikely the density finds an action, (B,)."""
        if self.estimate == "elbo":
            return unlikeliness(density, observation, action, noise, self.density.beta)
        return negative_bound(density, observation, action, noise, self.density.beta, True)

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """Act as TD3 does."""
        return self.base.act(state.td3, observation, key, explore)

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Smallest of the critics' values, (B,)."""
        return self.base.q(state.td3, observation, action)


@dataclass(frozen=True)
class with_density:
    """Start SPOT with the density that another slot has learned: `init_from=with_density("density")`."""

    slot: str = "density"

    @property
    def reads(self) -> tuple[str, ...]:
        """Slots that must be there, for `check_handovers`."""
        return (self.slot,)

    def __call__(self, handover: Handover, state: State) -> State:
        """Return the fresh state with the slot's density."""
        return state._replace(density=handover.slots[self.slot].state.model.params)
