"""Blend's counts, Retain's subset; and every sampler with a state gives the same to seeds in turn or at once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.core.types import SegueError
from segue.samplers import Blend, Mix, Subset, Union
from segue.samplers.oversample import Oversample
from segue.samplers.prioritised import Balanced
from tests.replay.made import handover, logged, numbers, own, sample, start


@pytest.mark.parametrize(("share", "rows"), [(0.0, 0), (0.25, 5), (0.33, 7), (0.5, 10), (1.0, 20)])
def test_blend_is_exact(share: float, rows: int) -> None:
    state, batch, metrics = sample(Blend(20, share), jnp.int32(3), jax.random.key(0), logged(9), own(30, 12))
    assert int(state) == 4
    np.testing.assert_array_equal(np.asarray(batch.online), np.arange(20) >= rows)
    assert float(metrics["offline_share"]) == pytest.approx(rows / 20)
    assert set(numbers(batch, True)) <= set(range(18, 30))


def test_blend_goes_from_share_to_share_end() -> None:
    sampler, offline, online = Blend(40, 0.9, 0.1, updates=8), logged(9), own(30, 12)
    state = sampler.init(jax.random.key(0), handover(offline, online))
    seen = []
    for u in range(12):
        state, batch, _ = sample(sampler, state, jax.random.key(u), offline, online)
        seen.append(int((batch.online == 0).sum()))
    assert seen == [36, 32, 28, 24, 20, 16, 12, 8, 4, 4, 4, 4]


def test_blend_waits_for_visible_rows() -> None:
    """A closed episode is rows 0 to 3; rows 4 to 9 are still open."""
    online = own(10, 12, ended=[3])
    _, batch, _ = sample(Blend(64, 0.5, visible="closed"), jnp.int32(0), jax.random.key(0), logged(9), online)
    assert set(numbers(batch, True)) == {0, 1, 2, 3}
    _, batch, metrics = sample(Blend(64, 0.0), jnp.int32(0), jax.random.key(0), logged(9), own(0, 12))
    assert not batch.online.any()
    assert float(metrics["offline_share"]) == 1.0


@pytest.mark.parametrize("share", [0.1, 0.6, 1.0])
def test_retain_sees_its_rows_and_all_of_them(share: float) -> None:
    offline, online = logged(50, ended=[9, 29]), own(5, 10)
    sampler = Subset(share, Mix(4000, 4))
    state = start(sampler, jax.random.key(1), offline, online)
    kept = np.asarray(state.rows)
    assert kept.dtype == np.int32
    assert len(set(kept)) == len(kept) == round(50 * share)
    _, batch, _ = sample(sampler, state, jax.random.key(2), offline, online)
    seen = numbers(batch, False)
    assert set(seen) == set(kept)
    following = np.asarray(batch.next_action)[:4000, 0]
    ends = np.isin(seen, [9, 29, 49])
    np.testing.assert_array_equal(np.isnan(following), ends)
    np.testing.assert_allclose(following[~ends], (seen[~ends] + 1) / 1000, rtol=1e-6)
    assert set(numbers(batch, True)) <= set(range(5))


def test_retain_differs_between_seeds() -> None:
    offline, online = logged(50), own(20, 20)
    sampler, subsets = Subset(0.2, Union(3000)), []
    for seed in range(2):
        state = start(sampler, jax.random.key(seed), offline, online)
        _, batch, metrics = sample(sampler, state, jax.random.key(9), offline, online)
        subsets.append(set(np.asarray(state.rows)))
        assert set(numbers(batch, False)) == subsets[-1]
        assert set(numbers(batch, True)) == set(range(20))
        assert float(metrics["offline_share"]) == pytest.approx(1 / 3, abs=0.03)
    assert subsets[0] != subsets[1]


SAMPLERS = [
    Subset(0.5, Blend(12, 1.0, 0.0, 4)),
    Balanced(12, 8, (8,)),
    Oversample(4, Mix(4, 4)),
    Oversample(12, None, "return"),
]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_seeds_in_turn_and_at_once(sampler: Any) -> None:
    """Both ways that the engine may go: the same rows, and states that are equal but for rounding."""
    reward, ended = [0, 2, 0, 4, 3, 0, 1, 0, 0, 5], [1, 4, 8]
    offline, online = logged(10, reward, ended), own(10, 8, reward, ended, lanes=2)

    def seed(lane: Any, key: Any) -> Any:
        view = online._replace(lane=lane)
        update = lambda u, state: sample(sampler, state[0], jax.random.fold_in(key, u), offline, view)  # noqa: E731
        state = sampler.init(key, handover(offline, view))
        first = jax.tree.map(jnp.zeros_like, jax.eval_shape(update, 0, (state,)))
        return jax.lax.fori_loop(0, 3, update, (state, *first[1:]))

    lanes, keys = jnp.arange(2), jax.random.split(jax.random.key(0))
    turn = jax.jit(lambda: jax.lax.map(lambda xs: seed(*xs), (lanes, keys)))()
    once = jax.jit(lambda: jax.vmap(seed)(lanes, keys))()
    for a, b in zip(jax.tree.leaves(turn), jax.tree.leaves(once), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert not np.array_equal(turn[1].observation[0], turn[1].observation[1])


@pytest.mark.parametrize(
    ("sampler", "counts", "why"),
    [
        (Blend(8, 0.5), (0, 9, 9), "up to 4 rows of a dataset.*use Mix"),
        (Blend(8, 0.0, 0.5), (0, 9, 9), "up to 4 rows of a dataset"),
        (Blend(8, 0.0, visible="closed"), (0, 9, 0), "none yet; add a warm-up"),
        (Blend(8, 0.0), (5, 0, 0), None),
        (Subset(0.1, Mix(8)), (0, 9, 9), "the task has none"),
        (Subset(0.1, Mix(8)), (4, 9, 9), "less than one row; raise share"),
        (Subset(0.5, Mix(0, 8)), (4, 0, 0), "none yet; add a warm-up"),
        (Balanced(8), (0, 9, 9), "the task has none; use Mix"),
        (Balanced(8), (9, 0, 0), None),
        (Oversample(8, Mix(0, 8)), (9, 0, 0), "none yet; add a warm-up"),
        (Oversample(8, None), (0, 9, 9), "set threshold"),
        (Oversample(8, None, "return"), (0, 9, 9), "set own_only or width"),
        (Oversample(8, None, "return", width=1.0), (0, 9, 0), "neither a dataset nor own experience"),
        (Oversample(8, None, "reward", 1.0), (0, 9, 0), None),
    ],
    ids=str,
)
def test_refusals(sampler: Any, counts: tuple[int, int, int], why: str | None) -> None:
    problem = sampler.validate(*counts)
    if why is None:
        assert problem is None
    else:
        with pytest.raises(SegueError, match=why):
            raise SegueError(problem)
        assert "\n" not in problem


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Subset(0.0, Mix()), r"use Mix\(0, n\)"),
        (lambda: Subset(1.1, Mix()), "share=1.1"),
        (lambda: Blend(8, -0.1), "share=-0.1"),
        (lambda: Balanced(start_share=1.0), "start_share=1.0"),
        (lambda: Oversample(-1), "rows=-1"),
        (lambda: Oversample(0, None), "rows=0"),
        (lambda: Subset(0.5, Oversample(4)).init(jax.random.key(0), handover(logged(9), own(0, 4))), "whole episodes"),
    ],
)
def test_mistakes_are_told(make: Any, why: str) -> None:
    with pytest.raises(SegueError, match=why):
        make()


def test_samplers_are_values() -> None:
    assert len({*SAMPLERS, *SAMPLERS}) == len(SAMPLERS)
