"""Random network distillation (Burda et al. 2018, arXiv 1810.12894), in the form of OOO's code.

A predictor learns the output of a fixed random network for next observations; a large error means that the observation
is new.

Two details of OOO's form are kept because its weights were chosen with them.  The bonus is divided by the running
standard deviation of the *already divided* bonus, whose fixed point is the root of the raw spread and not 1
(`spread="divided"`); and the running moments that *next* observations are normalised with are those of observations.
`textbook()` has neither, and takes the mean error over features instead of the largest.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from segue.bonuses.bonus import Moments, no_moments, paid
from segue.core.layers import Initialiser
from segue.core.nets import MLP
from segue.core.optim import Trained, descend, trained
from segue.core.options import require, tunable
from segue.core.types import Array, Handover, Key, Metrics, Slot, Spec, Transition, flat, refused


class State(NamedTuple):
    """State of RND."""

    predictor: Trained  # MLP
    target: MLP
    observation: Moments
    bonus: Moments
    updates: Array  # int32


@dataclass(frozen=True)
class RND:
    """Hyper-parameters of RND; the defaults are those of OOO's IQL variant."""

    weight: float = tunable(10.0)
    """lambda: 10 on kitchen, AntMaze and maze2d, 0.5 on Adroit."""
    hidden: tuple[int, ...] = (512,)
    features: int = 512
    initialiser: Initialiser = "orthogonal"
    output_gain: float = 2.0**0.5
    learning_rate: float = tunable(1e-4)
    update_share: float = tunable(0.25)
    """Share of a batch's rows that the predictor learns from, drawn anew each time."""
    clip: float = tunable(5.0)
    """Bound of normalised observations."""
    error: Literal["largest", "mean"] = "largest"
    """Reduction of the squared errors over features."""
    moments_of: Literal["observation", "next_observation"] = "observation"
    spread: Literal["divided", "raw"] = "divided"
    """Source of the running variance that divides the bonus."""
    before_learning: bool = tunable(False)
    """The bonus is the predictor's error before its step (OOO's RLPD variant) instead of after it."""
    epsilon: float = tunable(1e-8)
    """Added to variances (ours: a constant dimension divides by 0 otherwise)."""
    frozen_after: int | None = tunable(None)
    """Updates after which the networks are frozen: in OOO's Cal-QL variant, by mistake, 3."""

    def __post_init__(self) -> None:
        require(
            self,
            weight=self.weight >= 0,
            hidden=all(n > 0 for n in self.hidden),
            features=self.features > 0,
            update_share=0 < self.update_share <= 1,
            clip=self.clip > 0,
            epsilon=self.epsilon >= 0,
            frozen_after=self.frozen_after is None or self.frozen_after >= 0,
        )

    def validate(self, phase: object, slots: Mapping[str, Slot], spec: Spec, offline: int) -> str | None:
        """Return why a phase cannot have this bonus: it takes flat observations."""
        return refused(spec, "rnd")

    def init(self, key: Key, handover: Handover) -> State:
        """Two networks that know nothing of each other."""
        k_predictor, k_target = jax.random.split(key)
        size = flat(handover.spec, "rnd")
        sizes = (size, *self.hidden, self.features)
        create = partial(MLP.create, sizes=sizes, initialiser=self.initialiser, output_gain=self.output_gain)
        return State(
            trained(create(k_predictor), self.learning_rate),
            create(k_target),
            no_moments((size,)),
            no_moments(()),
            jnp.int32(0),
        )

    def reward(self, state: State, batch: Transition, key: Key, slot: Slot) -> tuple[State, Transition, Metrics]:
        """Learn from a batch and add weight * bonus to its rewards."""
        learned, bonus, loss = self.learn(state, batch, jax.random.uniform(key, batch.reward.shape))
        if self.frozen_after is not None:
            going = state.updates < self.frozen_after
            learned = jax.tree.map(lambda new, old: jnp.where(going, new, old), learned, state)
        batch, metrics = paid(batch, self.weight * bonus, "rnd")
        return learned, batch, metrics | {"rnd_loss": loss}

    def learn(self, state: State, batch: Transition, uniform: Array) -> tuple[State, Array, Array]:
        """One step of everything, the bonuses (B,) without weight, and the loss; uniform draws (B,) choose the rows."""
        seen = self.normalise(state.observation, batch.next_observation)
        loss, gradient = jax.value_and_grad(self.loss)(
            state.predictor.params, state.target, seen, uniform < self.update_share
        )
        predictor = descend(state.predictor, self.learning_rate, gradient)
        judge = state.predictor if self.before_learning else predictor
        raw = self.novelty(judge.params, state.target, seen)
        bonus = raw / jnp.sqrt(state.bonus.variance + self.epsilon)
        moved = State(
            predictor,
            state.target,
            state.observation.take(getattr(batch, self.moments_of)),
            state.bonus.take(bonus if self.spread == "divided" else raw),
            state.updates + 1,
        )
        return moved, bonus, loss

    def normalise(self, moments: Moments, observation: Array) -> Array:
        """clip((s - mean) / std), (B, O)."""
        return jnp.clip((observation - moments.mean) / jnp.sqrt(moments.variance + self.epsilon), -self.clip, self.clip)

    def loss(self, predictor: MLP, target: MLP, seen: Array, chosen: Array) -> Array:
        """Mean squared error of the features, over the chosen rows (B,)."""
        error = jnp.mean(jnp.square(predictor(seen) - target(seen)), axis=-1)
        return jnp.sum(error * chosen) / jnp.maximum(jnp.sum(chosen), 1)

    def novelty(self, predictor: MLP, target: MLP, seen: Array) -> Array:
        """The largest (or the mean) squared error over the features, (B,)."""
        error = jnp.square(predictor(seen) - target(seen))
        return jnp.max(error, axis=-1) if self.error == "largest" else jnp.mean(error, axis=-1)


def textbook(weight: float = 1.0) -> RND:
    """RND as its paper has it: mean error, moments of what is normalised, and a bonus whose spread is 1.

    The paper divides by the spread of discounted sums of bonuses along roll-outs; replay has none, so bonuses
    themselves are measured (default of ours).
    """
    return RND(weight=weight, error="mean", moments_of="next_observation", spread="raw")
