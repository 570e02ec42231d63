"""Chunks of actions: by hand at every kind of end, against a loop over rows, and what every sampler may draw."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.core import replay, starts
from segue.core.experience import Experience, Step
from segue.core.indices import Segment, chunked, gather, plans, uncut, window
from segue.core.log import Data
from segue.core.replay import View
from segue.core.types import Handover, Learned, Sampler, Slot
from segue.engine.steps import returns
from segue.samplers import Balanced, Blend, Halves, Last, Mix, Oversample, Prefix, Subset, Union
from segue.samplers.subset import Part, SubsetView
from tests.replay.test_windows import FLAGS, LEARNER, REWARD, SPEC, UNITS, Free, Pays

N = 12


def columns(flags: list[str], reward: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rows as Data and Step have them: observation t, t + 0.5 after an end; action t / 100."""
    now = np.arange(len(flags), dtype=np.float32)[:, None]
    ends = np.asarray([f != "." for f in flags])
    following = np.where(ends[:, None], now + 0.5, now + 1.0).astype(np.float32)
    terminated, truncated = (np.asarray([f == kind for f in flags]) for kind in "tT")
    return now, now / 100, reward, terminated, truncated, following


def own(flags: list[str], reward: np.ndarray, capacity: int, chunk: int) -> View:
    """Own experience of one world, written row by row; its windows are those that are listed anew."""
    ring, again = Experience(1, capacity, SPEC), Experience(1, capacity, SPEC)
    ring.windows(chunk)
    rows = Step(*(x[:, None] for x in columns(flags, reward)))
    for t in range(len(flags)):
        ring.append(Step(*(x[t] for x in rows)), lambda: None)
    again.extend(rows)
    again.windows(chunk)
    for one in (ring, again):
        one.reopen()
        one.rewrite(UNITS)
    for one, other in zip(ring.replay.starts or (), again.replay.starts or (), strict=True):
        np.testing.assert_array_equal(one, other)
    return View(ring.replay, jnp.int32(0), 1.0)


def logged(flags: list[str], reward: np.ndarray, chunk: int) -> View:
    data = Data(*columns(flags, reward))
    made = replay.from_data(data, UNITS)._replace(starts=replay.starts_of(data, chunk))
    return View(made, jnp.int32(0), 0.0)


@partial(jax.jit, static_argnums=(1, 2))
def learned(view: Any, chunk: int, bonus: Any) -> Any:
    """What an update learns from at each start that a view shows: their rows, how many there are, and the batch."""
    first, size = view.span(False)
    number = first + jnp.minimum(jnp.arange(N), jnp.maximum(size - 1, 0))
    indices = (Segment(view, number),)
    rows, there = window(indices, chunk)
    seen = chunked([r.transition(UNITS) for r in rows], there, *plans(indices, chunk))
    slot = Slot(LEARNER, Learned((), (), jnp.int32(0)), UNITS)
    return view.at(number), size, returns(bonus, seen, there, jax.random.key(0), slot)[1]


