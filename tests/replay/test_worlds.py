"""Several simulators of a seed in one ring, against a ring for each: rows, returns, windows, and who is favoured."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.core.experience import Experience, Step
from segue.core.indices import Segment, window
from segue.core.log import whole
from segue.core.replay import View
from segue.core.scaling import returns_to_go
from segue.samplers import Mix, Oversample, Prefix
from tests.replay.made import SPEC, handover, logged, start
from tests.toys import UNITS

ENVS, T, CHUNK = 3, 14, 3


def steps(flags: list[list[str]], seed: int) -> list[Step]:
    """Steps of the worlds (T, W): "t" terminates, "T" is a time limit; every number is another one."""
    rng, now = np.random.default_rng(seed), np.zeros((len(flags), 2), np.float32)
    out = []
    for t in range(T):
        ends, following = [f[t] for f in flags], rng.random(now.shape).astype(np.float32)
        numbers = rng.random((len(flags), 1)).astype(np.float32), rng.integers(0, 3, len(flags)).astype(np.float32)
        out.append(Step(now, *numbers, *(np.asarray([e == kind for e in ends]) for kind in "tT"), following))
        again = rng.random(now.shape).astype(np.float32)
        now = np.where(np.asarray(ends)[:, None] == ".", following, again)
    return out


def written(ring: Experience, taken: list[Step], chunk: int = 1) -> Experience:
    """A ring that a run has written step by step, closing episodes as they end."""
    ring.windows(chunk)
    begun = np.zeros(taken[0].reward.shape[0], int)
    for t, step in enumerate(taken):
        ring.append(step, lambda: None)
        for w in np.flatnonzero(step.terminated | step.truncated):
            reward, ended, _ = (x[begun[w] : t + 1, w] for x in ring.ledger.columns())
            ring.close(int(w), returns_to_go(reward, ended, UNITS), lambda: None)
            begun[w] = t + 1
    return ring


def of(taken: list[Step], w: int) -> list[Step]:
    """What one world does."""
    return [Step(*(x[w : w + 1] for x in step)) for step in taken]


@partial(jax.jit, static_argnums=2)
def seen(view: View, count: jax.Array, length: int) -> Any:
    """Rows at counts and those after them, whether these are there, and whether there are others."""
    view = view._replace(replay=view.replay._replace(starts=None))
    return window((Segment(view, count),), length), view.more(count)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("......tT"), min_size=T, max_size=T), min_size=2 * ENVS, max_size=2 * ENVS),
    st.sampled_from((2 * ENVS, 3 * ENVS + 2, T * ENVS)),
    st.integers(0, 2**16),
)
def test_worlds_of_a_seed_are_rings_of_their_own(flags: list[list[str]], capacity: int, seed: int) -> None:
    """Two seeds, episodes that end at their own times, rows that are overwritten, windows of three rows."""
    taken = steps(flags, seed)
    ring = written(Experience(2, capacity, SPEC, envs=ENVS), taken, CHUNK)
    again = Experience(2, capacity, SPEC, envs=ENVS)
    again.extend(Step(*map(np.stack, zip(*taken))))
    again.windows(CHUNK)
    again.reopen()
    again.rewrite(UNITS)
    for name in ("written", "closed", "ended", "mc_return", "starts"):
        jax.tree.map(np.testing.assert_array_equal, getattr(ring.replay, name), getattr(again.replay, name))
    count = np.arange(max(T * ENVS - capacity, 0), T * ENVS)
    for s in range(2):
        (rows, there), more = found = seen(View(ring.replay, jnp.int32(s), 1.0), jnp.asarray(count), CHUNK)
        jax.tree.map(
            np.testing.assert_array_equal,
            found,
            seen(View(again.replay, jnp.int32(s), 1.0), jnp.asarray(count), CHUNK),
        )
        begun, listed = [], []
        for n in range(ENVS):
            w, mine = s * ENVS + n, count % ENVS == n
            one = written(Experience(1, T, SPEC), of(taken, w))
            (alone, stand), most = seen(View(one.replay, jnp.int32(0), 1.0), jnp.asarray(count[mine] // ENVS), CHUNK)
            for a, b in zip(jax.tree.leaves((rows, more)), jax.tree.leaves((alone, most)), strict=True):
                np.testing.assert_array_equal(np.asarray(a)[mine], b)
            np.testing.assert_array_equal(there[:, mine], stand)
            begun.append(int(one.closed[0]) * ENVS + n)
            _, terminated, ended = one.ledger.columns()
            listed += (whole(terminated[:, 0], ended[:, 0], CHUNK) * ENVS + n).tolist()
        assert int(ring.closed[s]) == min(begun)
        starts, total = ring.replay.starts, int(ring.starts[s])
        assert starts is not None
        got = np.asarray(starts.at[s])[np.arange(max(total - capacity, 0), total) % capacity].tolist()
        assert got == sorted(listed)[:total][-capacity:]
        late = [first for first in sorted(listed)[total:] if first < (T - CHUNK + 1) * ENVS]
        assert not late  # what waits is among the newest


@partial(jax.jit, static_argnums=0)
def follow(sampler: Oversample, state: Any, online: View) -> Any:
    return sampler.follow(state, 5, online)


@pytest.mark.parametrize("by", ["success", "return"])
@settings(max_examples=15, deadline=None)
@given(
    flags=st.lists(st.lists(st.sampled_from("......tT"), min_size=T, max_size=T), min_size=ENVS, max_size=ENVS),
    capacity=st.sampled_from((4 * ENVS + 1, T * ENVS)),
    pause=st.integers(1, T),
)
def test_episodes_are_favoured_whole(by: str, flags: list[list[str]], capacity: int, pause: int) -> None:
    """Episodes lie between those of other simulators, and what the ring still holds of one is weighed when it ends."""
    taken, sampler = steps(flags, pause), Oversample(4, None, by, None if by == "return" else 2.0, width=3.0)  # type: ignore[arg-type]
    view = lambda n: View(written(Experience(1, capacity, SPEC, envs=ENVS), taken[:n]).replay, jnp.int32(0), 1.0)  # noqa: E731
    state = follow(sampler, start(sampler, jax.random.key(0), logged(5), view(1)), view(1))
    for n in (pause, T):
        state = follow(sampler, state, view(n))
    want = np.zeros(T * ENVS)
    for w in range(ENVS):
        ends = np.flatnonzero([f != "." for f in flags[w]])
        for first, last in zip([0, *(ends[:-1] + 1)], ends):
            when = next(n for n in (1, pause, T) if last < n)  # rows that were gone by then count for nothing
            held = [t for t in range(first, last + 1) if t * ENVS + w >= when * ENVS - capacity]
            reward = np.asarray([taken[t].reward[w] for t in held])
            worth = np.exp(reward.sum() / (0.1 * 3.0)) if by == "return" else reward.max(initial=0) >= 2.0
            want[[t * ENVS + w for t in held]] = worth
    newest = np.arange(max(T * ENVS - capacity, 0), T * ENVS)
    np.testing.assert_allclose(np.asarray(state.tree[0])[5 + newest % capacity], want[newest], rtol=1e-5)


def test_returns_and_prefixes_of_own_episodes() -> None:
    """World 0 ends episodes after rows 1 and 7, world 1 after row 3, world 2 never; rows of all of them in turn."""
    flags = [list(".t.....T......"), list("...T.........."), list("." * T)]
    taken = steps(flags, 0)
    ring = written(Experience(1, T * ENVS, SPEC, envs=ENVS), taken)
    view = View(ring.replay, jnp.int32(0), 1.0)
    reward = np.stack([s.reward for s in taken])
    episodes = [reward[:2, 0].sum(), reward[2:8, 0].sum(), reward[:4, 1].sum()]
    state = start(Oversample(4, None, "return", own_only=True), jax.random.key(0), logged(5), view)
    assert float(state.origin) == max(episodes)
    assert float(state.width) == max(episodes) - min(episodes)
    for rows, closed in ((T * ENVS, 2), (10 * ENVS, 2), (2, 0), (4 * ENVS + 2, 2), (1, 0)):
        state = Prefix(Mix(0, 4), rows=rows).init(jax.random.key(0), handover(logged(5), view))
        assert (int(state.rows), int(state.closed)) == (rows, closed)
    done = [list("...T" + "." * (T - 4)) for _ in range(ENVS)]
    early = written(Experience(1, T * ENVS, SPEC, envs=ENVS), steps(done, 1))
    state = Prefix(Mix(0, 4), rows=20).init(
        jax.random.key(0), handover(logged(5), View(early.replay, jnp.int32(0), 1.0))
    )
    assert int(state.closed) == 12
    assert early.ledger.first_returns(2, slice(1, 3)) == early.ledger.columns()[0][:4, 1:].sum() / 2
