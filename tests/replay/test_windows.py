"""n-step returns: by hand at every kind of end, and against a loop over rows for everything else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.core.experience import Experience, Step
from segue.core.indices import Segment, window
from segue.core.log import Data
from segue.core.replay import View, from_data
from segue.core.scaling import Scaling
from segue.core.types import Handover, Learned, Slot, Spec, Transition
from segue.engine.steps import returns
from segue.samplers import Last, Mix, Subset
from segue.samplers.subset import Part, SubsetView

SPEC = Spec((1,), 1)
UNITS = Scaling(reward_scale=2.0, reward_shift=-1.0, discount=0.5)
#          terminated          truncated       open
FLAGS = [".", ".", "t", ".", ".", "T", ".", "."]
REWARD = np.asarray([1, 2, 3, 4, 5, 6, 7, 8], np.float32)
LEARNER: Any = None


def written(flags: list[str], reward: np.ndarray, capacity: int) -> View:
    """Own experience of one world: observation t before row t and t + 0.5 after an episode's end, action t / 100."""
    n = len(flags)
    ends = np.asarray([f != "." for f in flags])
    now = np.arange(n, dtype=np.float32)[:, None]
    following = np.where(ends[:, None], now + 0.5, now + 1.0).astype(np.float32)
    terminated = np.asarray([f == "t" for f in flags])
    truncated = np.asarray([f == "T" for f in flags])
    ring = Experience(1, capacity, SPEC)
    columns = now, now / 100, reward, terminated, truncated, following
    ring.extend(Step(*(x[:, None] for x in columns)))
    ring.reopen()
    ring.rewrite(UNITS)
    return View(ring.replay, jnp.int32(0), 1.0)


@dataclass(frozen=True)
class Pays:
    """A bonus of 10 times the observation, and a state that counts what it has learned from."""

    def reward(self, state: Any, batch: Transition, key: Any, slot: Slot) -> Any:
        paid = batch._replace(reward=batch.reward + 10.0 * batch.observation[:, 0])
        return state + batch.reward.shape[0], paid, {}


@dataclass(frozen=True)
class Free:
    def reward(self, state: Any, batch: Transition, key: Any, slot: Slot) -> Any:
        return state, batch, {}


def folded(view: Any, at: Any, n_steps: int, bonus: Any = Free()) -> tuple[Any, Transition]:
    rows, there = window((Segment(view, jnp.asarray(at)),), n_steps)
    slot = Slot(LEARNER, Learned((), (), jnp.int32(0)), UNITS)
    state, batch, _ = returns(bonus, [r.transition(UNITS) for r in rows], there, jax.random.key(0), slot)
    return state, batch


# r' = 2 r - 1: 1 3 5 7 9 11 13 15, discount 1/2.
@pytest.mark.parametrize(
    ("row", "n_steps", "reward", "continues", "follows"),
    [
        (0, 1, 1.0, 0.5, 1.0),
        (0, 2, 1.0 + 3.0 / 2, 0.25, 2.0),
        (0, 3, 1.0 + 3.0 / 2 + 5.0 / 4, 0.0, 2.5),  # up to a terminal, which bootstraps nothing
        (1, 3, 3.0 + 5.0 / 2, 0.0, 2.5),  # the sum ends there
        (2, 3, 5.0, 0.0, 2.5),
        (3, 3, 7.0 + 9.0 / 2 + 11.0 / 4, 0.125, 5.5),  # a cut bootstraps from what was seen last
        (4, 3, 9.0 + 11.0 / 2, 0.25, 5.5),
        (6, 3, 13.0 + 15.0 / 2, 0.25, 8.0),  # the newest row of an open episode
        (7, 3, 15.0, 0.5, 8.0),
    ],
)
def test_by_hand(row: int, n_steps: int, reward: float, continues: float, follows: float) -> None:
    view = written(FLAGS, REWARD, 20)
    _, got = folded(view, [row], n_steps)
    assert (float(got.reward[0]), float(got.continues[0])) == (reward, continues)
    assert float(got.next_observation[0, 0]) == follows
    assert float(got.observation[0, 0]) == row
    last = row + {1.0: 0, 0.5: 0}.get(continues, 0)
    assert float(got.action[0, 0]) == pytest.approx(last / 100)


