"""Bounds of bootstrap values that a state carries: one pair of numbers per seed."""

from __future__ import annotations

from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from segue.core.types import Array

T = TypeVar("T")


class Bounds(NamedTuple):
    """What bootstrap values are kept within; scalars."""

    low: Array
    high: Array

    def keep(self, value: Array, minimum: float, maximum: float) -> Array:
        """Values within these bounds and those of two options, the tighter ones on either side."""
        return jnp.clip(value, jnp.maximum(self.low, minimum), jnp.minimum(self.high, maximum))


def unbounded() -> Bounds:
    """Bounds that no value reaches: the largest finite numbers, because states must be finite."""
    most = float(jnp.finfo(jnp.float32).max)
    return Bounds(jnp.asarray(-most, float), jnp.asarray(most, float))


def within(state: T, bounds: Bounds) -> T | None:
    """A state with other bounds, wherever they stand in it; None where it has none."""
    bounds_of = lambda x: isinstance(x, Bounds)  # noqa: E731
    if not any(map(bounds_of, jax.tree.leaves(state, is_leaf=bounds_of))):
        return None
    return jax.tree.map(lambda x: bounds if bounds_of(x) else x, state, is_leaf=bounds_of)
