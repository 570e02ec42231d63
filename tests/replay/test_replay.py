"""Replay against a list, samplers against counting, returns against hand-computed numbers."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.core import replay
from segue.core.experience import Experience, Step
from segue.core.log import Data
from segue.core.replay import View
from segue.core.scaling import Scaling, returns_to_go
from segue.core.types import SegueError, Spec
from segue.samplers import Mix, Union
from tests.replay.made import sample

ANTMAZE = Scaling(reward_scale=10, reward_shift=-5, failure=0.0)
ADROIT = Scaling(reward_scale=10, reward_shift=5, failure=-1.0)
KITCHEN = Scaling(continuing=True)


@pytest.mark.parametrize(
    ("raw", "terminated", "scaling", "want"),
    [
        ((0, 0, 0), (0, 0, 0), ANTMAZE, (-500, -500, -500)),
        ((0, 0, 1), (0, 0, 1), ANTMAZE, (-5.0495, -0.05, 5)),
        ((0, 1, 0), (0, 0, 0), ANTMAZE, (-4.9505, 0.05, -5)),
        ((-1, -1, 0, 0), (0, 0, 1, 1), ADROIT, (-5.0495, -0.05, 5, 5)),
        ((-1, 0, -1, 0), (0, 1, 0, 1), ADROIT, (-0.05, 5, -0.05, 5)),
        ((2, 2, 2), (0, 0, 0), KITCHEN, (200, 200, 200)),
        ((2, 2, 2), (0, 0, 1), KITCHEN, (5.9402, 3.98, 2)),
    ],
)
def test_returns(raw: tuple, terminated: tuple, scaling: Scaling, want: tuple) -> None:
    got = returns_to_go(np.asarray(raw, np.float32), np.asarray(terminated, bool), scaling)
    np.testing.assert_allclose(got, want, rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from((1, 2, 3, 7, 12)),  # few sizes: each is compiled
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40),
)
def test_ring_is_a_list_of_the_newest_rows(capacity: int, ends: list[tuple[bool, bool]]) -> None:
    """Two worlds whose episodes end at their own times, any capacity; every observation and what follows it."""
    ring, flags = Experience(2, capacity, Spec((1,), 1)), np.asarray(ends)
    rows: list[list[list[float]]] = [[], []]  # [row number, return or NaN, what follows] per world
    now, no, start, log = np.zeros((2, 1), np.float32), np.zeros(2, bool), [0, 0], []
    for t, ended in enumerate(flags):
        following = np.asarray([[t + 0.5], [-t - 0.5]], np.float32)
        reward = np.asarray([t, -t], np.float32)
        log.append(Step(now, np.full((2, 1), t, np.float32), reward, no, ended, following))
        ring.append(log[-1], lambda: None)
        for w in range(2):
            rows[w].append([float(now[w, 0]), np.nan, float(following[w, 0])])
            if ended[w]:
                raw = ring.ledger.columns()[0][start[w] :, w]
                returns = returns_to_go(raw, np.zeros(len(raw), bool), Scaling())
                ring.close(w, returns, lambda: None)
                for i, value in enumerate(returns):
                    rows[w][start[w] + i][1] = float(value)
                start[w] = t + 1
        now = np.where(ended[:, None], 100.0 + t, following).astype(np.float32)
    again = Experience(2, capacity, Spec((1,), 1))
    again.extend(Step(*map(np.stack, zip(*log))))
    again.reopen()
    again.rewrite(Scaling())
    for name in ("ended", "mc_return", "written", "closed"):
        np.testing.assert_array_equal(getattr(ring.replay, name), getattr(again.replay, name))
    for w in range(2):
        view = View(ring.replay, jnp.int32(w), 1.0)
        oldest, size = view.span(False)
        got = view.take(oldest + jnp.arange(capacity))
        same = View(again.replay, jnp.int32(w), 1.0).take(oldest + jnp.arange(capacity))
        jax.tree.map(lambda a, b, n=size: np.testing.assert_array_equal(a[:n], b[:n]), got, same)
        newest = np.asarray(rows[w][-capacity:], np.float32)
        assert int(size) == len(newest)
        np.testing.assert_array_equal(got.observation[:size, 0], newest[:, 0])
        np.testing.assert_array_equal(got.mc_return[:size], newest[:, 1])
        np.testing.assert_array_equal(got.next_observation[:size, 0], newest[:, 2])
        _, closed = view.span(True)
        assert int(closed) == max(min(capacity, len(ends)) - (len(ends) - start[w]), 0)


def data(n: int) -> Data:
    column = np.arange(n, dtype=np.float32)
    flags = np.zeros(n, bool)
    return Data(column[:, None], np.zeros((n, 1), np.float32), column, flags, flags, column[:, None])


def views(n_offline: int, n_online: int, closed: int) -> tuple[View, View]:
    own = replay.empty(1, 30, (1,), 1, "float32")
    own = own._replace(written=jnp.full(1, n_online, jnp.int32), closed=jnp.full(1, closed, jnp.int32))
    own = own._replace(observation=-1.0 - jnp.arange(31)[None, :, None])
    return View(replay.from_data(data(n_offline), Scaling()), jnp.int32(0), 0.0), View(own, jnp.int32(0), 1.0)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from((1, 4, 9)), st.sampled_from((0, 3, 8)), st.integers(0, 30), st.data())
def test_mix_is_exact(n_offline: int, n_online: int, written: int, draw: st.DataObject) -> None:
    closed = draw.draw(st.integers(0, written))
    offline, online = views(5, written, closed)
    mix = Mix(n_offline, n_online, "closed") if n_online else Mix(n_offline)
    _, rows, _ = sample(mix, (), jax.random.key(written), offline, online)
    own = n_online if closed else 0
    assert float(rows.online.sum()) == own
    assert rows.online.shape == (n_offline + n_online,)
    assert np.all(np.asarray(rows.observation[:, 0])[:n_offline] >= 0)
    if own:
        assert np.asarray(rows.observation[:, 0])[n_offline:].min() >= -closed


def test_union_is_uniform() -> None:
    offline, online = views(30, 10, 10)
    _, rows, metrics = sample(Union(20_000), (), jax.random.key(0), offline, online)
    counts = np.unique(np.asarray(rows.observation[:, 0]), return_counts=True)[1]
    assert len(counts) == 40
    np.testing.assert_allclose(counts / 20_000, 1 / 40, atol=0.006)
    assert float(metrics["offline_share"]) == pytest.approx(0.75, abs=0.02)


def test_images_stay_bytes() -> None:
    ring = Experience(1, 3, Spec((4, 4, 3), 1, "uint8"))
    image, no = np.full((1, 4, 4, 3), 200, np.uint8), np.zeros(1, bool)
    ring.append(Step(image, np.zeros((1, 1), np.float32), np.zeros(1, np.float32), no, no, image), lambda: None)
    assert ring.replay.observation.dtype == jnp.uint8
    assert int(View(ring.replay, jnp.int32(0), 1.0).take(jnp.zeros(1, jnp.int32)).observation[0, 0, 0, 0]) == 200


def test_memory_is_taken_when_rows_come() -> None:
    """Eight worlds of a million rows of 17 numbers would be 800 MB."""
    pages = lambda: int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")  # noqa: E731
    if not Path("/proc/self/statm").exists():
        pytest.skip("only Linux says how much memory a process has")
    before = pages()
    ring = Experience(8, 1_000_000, Spec((17,), 6))
    now, no = np.ones((100, 8, 17), np.float32), np.zeros((100, 8), bool)
    ring.extend(Step(now, now[..., :6], now[..., 0], no, no, now))
    assert pages() - before < 20 * 2**20
    assert int(jnp.sum(ring.replay.observation[:, :101] == 1.0)) == 8 * 101 * 17


def test_a_dataset_is_in_memory_once() -> None:
    """A program on a CPU reads the log's own observations, wherever in memory they were given."""
    log = data(50)
    shifted = np.zeros(log.observation.size + 1, np.float32)[1:].reshape(log.observation.shape)
    shifted[...] = log.observation
    for observation in (log.observation, shifted):
        again = dataclasses.replace(log, observation=observation)
        made = replay.from_data(again, Scaling())
        assert made.observation.unsafe_buffer_pointer() == again.observation.ctypes.data
        np.testing.assert_array_equal(made.observation[0], log.observation)
        like, shapes = (
            replay.shape_of(again, Spec(log.observation.shape[1:], log.action.shape[1])),
            jax.tree.leaves(made),
        )
        assert [x.shape for x in jax.tree.leaves(like)] == [x.shape for x in shapes]


def test_units_refuse_a_discount_of_one() -> None:
    with pytest.raises(SegueError, match="below 1"):
        Scaling(discount=1.0)
