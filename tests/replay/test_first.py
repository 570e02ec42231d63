"""The first part of own experience, as if the run had stopped there; and what rewards allow values to be."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.core.bounds import Bounds, unbounded, within
from segue.core.options import assign
from segue.core.scaling import Scaling
from segue.core.types import SegueError
from segue.engine.measured import measured
from segue.samplers.oversample import Oversample
from segue.samplers.subset import Prefix, counts
from segue.samplers.uniform import Mix, Union
from tests.contract.test_agents import SPEC, batch, begin, equal, learn, small
from tests.replay.made import handover, logged, numbers, own, sample, start

KEY = jax.random.key(0)


def taken(sampler: Any, offline: Any, online: Any, draws: int = 30) -> Any:
    """The sampler's rows of many draws, in one batch."""
    state, parts = start(sampler, KEY, offline, online), []
    for n in range(draws):
        state, rows, _ = sample(sampler, state, jax.random.key(n), offline, online)
        parts.append(rows)
    return jax.tree.map(lambda *x: jnp.concatenate(x), *parts)


def at(count: int, values: dict[int, float]) -> list[float]:
    return [values.get(n, 0.0) for n in range(count)]


@pytest.mark.parametrize("capacity", [64, 20])
def test_the_view_at_a_time(capacity: int) -> None:
    """Spec section 7: all of the dataset, and no row collected after t, in a ring that is full or not."""
    offline, online = logged(6), own(20, capacity)
    shown = taken(Prefix(Union(64), rows=9), offline, online)
    assert set(numbers(shown, of_own=False)) == set(range(6))
    assert set(numbers(shown, of_own=True)) == set(range(9))
    shown = taken(Prefix(Mix(8, 56), share=0.25), offline, online)
    assert set(numbers(shown, of_own=True)) == set(range(5))


def test_rows_that_a_short_ring_has_lost_do_not_come_back_as_later_ones() -> None:
    shown = taken(Prefix(Mix(8, 56), rows=9), logged(6), own(20, 15))
    assert set(numbers(shown, of_own=True)) == set(range(5, 9))


def test_nothing_is_known_of_what_came_later() -> None:
    online = own(20, 64, ended=(4, 12))  # episodes 0..4, 5..12, and one that is open
    offline = logged(6)
    rows = taken(Prefix(Union(64), rows=9), offline, online)
    mine = np.asarray(rows.online) == 1
    number = np.asarray(rows.observation)[:, 0].astype(int)
    known = np.isfinite(np.asarray(rows.mc_return))
    assert known[mine & (number <= 4)].all()
    assert not known[mine & (number > 4)].any()  # the second episode ended after t
    followed = np.isfinite(np.asarray(rows.next_action)).all(axis=1)
    assert not followed[mine & (number == 8)].any()
    closed = taken(Prefix(Mix(8, 56, "closed"), rows=9), offline, online)
    assert set(numbers(closed, of_own=True)) == set(range(5))


def test_oversampling_within_the_view() -> None:
    online = own(20, 64, reward=at(20, {3: 1.0, 15: 1.0}))
    rows = taken(Prefix(Oversample(4, None, by="reward", threshold=1.0), rows=9), logged(6), online)
    assert set(numbers(rows, of_own=True)) == {3}
    alone = taken(Prefix(Oversample(0, Union(16), by="reward", threshold=1.0), rows=9), logged(6), online)
    assert len(alone.reward) == 30 * 16


def test_doors() -> None:
    assert "there are only 5" in (Prefix(Union(8), rows=9).validate(6, 5, 5) or "")
    assert Prefix(Union(8), rows=9).validate(6, 9, 0) is None
    assert "there is none yet" in (Prefix(Mix(0, 8), share=0.1).validate(6, 5, 5) or "")
    with pytest.raises(SegueError, match="share=0"):
        Prefix(Union(8), 0.0)


def test_counts_of_a_ring() -> None:
    np.testing.assert_array_equal(counts(own(20, 15)), [15, 16, 17, 18, 19, *range(5, 15)])
    assert (np.asarray(counts(own(3, 15)))[3:] < 0).all()


# -- bounds ----------------------------------------------------------------------------------------------------


def test_bounds_are_those_of_what_is_seen() -> None:
    offline, online = logged(6, reward=at(6, {2: 3.0})), own(20, 64, reward=at(20, {4: -2.0, 15: 50.0}))
    state = begin(small("IQL"), KEY, SPEC)
    here = handover(offline, online)._replace(scaling=Scaling(2.0, -1.0, 0.9))
    found = measured(here._replace(batch=Prefix(Union(8), rows=9)), state)
    np.testing.assert_allclose(found.bounds, [(2 * -2 - 1) / 0.1, (2 * 3 - 1) / 0.1], rtol=1e-5)
    all_of_it = measured(here, state)
    np.testing.assert_allclose(all_of_it.bounds.high, (2 * 50 - 1) / 0.1, rtol=1e-5)


@pytest.mark.parametrize("agent", [small("IQL"), small("SAC"), small("CalQL")])
def test_values_are_kept_within_bounds_and_options(agent: Any) -> None:
    state = begin(agent, KEY, SPEC)
    rows = batch()._replace(reward=jnp.zeros_like(batch().reward))
    held = within(state, Bounds(jnp.asarray(7.0), jnp.asarray(8.0)))
    assert 0.99 * 7 - 1e-3 <= float(learn(agent, held, rows, KEY)[1]["td_target"]) <= 8.0
    tighter = assign(assign(agent, ["value_maximum"], 7.5, "")[0], ["value_minimum"], -1.0, "")[0]
    assert 0.99 * 7 - 1e-3 <= float(learn(tighter, held, rows, KEY)[1]["td_target"]) <= 7.5
    assert equal(within(held, unbounded()), state)


def test_bounds_need_a_place_in_the_state() -> None:
    with pytest.raises(SegueError, match="keeps no bounds"):
        measured(handover(logged(6), own(20, 64)), begin(small("TD3"), KEY, SPEC))
