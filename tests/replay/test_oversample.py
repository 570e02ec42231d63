"""Who is favoured, in numpy and by hand: rows of success, episodes with one, episodes by their return."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.core import replay
from segue.core.replay import View
from segue.samplers import Mix, Subset, Union
from segue.samplers.oversample import Favours, Oversample
from segue.samplers.sum_tree import CHUNK
from tests.replay.made import logged, numbers, own, sample, start

REWARD = [0, 0, 1, 0, 0, 0, 0, 1, 1, 0]  # three episodes: success at its end, none, success in the middle
ENDED = [2, 5, 9]


def test_eight_of_256() -> None:
    """OOO's exploiter: 248 uniform rows, 8 of success."""
    offline, online = logged(10, REWARD, ENDED), own(10, 20, REWARD, ENDED)
    for by, want in (("reward", {2, 7, 8}), ("success", {0, 1, 2, 6, 7, 8, 9})):
        sampler = Oversample(8, Union(248), by)
        state = start(sampler, jax.random.key(0), offline, online)
        seen: set[tuple[bool, int]] = set()
        for u in range(30):
            state, batch, metrics = sample(sampler, state, jax.random.key(u), offline, online)
            assert batch.reward.shape == (256,)
            extra = jax.tree.map(lambda x: x[248:], batch)
            seen |= {(side, n) for side in (False, True) for n in numbers(extra, side)}
            assert float(metrics["oversampled"]) == 8 / 256
        assert seen == {(side, n) for side in (False, True) for n in want}


def test_kitchen_needs_its_threshold() -> None:
    offline, online = logged(6, [0, 1, 2, 4, 3, 3], [1, 3]), own(0, 4)
    for threshold, want in ((None, [1, 1, 1, 1, 1, 1]), (4.0, [0, 0, 1, 1, 0, 0])):
        state = start(Oversample(8, None, "success", threshold), jax.random.key(0), offline, online)
        np.testing.assert_array_equal(state.tree[0][:6], want)


def test_before_any_success_rows_are_uniform() -> None:
    offline, online = logged(5, [0] * 5), own(5, 5, [0] * 5, [1])
    sampler = Oversample(2000, Mix(8))
    state = start(sampler, jax.random.key(0), offline, online)
    _, batch, metrics = sample(sampler, state, jax.random.key(1), offline, online)
    assert set(numbers(batch, False)) == {0, 1, 2, 3, 4}
    assert set(numbers(batch, True)) == {0, 1}  # the others' episode is open
    assert float(metrics["oversampled"]) == 0.0


def test_by_return() -> None:
    """Returns 1, 0 and 2 of the dataset have a range of 2; an own episode may be better than all of them."""
    offline, online = logged(10, REWARD, ENDED), own(3, 4, [1, 1, 1], [2])
    sampler = Oversample(40_000, None, "return", temperature=0.5)
    state = start(sampler, jax.random.key(0), offline, online)
    state, batch, _ = sample(sampler, state, jax.random.key(1), offline, online)
    returns = np.asarray([1] * 3 + [0] * 3 + [2] * 4 + [3] * 3)
    want = np.exp(returns / (0.5 * 2))
    found = np.concatenate([np.bincount(numbers(batch, False), minlength=10), np.bincount(numbers(batch, True))])
    np.testing.assert_allclose(found / 40_000, want / want.sum(), atol=0.008)
    np.testing.assert_allclose(state.tree[0][:13], want / np.exp(2.0), rtol=1e-5)


def test_by_return_of_own_episodes_alone() -> None:
    """Own returns 1, 0 and 2 have a range of 2, whatever the log holds; an episode that is open counts for nothing."""
    rewards = [*REWARD, 9]
    want = np.exp(np.asarray([1] * 3 + [0] * 3 + [2] * 4) / (0.5 * 2))
    nothing = View(replay.empty(1, 0, (2,), 1, "float32"), jnp.int32(0), 0.0)
    for offline in (logged(10, [7] * 10, [9]), nothing):
        for capacity in (11, 20):
            online = own(11, capacity, rewards, ENDED)
            sampler = Oversample(40_000, None, "return", temperature=0.5, own_only=True)
            assert sampler.validate(0, 11, 10) is None
            state = start(sampler, jax.random.key(0), offline, online)
            _, batch, _ = sample(sampler, state, jax.random.key(1), offline, online)
            assert len(numbers(batch, False)) == 0
            np.testing.assert_allclose(np.bincount(numbers(batch, True)) / 40_000, want / want.sum(), atol=0.008)


@partial(jax.jit, static_argnums=(0, 2))
def follow(sampler: Oversample, state: Favours, first: int, online: object) -> Favours:
    return sampler.follow(state, first, online)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("by", "visible"), [("reward", "all"), ("reward", "closed"), ("success", "all"), ("return", "all")]
)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_own_experience_as_it_grows(by: str, visible: str, seed: int) -> None:
    """A ring that is written in bits, against a list: long episodes, many at once, rows overwritten."""
    capacity, total = 90, 400
    rng = np.random.default_rng(seed)
    reward = rng.integers(0, 3, total).astype(np.float32)
    ended = np.flatnonzero(rng.random(total) < rng.choice([0.3, 0.02]))
    sampler = Oversample(4, None, by, None if by == "return" else 2.0, width=3.0, visible=visible)  # type: ignore[arg-type]
    offline = logged(5)
    state = start(sampler, jax.random.key(0), offline, own(0, capacity))
    weights, written, weighed = np.zeros(total), 0, 0
    while written < total:
        written = min(total, written + int(rng.choice([1, 7, CHUNK, 85])))
        now, oldest = ended[ended < written], max(written - capacity, 0)
        state = follow(sampler, state, 5, own(written, capacity, reward[:written], list(now)))
        if by == "reward":
            closed = int(now.max(initial=-1)) + 1 if visible == "closed" else written
            weights[:closed] = reward[:closed] >= 2.0
        else:
            for end in now[now >= weighed] + 1:
                held = reward[max(weighed, oldest) : end]  # what the ring still holds of the episode
                if len(held):
                    worth = np.exp(min(held.sum() / (0.1 * 3.0), 60.0)) if by == "return" else np.max(held) >= 2.0
                    weights[weighed:end] = worth
                weighed = end
        ring, kept = np.zeros(capacity), np.arange(oldest, written)
        ring[kept % capacity] = weights[kept]
        np.testing.assert_allclose(state.tree[0][5 : 5 + capacity], ring, rtol=1e-4)


def test_first_rows_of_a_long_run_fit_beside_retain() -> None:
    """A full ring at the hand-over, and a thinned dataset for the other rows."""
    offline, online = logged(10, REWARD, ENDED), own(10, 4, REWARD, ENDED)
    sampler = Oversample(600, Subset(0.3, Mix(50)))
    state = start(sampler, jax.random.key(0), offline, online)
    state, batch, _ = sample(sampler, state, jax.random.key(1), offline, online)
    assert set(numbers(jax.tree.map(lambda x: x[:50], batch), False)) <= set(np.asarray(state.beside.rows))
    assert set(numbers(batch, True)) == {6, 7, 8, 9}
    assert jnp.all(batch.online[:50] == 0)