def test_a_bonus_is_paid_to_every_row_and_learns_from_the_first() -> None:
    """10 times the observations 0, 1, 2, discounted; the state counts two rows, not six."""
    state, got = folded(written(FLAGS, REWARD, 20), [0, 3], 3, Pays())
    first, second = 1.0 + 3.0 / 2 + 5.0 / 4 + 10.0 * (0 + 1 / 2 + 2 / 4), 7.0 + 9.0 / 2 + 11.0 / 4 + 10 * (3 + 2 + 1.25)
    np.testing.assert_allclose(got.reward, [first, second])
    assert int(state) == 2


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("....tT"), min_size=1, max_size=12),
    st.sampled_from((3, 5, 12)),
    st.sampled_from((1, 2, 4)),
    st.sampled_from(("all", "early", "subset", "logged")),
    st.integers(0, 2**16),
)
def test_as_a_loop_over_rows(flags: list[str], capacity: int, n_steps: int, shown: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    reward, n = rng.integers(-5, 5, len(flags)).astype(np.float32), len(flags)
    view: Any = written(flags, reward, capacity)
    names = list(range(max(n - capacity, 0), n))  # rows that are there, in order
    visible = set(names)
    if shown == "early":
        stop = int(rng.integers(1, n + 1))
        view, visible = Part(view, jnp.int32(0), jnp.int32(stop), jnp.int32(0)), {r for r in names if r < stop}
    if shown in ("subset", "logged"):  # a dataset, whose last row is an end whatever its flags
        flags = [*flags[:-1], "T" if flags[-1] == "." else flags[-1]]
        ends = np.asarray([f != "." for f in flags])
        now = np.arange(n, dtype=np.float32)[:, None]
        following = np.where(ends[:, None], now + 0.5, now + 1.0).astype(np.float32)
        terminated, cut = (np.asarray([f == kind for f in flags]) for kind in "tT")
        view = View(from_data(Data(now, now / 100, reward, terminated, cut, following), UNITS), jnp.int32(0), 0.0)
        names, visible = list(range(n)), set(range(n))
        if shown == "subset":
            chosen = np.sort(rng.permutation(n)[: max(n // 2, 1)]).astype(np.int32)
            view, visible, names = SubsetView(view, jnp.asarray(chosen)), set(chosen.tolist()), chosen.tolist()
    starts = [r for r in names if r in visible]
    at = [names.index(r) for r in starts] if shown == "subset" else starts
    if not starts:
        return
    _, got = folded(view, at, n_steps)
    for place, row in enumerate(starts):
        total, weight, last = 0.0, 1.0, row
        for k in range(n_steps):
            last = row + k
            total += weight * (2.0 * reward[last] - 1.0)
            weight *= 0.5
            if flags[last] != "." or last + 1 not in visible:
                break
        assert float(got.reward[place]) == pytest.approx(total)
        assert float(got.continues[place]) == (0.0 if flags[last] == "t" else weight)
        assert float(got.next_observation[place, 0]) == (last + 0.5 if flags[last] != "." else last + 1)
        whole = shown == "subset" and flags[last] == "."  # a subset's rows know what followed them
        known = last + 1 in visible and flags[last] == "."
        want = (last + 1) / 100 if known or (whole and last + 1 < n) else np.nan
        np.testing.assert_allclose(got.next_action[place, 0], want, rtol=1e-6)


def test_a_subset_keeps_whole_episodes_where_rows_in_a_row_are_looked_at() -> None:
    flags = np.asarray(["....T"] * 40).tolist()
    steps = list("".join(flags))
    now = np.arange(200, dtype=np.float32)[:, None]
    cut = np.asarray([f == "T" for f in steps])
    data = Data(now, now / 1000, now[:, 0], np.zeros(200, bool), cut, now + 1)
    view = View(from_data(data, UNITS), jnp.int32(0), 0.0)
    for n_steps in (1, 3):
        handover = Handover(SPEC, {}, view, written(["."], REWARD[:1], 4), UNITS, "agent", n_steps=n_steps)
        kept = np.asarray(Subset(0.5, Mix(4)).init(jax.random.key(1), handover).rows)
        assert len(kept) == 100
        broken = len(set(kept // 5)) - 20
        assert (broken == 0) == (n_steps > 1)


def test_last_rows_end_where_experience_does() -> None:
    view = written(FLAGS, REWARD, 20)
    part = Last(Mix(0, 4), 5).part(view)
    _, got = folded(part, [3, 7], 2)
    np.testing.assert_allclose(got.continues, [0.25, 0.5])
