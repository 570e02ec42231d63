"""Scaling that are read off the dataset, and what everybody then sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from segue.core.scaling import Scaling, plain_scaling, returns_to_go, scaling_of, settled
from segue.core.types import SegueError
from segue.engine import loop
from segue.engine.phase import Phase
from segue.recipes import find_recipe
from segue.runs.request import resolved
from segue.samplers.uniform import Mix
from tests.toys import CorridorTask, corridor_data, small_cql

DATA = corridor_data()


def test_span_and_standardisation_by_hand() -> None:
    scaling = settled(Scaling(reward_scale=2.0, reward_span=1000.0, standardise=True), -1.0, DATA)
    returns = [sum(DATA.reward[a:b]) for a, b in zip([0, *DATA.ends()[:-1]], DATA.ends())]
    assert scaling.reward_scale == pytest.approx(2000.0 / (max(returns) - min(returns)))
    assert (scaling.failure, scaling.reward_span, scaling.standardise) == (-1.0, None, False)
    seen = np.asarray(scaling.see(jnp.asarray(DATA.observation)))
    std = DATA.observation.std(0)
    np.testing.assert_allclose(seen, (DATA.observation - DATA.observation.mean(0)) / (std + 1e-3), rtol=1e-4, atol=1e-5)
    assert settled(scaling, None, None) == scaling
    np.testing.assert_array_equal(Scaling().see(jnp.ones((2, 3))), 1.0)


@pytest.mark.parametrize(("said", "means"), [("task", 0.0), (None, None), (-1.0, -1.0)])
def test_the_failure_reward_is_the_tasks_unless_somebody_says_otherwise(said: Any, means: float | None) -> None:
    task = CorridorTask(DATA)
    decided = resolved(find_recipe("cal-ql"), task, {} if said == "task" else {"scaling.failure": said})
    table = decided.table()["scaling.failure"]
    assert (table["value"], table["source"]) == (means, "task" if said == "task" else "settings")
    for scaling in (decided.scaling, Scaling(failure=said)):
        assert settled(scaling, task.failure, DATA).failure == means
    lost = np.zeros(3, np.float32)
    forever = {0.0: -2.0, None: -1.0 * (1 + 0.5 + 0.25), -1.0: -1.75}[means]
    scaling = settled(Scaling(reward_shift=-1.0, discount=0.5, failure=said), task.failure, DATA)
    assert returns_to_go(lost, lost > 0, scaling)[0] == forever


def test_a_run_learns_and_acts_in_them_and_remembers_them() -> None:
    """Standardising is the same as logging, and seeing, other observations."""
    task = CorridorTask(DATA)
    phases = (Phase("online", small_cql(), environment_steps=30, batch=Mix(8, 8)),)
    state = None
    for record in loop.run(phases, task, (0,), Scaling(standardise=True)):
        state = record.state
        assert record.slot.scaling == settled(Scaling(standardise=True), task.failure, DATA)
    assert state is not None
    np.testing.assert_allclose(state.experience.replay.observation[0, 0, 1], 0.0)  # replay is raw: time starts at 0
    other = loop.run(phases, task, (0,), Scaling())
    for record in other:
        plain = record.state
    assert not np.array_equal(plain.experience.replay.action, state.experience.replay.action)
    assert scaling_of(plain_scaling(state.slots["agent"].scaling)) == state.slots["agent"].scaling


@pytest.mark.parametrize(
    ("scaling", "data", "says"),
    [
        (Scaling(standardise=True), None, "no dataset to compute means from"),
        (Scaling(reward_span=1.0), None, "no dataset to compute returns from"),
        (Scaling(reward_span=1.0), replace(DATA, reward=0 * DATA.reward), "the same return"),
    ],
)
def test_what_the_dataset_cannot_say(scaling: Scaling, data: object, says: str) -> None:
    with pytest.raises(SegueError, match=says):
        settled(scaling, None, data)


def test_lengths_and_signs() -> None:
    with pytest.raises(SegueError, match="differ in length"):
        Scaling(observation_mean=(1.0,))
    with pytest.raises(SegueError, match="above 0"):
        Scaling(observation_mean=(1.0,), observation_std=(0.0,))
