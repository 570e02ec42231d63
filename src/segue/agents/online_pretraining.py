"""OPT's phase before fine-tuning (Shin et al. 2025, arXiv 2507.08387): only a second pair of critics learns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np

from segue.agents.second_critics import (
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
from segue.core.nets import Critics
from segue.core.optim import descend
from segue.core.options import follows, require
from segue.core.types import Array, Key, Metrics, Spec, Transition

READY = 0.7
"""Progress of the new critics from which on the policy may climb them (default of ours): the published 50,000 updates
of a value whose time constant is 40,000 come to 0.71."""


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
