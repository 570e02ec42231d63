"""OPT (Shin et al. 2025, arXiv 2507.08387): a second pair of critics, pre-trained on few online rows,
which the actor maximises together with the offline ones.

Published on TD3 and SPOT; it takes every agent whose actor's critics can be replaced (`Climber`).  The official code
was not available: this follows the paper's equations and a re-implementation that cites the official code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from segue.agents.td3 import TD3
from segue.core.nets import Critics, Maximise, own_critics
from segue.core.optim import Trained, descend, every, polyak, renewed
from segue.core.options import Pace, follows, option, option_of, require
from segue.core.types import Agent, Array, Handover, Key, Metrics, Spec, Transition


class WithCritics(Protocol):
    """A state with twin critics."""

    @property
    def critic(self) -> Trained:
        """The critics that learn."""
        ...


B = TypeVar("B", bound=WithCritics)

READY = 0.7
"""Progress of the new critics from which on the policy may climb them (default of ours): the published 50,000 updates
of a value whose time constant is 40,000 come to 0.71."""


@runtime_checkable
class Climber(Agent[B], Protocol[B]):
    """An agent with twin critics, whose `update` takes what its actor maximises in their place."""

    @property
    def policy(self) -> tuple[str, ...]:
        """Paths of the policy in the state."""
        ...

    def update(
        self, state: B, batch: Transition, key: Key, step: Array, maximise: Maximise = own_critics
    ) -> tuple[B, Metrics]:
        """Do one update of all parts."""
        ...

    def next_action(self, state: B, batch: Transition, key: Key) -> Array:
        """Draw the actions (B, A) that a bootstrap takes at s'."""
        ...


class State(NamedTuple, Generic[B]):
    """The base agent's state and the new critics."""

    base: B
    new: Trained  # Critics
    new_target: Critics
    kappa: Array  # weight of the new critics in what the actor climbs
    began: Array  # mean value of the new critics before their first update


def number_of(base: Climber, own: float | None, name: str) -> float:
    """A number of the new critics: their own, or where it is None that of the base agent's critics."""
    return float(option_of(base, name)) if own is None else own


class Blend(NamedTuple):
    """(1 - kappa) Q_offline + kappa Q_new, critic by critic; called as `Critics` are."""

    offline: Critics
    new: Critics
    kappa: Array

    def first(self, observation: Array, action: Array) -> Array:
        """Blend of the first critics, (B,)."""
        offline, new = (q.first(observation, action) for q in (self.offline, self.new))
        return (1.0 - self.kappa) * offline + self.kappa * new

    def __call__(self, observation: Array, action: Array) -> Array:
        """Blends (E, B) or (E, B, N)."""
        offline, new = (q(observation, action) for q in (self.offline, self.new))
        return (1.0 - self.kappa) * offline + self.kappa * new


def fresh(base: Climber[B], key: Key, spec: Spec) -> State[B]:
    """A base agent that has learned nothing, and new critics like its own."""
    k_base, k_new = jax.random.split(key)
    new = base.init(k_new, spec).critic
    nothing = jnp.asarray(0.0, float)
    return State(base.init(k_base, spec), new, jax.tree.map(jnp.copy, new.params), nothing, nothing)


def bellman_target(target: Critics, batch: Transition, following: Array) -> Array:
    """y = r + gamma (1 - d) min_j Q'_j(s', a'), (B,), no gradient."""
    value = jnp.min(target(batch.next_observation, following), axis=0)
    return jax.lax.stop_gradient(batch.reward + batch.continues * value)


def critic_loss(critic: Critics, batch: Transition, target: Array) -> Array:
    """L = sum_j mean (Q_j(s, a) - y)^2."""
    return jnp.sum(jnp.mean(jnp.square(critic(batch.observation, batch.action) - target), axis=-1))


def trail(target: Critics, new: Trained, rate: float, delay: int, step: Array) -> Critics:
    """Move the new targets towards the new critics in every `delay`-th update."""
    return every(delay, step + 1, lambda t: polyak(t, new.params, rate), target)


def least(critic: Critics, batch: Transition) -> Array:
    """Mean of min_j Q_j(s, a) over a batch."""
    return jnp.mean(jnp.min(critic(batch.observation, batch.action), axis=0))


def progress(state: State[B], batch: Transition) -> Array:
    """How far the new critics have come on a batch, from their first mean value (0) to the offline critics' (1)."""
    there = least(state.base.critic.params, batch) - state.began
    return (least(state.new.params, batch) - state.began) / jnp.where(jnp.abs(there) > 1e-6, there, 1e-6)


def values(base: Climber[B], state: State[B], observation: Array, action: Array) -> Array:
    """(1 - kappa) Q_offline + kappa min_j Q_new, (B,)."""
    new = jnp.min(state.new.params(observation, action), axis=0)
    return (1.0 - state.kappa) * base.q(state.base, observation, action) + state.kappa * new


