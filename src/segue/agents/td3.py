"""TD3 (Fujimoto et al. 2018, arXiv 1802.09477) and TD3+BC (Fujimoto and Gu 2021, arXiv 2106.06860).

They share one state: TD3 fine-tunes what TD3+BC has learned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from segue.core.layers import Initialiser
from segue.core.nets import Critics, Maximise, network, own_critics
from segue.core.networks import PUBLISHED, Network, Networks, ours
from segue.core.optim import Trained, descend, every, polyak
from segue.core.options import require, usual
from segue.core.schedules import Schedule, at, ends, reported
from segue.core.types import Array, Key, Metrics, Spec, Transition


class State(NamedTuple):
    """State of TD3."""

    actor: Trained  # Network
    critic: Trained  # Critics
    target_actor: Network
    target_critic: Critics


ActorLoss = Callable[[Network, Critics, Transition], tuple[Array, Metrics]]
Dropped = tuple[float, Key | None]
"""Share of the target actor's units that are dropped, and the key that says which."""
NOTHING: Dropped = (0.0, None)


@dataclass(frozen=True)
class TD3:
    """Hyper-parameters of TD3; the defaults are the authors'."""

    policy: ClassVar[tuple[str, ...]] = ("actor",)
    actor_hidden: tuple[int, ...] = ours((256, 256), "actor")
    critic_hidden: tuple[int, ...] = ours((256, 256), "critic")
    critics: int = 2
    actor_layer_norm: bool = ours(False, "actor")
    critic_layer_norm: bool = ours(False, "critic")
    norm_after: bool = ours(False, "actor", "critic")
    """Layer normalisation after the activation instead of before it."""
    networks: Networks = PUBLISHED
    initialiser: Initialiser = ours("torch", "actor", "critic")
    actor_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    target_rate: float = 5e-3
    policy_noise: float = 0.2
    """Standard deviation of the noise on the target actor's actions."""
    noise_clip: float = 0.5
    policy_delay: int = 2
    """The actor and all targets are updated in every n-th update."""
    exploration_noise: float = 0.1
    actor_last_limit: float | None = ours(None, "actor")
    """Bound of the uniform initialisation of the actor's last layer; None: as the other layers.

    SPOT's code has 1e-3 here and 3e-3 in the critics on AntMaze.
    """
    critic_last_limit: float | None = ours(None, "critic")

    def __post_init__(self) -> None:
        require(
            self,
            **usual(self),
            noise_clip=self.noise_clip >= 0,
            policy_delay=self.policy_delay > 0,
            **{
                name: getattr(self, name) is None or (getattr(self, name) > 0 and self.initialiser == "torch")
                for name in ("actor_last_limit", "critic_last_limit")
            },
        )

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state; targets start as copies."""
        k_actor, k_critic = jax.random.split(key)
        nets: dict[str, Any] = {
            "networks": self.networks,
            "initialiser": self.initialiser,
            "norm_after": self.norm_after,
        }
        # The last layer of width n starts within gain / sqrt(n).
        gain = lambda limit, hidden: 1.0 if limit is None else limit * hidden[-1] ** 0.5  # noqa: E731
        actor = network(
            k_actor,
            spec,
            (*self.actor_hidden, spec.action),
            layer_norm=self.actor_layer_norm,
            output_gain=gain(self.actor_last_limit, self.actor_hidden),
            **nets,
        )
        critic = Critics.create(
            k_critic,
            spec,
            self.critic_hidden,
            self.critics,
            layer_norm=self.critic_layer_norm,
            output_gain=gain(self.critic_last_limit, self.critic_hidden),
            **nets,
        )
        return State(
            self.networks.trained(actor, self.actor_learning_rate),
            self.networks.trained(critic, self.critic_learning_rate),
            jax.tree.map(jnp.copy, actor),
            jax.tree.map(jnp.copy, critic),
        )

    def update(
        self, state: State, batch: Transition, key: Key, step: Array, maximise: Maximise = own_critics
    ) -> tuple[State, Metrics]:
        """Do one update of the critics, and in every `policy_delay`-th one of the actor and the targets."""
        loss: ActorLoss = lambda actor, critic, rows: self.actor_loss(actor, maximise(critic), rows)  # noqa: E731
        return self.learn(state, batch, jax.random.normal(key, batch.action.shape), step, loss)

    def learn(
        self,
        state: State,
        batch: Transition,
        noise: Array,
        step: Array,
        actor_loss: ActorLoss,
        dropped: Dropped = NOTHING,
    ) -> tuple[State, Metrics]:
        """Do one update with the noise (B, A) and the actor's loss given (a deterministic function)."""
        target = self.bellman_target(state, batch, noise, dropped)
        (loss, q), gradient = jax.value_and_grad(self.critic_loss, has_aux=True)(state.critic.params, batch, target)
        critic = descend(state.critic, self.critic_learning_rate, gradient)
        metrics = {"critic_loss": loss, "q_data": jnp.mean(q), "td_target": jnp.mean(target)}
        with_critic = state._replace(critic=critic)
        missing = jax.tree.map(
            lambda x: jnp.full(x.shape, jnp.nan, x.dtype),
            jax.eval_shape(lambda s: self.improve(s, batch, actor_loss)[1], with_critic),
        )
        state, actor_metrics = every(
            self.policy_delay, step + 1, lambda c: self.improve(c[0], batch, actor_loss), (with_critic, missing)
        )
        return state, metrics | actor_metrics

    def improve(self, state: State, batch: Transition, actor_loss: ActorLoss) -> tuple[State, Metrics]:
        """Move the actor, then all targets."""
        (loss, metrics), gradient = jax.value_and_grad(actor_loss, has_aux=True)(
            state.actor.params, state.critic.params, batch
        )
        actor = descend(state.actor, self.actor_learning_rate, gradient)
        moved = state._replace(
            actor=actor,
            target_actor=polyak(state.target_actor, actor.params, self.target_rate),
            target_critic=polyak(state.target_critic, state.critic.params, self.target_rate),
        )
        return moved, metrics | {"actor_loss": loss}

    # -- losses ------------------------------------------------------------------------------------------------

    def smoothed(self, state: State, batch: Transition, noise: Array, dropped: Dropped = NOTHING) -> Array:
        """clip(target actor(s') + clip(policy_noise * noise, +-noise_clip), -1, 1), (B, A)."""
        smoothing = jnp.clip(self.policy_noise * noise, -self.noise_clip, self.noise_clip)
        return jnp.clip(jnp.tanh(state.target_actor(batch.next_observation, *dropped)) + smoothing, -1.0, 1.0)

    def next_action(self, state: State, batch: Transition, key: Key) -> Array:
        """Draw the actions (B, A) that a bootstrap takes at s'."""
        return self.smoothed(state, batch, jax.random.normal(key, batch.action.shape))

    def bellman_target(self, state: State, batch: Transition, noise: Array, dropped: Dropped = NOTHING) -> Array:
        """y = r + gamma (1 - d) min_j Q'_j(s', a'), (B,)."""
        action = self.smoothed(state, batch, noise, dropped)
        value = jnp.min(state.target_critic(batch.next_observation, action), axis=0)
        return jax.lax.stop_gradient(batch.reward + batch.continues * value)

    def critic_loss(self, critic: Critics, batch: Transition, target: Array) -> tuple[Array, Array]:
        """sum_j mean (Q_j(s, a) - y)^2."""
        q = critic(batch.observation, batch.action)
        return jnp.sum(jnp.mean(jnp.square(q - target), axis=-1)), q

    def actor_loss(self, actor: Network, critic: Critics, batch: Transition) -> tuple[Array, Metrics]:
        """-mean Q_1(s, pi(s))."""
        action = jnp.tanh(actor(batch.observation))
        return -jnp.mean(critic.first(batch.observation, action)), {}

    # -- use ---------------------------------------------------------------------------------------------------

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """The actor's action, with Gaussian noise where it explores, in [-1, 1]: (B, A)."""
        action = jnp.tanh(state.actor.params(observation))
        if not explore:
            return action
        return jnp.clip(action + self.exploration_noise * jax.random.normal(key, action.shape), -1.0, 1.0)

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Smallest of the critics' values, (B,)."""
        return jnp.min(state.critic.params(observation, action), axis=0)


