"""Monte-Carlo returns that include a bonus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from segue.bonuses.bonus import Relabelled, Trains, begun
from segue.core.nets import MLP
from segue.core.optim import Trained, descend, polyak, trained
from segue.core.options import require, tunable, usual
from segue.core.types import Array, Bonus, Handover, Key, Slot, Spec, State, Transition, flat


class ReturnsState(NamedTuple):
    """What the bonus has learned, and the value of its sums."""

    inner: State
    value: Trained  # MLP
    target: MLP


@dataclass(frozen=True)
class Returns:
    """A bonus whose discounted sums are also added to the Monte-Carlo returns of a batch.

    A calibrated critic is then bounded by the return of reward and bonus together, V_mc + V_bonus: Cal-QL with a bonus
    in OOO's paper.  Its code computes the sums of the bonuses along each trajectory every ten epochs, but does not
    use them in the bound.  Here a small network learns the sum by temporal differences from the rows of the batch
    (default of ours); it starts at exactly 0.
    """

    inner: Bonus
    value_hidden: tuple[int, ...] = (256, 256)
    value_learning_rate: float = tunable(3e-4)
    value_target_rate: float = tunable(5e-3)

    def __post_init__(self) -> None:
        require(self, **usual(self), value_target_rate=0 < self.value_target_rate <= 1)

    def validate(self, phase: Trains, slots: Mapping[str, Slot], spec: Spec, offline: int) -> str | None:
        """Return why a phase cannot have it: the bonus does not fit."""
        return self.inner.validate(phase, slots, spec, offline)

    def init(self, key: Key, handover: Handover) -> ReturnsState:
        """A value of 0 everywhere; a bonus that the slot has learned with before goes on."""
        k_inner, k_value = jax.random.split(key)
        sizes = (flat(handover.spec, "Returns"), *self.value_hidden, 1)
        value = MLP.create(k_value, sizes, output_gain=0.0)
        start = trained(value, self.value_learning_rate)
        return ReturnsState(begun(self.inner, k_inner, handover), start, jax.tree.map(jnp.copy, value))

    def inside(self, state: ReturnsState) -> list[tuple[Bonus, State]]:
        """Return the bonus with its state."""
        return [(self.inner, state.inner)]

    def reward(self, state: ReturnsState, batch: Transition, key: Key, slot: Slot) -> Relabelled[ReturnsState]:
        """Let the bonus be paid, learn its sums, and add them to the returns."""
        inner, paid, metrics = self.inner.reward(state.inner, batch, key, slot)
        following = state.target(batch.next_observation)[..., 0]
        target = jax.lax.stop_gradient(paid.reward - batch.reward + batch.continues * following)

        def loss(value: MLP) -> Array:
            return jnp.mean(jnp.square(value(batch.observation)[..., 0] - target))

        value = descend(state.value, self.value_learning_rate, jax.grad(loss)(state.value.params))
        bonus_return = jax.lax.stop_gradient(value.params(batch.observation)[..., 0])
        moved = ReturnsState(inner, value, polyak(state.target, value.params, self.value_target_rate))
        paid = paid._replace(mc_return=paid.mc_return + bonus_return)
        return moved, paid, metrics | {"bonus_return": jnp.mean(bonus_return)}
