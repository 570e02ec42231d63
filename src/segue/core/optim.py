"""Gradient steps and moving averages: one optimiser per network, so that a skipped update really is skipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import keystr

from segue.core.named import named
from segue.core.types import Array, SegueError

T = TypeVar("T")

APART = 100
"""Where `fold_in` draws beside a key's splits: with small numbers it returns one of them.

Only where the same function also splits the key.  A key that is handed on whole belongs to whom it is handed to, who
may fold it at this very place: what goes around an agent splits it first (tests/contract/test_keys.py).
"""


@jax.tree_util.register_static
@dataclass(frozen=True)
class Recipe:
    """Name of an optimiser, as `optimiser` takes it; no array of a state."""

    name: str = "adam"


class Trained(NamedTuple):
    """A network (or any pytree of arrays) with the state of its own optimiser."""

    params: Any
    optimiser: Any
    recipe: Recipe = Recipe()


def _weights(tree: Any) -> Any:
    """Which leaves decay: matrices and the scales of layer normalisation, as in RLPD's code; no bias, no scalar."""
    return jax.tree_util.tree_map_with_path(lambda path, _: keystr(path[-1:]) in (".weight", ".scale"), tree)


DECAYING: dict[str, Callable[..., optax.GradientTransformation]] = {
    "adam": partial(optax.adamw, mask=_weights),
    "adamw": partial(optax.adamw, mask=_weights),
    "lion": partial(optax.lion, mask=_weights),
}
"""Optimisers with a decoupled decay of weights."""
OPTIMISERS = {**DECAYING, "adam": optax.adam, "rmsprop": optax.rmsprop, "sgd": optax.sgd}


@cache
def optimiser(
    name: str, learning_rate: float, decay: int = 0, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """The optimiser of a name in `OPTIMISERS`, or the one that module:name makes of a learning rate.

    Adam (b1 0.9, b2 0.999, eps 1e-8 outside the root) is what every agent here is published with.  With `decay`, the
    learning rate falls to 0 along a cosine over that many of the optimiser's own steps.  Its numbers stand still in a
    phase: a traced one is a TypeError.  Raises `SegueError` for a name that makes no optimiser.
    """
    rate = optax.cosine_decay_schedule(learning_rate, decay) if decay else learning_rate
    if weight_decay:
        if name not in DECAYING:
            raise SegueError(f"weight_decay: {name} takes none here; set it to 0, or take {', '.join(DECAYING)}")
        return DECAYING[name](rate, weight_decay=weight_decay)
    if name in OPTIMISERS:
        return OPTIMISERS[name](rate)
    what = "a function of a learning rate that makes an optimiser"
    try:
        made = named(name, what)(rate)
    except SegueError:
        raise
    except Exception as error:
        raise SegueError(f"{name} should be {what}, but it fails ({type(error).__name__}: {error})") from error
    if not isinstance(made, optax.GradientTransformation):
        raise SegueError(f"{name} should be {what}, but it returns a {type(made).__name__}")
    return made


def trained(
    params: Any, learning_rate: float, decay: int = 0, weight_decay: float = 0.0, name: str = "adam"
) -> Trained:
    """Wrap fresh parameters with the first state of an optimiser, see `optimiser`."""
    return Trained(params, optimiser(name, learning_rate, decay, weight_decay).init(params), Recipe(name))


def descend(
    network: Trained, learning_rate: float, gradient: Any, decay: int = 0, weight_decay: float = 0.0
) -> Trained:
    """Take one step of the network's optimiser along `gradient` (same structure as `network.params`)."""
    step = optimiser(network.recipe.name, learning_rate, decay, weight_decay).update
    moves, state = step(gradient, network.optimiser, network.params)
    return network._replace(params=optax.apply_updates(network.params, moves), optimiser=state)


def kind_of(network: Trained) -> Any:
    """What one network must share with another to go on from it: parts, shapes and the optimiser's name."""
    return jax.tree.structure(network.params), [x.shape for x in jax.tree.leaves(network.params)], network.recipe


def renewed(state: T, fresh: T) -> T:
    """What a state's networks have learned, with the optimisers of a fresh one; the structures must be the same."""
    renew = lambda old, new: new._replace(params=old.params) if isinstance(old, Trained) else old  # noqa: E731
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


def scaled_moments(network: Trained, factor: float) -> Trained:
    """A network whose loss is `factor` times what it was: Adam's moments are as if it always had been.

    SGD has none.  Raises `SegueError` for other optimisers.
    """
    if network.recipe.name not in ("adam", "adamw", "sgd"):
        raise SegueError(
            f"optimiser {network.recipe.name}: its state fits no loss of another scale; take adam, adamw or sgd"
        )
    scale = lambda tree, by: jax.tree.map(lambda x: by * x, tree)  # noqa: E731
    adams = lambda s: isinstance(s, optax.ScaleByAdamState)  # noqa: E731
    moved = lambda s: s._replace(mu=scale(s.mu, factor), nu=scale(s.nu, factor**2)) if adams(s) else s  # noqa: E731
    return network._replace(optimiser=jax.tree.map(moved, network.optimiser, is_leaf=adams))


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
