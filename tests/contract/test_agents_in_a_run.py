"""Every registered agent in the engine: one program for all phases, exact after a stop, a policy that acts alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from segue.core.types import SegueError
from segue.deploy import numeric
from segue.deploy.export import export
from segue.engine import loop, steps
from segue.engine.diagnostics import handover
from segue.engine.envs import here
from segue.engine.evaluate import Evaluator
from segue.engine.phase import Phase
from segue.runs import checkpoint
from segue.runs.policy import load, save_policy
from segue.samplers.uniform import Mix
from tests.contract.test_agents import EACH, equal, small
from tests.toys import SPEC, UNITS, CorridorTask, corridor_data

TASK = CorridorTask(corridor_data())
SEEDS = (3, 5)


@pytest.mark.parametrize("name", EACH)
def test_compiled_once_resumed_exactly_and_exported(name: str, tmp_path: Path) -> None:
    batch = Mix(8, 8)
    phases = (
        Phase("offline", small(name), gradient_steps=5, batch=batch, log_every=2),
        Phase("online", small(name), environment_steps=16, batch=batch, log_every=7),
    )
    steps.advance.clear_cache()
    whole: Any = None
    for record in loop.run(phases, TASK, SEEDS, UNITS, keep_rows=True):
        whole = record.state
        if record.index == 1 and record.phase_step == 7:
            checkpoint.save(tmp_path, record.state)
    assert steps.advance._cache_size() == 1

    state, _ = checkpoint.load(tmp_path, phases, SPEC, len(TASK.data or ()), here(TASK.make_env))
    assert state.step == 7
    for record in loop.run(phases, TASK, SEEDS, UNITS, state=state):
        resumed = record.state
    assert equal(resumed.slots["agent"].state, whole.slots["agent"].state)
    assert equal(
        (resumed.experience.replay.observation, resumed.experience.replay.action),
        (whole.experience.replay.observation, whole.experience.replay.action),
    )

    slot = whole.slots["agent"]
    facts = {"action": {"low": [-1.0], "high": [1.0]}, "observation": {"keys": []}}
    save_policy(tmp_path / "policy", slot, SPEC, SEEDS, facts)
    observation = np.random.default_rng(0).standard_normal((4, 2)).astype(np.float32)
    own = jax.tree.map(lambda x: x[1], slot.state)
    want = slot.learner.act(own, observation, jax.random.key(0), False)
    np.testing.assert_allclose(load(tmp_path, 5).act(observation), want, atol=1e-6)


@pytest.mark.parametrize("name", EACH)
def test_chunks_are_learned_taken_saved_and_exported(name: str, tmp_path: Path) -> None:
    """Also stopped in the middle of a plan."""
    phases = (Phase("online", small(name), environment_steps=10, batch=Mix(8, 8), log_every=5, chunk=3),)
    whole: Any = None
    for record in loop.run(phases, TASK, SEEDS, UNITS, keep_rows=True):
        whole = record.state
        if record.phase_step == 5:
            assert whole.queue
            checkpoint.save(tmp_path, whole)
    state, _ = checkpoint.load(tmp_path, phases, SPEC, len(TASK.data or ()), here(TASK.make_env))
    for record in loop.run(phases, TASK, SEEDS, UNITS, state=state):
        resumed = record.state
    assert equal(resumed.slots["agent"].state, whole.slots["agent"].state)
    pick = lambda state: state.experience.replay._replace(mc_return=())  # noqa: E731 - NaN while an episode is open
    assert equal(pick(resumed), pick(whole))

    slot, evaluator = whole.slots["agent"], Evaluator(TASK, SEEDS, 2)
    evaluation = evaluator(slot)
    for episode in evaluation.trajectories[1]:
        np.testing.assert_array_equal(episode.plan.reshape(-1, 1)[: len(episode.action)], episode.action)
        assert len(episode.plan) == -(-len(episode.action) // 3)
    found, _ = handover(slot, TASK.data, evaluator.lived(slot, evaluation))
    assert all(np.isfinite(x).all() for x in found.values())

    facts = {"action": {"low": [-1.0], "high": [1.0]}, "observation": {"keys": []}}
    save_policy(tmp_path / "policy", slot, SPEC, SEEDS, facts)
    policy, seen = load(tmp_path, 5), evaluation.trajectories[1][0].observation[:1]
    np.testing.assert_allclose(policy.plan(seen)[0, :, 0], evaluation.trajectories[1][0].plan[0], atol=1e-6)
    np.testing.assert_array_equal(policy.act(seen), policy.plan(seen)[:, 0])


def test_only_the_first_actions_of_a_plan_are_taken(tmp_path: Path) -> None:
    """Where `replan` says so; also where a run is stopped between them."""
    phases = (Phase("online", small("FQL"), environment_steps=12, batch=Mix(8, 8), log_every=3, chunk=3, replan=2),)
    whole: Any = None
    for record in loop.run(phases, TASK, SEEDS, UNITS, keep_rows=True):
        whole = record.state
        assert all(len(plan) < 2 for plan in whole.queue.values())
        if record.phase_step == 3:
            assert whole.queue
            checkpoint.save(tmp_path, whole)
    state, _ = checkpoint.load(tmp_path, phases, SPEC, len(TASK.data or ()), here(TASK.make_env))
    for record in loop.run(phases, TASK, SEEDS, UNITS, state=state):
        resumed = record.state
    assert equal(resumed.slots["agent"].state, whole.slots["agent"].state)

    slot, evaluator = whole.slots["agent"], Evaluator(TASK, SEEDS, 2)
    evaluation = evaluator(slot)
    for episode in evaluation.trajectories[1]:
        np.testing.assert_array_equal(episode.plan[:, :2].reshape(-1, 1)[: len(episode.action)], episode.action)
        assert len(episode.plan) == -(-len(episode.action) // 2)
    found, _ = handover(slot, TASK.data, evaluator.lived(slot, evaluation))
    assert all(np.isfinite(x).all() for x in found.values())

    facts = {"action": {"low": [-1.0], "high": [1.0]}, "observation": {"keys": []}, "task": "", "trained": {}}
    save_policy(tmp_path / "policy", slot, SPEC, SEEDS, facts)
    policy, first = load(tmp_path, 5), evaluation.trajectories[1][0]
    np.testing.assert_allclose(policy.plan(first.observation[0])[:, 0], first.plan[0][:2], atol=1e-6)
    made = export(tmp_path, to="numpy", seed=5)
    act = numeric.load(made.file)
    np.testing.assert_allclose(act(first.observation[:1])[0, :, 0], first.plan[0][:2], atol=1e-5)
    with pytest.raises(SegueError, match="phase 'online': replan=4 is out of range; a plan has 3 actions"):
        next(iter(loop.run((replace(phases[0], replan=4),), TASK, SEEDS, UNITS)))