@dataclass(frozen=True)
class OnlinePretraining:
    """The phase before fine-tuning: only the new critics learn, from equal numbers of logged and own rows, by

        L_off(psi) + w L_on(psi - inner_learning_rate * grad L_off(psi)),        w = min(L_off, L_on) / L_on.

    The gradient passes through the inner step.  The batch holds the logged rows first (`samplers.Halves`).
    """

    base: Climber = field(default_factory=TD3)
    new_learning_rate: float | None = follows("critic_learning_rate", lambda a, pace: a.learning_rate)
    """Learning rate of the new critics; None: that of the base agent's critics."""
    inner_learning_rate: float = 3e-4
    """alpha, the learning rate of the inner step."""
    weigh: bool = True
    """w as above, without a gradient; if false, 1 (the paper's formula; the re-implementation has w)."""
    second_order: bool = True
    """Let the gradient pass through the inner step's gradient."""
    new_target_rate: float | None = follows("target_rate", lambda a, pace: a.target_rate)
    """Polyak rate of the new targets; None: that of the base agent's critics."""
    new_target_delay: int = 2
    """The new targets are updated in every n-th update."""

    def __post_init__(self) -> None:
        require(
            self,
            inner_learning_rate=self.inner_learning_rate >= 0,
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

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state."""
        return fresh(self.base, key, spec)

    def update(self, state: State, batch: Transition, key: Key, step: Array) -> tuple[State, Metrics]:
        """Do one update of the new critics."""
        k_offline, k_online = jax.random.split(key)
        half = batch.reward.shape[0] // 2
        offline, online = (jax.tree.map(lambda x, a=a: x[a : a + half], batch) for a in (0, half))
        noisy = (
            self.base.next_action(state.base, offline, k_offline),
            self.base.next_action(state.base, online, k_online),
        )
        return self.learn(state, offline, online, *noisy, step)

    def learn(
        self, state: State, offline: Transition, online: Transition, a_offline: Array, a_online: Array, step: Array
    ) -> tuple[State, Metrics]:
        """Do one update with the actions (B, A) that follow given (a deterministic function)."""
        y_offline = bellman_target(state.new_target, offline, a_offline)
        y_online = bellman_target(state.new_target, online, a_online)

        def objective(critic: Critics) -> tuple[Array, tuple[Array, Array, Array]]:
            loss_off, slope = jax.value_and_grad(critic_loss)(critic, offline, y_offline)
            slope = slope if self.second_order else jax.lax.stop_gradient(slope)
            fast = jax.tree.map(lambda p, g: p - self.inner_learning_rate * g, critic, slope)
            loss_on = critic_loss(fast, online, y_online)
            weight = jnp.minimum(loss_off, loss_on) / (loss_on + 1e-10) if self.weigh else jnp.ones_like(loss_on)
            weight = jax.lax.stop_gradient(weight)
            return loss_off + weight * loss_on, (loss_off, loss_on, weight)

        (_, (loss_off, loss_on, weight)), gradient = jax.value_and_grad(objective, has_aux=True)(state.new.params)
        new = descend(state.new, self.learning_rate, gradient)
        new_target = trail(state.new_target, new, self.target_rate, self.new_target_delay, step)
        began = jnp.where(step == 0, least(state.new.params, offline), state.began)
        state = state._replace(new=new, new_target=new_target, began=began)
        metrics = {"new_loss_offline": loss_off, "new_loss_online": loss_on, "online_weight": weight}
        metrics |= {"new_q_data": least(new.params, offline), "new_progress": progress(state, offline)}
        return state, metrics

    def remark(self, metrics: Mapping[str, np.ndarray]) -> str | None:
        """Warn where the new critics know less than the offline ones, whose place they begin to take."""
        come = float(np.mean(metrics["new_progress"])) if "new_progress" in metrics else 1.0
        if come >= READY:
            return None
        return (
            f"the new critics have come {100 * max(come, 0.0):.0f} % of the way from their first values to those of "
            "the offline critics, and the policy climbs them from now on; give them more updates, or faster targets "
            "(agent.new_target_rate=0.02 agent.new_target_delay=1)"
        )

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """Act as the base agent does: its policy is frozen."""
        return self.base.act(state.base, observation, key, explore)

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Values of the base agent, (B,)."""
        return values(self.base, state, observation, action)


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


def grow(handover: Handover, state: State) -> State:
    """Put new critics beside what the slot has learned."""
    return state._replace(base=handover.slots[handover.slot].state)


def renew_base(handover: Handover, state: State) -> State:
    """Go on with what the slot has learned, the base agent with new optimisers (OPT on SPOT)."""
    there: State = handover.slots[handover.slot].state
    return there._replace(base=renewed(there.base, state.base))
