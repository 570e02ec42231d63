"""OPT (Shin et al. 2025, arXiv 2507.08387): the actor maximises a second pair of critics, pre-trained on few online
rows, together with the offline ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp

from segue.agents.second_critics import (
    Blend,
    Climber,
    State,
    bellman_target,
    critic_loss,
    fresh,
    least,
    number_of,
    progress,
    trail,
    values,
)
from segue.agents.td3 import TD3
from segue.core.nets import Maximise
from segue.core.optim import descend
from segue.core.options import Pace, follows, option, require
from segue.core.types import Array, Key, Metrics, Spec, Transition


@dataclass(frozen=True)
class OPT:
    """Fine-tuning: both pairs of critics learn from the same batch, each with its own targets, and the actor maximises

        (1 - kappa) Q_offline + kappa Q_new,        kappa rising linearly from `kappa` to `kappa_end`.

    The direction is the paper's; in the released code the default values fall.
    """

    base: Climber = field(default_factory=TD3)
    kappa: float = 0.1
    kappa_end: float = 0.9
    kappa_steps: int = option(
        100_000,
        when=lambda a: a.kappa != a.kappa_end and a.kappa_updates is None,
        why="kappa_end different from kappa, and kappa_updates=none",
    )
    """Environment steps of the whole run after which `kappa_end` is reached (the paper's T_kappa)."""
    kappa_updates: int | None = follows(
        "kappa_steps",
        lambda a, pace: a.rise(pace),
        when=lambda a: a.kappa != a.kappa_end,
        why="kappa_end different from kappa",
    )
    """Updates of the phase after which `kappa_end` is reached; None follows from `kappa_steps`."""
    new_learning_rate: float | None = follows("critic_learning_rate", lambda a, pace: a.learning_rate)
    """Learning rate of the new critics; None: that of the base agent's critics."""
    new_target_rate: float | None = follows("target_rate", lambda a, pace: a.target_rate)
    """Polyak rate of the new targets; None: that of the base agent's critics."""
    new_target_delay: int = 2

    def __post_init__(self) -> None:
        require(
            self,
            kappa=0 <= self.kappa <= 1,
            kappa_end=0 <= self.kappa_end <= 1,
            kappa_steps=self.kappa_steps > 0,
            kappa_updates=self.kappa_updates is None or self.kappa_updates > 0,
            new_learning_rate=self.learning_rate >= 0,
            new_target_rate=0 < self.target_rate <= 1,
            new_target_delay=self.new_target_delay > 0,
        )

    @property
    def learning_rate(self) -> float:
        """Of the new critics."""
        return number_of(self.base, self.new_learning_rate, "critic_learning_rate")

    @property
    def target_rate(self) -> float:
        """Of the new targets."""
        return number_of(self.base, self.new_target_rate, "target_rate")

    @property
    def policy(self) -> tuple[str, ...]:
        """The base agent's."""
        return tuple(f"base.{path}" for path in self.base.policy)

    def rise(self, pace: Pace) -> int:
        """Updates until kappa reaches its end, at least one."""
        return max(round((self.kappa_steps - pace.before) * pace.per_step), 1)

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state."""
        return fresh(self.base, key, spec)._replace(kappa=jnp.asarray(self.kappa, float))

    def at(self, step: Array) -> Array:
        """Kappa of the phase's update number `step`."""
        updates = self.kappa_steps if self.kappa_updates is None else self.kappa_updates
        share = jnp.minimum(jnp.asarray(step, float) / updates, 1.0)
        return self.kappa + share * (self.kappa_end - self.kappa)

    def update(self, state: State, batch: Transition, key: Key, step: Array) -> tuple[State, Metrics]:
        """Do one update of the new critics, then one of the base agent, whose actor maximises the blend."""
        k_following, k_base = jax.random.split(key)
        following = self.base.next_action(state.base, batch, k_following)
        state, metrics = self.learn(state, batch, following, step)
        maximise: Maximise = lambda critic: Blend(critic, state.new.params, state.kappa)  # noqa: E731
        base, learned = self.base.update(state.base, batch, k_base, step, maximise)
        return state._replace(base=base), learned | metrics

    def learn(self, state: State, batch: Transition, following: Array, step: Array) -> tuple[State, Metrics]:
        """Do one update of the new critics with the actions (B, A) that follow given (a deterministic function)."""
        target = bellman_target(state.new_target, batch, following)
        loss, gradient = jax.value_and_grad(critic_loss)(state.new.params, batch, target)
        new = descend(state.new, self.learning_rate, gradient)
        new_target = trail(state.new_target, new, self.target_rate, self.new_target_delay, step)
        kappa = self.at(step)
        state = State(state.base, new, new_target, kappa, state.began)
        metrics = {"new_critic_loss": loss, "new_q_data": least(new.params, batch), "kappa": kappa}
        return state, metrics | {"new_progress": progress(state, batch)}

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """Act as the base agent does."""
        return self.base.act(state.base, observation, key, explore)

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Objective of the actor, with the smaller of each pair, (B,)."""
        return values(self.base, state, observation, action)
