"""What agents with an entropy have in common: targets, the policy's and the temperature's loss, draws of critics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp

from segue.core.nets import TanhGaussian, squash
from segue.core.optim import APART, Trained, descend
from segue.core.types import Array, Key, Transition

TemperatureForm = Literal["exp", "softplus"]
"""What a temperature is of the number that is learned."""


def raw_temperature(temperature: Array, form: TemperatureForm) -> Array:
    """The number that is learned, of a temperature."""
    return jnp.log(temperature) if form == "exp" else jnp.log(jnp.expm1(temperature))


def drifted(part: Trained, learning_rate: float) -> Trained:
    """A network after a step of its optimiser without a gradient: what its momentum alone does."""
    return descend(part, learning_rate, jax.tree.map(jnp.zeros_like, part.params))


def choose(key: Key, which: int, count: int, subset: int, replacement: bool) -> Array | None:
    """Indices (subset,) of critics out of `count`, the `which`-th draw of a key; None for all of them."""
    if not subset:
        return None
    # Apart from what a split of the key gives to others, which is fold_in with small numbers.
    return jax.random.choice(jax.random.fold_in(key, APART + which), count, (subset,), replacement)


def backup(batch: Transition, value: Array, log_density: Array, alpha: Array | float) -> Array:
    """Bellman target (B,) from target values (B,), or from (B, N): the best action counts, with its own density."""
    if value.ndim == 2:
        best = jnp.argmax(value, axis=1, keepdims=True)
        value = jnp.take_along_axis(value, best, 1)[:, 0]
        log_density = jnp.take_along_axis(log_density, best, 1)[:, 0]
    return batch.reward + batch.continues * (value - alpha * log_density)


def valued(
    actor: TanhGaussian,
    q: Callable[[Array, Array], Array],
    alpha: Array | float,
    samples: int,
    observation: Array,
    key: Key,
) -> tuple[Array, Array]:
    """The best of so many draws of a policy, (B, A), and -alpha log pi(a|s) of it, (B,)."""
    mean, std = (x[:, None] for x in actor(observation))
    action, log_density = squash(mean, std, jax.random.normal(key, (mean.shape[0], samples, mean.shape[-1])))
    best = jnp.argmax(q(observation, action), axis=1, keepdims=True)
    chosen = jnp.take_along_axis(action, best[..., None], 1)[:, 0]
    return chosen, -alpha * jnp.take_along_axis(log_density, best, 1)[:, 0]


def policy_loss(alpha: Array, log_density: Array, q: Array) -> Array:
    """mean(alpha log pi(a|s) - Q(s, a))."""
    return jnp.mean(alpha * log_density - q)


def temperature_loss(log_alpha: Array, log_density: Array, target_entropy: float) -> Array:
    """-log alpha * mean(log pi + target entropy): log alpha itself multiplies, as in the official code."""
    return -log_alpha * jax.lax.stop_gradient(jnp.mean(log_density) + target_entropy)