# r' = 2 r - 1: 1 3 5 7 9 11 13 15, discount 1/2, episodes of the rows 0-2 (terminated), 3-5 (truncated), 6-7 (open).
@pytest.mark.parametrize(
    ("chunk", "row", "reward", "continues", "follows", "actions", "then", "valid"),
    [
        (2, 0, 1.0 + 3.0 / 2, 0.25, 2.0, (0, 1), (2, 3), (1, 1)),  # the next one terminates, and is known
        (2, 1, 3.0 + 5.0 / 2, 0.0, 2.5, (1, 2), None, (1, 1)),
        (2, 2, 5.0, 0.0, 2.5, (2, 3), None, (1, 0)),  # behind a terminal stands what is stored there
        (2, 3, 7.0 + 9.0 / 2, 0.25, 5.0, (3, 4), None, (1, 1)),  # of the next one a cut leaves a single row
        (2, 4, 9.0 + 11.0 / 2, 0.25, 5.5, (4, 5), None, (1, 1)),  # a window that ends with its episode is whole
        (2, 6, 13.0 + 15.0 / 2, 0.25, 8.0, (6, 7), None, (1, 1)),
        (3, 0, 1.0 + 3.0 / 2 + 5.0 / 4, 0.0, 2.5, (0, 1, 2), None, (1, 1, 1)),
        (3, 1, 3.0 + 5.0 / 2, 0.0, 2.5, (1, 2, 3), None, (1, 1, 0)),
        (3, 2, 5.0, 0.0, 2.5, (2, 3, 4), None, (1, 0, 0)),
        (3, 3, 7.0 + 9.0 / 2 + 11.0 / 4, 0.125, 5.5, (3, 4, 5), None, (1, 1, 1)),
    ],
)
def test_by_hand(
    chunk: int,
    row: int,
    reward: float,
    continues: float,
    follows: float,
    actions: tuple[int, ...],
    then: tuple[int, ...] | None,
    valid: tuple[int, ...],
) -> None:
    at, size, got = learned(own(FLAGS, REWARD, 20, chunk), chunk, Free())
    rows = at[: int(size)].tolist()
    assert rows == {2: [0, 1, 2, 3, 4, 6], 3: [0, 1, 2, 3]}[chunk]
    here = rows.index(row)
    assert (float(got.reward[here]), float(got.continues[here])) == (reward, continues)
    assert (float(got.observation[here, 0]), float(got.next_observation[here, 0])) == (row, follows)
    np.testing.assert_allclose(got.action[here] * 100, actions, rtol=1e-6)
    np.testing.assert_allclose(got.next_action[here] * 100, then or [np.nan] * chunk, rtol=1e-6)
    np.testing.assert_array_equal(got.valid[here], valid)


@settings(max_examples=6, deadline=None)
@given(st.lists(st.sampled_from("...tT"), min_size=N, max_size=N), st.sampled_from([2, 3, 5]), st.sampled_from([N, 20]))
def test_windows_that_are_drawn_anywhere_count_where_they_are_whole(kinds: list[str], chunk: int, room: int) -> None:
    view = own(kinds, np.arange(N, dtype=np.float32), room, 1)
    first, size = view.span(False)
    rows, there = window((Segment(view, first + jnp.arange(N)),), chunk)
    at, listed, _ = learned(own(kinds, np.arange(N, dtype=np.float32), room, chunk), chunk, Free())
    assert int(size) == N
    assert np.flatnonzero(uncut(rows, there)).tolist() == [int(row - first) for row in at[: int(listed)]]


