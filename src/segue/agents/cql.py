"""Conservative Q-learning, CQL(H) (Kumar et al. 2020, arXiv 2006.04779), as in the release of Cal-QL."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from segue.agents import sac
from segue.agents.conservative import Calibration, Candidates, blocks, soft_maximum, uncalibrated
from segue.agents.sac import SAC
from segue.agents.soft import choose
from segue.core.nets import Critics, Maximise, own_critics, squash
from segue.core.optim import Trained, descend, mean_over_blocks, polyak
from segue.core.options import option, require, usual
from segue.core.schedules import START, Schedule, at, ends, reported
from segue.core.types import Array, Key, Metrics, Spec, Transition


class State(NamedTuple):
    """SAC's state and the logarithm of the Lagrange multiplier."""

    sac: sac.State
    multiplier: Trained  # log alpha', a scalar

    @property
    def critic(self) -> Trained:
        """The critics that learn, SAC's."""
        return self.sac.critic


class Noise(NamedTuple):
    """Draws of one update; all standard normal except `random`, which is uniform in [-1, 1]."""

    actor: Array  # (B, A)
    target: Array  # (B, A) or (B, N, A)
    random: Array  # (B, N, A)
    next: Array  # (B, N, A): policy actions at the next observation, valued at the current one
    current: Array  # (B, N, A)
    subset: Array | None = None  # (M,), indices of the bootstrap's target critics; None is all of them
    penalised: Array | None = None  # (M,), indices of the critics that the conservative term sees


