"""Systems around recipes, end to end on a toy: OOO's explorer and exploiters, OPT's phases, and both with a bonus."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import CQL, IQL, RLPD, TD3BC, CalQL
from segue.bonuses import RND, SERA, Both, Nothing
from segue.core.options import reachable
from segue.core.scaling import Scaling
from segue.core.types import Agent, Handover, SegueError, Transition
from segue.engine import loop, steps
from segue.engine.checks import check_phase
from segue.engine.measured import measured
from segue.engine.phase import Phase
from segue.engine.validate import Shapes
from segue.recipes import Plan, Recipe, TaskFacts, find_recipe, resolve
from segue.samplers.subset import Prefix
from segue.samplers.uniform import Mix
from tests.contract.test_agents import begin, equal, small
from tests.replay.made import logged, own, sample, start
from tests.toys import SPEC, UNITS, CorridorTask, corridor_data

DATA = corridor_data()
TASK = CorridorTask(DATA)
CHUNKED = ("chunk(opt(td3-bc),3)", "opt(chunk(spot,3))", "ooo(chunk(bfn,3))", "chunk(ooo(cal-ql)+sera,3)")
CHUNKED += ("chunk(fql,3)+sera",)


def shrunk(recipe: Recipe, online: int = 40) -> Plan:
    """The plan with its pointmaze preset, narrow networks and few steps."""
    plan = resolve(recipe, TaskFacts(("pointmaze", "pointmaze-umaze")), {})
    phases = []
    for phase in plan.phases:
        length = {"environment_steps": 12} if phase.collects else {"gradient_steps": 3}
        if phase.name == "online":
            length = {"environment_steps": online}
        phases.append(replace(phase, **length, evaluate_every=0, log_every=5, learner=narrow(phase.learner)))
    return replace(plan, phases=tuple(phases))


def narrow(part: Any) -> Any:
    """Hidden layers of 8 at any depth, and kinks of OPT within the few updates of a test."""
    changes: dict[str, Any] = {}
    for name in part.__dataclass_fields__:
        value = getattr(part, name)
        if name.endswith("hidden"):
            changes[name] = (8,) * len(value)
        elif hasattr(value, "__dataclass_fields__"):
            changes[name] = narrow(value)
    return replace(part, **changes)


def traced(recipe: Plan, task: Any = TASK) -> dict[str, set[str]]:
    """Walk through all hand-overs and updates without compiling anything; metrics that each phase would report."""
    metrics: dict[str, set[str]] = {}
    shapes, logged = Shapes(SPEC, 2, len(task.data or ()), 100), len(task.data or ())
    for index, phase in enumerate(recipe.phases):
        check_phase(phase, shapes.slots, SPEC, task.horizon, logged, 100, 100)
        slot = shapes.hand_over(phase, index, UNITS)
        if phase.updates:
            one = shapes.one(slot.learned, phase.chunk)
            after, said = jax.eval_shape(steps.update_of(phase, UNITS), *one)
            assert jax.tree.structure(after) == jax.tree.structure(one[0])
            metrics[phase.name] = set(said)
    return metrics


def learning_of_explorer(recipe: Plan) -> list[Phase]:
    return [p for p in recipe.phases if p.slot == "agent" and p.updates]


@pytest.mark.parametrize(
    ("name", "explorer", "exploiter"),
    [("ooo(iql)", IQL, IQL), ("ooo(cal-ql)", CalQL, CQL), ("ooo(rlpd)", RLPD, RLPD), ("ooo(td3-bc)", TD3BC, TD3BC)],
)
def test_ooo_explores_with_a_bonus_and_exploits_without(name: str, explorer: Any, exploiter: Any) -> None:
    recipe = shrunk(find_recipe(name))
    exploits = [p for p in recipe.phases if p.slot == "exploiter"]
    assert [p.name for p in exploits] == [f"exploit-{n}" for n in (1, 2, 3, 4)]
    assert [p.batch.share for p in exploits if isinstance(p.batch, Prefix)] == [0.25, 0.5, 0.75, 1.0]
    assert all(isinstance(p.bonus, Nothing) for p in exploits)
    rnd: Any = learning_of_explorer(recipe)[0].bonus
    # Spec 5.1: whose networks the weight was chosen with.
    if name == "ooo(rlpd)":
        assert (rnd.initialiser, rnd.before_learning) == ("xavier", True)
        assert (learning_of_explorer(recipe)[0].learner.critics, exploits[0].learner.critics) == (5, 2)  # type: ignore[attr-defined]
        assert all(p.learner.actor_value == "mean" for p in exploits)  # type: ignore[attr-defined]
    published = learning_of_explorer(find_recipe(name)())[0].bonus
    assert published.output_gain == (1e-2 if explorer is CalQL else 2.0**0.5)  # type: ignore[attr-defined]
    assert all(isinstance(p.learner, exploiter) for p in exploits)
    learning = learning_of_explorer(recipe)
    assert isinstance(learning[0].learner, explorer)
    assert all(isinstance(p.bonus, RND) for p in learning)
    metrics = traced(recipe, TASK)
    assert all(("rnd_bonus" in m) == (phase in ("online", "offline")) for phase, m in metrics.items())


def test_an_exploiter_does_not_know_the_future() -> None:
    """Spec section 7: the first t rows teach an exploiter what they would if nothing else had been collected."""
    recipe = shrunk(find_recipe("ooo(iql)"), online=48)
    explore, exploit = recipe.phases[1], recipe.phases[2]
    whole = loop.run((explore, exploit), TASK, (0,), UNITS)
    short = loop.run(
        (replace(explore, environment_steps=12), replace(exploit, batch=replace(exploit.batch, share=1.0))),
        TASK,
        (0,),
        UNITS,
    )
    states = []
    for records in (whole, short):
        for record in records:
            # The same clocks, so that the same random numbers are drawn.
            if record.begins and record.phase.slot == "exploiter":
                record.state.updates = 1000
        states.append(record.slot.state)
    assert equal(states[0], states[1])
    assert np.isfinite(float(record.slot.state.bounds.low[0]))


def test_without_prior_data_nothing_is_learned_from_a_dataset() -> None:
    """Spec 6.2: RLPD explores and exploits what it has collected, also where the task has a log."""
    rows = {p.name: p.batch for p in shrunk(find_recipe("ooo(rlpd)")).phases if p.updates}
    assert rows.pop("online") == Mix(0, 512)
    offline, own_rows = logged(10, [0.0] * 9 + [1.0], [9]), own(40, 40, [0.0] * 40, [19, 39])
    for batch in rows.values():
        state = start(batch, jax.random.key(0), offline, own_rows)
        _, drawn, _ = sample(batch, state, jax.random.key(1), offline, own_rows)
        assert drawn.reward.shape == (256 + 32,)
        assert (np.asarray(drawn.online) == 1.0).all()


@pytest.mark.parametrize(
    ("rewards", "bounds"), [((1.0, 1.0), (1.0, 10.0)), ((-1.0, -2.0), (-20.0, -1.0)), ((-5.0, 5.0), (-50.0, 50.0))]
)
def test_bounds_hold_what_an_episode_that_ends_can_earn(
    rewards: tuple[float, float], bounds: tuple[float, float]
) -> None:
    """Of a reward of 1 in each step a last state is worth 1 and not 1 / (1 - 0.9)."""
    views = logged(2, rewards), own(0, 4)
    agent = IQL(critic_hidden=(8,), actor_hidden=(8,))
    handover = Handover(SPEC, {}, *views, Scaling(discount=0.9), "exploiter")
    state = measured(handover, begin(agent, jax.random.key(0), SPEC))
    np.testing.assert_allclose(state.bounds, bounds, rtol=1e-6)


def test_exploiters_start_from_scratch_and_share_nothing() -> None:
    phases = tuple(p for p in shrunk(find_recipe("ooo(iql)")).phases if p.name not in ("exploit-2", "exploit-3"))
    starts = []
    for record in loop.run(phases, TASK, (0,), UNITS):
        if record.begins and record.phase.slot == "exploiter":
            starts.append(jax.tree.map(jnp.copy, record.slot.state))
            explorer = record.state.slots["agent"].state
            assert not equal(record.slot.state.actor.params, explorer.actor.params)
            assert all(int(leaf.max()) == 0 for leaf in jax.tree.leaves(record.slot.state) if leaf.dtype == jnp.int32)
    assert len(starts) == 2
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(record.slot.state))
    # Rewards of the corridor are 0 and 1; in the learner's scaling 10 r - 5 without end at a discount of 0.9.
    np.testing.assert_allclose([float(s.bounds.low[0]) for s in starts], -50.0, rtol=1e-5)


@pytest.mark.parametrize(
    "name",
    [
        "opt(td3-bc)",
        "opt(spot)+rnd",
        "opt(iql)",
        "opt(cal-ql)+sera",
        "ooo(rlpd)+sera",
        "opt(ooo(iql))+state-entropy",
        *CHUNKED,
    ],
)
def test_compositions_fit_together(name: str) -> None:
    recipe = shrunk(find_recipe(name))
    agents = [p for p in recipe.phases if isinstance(p.learner, Agent)]
    assert len(agents) >= (2 if name in CHUNKED else 3)
    metrics = traced(recipe, CorridorTask() if "rlpd" in name else TASK)
    assert {p.chunk for p in recipe.phases} == ({3} if "chunk" in name else {1})
    bonuses = {k for k in metrics["online"] if k.endswith("_bonus")}
    wanted = {f"{b}_bonus" for b in ("sera", "rnd", "state_entropy") if b.replace("_", "-") in name}
    assert bonuses == wanted | ({"rnd_bonus"} if "ooo" in name else set())
    assert ("kappa" in metrics["online"]) == ("opt" in name)


def test_what_does_not_go_together_says_why() -> None:
    for name, why in (
        ("ooo(spot)", "starts from another slot"),
        ("ooo(iql+rnd)", "already has a bonus"),
        ("opt(wsrl)", "cannot maximise critics other than its own"),
        ("ooo(ooo(iql))", "already has a bonus"),
        ("chunk(chunk(iql,2),2)", "phase 'offline' plans 2 actions already; write chunk once"),
        ("chunk(iql,1)", "a plan has 2 actions or more"),
        ("chunk(iql)", r"chunk takes one recipe and a number; write chunk\(bfn,5\)"),
        ("chunk(iql,2,3)", r"a '\)' is missing"),
        ("recommend-better(sac,chunk(iql,3))", "chooses between policies that plan 1 and 3 actions"),
        ("chunk(5)", "there is no '5'"),
        ("ooo(iql,3)", "there is no '3'"),
    ):
        with pytest.raises(SegueError, match=why):
            find_recipe(name)


def test_q_chunking_is_a_system_around_a_recipe() -> None:
    cube = TaskFacts(("ogbench", "ogbench-cube-single", "cube-single-play-singletask-v0"))
    puzzle = TaskFacts(("ogbench", "ogbench-puzzle-3x3"))
    plain, qc = resolve(find_recipe("bfn"), cube, {}), resolve(find_recipe("chunk(bfn,5)"), cube, {})
    assert [p.name for p in qc.phases] == [p.name for p in plain.phases] == ["offline", "warm-up", "online"]
    samples: Any = [[p.learner.samples for p in plan.phases] for plan in (plain, qc)]  # type: ignore[attr-defined]
    assert samples == [[4] * 3, [32] * 3]
    assert resolve(find_recipe("chunk(bfn,5)"), puzzle, {}).phases[0].learner.samples == 64  # type: ignore[attr-defined]
    assert qc.table()["online.chunk"] == {"value": 5, "source": "chunk(bfn,5)"}
    fql: Any = resolve(find_recipe("chunk(fql,5)"), puzzle, {}).phases[0].learner
    assert (fql.cloning_weight, fql.normalise_q) == (1000.0, False)
    rlpd: Any = resolve(find_recipe("chunk(rlpd,5)"), cube, {}).phases[-1]
    assert (rlpd.learner.subset, rlpd.learner.target_value, rlpd.learner.critic_updates) == (10, "mean", 1)
    assert rlpd.batch == Mix(128, 128)
    both = find_recipe("recommend(sac,chunk(iql,3))")().phases
    assert {(p.slot, p.chunk) for p in both} == {("agent", 1), ("student", 3)}


def test_presets_reach_the_exploiter() -> None:
    made = resolve(find_recipe("ooo(iql)"), TaskFacts(("adroit-binary", "adroit-pen-binary")), {})
    by_name: dict[str, Phase] = {p.name: p for p in made.phases}
    learner: Any = by_name["exploit-2"].learner
    assert (learner.expectile, learner.dropout) == (0.8, 0.1)
    explorer: Any = by_name["online"]
    assert (explorer.bonus.weight, explorer.steps) == (0.5, 1_000_000)
    batch: Any = by_name["exploit-2"].batch
    assert (batch.inner.rows, batch.inner.beside.batch) == (0, 256)
    assert "mean_over_critics" in reachable(learner)
    assert by_name["exploit-2"].learner.mean_over_critics  # type: ignore[attr-defined]
    antmaze = resolve(find_recipe("ooo(cal-ql)+sera"), TaskFacts(("antmaze", "antmaze-umaze-diverse")), {})
    bonus: Any = antmaze.phases[1].bonus
    assert isinstance(bonus, Both)
    rlpd: Any = resolve(find_recipe("ooo(rlpd)"), TaskFacts(("pointmaze", "pointmaze-umaze")), {}).phases
    assert (rlpd[1].learner.critics, rlpd[1].batch.offline, rlpd[1].batch.online) == (5, 0, 512)
    assert (rlpd[2].learner.critics, rlpd[2].learner.critic_updates, rlpd[2].learner.temperature) == (2, 1, 0.1)
    assert bonus.first.weight == 50.0  # type: ignore[attr-defined]
    assert bonus.second == SERA(neighbours=25)


@pytest.mark.parametrize(
    ("name", "domain", "path", "source"),
    [
        ("ooo(iql)", "kitchen", "exploit-2.learner.dropout", "preset kitchen"),
        ("ooo(iql)", "kitchen", "exploit-2.learner.actor_hidden", "default"),
        ("ooo(iql)", "antmaze", "exploit-5.batch.share", "preset antmaze"),
        ("opt(spot)+rnd", "antmaze", "meta.learner.base.base.critic_last_limit", "preset antmaze"),
        ("opt(spot)+rnd", "adroit", "meta.bonus.weight", "preset adroit"),
        ("opt(td3-bc)", "pointmaze", "gather.learner.base.policy_noise", "preset pointmaze"),
        ("opt(td3-bc)", "pointmaze", "online.learner.new_learning_rate", "from critic_learning_rate"),
        ("recommend(sac,iql)", "pointmaze", "retrain-1.learner.layer_norm", "preset pointmaze"),
        ("recommend(sac,iql)", "antmaze", "retrain-1.scaling.reward_shift", "preset antmaze"),
        ("recommend-better(sac,iql)", "pointmaze", "recommended.learner.first.temperature", "preset pointmaze"),
        ("iql", "pointmaze", "online.train_every", "settings"),
        ("iql", "pointmaze", "scaling.failure", "task"),
    ],
)
def test_an_option_that_a_system_copies_keeps_its_source(name: str, domain: str, path: str, source: str) -> None:
    """And one that is set to its default is set."""
    settings = {path: 1} if source == "settings" else {}
    plan = resolve(find_recipe(name), TaskFacts((domain,), {"scaling.failure": None}), settings)
    assert plan.table()[path]["source"] == source


def test_windows_drawn_anywhere_teach_the_critics_of_whole_ones_alone() -> None:
    """A cut window teaches the flow; an agent that does not weigh its rows may not have it."""
    agent: Any = small("FQL")
    phase = Phase("offline", agent, gradient_steps=6, batch=Mix(8), chunk=3, windows="anywhere", log_every=2)
    online = replace(phase, name="online", gradient_steps=0, environment_steps=20, batch=Mix(4, 4))
    for record in loop.run((phase, online), TASK, (0,), UNITS):
        assert all(np.isfinite(x).all() for x in record.metrics.values())
    update = steps.update_of(phase, UNITS)
    assert update.cut
    rows = jnp.arange(6.0).reshape(2, 3)
    weighed = agent.base.improve_critics
    state = begin(agent, jax.random.key(0), SPEC.chunks(3))
    seen = Transition(*(jnp.zeros((2, n)) if n > 1 else jnp.zeros(2) for n in (2, 3, 1, 1, 2, 1, 1, 3)))
    seen = seen._replace(action=rows, reward=jnp.asarray([1.0, 50.0]), weight=jnp.asarray([1.0, 0.0]))
    one, _, _ = weighed(state.critic, state.target, seen, seen.reward)
    other, _, _ = weighed(state.critic, state.target, seen, jnp.asarray([1.0, -50.0]))
    assert equal(one, other)
    for wrong, says in (
        (replace(phase, learner=small("TD3")), "does not weigh"),
        (replace(phase, windows="some"), "some"),
    ):
        with pytest.raises(SegueError, match=says):
            list(loop.run((wrong,), TASK, (0,), UNITS))


@pytest.mark.parametrize(
    "name", ["clone(cal-ql)", "clone(pex)+sera", "opt(clone(spot))", "clone(chunk(fql,3))", "chunk(clone(rlpd),3)"]
)
def test_cloning_in_front_of_a_recipe(name: str) -> None:
    """One phase more, which trains the policy of the recipe's own agent; the rest goes on from its state."""
    plan = shrunk(find_recipe(name))
    metrics = traced(plan)
    (clone,) = (p for p in plan.phases if p.name == "clone")
    following = next(p for p in plan.phases if p.slot == clone.slot and p is not clone)
    assert {"cloning_error", "flow_loss"} & metrics["clone"]
    assert clone.learner.base == following.learner  # type: ignore[attr-defined]
    assert (clone.scaling, clone.chunk) == (following.scaling, following.chunk)
    assert "random" not in [p.actor for p in plan.phases]


@pytest.mark.parametrize("name", ["jump-start(iql)", "jump-start(td3-bc)+rnd", "chunk(jump-start(fql),3)"])
def test_a_recipes_own_offline_policy_is_its_guide(name: str) -> None:
    plan = shrunk(find_recipe(name))
    traced(plan)
    offline, online = plan.phases
    assert (offline.slot, online.slot) == ("guide", "agent")
    assert online.actors == ("agent", "guide")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("clone(clone(sac))", "the recipe clones already; write clone once"),
        ("clone(bc)", "no phase of this recipe learns online"),
        ("jump-start(wsrl)", "its online agent is made of its offline one"),
        ("jump-start(jump-start(iql))", "does not act with its own policy alone"),
    ],
)
def test_what_cannot_be_cloned_or_guided_is_one_line(name: str, says: str) -> None:
    with pytest.raises(SegueError, match=says):
        find_recipe(name)
