"""Offline learning inside online learning: a budget that counts everything, and checkpoints that are chosen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import segue
from segue.agents import VAE
from segue.agents.one_of import OneOf, better
from segue.core.scaling import Scaling
from segue.core.types import SegueError
from segue.engine import loop
from segue.engine.checks import check_handovers
from segue.engine.envs import VALIDATION, here
from segue.engine.evaluate import Evaluator
from segue.engine.phase import Phase, Validation, charged, from_slot
from segue.engine.sharing import Either, own_turn
from segue.engine.state import RunState, validated
from segue.engine.steps import Explore
from segue.recipes import RECIPES, TaskFacts, find_recipe, resolve, rules
from segue.recipes.systems.subroutine import SMALL
from segue.runs import checkpoint
from segue.samplers.subset import Last
from segue.samplers.uniform import Mix
from tests.contract.test_agents import equal, small
from tests.replay.made import logged, numbers, own, sample, start
from tests.toys import HORIZON, SPEC, UNITS, CorridorTask, corridor_data

TASK = CorridorTask(corridor_data())
ROWS = Mix(8)
VARIANTS = (
    *("validated(sac)", "recommend(sac,iql)", "recommend-fresh(sac,cql)", "fine-tune(td3,td3-bc)"),
    *("fine-tune-fresh(sac,cal-ql)", "repeat(sac,iql)", "recommend-better(sac,iql)", "alternate(td3,iql)"),
    "recommend-weighted(sac,iql)",
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
    phases = resolve(find_recipe(name), TaskFacts((domain, task)), {}).phases
    assert charged(phases) == total
    assert all(p.steps > 0 or p.name == "recommended" for p in phases)
    assert all(p.validation.after(300, p.steps) for p in phases if p.validation.steps)
    assert phases[-1].name == "recommended"


@pytest.mark.parametrize("online", ["sac", "td3"])
@pytest.mark.parametrize(
    "form", ["recommend", "fine-tune", "recommend-fresh", "fine-tune-fresh", "alternate", "repeat"]
)
@pytest.mark.parametrize(
    ("names", "total"),
    [(("custom", "gym:Pendulum-v1"), 50_000), (("pointmaze-pixels", "pointmaze-umaze-pixels"), 1_000_000)],
)
def test_every_form_fits_into_a_budget(form: str, online: str, names: tuple[str, ...], total: int) -> None:
    """Of an own task, and of one for which the online recipe has a warm-up of its own and the system has no sizes."""
    phases = resolve(find_recipe(f"{form}({online},iql)"), TaskFacts(names), {}).phases
    assert charged(phases) == total
    assert all(p.steps > 0 or p.name == "recommended" for p in phases)


@pytest.mark.parametrize("name", [*VARIANTS, "cal-ql", "wsrl", "opt(td3-bc)"])
@pytest.mark.parametrize("total", [9_001, 33_333, 2_000_000])
def test_another_budget_is_shared_out_alike_to_the_step(name: str, total: int) -> None:
    found = resolve(find_recipe(name), TaskFacts(("pointmaze", "pointmaze-umaze")), {})
    usual = found.phases
    phases = rules.budget(total)(usual, found.scaling)
    assert charged(phases) == total
    for before, after in zip(usual, phases, strict=True):
        for cost in (lambda p: p.moves, lambda p: p.validation.steps):
            assert cost(after) / total == pytest.approx(cost(before) / charged(usual), abs=len(phases) * 2 / total)
        if isinstance(after.batch, Last):
            assert after.batch.rows == next(p.steps for p in phases if p.name == "gather")
        if not before.collects:
            assert (after.gradient_steps, after.evaluate_every) == (before.gradient_steps, before.evaluate_every)


def test_a_budget_that_cannot_be_kept_is_one_line() -> None:
    found = resolve(find_recipe("recommend-fresh(sac,iql)"), TaskFacts(("pointmaze", "pointmaze-umaze")), {})
    with pytest.raises(SegueError, match="budget=4: too few for phase 'gather'"):
        rules.budget(4)(found.phases, found.scaling)
    pairs = (Phase("online", small("TD3"), environment_steps=20, train_every=2, utd_ratio=1 / 2, batch=Mix(0, 8)),)
    with pytest.raises(SegueError, match="learns every 2 steps, which leaves 1 over"):
        rules.budget(31)(pairs, UNITS)
    still = tuple(replace(phase, environment_steps=0) for phase in pairs)
    with pytest.raises(SegueError, match="budget=31: no phase takes environment steps"):
        rules.budget(31)(still, UNITS)


def test_presets_of_both_recipes_reach_their_phases() -> None:
    made = resolve(find_recipe("fine-tune-fresh(sac,iql)"), TaskFacts(("pointmaze", "pointmaze-umaze")), {})
    by_name: dict[str, Any] = {p.name: p for p in made.phases}
    assert by_name["online"].learner.actor_hidden == (128, 128)
    assert by_name["retrain-1"].learner.actor_hidden == (128, 128)
    assert by_name["fine-tune-1"].learner.layer_norm
    assert by_name["retrain-1"].batch == Last(Mix(0, 128), by_name["gather"].steps)
    assert by_name["retrain-1"].scaling.reward_scale == 10.0
    # What is recommended is described as what was trained, or its policy could not be loaded.
    assert by_name["recommended"].learner == by_name["fine-tune-1"].learner
    assert by_name["recommended"].scaling == by_name["fine-tune-1"].scaling
    assert (by_name["gather"].learner, by_name["gather"].greedy) == (by_name["online"].learner, True)
    # Both halves of a choice are described as they were trained.
    two = resolve(
        find_recipe("recommend-better(sac,iql)"), TaskFacts(("pointmaze", "x")), {"online.environment_steps": 9}
    )
    phases: dict[str, Any] = {p.name: p for p in two.phases}
    assert phases["recommended"].learner.first == phases["online"].learner
    assert phases["recommended"].learner.second == phases["retrain-1"].learner
    check_handovers(two.phases, two.scaling)
    alone = resolve(find_recipe("validated(sac)"), TaskFacts(("pointmaze", "pointmaze-umaze")), {}).phases
    assert alone[-1].learner == alone[-2].learner
    best: dict[str, Any] = {
        p.name: p for p in resolve(find_recipe("repeat(td3,cql)"), TaskFacts(("pointmaze", "x")), {}).phases
    }
    assert best["recommended"].learner == best["retrain-3"].learner


def test_fresh_rows_follow_what_is_gathered_unless_they_are_set() -> None:
    recipe, task = find_recipe("recommend-fresh(sac,iql)"), TaskFacts(("pointmaze",))
    row = resolve(recipe, task, {"gather.environment_steps": 99}).table()["retrain-1.batch.rows"]
    assert row == {"value": 99, "source": "from gather.environment_steps"}
    both = {"gather.environment_steps": 99, "retrain-1.batch.rows": 50}
    assert resolve(recipe, task, both).table()["retrain-1.batch.rows"] == {"value": 50, "source": "settings"}


@pytest.mark.parametrize(
    ("name", "domain", "online", "student"),
    [
        ("recommend(sac,iql)", "antmaze", Scaling(reward_scale=10.0, reward_shift=-5.0), Scaling(reward_shift=-1.0)),
        ("recommend(sac,iql)", "adroit-binary", Scaling(reward_scale=10.0, reward_shift=5.0), Scaling()),
        ("fine-tune(sac,td3-bc)", "antmaze", Scaling(reward_scale=10.0, reward_shift=-5.0), Scaling(reward_shift=-1.0)),
        (
            "repeat(sac,cal-ql)",
            "antmaze",
            Scaling(reward_scale=10.0, reward_shift=-5.0),
            Scaling(reward_scale=10.0, reward_shift=-5.0),
        ),
        ("alternate(sac,iql)", "pointmaze", Scaling(reward_scale=10.0), Scaling(reward_scale=10.0)),
    ],
)
def test_each_agent_learns_in_its_own_units(name: str, domain: str, online: Scaling, student: Scaling) -> None:
    made = resolve(find_recipe(name), TaskFacts((domain,)), {})
    assert made.scaling == online
    assert all(p.scaling is None for p in made.phases if p.slot == "agent")
    assert {p.scaling for p in made.phases if p.slot == "student"} == {student}
    changed = resolve(find_recipe(name), TaskFacts((domain,)), {"scaling.discount": 0.9})
    assert {p.scaling.discount for p in changed.phases if p.scaling} == {changed.scaling.discount} == {0.9}


def presets_of(recipe: str) -> set[str]:
    """Names of the tasks that a recipe of the table has presets for."""
    method: Any = RECIPES[recipe].plan
    return set(method.load().presets)


FORMS = ("recommend-fresh", "recommend-weighted", "fine-tune", "alternate")


def test_every_offline_recipe_fits_on_every_domain_or_says_why() -> None:
    """What does not fit is refused before anything runs; the rest has no preset of an option that it lacks."""
    refused = set()
    for offline in RECIPES:
        try:
            forms = [find_recipe(f"{name}(sac,{offline})") for name in FORMS]
        except SegueError:
            refused.add(offline)
            continue
        for form in forms:
            for name in {*presets_of("sac"), *presets_of(offline), *SMALL}:
                phases = resolve(form, TaskFacts((name,)), {}).phases
                assert all(p.scaling is not None for p in phases if p.slot == "student")
    # The last two have no values, which recommend-better's reports compare.
    assert refused == {"spot", "pex", "wsrl", "rlpd", "sac", "td3", "bc", "flow-bc"}


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("recommend(sac)", "takes 2 recipes"),
        ("validated(sac,iql)", "takes one recipe"),
        ("recommend(iql,iql)", "iql does not start from scratch"),
        ("recommend(rlpd,iql)", "rlpd does not start from scratch"),
        ("recommend(sac,spot)", "spot starts from another slot"),
        ("recommend(sac,td3)", "td3 has no offline phase"),
    ],
)
def test_pairs_that_make_no_sense(name: str, says: str) -> None:
    with pytest.raises(SegueError, match=says):
        find_recipe(name)


# -- validation ------------------------------------------------------------------------------------------------


def test_validations_are_evenly_spaced_and_the_last_is_at_the_end() -> None:
    assert Validation(100, 3).after(10, 30) == (10, 20, 30)
    assert Validation(29, 3).after(10, 30) == ()
    assert Validation(1000, 3).after(10, 2) == (1, 2)
    assert Validation().after(10, 30) == ()


def plan(steps: int = 6 * HORIZON) -> tuple[Phase, ...]:
    online, kept = Validation(steps, 2, "best"), Validation(steps, 2, "kept")
    return (
        Phase("online", small("TD3"), environment_steps=30, batch=Mix(0, 8), log_every=10, validation=online),
        Phase(
            "gather",
            small("TD3"),
            environment_steps=10,
            utd_ratio=0,
            slot="reference",
            init_from=from_slot("best"),
            greedy=True,
        ),
        Phase("retrain", small("TD3"), gradient_steps=9, batch=Last(Mix(0, 8), 10), slot="student", validation=kept),
        Phase("recommended", small("TD3"), slot="recommended", init_from=from_slot("kept")),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunState, list[Any], Path]:
    folder = tmp_path_factory.mktemp("run")
    state, seen = None, []
    for record in loop.run(plan(), TASK, (0, 1), UNITS, keep_rows=True):
        state = record.state
        if record.index == 0 and record.phase_step in (10, 20, 30):
            seen.append(jax.tree.map(np.asarray, record.slot.state))
        if record.index == 0 and record.phase_step == 20:
            checkpoint.save(folder, record.state)
    assert state is not None
    return state, seen, folder


def test_each_seed_keeps_its_best_checkpoint(whole: Any) -> None:
    state, seen, _ = whole
    facts = state.history[0]
    assert [v["phase_step"] for v in facts["validations"]] == [10, 20, 30]
    returns = np.asarray([v["return"] for v in facts["validations"]])
    best = returns.argmax(axis=0)  # the first of equals
    for s, which in enumerate(best):
        one = lambda tree, s=s: jax.tree.map(lambda x: x[s], tree)  # noqa: E731
        assert equal(one(state.slots["best"].state), one(seen[which]))
    spent = np.asarray([v["steps"] for v in facts["validations"]]).sum(axis=0)
    assert (spent <= facts["validation_steps"]).all()
    assert equal(state.slots["recommended"].state, state.slots["kept"].state)


def test_a_run_says_when_it_validated_and_evaluates_anew_what_it_recommends(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "agent.actor_hidden": (8,),
        "agent.critic_hidden": (8,),
        "online.batch.online": 8,
        "evaluation.episodes": 1,
        "online.environment_steps": 30,
        "online.train_every": 2,
        "online.utd_ratio": 1,
        "online.validation.steps": 3 * 3 * HORIZON,
    }
    folder = segue.train("validated(sac)", CorridorTask(), 2, settings, folder=tmp_path / "run")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    tried = [r for r in rows if r["kind"] == "validation"]
    assert [(r["phase_step"], r["environment_step"], r["update"]) for r in tried] == [(n, n, n) for n in (10, 20, 30)]
    assert [r["phase"] for r in rows if r["kind"] == "evaluation"][-1] == "recommended"


def test_validation_has_episodes_of_its_own(whole: Any) -> None:
    state, seen, _ = whole
    slot = state.slots["agent"].moved(seen[-1])
    evaluator = Evaluator(TASK, (0, 1), 2, VALIDATION)
    assert evaluator(slot, 4).raw_return.mean(axis=1).tolist() == state.history[0]["validations"][2]["return"]
    starts = {tuple(t.observation[0]) for first in (0, 2) for ts in evaluator(slot, first).trajectories for t in ts}
    reported = {tuple(t.observation[0]) for ts in Evaluator(TASK, (0, 1), 2)(slot).trajectories for t in ts}
    assert len(starts) == 8
    assert not starts & reported
    assert state.history[2]["validated_before"] == 6


def test_a_stopped_run_chooses_alike(whole: Any) -> None:
    state, _, folder = whole
    resumed, _ = checkpoint.load(folder, plan(), SPEC, len(TASK.data or ()), here(TASK.make_env))
    assert resumed.facts["validations"] == state.history[0]["validations"][:2]
    for record in loop.run(plan(), TASK, (0, 1), UNITS, state=resumed):
        resumed = record.state
    for name in ("best", "kept", "recommended", "agent"):
        assert equal(resumed.slots[name].state, state.slots[name].state)
    assert resumed.history == state.history


def test_doors() -> None:
    phase = plan()[0]
    with pytest.raises(SegueError, match="its best checkpoint needs another slot"):
        list(loop.run((replace(phase, validation=Validation(99, keep="agent")),), TASK, (0,), UNITS))
    with pytest.raises(SegueError, match=r"one validation takes up to 24 steps; set online\.validation\.steps"):
        list(loop.run(plan(23), TASK, (0,), UNITS))
    with pytest.raises(SegueError, match="VAE does not act"):
        list(loop.run((replace(phase, learner=VAE((8,))),), TASK, (0,), UNITS))
    # A hand-over that leads nowhere is found before anything runs.
    ready, last = plan()[0], plan()[-1]
    for wrong, says in (
        (replace(last, init_from=from_slot("bets")), "reads slot 'bets', but no earlier phase fills it"),
        (replace(last, init_from=better("best", "agent")), "compares slot 'agent' by validation"),
        (
            replace(last, init_from=better("best", "best"), scaling=Scaling(reward_scale=2.0)),
            "learn in different scaling",
        ),
    ):
        with pytest.raises(SegueError, match=says):
            next(iter(loop.run((ready, wrong), TASK, (0,), UNITS)))
    for actor, validation, says in (
        (Either("agent"), phase.validation, "compares slot 'agent' by validation"),
        (Either("best"), Validation(), r"set shared\.validation\.steps"),
    ):
        shared = replace(phase, name="shared", actor=actor, validation=validation)
        with pytest.raises(SegueError, match=says):
            list(loop.run((phase, shared), TASK, (0,), UNITS))


# -- its parts -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [64, 15])
def test_the_last_rows_alone(capacity: int) -> None:
    sampler, offline, online = Last(Mix(0, 64), 6), logged(6), own(20, capacity)
    state = start(sampler, jax.random.key(0), offline, online)
    rows = [sample(sampler, state, jax.random.key(n), offline, online)[1] for n in range(5)]
    assert set(np.concatenate([numbers(r, of_own=True) for r in rows])) == set(range(14, 20))
    assert "there are only 5" in (sampler.validate(6, 5, 5) or "")


def test_greedy() -> None:
    agent: Any = small("SAC")
    state = agent.init(jax.random.key(0), SPEC)
    observation, key = np.zeros((400, 2), np.float32), jax.random.key(1)
    best = agent.act(state, observation, key, False)
    assert equal(Explore(True)(agent, state, observation, key), best)
    assert not equal(Explore()(agent, state, observation, key), best)
    some = np.asarray(Explore(True, 0.25)(agent, state, observation, key)) != np.asarray(best)
    assert 0.15 < some.mean() < 0.35
    for wrong in ({"epsilon": 2.0}, {"freeze_actor": -1}):
        with pytest.raises(SegueError, match=next(iter(wrong))):
            next(iter(loop.run((replace(plan()[0], **wrong),), TASK, (0,), UNITS)))


# -- who acts, and who is recommended --------------------------------------------------------------------------


def test_who_acts_by_hand() -> None:
    """x / (x + 1) up to 1, x^2 / (x + 1) above; 0.2 and 0.9 at the ends; one who is better three times acts alone."""
    either = Either("best")
    p = lambda *own: either.probability(own, 10.0, 2.0)  # noqa: E731
    assert p() == 0.5
    assert p(10.0) == 0.5
    assert p(6.0) == pytest.approx(1 / 3)
    assert p(3.0) == p(-50.0) == 0.2
    assert p(11.6) == pytest.approx(1.2**2 / 2.2)
    assert p(14.0) == p(99.0) == 0.9
    assert p(99.0, 11.0, 10.5, 10.1) == 1.0
    assert p(11.0, 10.5, 9.0) == pytest.approx(0.875 / 1.875)
    assert either.probability((1.0,), 2.0, 2.0) == 0.9
    assert 0.25 < np.mean([own_turn(3, n, 0.3) for n in range(1000)]) < 0.35
    for wrong in ({"floor": -0.1}, {"cap": 0.1}, {"patience": 0}, {"random_episodes": 0}):
        with pytest.raises(SegueError, match=next(iter(wrong))):
            Either("best", **wrong)  # type: ignore[arg-type]


def test_two_policies_share_the_episodes_and_a_stop_changes_nothing(tmp_path: Path) -> None:
    """Rows in which the other policy acted hold its greedy actions; a resumed run draws the same turns."""
    always = Validation(4 * HORIZON, 2)
    shared = Validation(8 * HORIZON, 2, "tuned")
    phases = (
        Phase("online", small("SAC"), environment_steps=20, batch=Mix(0, 8), validation=always),
        Phase("frozen", small("SAC"), slot="best", init_from=from_slot("best")),
        Phase(
            "shared",
            small("SAC"),
            environment_steps=60,
            batch=Mix(0, 8),
            actor=Either("best"),
            validation=shared,
            log_every=20,
            greedy=True,
        ),
    )
    told, state, saved = [], None, False
    for record in loop.run(phases, TASK, (0, 1), UNITS, keep_rows=True):
        state = record.state
        told += [e for e in record.episodes if record.index == 2]
        if record.index == 2 and record.phase_step == 40:
            assert not saved
            checkpoint.save(tmp_path, state)
            saved = True
    assert state is not None
    assert saved
    assert {e.own for e in told} == {False, True}
    resumed, _ = checkpoint.load(tmp_path, phases, SPEC, len(TASK.data or ()), here(TASK.make_env))
    for record in loop.run(phases, TASK, (0, 1), UNITS, state=resumed):
        resumed = record.state
    jax.tree.map(np.testing.assert_array_equal, resumed.experience.replay, state.experience.replay)
    assert equal(resumed.slots["agent"].state, state.slots["agent"].state)
    assert resumed.history == state.history
    greedy: Any = small("SAC")
    slot, agree = state.slots["best"], 0
    for e in (e for e in told if not e.own):
        rows = slice(max(e.environment_step - e.length, 20), e.environment_step)
        inner = jax.tree.map(lambda x, s=e.seed: x[s], slot.state)
        action = greedy.act(
            inner, UNITS.see(state.experience.replay.observation[e.seed, rows]), jax.random.key(0), False
        )
        np.testing.assert_allclose(state.experience.replay.action[e.seed, rows], action, atol=1e-6)
        agree += 1
    assert agree


def test_each_seed_is_given_the_better_of_two() -> None:
    one, two = Validation(2 * HORIZON, 2, "one"), Validation(2 * HORIZON, 2, "two")
    agents = small("SAC"), small("IQL")
    phases = (
        Phase("online", agents[0], environment_steps=20, batch=Mix(0, 8), validation=one),
        Phase("retrain", agents[1], gradient_steps=20, batch=Mix(0, 8), slot="student", validation=two),
        Phase("recommended", OneOf(*agents, ("agent", "student")), slot="end", init_from=better("one", "two")),
    )
    state = None
    for record in loop.run(phases, TASK, (0, 1, 2, 3), UNITS):
        state = record.state
    assert state is not None
    found, end = validated(state.history), state.slots["end"].state
    np.testing.assert_array_equal(end.second_acts, found["two"] > found["one"])
    observation, key = np.zeros((3, 2), np.float32), jax.random.key(0)
    for s in range(4):
        state = jax.tree.map(lambda x, s=s: x[s], end)
        which, inner = (1, state.second) if state.second_acts else (0, state.first)
        chosen: Any = agents[which]
        action = chosen.act(inner, observation, key, False)
        learner: Any = phases[2].learner
        assert equal(learner.act(state, observation, key, False), action)
        assert equal(learner.q(state, observation, action), chosen.q(inner, observation, action))
    with pytest.raises(SegueError, match="learns nothing"):
        list(loop.run((*phases[:2], replace(phases[2], environment_steps=1)), TASK, (0,), UNITS))