def test_a_bonus_is_paid_to_every_row() -> None:
    """10 times the observations, discounted, up to the terminal in row 2."""
    at, _, got = learned(own(FLAGS, REWARD, 20, 3), 3, Pays())
    assert at[1] == 1
    assert float(got.reward[1]) == 3.0 + 5.0 / 2 + 10.0 * (1 + 2 / 2)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("....tT"), min_size=N, max_size=N),
    st.sampled_from((5, N)),
    st.sampled_from(("all", "early", "logged", "subset")),
    st.integers(0, 2**16),
)
def test_as_a_loop_over_rows(flags: list[str], capacity: int, shown: str, seed: int) -> None:
    chunk, rng = 3, np.random.default_rng(seed)
    reward = rng.integers(-5, 5, N).astype(np.float32)
    names = list(range(N - capacity, N))
    if shown in ("logged", "subset"):  # a dataset, whose last row is an end whatever its flags
        flags, names = [*flags[:-1], "T" if flags[-1] == "." else flags[-1]], list(range(N))
        view: Any = logged(flags, reward, chunk)
        if shown == "subset":
            names = sorted(rng.permutation(N)[: N // 2 + 2].tolist())
            view = SubsetView(view, jnp.asarray(names, jnp.int32))
            view = view._replace(starts=starts.shown(view, chunk))
    else:
        view = own(flags, reward, capacity, chunk)
        if shown == "early":
            stop = int(rng.integers(1, N + 1))
            closed = max((r + 1 for r in range(stop) if flags[r] != "."), default=0)
            view = Part(view, jnp.int32(0), jnp.int32(stop), jnp.int32(closed))
            names = [r for r in names if r < stop]
    at, size, got = learned(view, chunk, Free())

    def ahead(row: int) -> list[int]:
        """The rows of an episode from one on, as many as a chunk has at most."""
        rows = [row]
        while len(rows) < chunk and flags[rows[-1]] == "." and rows[-1] + 1 in names:
            rows.append(rows[-1] + 1)
        return rows

    whole = [r for r in names if len(ahead(r)) == chunk or flags[ahead(r)[-1]] == "t"]
    places = [names.index(r) for r in whole] if shown == "subset" else whole
    assert at[: int(size)].tolist() == places
    for here, row in enumerate(whole):
        rows = ahead(row)
        last = rows[-1]
        assert float(got.reward[here]) == sum((2.0 * reward[r] - 1.0) * 0.5**n for n, r in enumerate(rows))
        assert float(got.continues[here]) == (0.0 if flags[last] == "t" else 0.5**chunk)
        assert float(got.next_observation[here, 0]) == (last + 0.5 if flags[last] != "." else last + 1)
        np.testing.assert_array_equal(got.valid[here], [n < len(rows) for n in range(chunk)])
        np.testing.assert_allclose(got.action[here, : len(rows)] * 100, rows, rtol=1e-6)
        known = flags[last] == "." and last + 1 in whole
        assert bool(np.isfinite(got.next_action[here]).all()) == known
        if known:
            after = ahead(last + 1)
            np.testing.assert_allclose(got.next_action[here, : len(after)] * 100, after, rtol=1e-6)


@partial(jax.jit, static_argnums=0)
def begun(sampler: Sampler, key: Any, logged: View, early: View) -> Any:
    return sampler.init(key, Handover(SPEC, {}, logged, early, UNITS, "agent", chunk=3))


@partial(jax.jit, static_argnums=0)
def draw(sampler: Sampler, state: Any, key: Any, logged: View, view: View) -> Any:
    state, indices, _ = sampler.sample(state, key, logged, view)
    rows = gather(indices)
    return state, (rows.observation[:, 0], rows.online)


def drawn(sampler: Sampler, key: Any, logged: View, early: View, late: View) -> Any:
    """Observations of the rows that are drawn when a phase begins and, some rows later, again."""
    state, out = begun(sampler, key, logged, early), []
    for number, view in enumerate((early, late, late)):
        state, rows = draw(sampler, state, jax.random.fold_in(key, number), logged, view)
        out.append(rows)
    return out


@pytest.mark.parametrize(
    "sampler",
    [
        Mix(16, 16),
        Mix(16, 16, "closed"),
        Halves(16),
        Union(32),
        Blend(32),
        Subset(0.6, Mix(32)),
        Prefix(Mix(16, 16), share=0.8),
        Last(Mix(16, 16), 6),
        Balanced(64, 4, (4,)),
        Balanced(64, 4, (4,), visible="closed", start_share=0.5),
        Oversample(32, None, by="reward"),
        Oversample(32, Mix(0, 8), by="success"),
        Oversample(32, None, by="return", own_only=True),
    ],
    ids=lambda s: f"{type(s).__name__}-{getattr(s, 'by', '')}{getattr(s, 'visible', '')}",
)
def test_every_sampler_draws_whole_windows_alone(sampler: Any) -> None:
    """With a ring that runs over; in each of the three draws, and all that there is to draw where draws are uniform."""
    log, flags = list("...T.t..T.T"), list("..T...t.T....t....")
    reward = np.asarray([float(t % 3 == 0) for t in range(len(flags))], np.float32)
    views = logged(log, reward[: len(log)], 3), own(flags[:15], reward[:15], 10, 3), own(flags, reward, 10, 3)
    whole = [{0, 1, 4, 5, 6}, {5, 6, 9, 10, 11, 12, 13}, {9, 10, 11, 12, 13, 14, 15}]
    seen: tuple[set[int], ...] = (set(), set(), set())
    for seed in range(8):
        for n, (row, online) in enumerate(drawn(sampler, jax.random.key(seed), *views)):
            for r, mine in zip(np.asarray(row).astype(int).tolist(), np.asarray(online).tolist()):
                seen[(1 if n == 0 else 2) if mine else 0].add(r)
    for mine, may in zip(seen, whole):
        assert mine <= may
    if isinstance(sampler, Union | Blend | Balanced) and getattr(sampler, "visible", "all") == "all":
        assert list(seen) == whole
