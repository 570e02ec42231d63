"""The tree of sums against numpy: sums, places, duplicates, rings, and what float32 costs."""

from __future__ import annotations

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.samplers import sum_tree

WRITES, MASSES = 9, 64
write, find, draw = jax.jit(sum_tree.write), jax.jit(sum_tree.find), jax.jit(sum_tree.draw, static_argnums=(2, 3))


def check_sums(tree: sum_tree.Tree, leaves: np.ndarray) -> None:
    np.testing.assert_array_equal(tree[0][: len(leaves)], leaves)
    assert not np.any(tree[0][len(leaves) :])
    for below, level in itertools.pairwise(tree):
        sums = np.asarray(below, np.float64).reshape(-1, sum_tree.FAN).sum(-1)
        np.testing.assert_allclose(level[: len(sums)], sums, rtol=1e-6)
        assert not np.any(level[len(sums) :])
    np.testing.assert_allclose(sum_tree.total(tree), leaves.astype(np.float64).sum(), rtol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1, 8, 9, 70, 600]), st.integers(0, 2**32 - 1))
def test_against_numpy(count: int, seed: int) -> None:
    """Whole weights, many of them 0: sums are exact, so places must be too.  Of duplicates the last stands."""
    rng = np.random.default_rng(seed)
    leaves = rng.integers(0, 3, count).astype(np.float32)
    tree = sum_tree.make(jnp.asarray(leaves))
    for _ in range(3):
        rows = rng.integers(-2, count + 3, WRITES).astype(np.int32)
        weights = rng.integers(0, 4, WRITES).astype(np.float32)
        for row, weight in zip(rows, weights):
            if 0 <= row < count:
                leaves[row] = weight
        # Rows beyond the leaves are padding, which no caller writes.
        tree = write(tree, np.where(rows < count, rows, -1), weights)
    check_sums(tree, leaves)
    if leaves.sum():
        mass = (rng.random(MASSES) * leaves.sum()).astype(np.float32)
        mass = np.minimum(mass, leaves.sum() - 0.5)
        np.testing.assert_array_equal(find(tree, mass), np.searchsorted(np.cumsum(leaves), mass, side="right"))
    else:
        assert not np.any(find(tree, np.zeros(MASSES, np.float32)))


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([9, 600]), st.integers(0, 2**32 - 1))
def test_a_row_without_weight_is_never_found(count: int, seed: int) -> None:
    """Weights over twelve orders of magnitude, and masses up to and beyond the total."""
    rng = np.random.default_rng(seed)
    leaves = np.where(rng.random(count) < 0.7, 0, 10 ** rng.uniform(-6, 6, count)).astype(np.float32)
    leaves[rng.integers(count)] = 1.0
    tree = sum_tree.make(jnp.asarray(leaves))
    total = np.float32(sum_tree.total(tree))
    mass = (rng.random(MASSES) * total * 1.0001).astype(np.float32)
    mass[:3] = 0.0, total, np.nextafter(total, np.float32(np.inf))
    assert np.all(leaves[np.asarray(find(tree, mass))] > 0)
    assert np.all(leaves[np.asarray(draw(tree, jax.random.key(seed), MASSES))] > 0)


@pytest.mark.parametrize("stratified", [True, False])
def test_draws_follow_weights(stratified: bool) -> None:
    weights = np.asarray([0, 1, 0, 3, 6, 0, 0, 0, 0, 10], np.float32)
    draws = np.asarray(draw(sum_tree.make(jnp.asarray(weights)), jax.random.key(0), 20_000, stratified))
    share = np.bincount(draws, minlength=10) / 20_000
    np.testing.assert_allclose(share, weights / 20, atol=1e-4 if stratified else 0.015)
    assert np.all(np.diff(draws) >= 0) == stratified


def test_float32_is_enough_for_two_million_rows() -> None:
    """Every sum is within 1e-6 of the exact one, also after writes."""
    rng = np.random.default_rng(0)
    weights = np.exp(rng.normal(0, 2, 2_000_000)).astype(np.float32)
    tree = sum_tree.make(jnp.asarray(weights))
    for _ in range(20):
        rows = rng.integers(0, len(weights), 4096).astype(np.int32)
        weights[rows] = 1.0
        tree = write(tree, rows, np.ones(4096, np.float32))
    exact = weights.astype(np.float64)
    for level in tree:
        np.testing.assert_allclose(level[: len(exact)], exact, rtol=1e-6)
        exact = np.pad(exact, (0, -len(exact) % sum_tree.FAN)).reshape(-1, sum_tree.FAN).sum(-1)
    np.testing.assert_allclose(sum_tree.total(tree), exact.sum(), rtol=1e-6)


def test_light_rows_are_drawn_as_often_as_they_weigh() -> None:
    """Behind a million rows masses are 1/16 apart: most rows of weight 0.01 lie between two of them."""
    heavy, light = np.full(1_000_000, 1.0, np.float32), np.tile(np.float32([0.01, 0.03, 0.002]), 300)
    tree = sum_tree.make(jnp.asarray(np.concatenate([heavy, light])))
    draws = 400_000
    rng = np.random.default_rng(0)
    mass = (1_000_000 + rng.random(draws) * light.sum()).astype(np.float32)
    fine = rng.random((len(tree), draws)).astype(np.float32)
    rows = np.asarray(sum_tree.find(tree, mass, fine))
    # Away from the edge between heavy and light, where noise carries some over.
    share = np.bincount(rows, minlength=1_000_900)[1_000_100:1_000_800].astype(float)
    kind = np.arange(1_000_100, 1_000_800) % 3
    by_kind = [share[(kind - 1_000_000 % 3) % 3 == k].mean() for k in range(3)]
    np.testing.assert_allclose(np.asarray(by_kind) / np.sum(by_kind), light[:3] / light[:3].sum(), rtol=0.05)
    coarse = np.bincount(np.asarray(sum_tree.find(tree, mass)), minlength=1_000_900)[1_000_100:1_000_800]
    assert np.mean(coarse == 0) > 0.5


@settings(max_examples=30, deadline=None)
@given(st.sampled_from([1, 5, 200]), st.lists(st.integers(0, 150), min_size=1, max_size=4))
def test_ring_holds_the_newest(capacity: int, steps: list[int]) -> None:
    first, ring = 3, {}
    tree = sum_tree.make(jnp.zeros(first + capacity + 2))
    start = 0
    for step in steps:
        tree = ringed(tree, capacity, start, start + step)
        ring |= {count % capacity: 1.0 + count for count in range(start, start + step)}
        start += step
    want = np.zeros(first + capacity + 2, np.float32)
    for place, weight in ring.items():
        want[first + place] = weight
    check_sums(tree, want)


@partial(jax.jit, static_argnums=1)
def ringed(tree: sum_tree.Tree, capacity: int, start: jax.Array, stop: jax.Array) -> sum_tree.Tree:
    return sum_tree.write_ring(tree, 3, capacity, start, stop, lambda count: 1.0 + count.astype(jnp.float32))
