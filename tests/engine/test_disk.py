"""Training from rows that stay on the disk: the same weights as from memory, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.bonuses import SERA
from segue.core.log import Data
from segue.core.outside import Outside
from segue.core.scaling import moments
from segue.data.recorded import episodes_of
from segue.data.store import save
from segue.engine import loop
from segue.engine.envs import here
from segue.engine.phase import Phase
from segue.engine.state import RunState
from segue.runs import checkpoint
from segue.samplers.prioritised import Balanced
from segue.samplers.uniform import Mix
from tests.contract.test_agents import equal, small
from tests.toys import SPEC, UNITS, CorridorTask, corridor_data

PHASES = (
    Phase("offline", small("TD3"), gradient_steps=12, batch=Mix(8), log_every=5),
    Phase("online", small("TD3"), environment_steps=15, batch=Mix(4, 4), bonus=SERA(neighbours=3), log_every=5),
)
BALANCED = Phase("more", small("TD3"), gradient_steps=5, batch=Balanced(batch=8, density_batch=8, hidden=(8,)))


def trained(data: Data, folder: Path | None = None) -> RunState:
    state = None
    for record in loop.run(PHASES, CorridorTask(data), (0, 1), replace(UNITS, standardise=True), keep_rows=True):
        state = record.state
        if folder is not None and record.index == 1 and record.phase_step == 10:
            checkpoint.save(folder, state)
    assert state is not None
    return state


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Data, Data]:
    stored = save(tmp_path_factory.mktemp("store") / "corridor", episodes_of(corridor_data()), {})
    return stored.data(True), stored.data(False)


def test_the_same_weights(both: tuple[Data, Data], tmp_path: Path) -> None:
    one, there = trained(both[0]), trained(both[1], tmp_path)
    # Standardising and SERA's scale take means in another order.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5),
        one.slots["agent"].state,
        there.slots["agent"].state,
    )
    resumed, _ = checkpoint.load(tmp_path, PHASES, SPEC, len(both[1]), here(CorridorTask(both[1]).make_env))
    scaling = replace(UNITS, standardise=True)
    for record in loop.run(PHASES, CorridorTask(both[1]), (0, 1), scaling, state=resumed):
        resumed = record.state
    assert equal(resumed.slots["agent"].state, there.slots["agent"].state)


@pytest.mark.usefixtures("users_updates")
def test_bit_for_bit_where_nothing_is_averaged(both: tuple[Data, Data]) -> None:
    final: list[Any] = []
    for data in both:
        state = None
        for record in loop.run([BALANCED], CorridorTask(data), (0, 1), UNITS):
            state = record.state
        assert state is not None
        final.append(state.slots["agent"].state)
    assert equal(*final)


def test_rows_under_vmap(both: tuple[Data, Data]) -> None:
    """As accelerators run seeds: side by side."""
    rows = Outside(both[1].observation)
    assert rows.shape == (1, *both[0].observation.shape)
    wanted = jnp.asarray([[0, 3, 5], [2, 2, 1]])
    got = jax.jit(jax.vmap(lambda w: rows[jnp.int32(0), w]))(wanted)
    np.testing.assert_array_equal(got, both[0].observation[np.asarray(wanted)])
    for one, other in zip(moments(both[0].observation), moments(both[1].observation)):
        np.testing.assert_allclose(one, other, rtol=1e-6)
