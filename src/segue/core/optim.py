"""Gradient steps and moving averages: one optimiser per network, so that a skipped update really is skipped."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from segue.core.types import Array

T = TypeVar("T")

APART = 100
"""Where `fold_in` draws beside a key's splits: with small numbers it returns one of them.

Only where the same function also splits the key.  A key that is handed on whole belongs to whom it is handed to, who
may fold it at this very place: what goes around an agent splits it first (tests/contract/test_keys.py).
"""


class Trained(NamedTuple):
    """A network (or any pytree of arrays) with the state of its own optimiser."""

    params: Any
    optimiser: Any


@cache
def adam(learning_rate: float, decay: int = 0, weight_decay: float = 0.0) -> optax.GradientTransformation:
    """Adam (b1 0.9, b2 0.999, eps 1e-8 outside the root): what every agent here is published with.

    With `decay`, the learning rate falls to 0 along a cosine over that many of the optimiser's own steps.
    `weight_decay` is decoupled and spares biases, as in RLPD's code (it acts on the scales of layer normalisation).
    """
    rate = optax.cosine_decay_schedule(learning_rate, decay) if decay else learning_rate
    if not weight_decay:
        return optax.adam(rate)
    decays = lambda path, _: path[-1].name in ("weight", "scale")  # noqa: E731
    return optax.adamw(
        rate, weight_decay=weight_decay, mask=lambda tree: jax.tree_util.tree_map_with_path(decays, tree)
    )


def trained(params: Any, learning_rate: float, decay: int = 0, weight_decay: float = 0.0) -> Trained:
    """Wrap fresh parameters with a zero-moment Adam state."""
    return Trained(params, adam(learning_rate, decay, weight_decay).init(params))


def descend(
    network: Trained, learning_rate: float, gradient: Any, decay: int = 0, weight_decay: float = 0.0
) -> Trained:
    """Take one Adam step along `gradient` (same structure as `network.params`)."""
    steps, optimiser = adam(learning_rate, decay, weight_decay).update(gradient, network.optimiser, network.params)
    return Trained(optax.apply_updates(network.params, steps), optimiser)


def renewed(state: T, fresh: T) -> T:
    """What a state's networks have learned, with the optimisers of a fresh one; the structures must be the same."""
    renew = lambda old, new: old._replace(optimiser=new.optimiser) if isinstance(old, Trained) else old  # noqa: E731
    return jax.tree.map(renew, state, fresh, is_leaf=lambda x: isinstance(x, Trained))


def mean_over_blocks(function: Callable[[Any], T], rows: Any, count: int) -> T:
    """Mean of `function` over `count` equal blocks of rows (leading axes B), computed one after the other."""
    if count == 1:
        return function(rows)
    cut = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), rows)
    shapes = jax.eval_shape(function, jax.tree.map(lambda x: x[0], cut))
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    total, _ = jax.lax.scan(lambda sums, block: (jax.tree.map(jnp.add, sums, function(block)), None), nothing, cut)
    mean: T = jax.tree.map(lambda x: x / count, total)
    return mean


def scaled_moments(optimiser: Any, factor: float) -> Any:
    """Adam's moments of a loss that is `factor` times what it was."""
    return jax.tree.map(
        lambda s: (
            s._replace(mu=jax.tree.map(lambda x: factor * x, s.mu), nu=jax.tree.map(lambda x: factor**2 * x, s.nu))
            if isinstance(s, optax.ScaleByAdamState)
            else s
        ),
        optimiser,
        is_leaf=lambda s: isinstance(s, optax.ScaleByAdamState),
    )


def polyak(target: T, online: T, rate: float) -> T:
    """Return `(1 - rate) * target + rate * online`, leaf by leaf."""
    return jax.tree.map(lambda t, o: (1.0 - rate) * t + rate * o, target, online)


def every(n: int, step: Array, update: Callable[[T], T], carry: T) -> T:
    """Apply `update` when `step` is a multiple of `n` (0 included), else return `carry`.

    `step` is the engine's counter, shared by all seeds, so that this stays a branch under `vmap`.
    """
    return update(carry) if n == 1 else jax.lax.cond(step % n == 0, update, lambda c: c, carry)


def first_not_finite(tree: Any) -> Array:
    """Index (in `jax.tree.leaves` order) of the first leaf with a NaN or infinity; -1 when all are finite."""
    # A sum of zeros, which NaN and infinity spoil: compiles in half the time of asking each number.
    bad = jnp.isnan(jnp.stack([jnp.sum(x * 0.0) for x in jax.tree.leaves(tree)]))
    return jnp.where(jnp.any(bad), jnp.argmax(bad), -1)
