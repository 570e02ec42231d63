"""Weights of rows in a tree of sums: draw a row in proportion to its weight, change a few weights at a time.

A tree is a tuple of levels, leaves first; entry i of a level is the sum of entries FAN * i to FAN * i + FAN - 1 of the
level below, and the last level has FAN entries:

      leaves     w0 w1 ... w7 | w8 ... w15 | ...            padded with zeros to whole groups
      next       s0             s1           ...

With a fan of 8 a million leaves are seven levels and 1.14 million numbers.  A binary tree has twenty-one levels, each
a step that waits for the one before, and up to four million numbers once it is padded to a power of two.

Weights are float32, as the sums are.  Sums are made anew from their children at each write, so that errors do not
pile up: on two million leaves every sum is within 1e-6 of the exact one, relatively, and a leaf's probability is off
by no more than that part of its group's (tests/replay/test_sumtree.py).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from segue.core.types import Array, Key

FAN = 8
CHUNK = 64
"""Rows of a ring that are written at a time."""
GRID = 2.0**-22
"""Distance of neighbouring float32 masses, relative to the total, at most."""

Tree = tuple[Array, ...]


def make(weights: Array) -> Tree:
    """Return the tree of non-negative weights (N,)."""
    levels = []
    while True:
        weights = jnp.pad(weights, (0, -len(weights) % FAN))
        levels.append(weights)
        if len(weights) == FAN:
            return tuple(levels)
        weights = weights.reshape(-1, FAN).sum(-1)


def total(tree: Tree) -> Array:
    """Return the sum of all weights, a scalar."""
    return jnp.sum(tree[-1])


def write(tree: Tree, rows: Array, weights: Array) -> Tree:
    """Set the weights (B,) of rows (B,) int32; of a row that is named twice the last weight stands.

    Rows outside the tree, negative ones too, are left out.
    """
    # Equal rows stand together in the order of writing once they are sorted (a table of pairs is slow from 1,000 on).
    order = jnp.argsort(rows, stable=True)
    last = order[jnp.searchsorted(rows[order], rows, side="right") - 1]
    inside = (rows >= 0) & (rows < len(tree[0]))
    value, out = weights[last].astype(tree[0].dtype), []
    for n, level in enumerate(tree):
        # Rows of one group all write the same sum, so that the order of writing does not matter.
        new = level.at[jnp.where(inside, rows, len(level))].set(value, mode="drop")
        out.append(new)
        rows = rows // FAN
        if n + 1 < len(tree):
            value = jnp.sum(new.reshape(-1, FAN)[rows], axis=-1)
    return tuple(out)


def find(tree: Tree, mass: Array, fine: Array | None = None) -> Array:
    """Return the rows (B,) whose weights cover the masses (B,) in [0, total): the first sum that exceeds the mass.

    A row without weight is never returned, whatever the rounding; row 0 is when there is no weight at all.
    `fine` (levels, B) in [0, 1) makes masses finer than float32 on their way down, see `draw`.
    """
    node, place = jnp.zeros(mass.shape, jnp.int32), jnp.arange(FAN)
    for n, level in enumerate(reversed(tree)):
        weights = level.reshape(-1, FAN)[node]
        upto = jnp.cumsum(weights, axis=-1)
        # Rounding can leave the mass above all sums, or a sum above its neighbour of no weight.
        weighs = weights > 0
        holds = jnp.min(jnp.where(weighs & (upto > mass[:, None]), place, FAN), axis=-1)
        child = jnp.where(holds < FAN, holds, jnp.max(jnp.where(weighs, place, 0), axis=-1))
        mass = mass - jnp.sum(jnp.where(place < child[:, None], weights, 0.0), axis=-1)
        if fine is not None:
            mass = mass + (fine[n] - 0.5) * GRID * upto[:, -1]
        node = node * FAN + child
    return node


def draw(tree: Tree, key: Key, count: int, stratified: bool = True) -> Array:
    """Draw `count` rows with replacement, each in proportion to its weight.

    Stratified: one draw from each of `count` segments of equal mass, in the order of rows.  Among a million rows
    float32 masses lie a tenth of a usual weight apart, and rows of little weight would fall between them; noise of
    that size on the way down gives every row its chance.
    """
    k_mass, k_fine = jax.random.split(key)
    place = jax.random.uniform(k_mass, (count,))
    place = (jnp.arange(count) + place) / count if stratified else place
    return find(tree, place * total(tree), jax.random.uniform(k_fine, (len(tree), count)))


def write_ring(
    tree: Tree,
    first: int,
    capacity: int,
    start: Array,
    stop: Array,
    weight: Callable[[Array], Array],
    at: Callable[[Array], Array] = lambda number: number,
) -> Tree:
    """Set the weights of a ring's rows with numbers from `start` up to `stop`, the newest `capacity` of them.

    `at` says at which absolute count a number's row is.  The ring's rows are the `capacity` leaves from `first` on;
    `weight` maps counts (CHUNK,) to weights (CHUNK,).
    """

    def chunk(carry: tuple[Tree, Array]) -> tuple[Tree, Array]:
        tree, done = carry
        number = done + jnp.arange(CHUNK)
        count = at(number)
        rows = jnp.where(number < stop, first + count % capacity, -1)
        return write(tree, rows, weight(count)), done + CHUNK

    # A while-loop, so that one new row costs one chunk and a warm-up of thousands as many as it needs.
    begin = jnp.maximum(start, stop - capacity)
    return jax.lax.while_loop(lambda carry: carry[1] < stop, chunk, (tree, begin))[0]
