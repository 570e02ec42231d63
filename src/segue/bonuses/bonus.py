"""How a bonus is added and measured, and how two bonuses are combined."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp

from segue.core.options import alike
from segue.core.types import Array, Bonus, Handover, Key, Learner, Metrics, Slot, Spec, State, Transition

S = TypeVar("S")
Relabelled = tuple[S, Transition, Metrics]
"""A state of type S, a batch with other rewards, and what is to be said of it."""


class Trains(Protocol):
    """A phase, as far as a bonus asks: who learns, and in which slot."""

    learner: Learner
    slot: str


class Moments(NamedTuple):
    """Running mean, variance and number of rows; they start at 0, 1 and 1e-4."""

    mean: Array
    variance: Array
    rows: Array

    def take(self, x: Array) -> Moments:
        """Join the moments of a batch (B, ...), population variance (the parallel rule of Chan et al.)."""
        new, mean, variance = x.shape[0], jnp.mean(x, axis=0), jnp.var(x, axis=0)
        rows, difference = self.rows + new, mean - self.mean
        squares = self.variance * self.rows + variance * new + difference**2 * self.rows * new / rows
        return Moments(self.mean + difference * new / rows, squares / rows, rows)


def no_moments(shape: tuple[int, ...]) -> Moments:
    """Return the moments of nothing yet."""
    return Moments(jnp.zeros(shape), jnp.ones(shape), jnp.asarray(1e-4, float))


def paid(batch: Transition, bonus: Array, name: str) -> tuple[Transition, Metrics]:
    """Add bonuses (B,) to a batch's rewards, and say how large they are.

    Metrics: the mean, the standard deviation over the batch, and the share |bonus| / (|bonus| + |reward|) of means.
    """
    bonus = jax.lax.stop_gradient(bonus)
    size, other = jnp.mean(jnp.abs(bonus)), jnp.mean(jnp.abs(batch.reward))
    metrics = {
        f"{name}_bonus": jnp.mean(bonus),
        f"{name}_bonus_spread": jnp.std(bonus),
        f"{name}_bonus_share": size / jnp.maximum(size + other, jnp.finfo(bonus.dtype).tiny),
    }
    return batch._replace(reward=batch.reward + bonus), metrics


@runtime_checkable
class Composite(Protocol):
    """A bonus that is made of others."""

    def inside(self, state: State) -> list[tuple[Bonus, State]]:
        """Return its parts, each with its part of the state."""


def begun(bonus: Bonus, key: Key, handover: Handover) -> State:
    """State of a bonus at the beginning of a phase: the state of an equal bonus in the slot, or a fresh one.

    The state of a bonus is not part of the learner, so it is kept at any hand-over.
    """
    before = handover.slots.get(handover.slot)
    known = [] if before is None or before.bonus is None else _learned(before.bonus, before.learned.bonus)
    going_on = [state for one, state in known if alike(one, bonus)]
    return going_on[0] if going_on else bonus.init(key, handover)


def _learned(bonus: Bonus, state: State) -> list[tuple[Bonus, State]]:
    """A bonus and all that it is made of, each with its state."""
    inner = bonus.inside(state) if isinstance(bonus, Composite) else []
    return [(bonus, state), *(found for part in inner for found in _learned(*part))]


@dataclass(frozen=True)
class Both:
    """Two bonuses on the same batch: each sees the true rewards, and both are added."""

    first: Bonus
    second: Bonus

    def validate(self, phase: Trains, slots: Mapping[str, Slot], spec: Spec, offline: int) -> str | None:
        """Return why a phase cannot have one of the two."""
        return self.first.validate(phase, slots, spec, offline) or self.second.validate(phase, slots, spec, offline)

    def init(self, key: Key, handover: Handover) -> State:
        """Their states; one that the slot has learned with before goes on."""
        k_first, k_second = jax.random.split(key)
        return begun(self.first, k_first, handover), begun(self.second, k_second, handover)

    def inside(self, state: State) -> list[tuple[Bonus, State]]:
        """Return the two with their states."""
        return list(zip((self.first, self.second), state, strict=True))

    def reward(self, state: State, batch: Transition, key: Key, slot: Slot) -> Relabelled[State]:
        """Let both rewrite the batch and add what they changed."""
        k_first, k_second = jax.random.split(key)
        first, one, metrics = self.first.reward(state[0], batch, k_first, slot)
        second, two, more = self.second.reward(state[1], batch, k_second, slot)
        reward = one.reward + (two.reward - batch.reward)
        mc_return = one.mc_return + (two.mc_return - batch.mc_return)
        return (first, second), batch._replace(reward=reward, mc_return=mc_return), metrics | more