@dataclass(frozen=True)
class CQL:
    """Hyper-parameters of CQL; the defaults are the AntMaze settings of Cal-QL's release."""

    policy: ClassVar[tuple[str, ...]] = ("sac.actor",)
    base: SAC = field(
        default_factory=lambda: SAC(
            critic_hidden=(256, 256, 256, 256),
            actor_learning_rate=1e-4,
            temperature_learning_rate=1e-4,
            target_samples=10,
        )
    )
    conservative_weight: Schedule = 5.0
    """w, the weight of the conservative term (also inside the Lagrangian)."""
    samples: int = 10
    """N actions of each kind (uniform, policy at s, policy at s')."""
    importance_sampling: bool = True
    soft_maximum_temperature: float = 1.0
    lagrange: bool = True
    """Learn a multiplier alpha' that keeps the conservative gap at `gap`."""
    gap: float = option(0.8, when=lambda a: a.lagrange, why="lagrange=true")
    log_multiplier: float = option(1.0, when=lambda a: a.lagrange, why="lagrange=true")
    """Initial log alpha'."""
    penalised: int = 0
    """Number of critics in the conservative term, drawn for every update as in `subset`; 0 is all.

    The weight is for all critics in both cases: the mean over the drawn critics counts for each (WSRL's pre-training).
    """
    clip_minimum: float = -jnp.inf
    clip_maximum: float = jnp.inf

    def __post_init__(self) -> None:
        require(
            self,
            **usual(self),
            conservative_weight=min(ends(self.conservative_weight)) >= 0,
            soft_maximum_temperature=self.soft_maximum_temperature > 0,
            penalised=0 <= self.penalised <= self.base.critics,
        )

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state."""
        multiplier = self.base.networks.trained(jnp.asarray(self.log_multiplier, float), self.base.critic_learning_rate)
        return State(self.base.init(key, spec), multiplier)

    def update(
        self,
        state: State,
        batch: Transition,
        key: Key,
        step: Array,
        maximise: Maximise = own_critics,
        calibrate: Calibration = uncalibrated,
    ) -> tuple[State, Metrics]:
        """Do one update of all parts; all losses are taken at the same old parameters."""
        return self.learn(state, batch, self.draw(key, batch.action), maximise, step, calibrate)

    def next_action(self, state: State, batch: Transition, key: Key) -> Array:
        """Draw the actions (B, A) that a bootstrap takes at s'."""
        return self.act(state, batch.next_observation, key, True)

    def draw(self, key: Key, action: Array) -> Noise:
        """Draw an update's noise for a batch of actions (B, A)."""
        k_actor, k_target, k_random, k_next, k_current = jax.random.split(key, 5)
        shape = (action.shape[0], self.samples, action.shape[1])
        return Noise(
            jax.random.normal(k_actor, action.shape),
            self.base.draw_target(k_target, action),
            jax.random.uniform(k_random, shape, minval=-1.0, maxval=1.0),
            jax.random.normal(k_next, shape),
            jax.random.normal(k_current, shape),
            choose(key, 0, self.base.critics, self.base.subset, self.base.subset_replacement),
            choose(key, 1, self.base.critics, self.penalised, self.base.subset_replacement),
        )

    def learn(
        self,
        state: State,
        batch: Transition,
        noise: Noise,
        maximise: Maximise = own_critics,
        step: Array = START,
        calibrate: Calibration = uncalibrated,
    ) -> tuple[State, Metrics]:
        """Do one update with the noise given (a deterministic function)."""
        base, weight = state.sac, at(self.conservative_weight, step)
        target = self.base.bellman_target(base, batch, noise.target, noise.subset)
        actions, log_densities = self.candidates(state, batch, noise)
        loss = jax.value_and_grad(self.critic_loss, has_aux=True)
        multiplier = self.multiplier(state.multiplier.params)
        known = jnp.mean(~jnp.isnan(batch.mc_return), dtype=target.dtype)
        (_, (gap, metrics)), gradient = mean_over_blocks(
            lambda rows: loss(base.critic.params, *rows, multiplier, weight, noise.penalised, known, calibrate),
            (batch, target, actions, log_densities),
            blocks(batch.action.shape[0]),
        )
        critic = descend(base.critic, self.base.critic_learning_rate, gradient)
        actor, temperature, actor_metrics = self.base.improve(base, batch, noise.actor, maximise)
        learned = state.multiplier
        if self.lagrange:
            slope = jax.grad(self.multiplier_loss)(learned.params, gap, weight)
            learned = descend(learned, self.base.critic_learning_rate, slope)
            metrics = metrics | {"multiplier": multiplier}
        target_critic = polyak(base.target, critic.params, self.base.target_rate)
        metrics |= actor_metrics | reported(step, conservative_weight=self.conservative_weight)
        base = base._replace(actor=actor, critic=critic, target=target_critic, temperature=temperature)
        return State(base, learned), metrics

    # -- losses ------------------------------------------------------------------------------------------------

    def candidates(self, state: State, batch: Transition, noise: Noise) -> tuple[Candidates, Candidates]:
        """Actions (B, N, A) of the three kinds and their log-densities (B, N); no gradient reaches the actor."""

        def policy(observation: Array, draws: Array) -> tuple[Array, Array]:
            mean, std = state.sac.actor.params(observation)
            return squash(mean[:, None], std[:, None], draws)

        following, log_following = policy(batch.next_observation, noise.next)
        current, log_current = policy(batch.observation, noise.current)
        log_uniform = jnp.full_like(log_current, -batch.action.shape[-1] * jnp.log(2.0))
        return jax.lax.stop_gradient(
            (Candidates(noise.random, following, current), Candidates(log_uniform, log_following, log_current))
        )

    def critic_loss(
        self,
        critic: Critics,
        batch: Transition,
        target: Array,
        actions: Candidates,
        log_densities: Candidates,
        multiplier: Array,
        weight: Array | float,
        penalised: Array | None = None,
        known: Array | None = None,
        calibrate: Calibration = uncalibrated,
    ) -> tuple[Array, tuple[Array, Metrics]]:
        """sum_j mean (Q_j(s, a) - y)^2 + C_j, with C_j the conservative term of `penalty`; `known` as in its gap."""
        cuts = [self.samples, 2 * self.samples]
        if penalised is None:
            every_action = jnp.concatenate([batch.action[:, None], *actions], axis=1)
            both = critic(batch.observation, every_action)
            q_data, sampled = both[..., 0], both[..., 1:]
            seen = q_data
        else:
            chosen = critic.only(penalised)
            q_data = critic(batch.observation, batch.action)
            sampled, seen = chosen(batch.observation, jnp.concatenate(actions, axis=1)), q_data[penalised]
        values = Candidates(*jnp.split(sampled, cuts, axis=-1))
        bellman = jnp.mean(jnp.square(q_data - target), axis=-1)
        gap, metrics = self.conservative_gap(seen, values, log_densities, batch.mc_return, known, calibrate)
        loss = jnp.sum(bellman) + len(bellman) * jnp.mean(self.penalty(gap, multiplier, weight))
        metrics |= {"critic_loss": jnp.sum(bellman), "q_data": jnp.mean(q_data), "td_target": jnp.mean(target)}
        return loss, (gap, metrics)

    def conservative_gap(
        self,
        q_data: Array,
        values: Candidates,
        log_densities: Candidates,
        mc_return: Array,
        known: Array | None = None,
        calibrate: Calibration = uncalibrated,
    ) -> tuple[Array, Metrics]:
        """Delta_j = mean clip(soft maximum over sampled actions - Q_j(s, a_data)), (E,), from q_data (E, B).

        A row whose return is not known yet (NaN: its episode is open) is not bounded, and left out of the rates of
        values below it.  `known` is the share of the others in the whole batch, of which these may be a part.
        """
        least = jnp.where(jnp.isnan(mc_return), -jnp.inf, mc_return)[:, None]
        share = jnp.mean(~jnp.isnan(mc_return), dtype=least.dtype) if known is None else known
        below = {"next": values.next < least, "current": values.current < least}
        metrics = {f"bound_rate_{name}": jnp.mean(x, dtype=least.dtype) / share for name, x in below.items()}
        values = calibrate(values, least)
        most = soft_maximum(q_data, values, log_densities, self.soft_maximum_temperature, self.importance_sampling)
        gap = jnp.mean(jnp.clip(most - q_data, self.clip_minimum, self.clip_maximum), axis=-1)
        spread = jnp.std(jnp.concatenate([*values, q_data[..., None]], axis=-1), axis=-1)
        return gap, metrics | {"conservative_gap": jnp.mean(gap), "q_spread": jnp.mean(spread)}

    def multiplier(self, log_multiplier: Array) -> Array:
        """alpha' = clip(exp(log alpha'), 0, 1e6)."""
        return jnp.clip(jnp.exp(log_multiplier), 0.0, 1e6)

    def penalty(self, gap: Array, multiplier: Array, weight: Array | float) -> Array:
        """C_j = w Delta_j, or alpha' w (Delta_j - gap) with a multiplier; (E,)."""
        return multiplier * weight * (gap - self.gap) if self.lagrange else weight * gap

    def multiplier_loss(self, log_multiplier: Array, gap: Array, weight: Array | float) -> Array:
        """-mean_j C_j: the multiplier falls while the gap is smaller than wanted."""
        return -jnp.mean(self.penalty(jax.lax.stop_gradient(gap), self.multiplier(log_multiplier), weight))

    # -- use ---------------------------------------------------------------------------------------------------

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """Act as SAC does."""
        return self.base.act(state.sac, observation, key, explore)

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Smallest of the critics' values, (B,)."""
        return self.base.q(state.sac, observation, action)

    def valued(self, state: State, observation: Array, key: Key) -> tuple[Array, Array]:
        """What SAC's backup takes: (B, A) and (B,)."""
        return self.base.valued(state.sac, observation, key)
