"""Offline learning inside online learning: a budget that counts everything, and checkpoints that are chosen."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from segue import checkpoint, engine
from segue.agents import VAE
from segue.agents.around import Greedy
from segue.carry import Carry
from segue.evaluate import Evaluator
from segue.first import Last
from segue.fleet import VALIDATION
from segue.phases import Phase, Validation, take
from segue.recipes import find_recipe, resolve, subroutine
from segue.samplers import Mix
from segue.types import SegueError
from tests.contract.test_agents import equal, small
from tests.replay.made import logged, numbers, own, sample, start
from tests.toys import HORIZON, SPEC, UNITS, CorridorTask, corridor_data

TASK = CorridorTask(corridor_data())
ROWS = Mix(8)
VARIANTS = (
    *("validated(sac)", "recommend(sac,iql)", "recommend-fresh(sac,cql)", "fine-tune(td3,td3-bc)"),
    *("fine-tune-fresh(sac,cal-ql)", "repeat(sac,iql)"),
)


# -- the budget ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize(
    ("domain", "task", "total"),
    [
        ("locomotion", "hopper-mixed", 1_000_000),
        ("adroit-binary", "adroit-pen-binary", 1_000_000),
        ("pointmaze", "pointmaze-umaze", 60_000),
        ("pointmaze", "pointmaze-medium", 120_000),
        ("pointmaze", "pointmaze-large", 200_000),
        ("custom", "gym:Pendulum-v1", 50_000),
    ],
)
def test_what_is_charged_is_the_budget_exactly(name: str, domain: str, task: str, total: int) -> None:
    phases = resolve(find_recipe(name), domain, task, {}).recipe.phases
    assert subroutine.charged(phases) == total
    assert all(p.ticks > 0 or p.name == "recommended" for p in phases)
    assert all(p.validation.ticks(300, p.ticks) for p in phases if p.validation.steps)
    assert phases[-1].name == "recommended"


def test_presets_of_both_recipes_reach_their_phases() -> None:
    made = resolve(find_recipe("fine-tune-fresh(sac,iql)"), "pointmaze", "pointmaze-umaze", {}).recipe
    by_name: dict[str, Any] = {p.name: p for p in made.phases}
    assert by_name["online"].learner.actor_hidden == (128, 128)
    assert by_name["retrain-1"].learner.actor_hidden == (128, 128)
    assert by_name["fine-tune-1"].learner.layer_norm
    assert by_name["retrain-1"].batch == Last(Mix(0, 128), by_name["gather"].ticks)
    assert by_name["retrain-1"].units.scale == 10.0
    # What is recommended is described as what was trained, or its policy could not be loaded.
    assert by_name["recommended"].learner == by_name["fine-tune-1"].learner
    assert by_name["recommended"].units == by_name["fine-tune-1"].units
    assert by_name["gather"].learner == Greedy(by_name["online"].learner)
    alone = resolve(find_recipe("validated(sac)"), "pointmaze", "pointmaze-umaze", {}).recipe.phases
    assert alone[-1].learner == alone[-2].learner
    best: dict[str, Any] = {
        p.name: p for p in resolve(find_recipe("repeat(td3,cql)"), "pointmaze", "x", {}).recipe.phases
    }
    assert best["recommended"].learner == best["retrain-3"].learner
    assert resolve(find_recipe("recommend(sac,iql)"), "antmaze", "x", {}).recipe.phases[1].units.shift == -1.0  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("recommend(sac)", "takes 2 recipes"),
        ("validated(sac,iql)", "takes one recipe"),
        ("recommend(iql,iql)", "iql does not start from nothing"),
        ("recommend(rlpd,iql)", "rlpd does not start from nothing"),
        ("recommend(sac,spot)", "spot enters through a door"),
        ("recommend(sac,td3)", "td3 has no offline phase"),
    ],
)
def test_pairs_that_make_no_sense(name: str, says: str) -> None:
    with pytest.raises(SegueError, match=says):
        find_recipe(name)


# -- validation ------------------------------------------------------------------------------------------------


def test_validations_are_evenly_spaced_and_the_last_is_at_the_end() -> None:
    assert Validation(100, 3).ticks(10, 30) == (10, 20, 30)
    assert Validation(29, 3).ticks(10, 30) == ()
    assert Validation(1000, 3).ticks(10, 2) == (1, 2)
    assert Validation().ticks(10, 30) == ()


def plan(steps: int = 6 * HORIZON) -> tuple[Phase, ...]:
    online, kept = Validation(steps, 2, "best"), Validation(steps, 2, "kept")
    return (
        Phase("online", small("SAC"), 30, collect=1, batch=Mix(0, 8), log_every=10, validation=online),
        Phase("gather", Greedy(small("SAC")), 10, collect=1, updates=0, slot="reference", enter=take("best")),
        Phase("retrain", small("SAC"), 9, batch=Last(Mix(0, 8), 10), slot="student", validation=kept),
        Phase("recommended", small("SAC"), 0, slot="recommended", enter=take("kept")),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Carry, list[Any], Path]:
    folder = tmp_path_factory.mktemp("run")
    carry, seen = None, []
    for record in engine.run(plan(), TASK, (0, 1), UNITS, keep_rows=True):
        carry = record.carry
        if record.index == 0 and record.tick in (10, 20, 30):
            seen.append(jax.tree.map(np.asarray, record.slot.state))
        if record.index == 0 and record.tick == 20:
            checkpoint.save(folder, record.carry)
    assert carry is not None
    return carry, seen, folder


def test_each_seed_keeps_its_best_checkpoint(whole: Any) -> None:
    carry, seen, _ = whole
    facts = carry.history[0]
    assert [v["tick"] for v in facts["validations"]] == [10, 20, 30]
    returns = np.asarray([v["return"] for v in facts["validations"]])
    best = returns.argmax(axis=0)  # the first of equals
    for s, which in enumerate(best):
        one = lambda tree, s=s: jax.tree.map(lambda x: x[s], tree)  # noqa: E731
        assert equal(one(carry.slots["best"].state), one(seen[which]))
    spent = np.asarray([v["steps"] for v in facts["validations"]]).sum(axis=0)
    assert (spent <= facts["validation_steps"]).all()
    assert equal(carry.slots["recommended"].state, carry.slots["kept"].state)


def test_validation_has_episodes_of_its_own(whole: Any) -> None:
    carry, seen, _ = whole
    slot = carry.slots["agent"]._replace(state=seen[-1])
    evaluator = Evaluator(TASK, (0, 1), 2, VALIDATION)
    assert evaluator(slot, 4).raw_return.mean(axis=1).tolist() == carry.history[0]["validations"][2]["return"]
    starts = {tuple(t.observation[0]) for first in (0, 2) for ts in evaluator(slot, first).trajectories for t in ts}
    reported = {tuple(t.observation[0]) for ts in Evaluator(TASK, (0, 1), 2)(slot).trajectories for t in ts}
    assert len(starts) == 8
    assert not starts & reported
    assert carry.history[2]["validated_before"] == 6


def test_a_stopped_run_chooses_alike(whole: Any) -> None:
    carry, _, folder = whole
    resumed, _ = checkpoint.load(folder, plan(), SPEC, len(TASK.data or ()), TASK.world)
    assert resumed.facts["validations"] == carry.history[0]["validations"][:2]
    for record in engine.run(plan(), TASK, (0, 1), UNITS, carry=resumed):
        resumed = record.carry
    for name in ("best", "kept", "recommended", "agent"):
        assert equal(resumed.slots[name].state, carry.slots[name].state)
    assert resumed.history == carry.history


def test_doors() -> None:
    phase = plan()[0]
    with pytest.raises(SegueError, match="cannot keep its best there"):
        list(engine.run((replace(phase, validation=Validation(99, keep="agent")),), TASK, (0,), UNITS))
    with pytest.raises(SegueError, match=r"one validation may take 24 steps; set online\.validation\.steps"):
        list(engine.run(plan(23), TASK, (0,), UNITS))
    with pytest.raises(SegueError, match="VAE does not act"):
        list(engine.run((replace(phase, learner=VAE((8,))),), TASK, (0,), UNITS))
    with pytest.raises(SegueError, match="no phase before has left a slot 'best'"):
        list(engine.run((replace(phase, slot="x", enter=take("best")),), TASK, (0,), UNITS))


# -- its parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [64, 15])
def test_the_last_rows_alone(capacity: int) -> None:
    sampler, offline, online = Last(Mix(0, 64), 6), logged(6), own(20, capacity)
    state = start(sampler, jax.random.key(0), offline, online)
    rows = [sample(sampler, state, jax.random.key(n), offline, online)[1] for n in range(5)]
    assert set(np.concatenate([numbers(r, of_own=True) for r in rows])) == set(range(14, 20))
    assert "only 5 are collected" in (sampler.refuse(6, 5, 5) or "")


def test_greedy() -> None:
    agent: Any = small("SAC")
    state = agent.init(jax.random.key(0), SPEC)
    observation, key = np.zeros((400, 2), np.float32), jax.random.key(1)
    best = agent.act(state, observation, key, False)
    assert equal(Greedy(agent).act(state, observation, key, True), best)
    some = np.asarray(Greedy(agent, 0.25).act(state, observation, key, True)) != np.asarray(best)
    assert 0.15 < some.mean() < 0.35
    assert equal(Greedy(agent, 0.25).act(state, observation, key, False), best)
    with pytest.raises(SegueError, match="epsilon"):
        Greedy(agent, 2.0)
