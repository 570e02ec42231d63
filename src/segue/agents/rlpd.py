"""RLPD (Ball et al. 2023, arXiv 2302.02948), as in its official code, and the online agent of WSRL
(Zhou et al. 2024, arXiv 2412.07762), which has other options.

One update here is `critic_updates` updates of the critics on equal parts of the batch, then one of the actor and of
the temperature.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from segue.agents.soft import TemperatureForm, backup, drifted, raw_temperature, valued
from segue.core.layers import Initialiser
from segue.core.nets import Critics, TanhGaussian, squash, squashed_log_density
from segue.core.networks import PUBLISHED, Networks, ours
from segue.core.optim import Trained, descend, polyak
from segue.core.options import option, require, usual
from segue.core.types import Array, Key, Metrics, SegueError, Spec, Transition

NEARLY = 1.0 - 1e-5  # a squashed policy has no finite density of an action at 1


class State(NamedTuple):
    """What RLPD carries."""

    actor: Trained  # TanhGaussian
    critic: Trained  # Critics
    target: Critics
    temperature: Trained  # a scalar, see `RLPD.alpha`


class Noise(NamedTuple):
    """Draws of one update: U critic updates on b rows each, the actor on n."""

    target: Array  # (U, b, A) or (U, b, N, A), standard normal
    subset: Array  # (U, M), indices of target critics
    actor: Array  # (n, A), standard normal
    following: Array  # (n, A), standard normal: actions at s' for the temperature (WSRL)


@dataclass(frozen=True)
class RLPD:
    """Hyper-parameters of RLPD; the defaults are the official ones for locomotion."""

    weighs: ClassVar[bool] = True  # `Transition.weight`
    policy: ClassVar[tuple[str, ...]] = ("actor",)
    actor_hidden: tuple[int, ...] = ours((256, 256), "actor")
    critic_hidden: tuple[int, ...] = ours((256, 256), "critic")
    critics: int = 10
    actor_layer_norm: bool = ours(False, "actor")
    critic_layer_norm: bool = ours(True, "critic")
    networks: Networks = PUBLISHED
    initialiser: Initialiser = ours("xavier", "actor", "critic")
    output_gain: float = option(1.0, when=lambda a: a.initialiser != "xavier", why="another initialiser than xavier")
    learn_log_std_scale: bool = False
    """Learn a factor and an offset of the raw log standard deviation, as SAC here does."""
    actor_learning_rate: float = 3e-4
    critic_learning_rate: float = 3e-4
    temperature_learning_rate: float = 3e-4
    weight_decay: float = 0.0
    """Weight decay of the critics."""
    target_rate: float = 5e-3
    critic_updates: int = 20
    """Updates of the critics in one update, each on an equal part of the batch."""
    subset: int = 2
    """Number of target critics that the bootstrap takes, drawn for every update of the critics."""
    target_value: Literal["min", "mean"] = "min"
    """What the bootstrap takes of them (Q-chunking's RLPD: the mean of all)."""
    subset_replacement: bool = False
    """Draw the subset of critics with replacement (WSRL's code)."""
    target_samples: int = 1
    """Actions per next observation; above 1 the backup takes the best of them (WSRL on AntMaze)."""
    backup_entropy: bool = True
    actor_value: Literal["mean", "min"] = "mean"
    """Objective of the actor: the mean of the critics (RLPD), or their minimum (WSRL)."""
    actor_rows: Literal["last", "all"] = "last"
    """Rows that the actor learns from: the last part (RLPD), or the whole batch (WSRL)."""
    temperature: float = 1.0
    target_entropy: float | None = None
    """None means minus `entropy_share` times the number of action dimensions."""
    entropy_share: float = option(0.5, when=lambda a: a.target_entropy is None, why="target_entropy=none")
    """Share of the number of actions in the default target entropy: a half in RLPD, 1 in WSRL and SAC."""
    temperature_loss: TemperatureForm = "exp"
    """exp: alpha = exp(x), entropy at s (RLPD); softplus: alpha = softplus(x), entropy at s' (WSRL)."""
    cloning_weight: float = 0.0
    """Weight of -mean log pi(a|s) of the batch's actions in the actor's loss (QC-RLPD: 0.01)."""
    simultaneous: bool = False
    """All losses see the parameters from before the update, and targets move towards the critics from before it, as in
    Q-chunking's code (with critic_updates=1)."""
    drift: bool = False
    """Let the optimisers' momentum move actor and temperature in the critics' updates too, as in WSRL's release."""

    def __post_init__(self) -> None:
        require(
            self,
            **usual(self),
            weight_decay=self.weight_decay >= 0,
            critic_updates=self.critic_updates > 0,
            subset=0 < self.subset <= self.critics,
            cloning_weight=self.cloning_weight >= 0,
        )

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state; targets start as copies of the critics."""
        k_actor, k_critic = jax.random.split(key)
        nets: dict[str, Any] = {"networks": self.networks, "initialiser": self.initialiser}
        nets |= {"output_gain": self.output_gain}
        scale = {"log_std_multiplier": 1.0, "log_std_offset": 0.0}
        actor = TanhGaussian.create(k_actor, spec, self.actor_hidden, layer_norm=self.actor_layer_norm, **scale, **nets)
        critic = Critics.create(
            k_critic, spec, self.critic_hidden, self.critics, layer_norm=self.critic_layer_norm, **nets
        )
        raw = raw_temperature(jnp.asarray(self.temperature, float), self.temperature_loss)
        return State(
            self.networks.trained(actor, self.actor_learning_rate),
            self.networks.trained(critic, self.critic_learning_rate, 0, self.weight_decay),
            jax.tree.map(jnp.copy, critic),
            self.networks.trained(raw, self.temperature_learning_rate),
        )

    def update(self, state: State, batch: Transition, key: Key, step: Array) -> tuple[State, Metrics]:
        """Do one update; part i holds the rows i, i + U, i + 2U, ... of the batch, and so its share of the dataset."""
        count, rest = divmod(batch.action.shape[0], self.critic_updates)
        if rest:
            raise SegueError(
                f"a batch of {batch.action.shape[0]} rows cannot be cut into critic_updates={self.critic_updates} "
                "equal parts; change one of them"
            )
        parts = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(count, -1, *x.shape[1:]), 0, 1), batch)
        return self.learn(state, parts, self.draw(key, parts.action))

    def draw(self, key: Key, action: Array) -> Noise:
        """Draw an update's noise for parts (U, b, A)."""
        k_target, k_subset, k_actor, k_following = jax.random.split(key, 4)
        (updates, rows, size), n = action.shape, self.target_samples
        choose = lambda k: jax.random.choice(k, self.critics, (self.subset,), self.subset_replacement)  # noqa: E731
        seen = (rows if self.actor_rows == "last" else updates * rows, size)
        return Noise(
            jax.random.normal(k_target, (updates, rows, size) if n == 1 else (updates, rows, n, size)),
            jax.vmap(choose)(jax.random.split(k_subset, updates)),
            jax.random.normal(k_actor, seen),
            jax.random.normal(k_following, seen),
        )

    def learn(self, state: State, parts: Transition, noise: Noise) -> tuple[State, Metrics]:
        """Do one update on parts (U, b, ...) with the noise given (a deterministic function)."""

        def critics(carry: State, xs: tuple[Transition, Array, Array]) -> tuple[State, Metrics]:
            return self.improve_critics(carry, *xs)

        before = state.critic.params
        state, metrics = jax.lax.scan(critics, state, (parts, noise.target, noise.subset))
        last = jax.tree.map(lambda x: x[-1], parts)
        rows = last if self.actor_rows == "last" else jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), parts)
        state, actor_metrics = self.improve_actor(state, rows, noise, before if self.simultaneous else None)
        return state, jax.tree.map(jnp.mean, metrics) | actor_metrics

    # -- losses ------------------------------------------------------------------------------------------------

    def alpha(self, raw: Array) -> Array:
        """Entropy temperature (scalar)."""
        return jnp.exp(raw) if self.temperature_loss == "exp" else jax.nn.softplus(raw)

    def bellman_target(self, state: State, batch: Transition, noise: Array, subset: Array) -> Array:
        """y = r + gamma (1 - d) [value of the subset's Q'(s', a') - alpha log pi(a'|s') if backup_entropy], (B,)."""
        mean, std = state.actor.params(batch.next_observation)
        if noise.ndim == 3:
            mean, std = mean[:, None], std[:, None]
        action, log_density = squash(mean, std, noise)
        chosen = state.target if self.subset == self.critics else state.target.only(subset)
        reduce = jnp.mean if self.target_value == "mean" else jnp.min
        value = reduce(chosen(batch.next_observation, action), axis=0)
        alpha = self.alpha(state.temperature.params) if self.backup_entropy else 0.0
        return jax.lax.stop_gradient(backup(batch, value, log_density, alpha))

    def improve_critics(self, state: State, batch: Transition, noise: Array, subset: Array) -> tuple[State, Metrics]:
        """One step of the critics along mean over members and rows of weight (Q_j(s, a) - y)^2, then of the targets."""
        target = self.bellman_target(state, batch, noise, subset)

        def critic_loss(critic: Critics) -> tuple[Array, Array]:
            q = critic(batch.observation, batch.action)
            error = jnp.square(q - target)
            return jnp.mean(error if batch.weight is None else error * batch.weight), q

        (loss, q), gradient = jax.value_and_grad(critic_loss, has_aux=True)(state.critic.params)
        critic = descend(state.critic, self.critic_learning_rate, gradient, 0, self.weight_decay)
        slow = polyak(state.target, (state.critic if self.simultaneous else critic).params, self.target_rate)
        state = state._replace(critic=critic, target=slow)
        if self.drift:
            temperature = drifted(state.temperature, self.temperature_learning_rate)
            state = state._replace(actor=drifted(state.actor, self.actor_learning_rate), temperature=temperature)
        return state, {"critic_loss": loss, "q_data": jnp.mean(q), "td_target": jnp.mean(target)}

    def improve_actor(
        self, state: State, batch: Transition, noise: Noise, critic: Critics | None = None
    ) -> tuple[State, Metrics]:
        """One step of the actor along mean(alpha log pi(a|s) - Q(s, a)) - cloning_weight mean log pi(logged a|s), and
        of the temperature; `critic` are critics to climb other than the state's."""
        climbed = state.critic.params if critic is None else critic
        raw = state.temperature.params
        alpha, reduce = self.alpha(raw), jnp.mean if self.actor_value == "mean" else jnp.min

        def actor_loss(actor: TanhGaussian) -> tuple[Array, Array]:
            mean, std = actor(batch.observation)
            action, log_density = squash(mean, std, noise.actor)
            loss = jnp.mean(alpha * log_density - reduce(climbed(batch.observation, action), axis=0))
            if self.cloning_weight:
                logged = jnp.arctanh(jnp.clip(batch.action, -NEARLY, NEARLY))
                loss -= self.cloning_weight * jnp.mean(squashed_log_density(mean, std, logged))
            return loss, log_density

        (loss, log_density), gradient = jax.value_and_grad(actor_loss, has_aux=True)(state.actor.params)
        if not self.learn_log_std_scale:
            gradient = TanhGaussian(gradient.network, jnp.zeros(()), jnp.zeros(()))
        measured = entropy = -jnp.mean(log_density)
        if self.temperature_loss == "softplus":
            mean, std = state.actor.params(batch.next_observation)
            measured = -jnp.mean(squash(mean, std, noise.following)[1])
        goal = -self.entropy_share * batch.action.shape[-1] if self.target_entropy is None else self.target_entropy
        slope = jax.grad(lambda x: self.alpha(x) * jax.lax.stop_gradient(measured - goal))(raw)
        actor: Trained = descend(state.actor, self.actor_learning_rate, gradient)
        if not self.learn_log_std_scale:  # moments of another phase would still move them
            was = state.actor.params
            kept = TanhGaussian(actor.params.network, was.log_std_multiplier, was.log_std_offset)
            actor = actor._replace(params=kept)
        temperature = descend(state.temperature, self.temperature_learning_rate, slope)
        said = {"actor_loss": loss, "temperature": alpha, "entropy": entropy}
        return state._replace(actor=actor, temperature=temperature), said

    # -- use ---------------------------------------------------------------------------------------------------

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """Sample from the policy, or return tanh of its mean: (B, A)."""
        mean, std = state.actor.params(observation)
        return jnp.tanh(mean + std * jax.random.normal(key, mean.shape) if explore else mean)

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Mean or least of the critics' values, as the actor sees them, (B,)."""
        reduce = jnp.mean if self.actor_value == "mean" else jnp.min
        return reduce(state.critic.params(observation, action), axis=0)

    def valued(self, state: State, observation: Array, key: Key) -> tuple[Array, Array]:
        """The action that a backup takes, (B, A), and -alpha log pi(a|s), (B,): 0 where it counts no entropy."""
        alpha = self.alpha(state.temperature.params) if self.backup_entropy else 0.0
        return valued(state.actor.params, partial(self.q, state), alpha, self.target_samples, observation, key)