@dataclass(frozen=True)
class TD3BC:
    """TD3 with a behaviour-cloning term: the actor's loss is -lambda mean Q_1 + cloning_weight mean (pi(s) - a)^2."""

    policy: ClassVar[tuple[str, ...]] = ("actor",)
    base: TD3 = field(default_factory=TD3)
    q_weight: Schedule = 2.5
    """alpha; lambda = alpha / mean |Q_1(s, pi(s))|, without a gradient."""
    cloning_weight: Schedule = 1.0
    """Ours: the paper's is 1.  With 0 it is TD3 whose actor's loss does not grow with the values."""

    def __post_init__(self) -> None:
        require(self, q_weight=min(ends(self.q_weight)) >= 0, cloning_weight=min(ends(self.cloning_weight)) >= 0)

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state, which TD3 can take over as it is."""
        return self.base.init(key, spec)

    def update(
        self, state: State, batch: Transition, key: Key, step: Array, maximise: Maximise = own_critics
    ) -> tuple[State, Metrics]:
        """Do one update as TD3 does, with this actor's loss."""
        weights = at(self.q_weight, step), at(self.cloning_weight, step)
        loss: ActorLoss = lambda actor, critic, rows: self.actor_loss(actor, maximise(critic), rows, *weights)  # noqa: E731
        state, metrics = self.base.learn(state, batch, jax.random.normal(key, batch.action.shape), step, loss)
        return state, metrics | reported(step, q_weight=self.q_weight, cloning_weight=self.cloning_weight)

    def next_action(self, state: State, batch: Transition, key: Key) -> Array:
        """Draw the actions (B, A) that a bootstrap takes at s'."""
        return self.base.next_action(state, batch, key)

    def actor_loss(
        self, actor: Network, critic: Critics, batch: Transition, weight: Array | float, cloned: Array | float = 1.0
    ) -> tuple[Array, Metrics]:
        """-alpha mean Q_1 / mean |Q_1| + cloning_weight mean (pi(s) - a)^2 over batch and dimensions."""
        action = jnp.tanh(actor(batch.observation))
        q = critic.first(batch.observation, action)
        scale = jax.lax.stop_gradient(weight / jnp.mean(jnp.abs(q)))
        cloning = jnp.mean(jnp.square(action - batch.action))
        return cloned * cloning - scale * jnp.mean(q), {"cloning_error": cloning}

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """Act as TD3 does."""
        return self.base.act(state, observation, key, explore)

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Smallest of the critics' values, (B,)."""
        return self.base.q(state, observation, action)
