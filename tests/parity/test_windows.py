"""Windows of rows: n-step returns as Stable-Baselines3 sums them, chunks as Q-chunking's sampler cuts them."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from segue.core import replay
from segue.core.experience import Experience, Step
from segue.core.indices import Segment, chunked, fold, plans, window
from segue.core.log import Data
from segue.core.replay import View
from segue.core.scaling import Scaling
from segue.core.types import Spec, Transition
from tests.parity.numbers import load, under

LIMIT: Any = {"rtol": 2e-6, "atol": 2e-6}  # the sources form powers in single precision


def scaling(case: dict[str, Any]) -> Scaling:
    return Scaling(discount=float(case["discount"]))


@pytest.mark.parametrize("name", ["unfilled", "five", "one", "ring"])
def test_n_steps(name: str) -> None:
    case = under(load("nstep"), f"case.{name}.")
    given, want = under(case, "in."), under(case, "out.")
    rows, size = len(given["rewards"]), given["observations"].shape[1]
    ring = Experience(1, int(case["capacity"]), Spec((size,), 1))
    flags = given["terminated"].astype(bool), given["truncated"].astype(bool)
    columns = given["observations"], np.zeros((rows, 1)), given["rewards"], *flags, given["next_observations"]
    ring.extend(Step(*(x[:, None] for x in columns)))
    indices = (Segment(View(ring.replay, jnp.int32(0), 1.0), jnp.asarray(want["written"], jnp.int32)),)
    found, there = window(indices, int(case["n"]))
    got = fold([row.transition(scaling(case)) for row in found], there)
    np.testing.assert_allclose(got.reward, want["return"], **LIMIT)
    np.testing.assert_allclose(got.continues, want["continues"], **LIMIT)
    np.testing.assert_allclose(got.next_observation, want["next_observation"], **LIMIT)


@pytest.mark.parametrize("name", ["dataset_h1", "dataset_h3", "dataset_h5"])
def test_chunks(name: str) -> None:
    """Where no row before the last one ends an episode or its bootstrap, all is as there.

    Behind a terminal the sampler there goes on summing; here the sum ends, and the starts count, which it leaves out.
    """
    case = under(load("sequence"), f"case.{name}.")
    given, want, h = under(case, "in."), under(case, "out."), int(case["horizon"])
    terminated = given["masks"] == 0
    truncated = (given["terminals"] > 0) & ~terminated
    columns = given["observations"], given["actions"], given["rewards"], terminated, truncated
    data = Data(*columns, given["next_observations"])
    whole = data.whole(h)
    plain = (want["valid"][:, -1] > 0) & (h == 1 or want["masks"][:, max(h - 2, 0)] > 0)
    cut = np.asarray([truncated[i : i + h - 1].any() & ~terminated[i : i + h - 1].any() for i in given["start"]])
    assert plain.any()
    assert set(given["start"][plain]) <= set(whole)
    assert not set(given["start"][cut]) & set(whole)

    made = replay.from_data(data, scaling(case))._replace(starts=replay.starts_of(data, h))
    got = learned(View(made, jnp.int32(0), 0.0), len(whole), h, scaling(case))
    for at, row in enumerate(whole):
        if row >= len(plain):  # a terminal in the last rows, where the sampler there has no whole window
            continue
        np.testing.assert_allclose(got.action[at], want["actions"][row].ravel(), **LIMIT)
        np.testing.assert_allclose(got.continues[at], case["discount"] ** h * want["masks"][row, -1], **LIMIT)
        if plain[row]:
            np.testing.assert_allclose(got.reward[at], want["rewards"][row, -1], **LIMIT)
            np.testing.assert_allclose(got.next_observation[at], want["next_observations"][row, -1], **LIMIT)
            np.testing.assert_array_equal(got.valid[at], want["valid"][row])


def learned(view: View, count: int, h: int, here: Scaling) -> Transition:
    """The batch of all starts."""
    indices = (Segment(view, jnp.arange(count)),)
    rows, there = window(indices, h)
    return fold(chunked([row.transition(here) for row in rows], there, *plans(indices, h)), there)
