"""Hand-over rules and the agents around agents: what changes, when, and that nothing else does."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import AGENTS, AWAC, OPT, RLPD, SAC, SPOT, TD3BC, VAE, ReBRAC
from segue.agents.from_sac import from_sac
from segue.core.options import movable, option_of
from segue.core.scaling import Scaling
from segue.core.schedules import Linear
from segue.core.types import Handover, Learned, SegueError, Slot, policy_of
from segue.engine import loop
from segue.engine.phase import RANDOM, Phase, from_slot, new_optimisers
from segue.engine.steps import held
from segue.recipes import TaskFacts, find_recipe, resolve, rules
from segue.samplers import Mix, Subset, Union
from tests.contract.test_agents import SPEC, batch, begin, equal, small
from tests.toys import UNITS, CorridorTask, corridor_data, small_cql

TASK, KEY = CorridorTask(corridor_data()), jax.random.key(0)
PLAN = (
    Phase("offline", small_cql(), gradient_steps=4, batch=Mix(16)),
    Phase("online", small_cql(), environment_steps=20, batch=Mix(8, 8)),
)


def finish(phases: tuple[Phase, ...]) -> Any:
    state = None
    for record in loop.run(phases, TASK, (0, 1), UNITS):
        state = record.state
    return state


def updates(agent: Any, count: int, start: Any = None, frozen: int = 0) -> list[Any]:
    """States after 0, 1, ... updates, the policy frozen in the first ones."""
    hold = lambda old, new, i: held(policy_of(agent), old, new, i < frozen) if frozen else new  # noqa: E731
    step = jax.jit(lambda state, rows, key, i: (hold(state, agent.update(state, rows, key, i)[0], i),))
    states = [agent.init(jax.random.key(0), SPEC) if start is None else start]
    for i in range(count):
        states.append(step(states[-1], batch(i), jax.random.key(i), i)[0])
    return states


def test_frozen_actor_stands_still_and_then_moves_while_the_critic_learns() -> None:
    states = updates(small("SAC"), 4, frozen=2)
    moved = [not equal(a.actor, b.actor) for a, b in itertools.pairwise(states)]
    assert moved == [False, False, True, True]
    assert all(not equal(a.critic, b.critic) for a, b in itertools.pairwise(states))


def decayed(agent: Any, option: str, over: int, floor: float) -> Any:
    """What the rule makes of an agent that fine-tunes."""
    return rules.decay((option,), over, floor)(
        (Phase("offline", agent, gradient_steps=1), Phase("online", agent, environment_steps=1)), UNITS
    )[1].learner


@pytest.mark.parametrize("name", [name for name in AGENTS if movable(small(name))])
@pytest.mark.usefixtures("double_precision")
def test_a_decayed_weight_falls_towards_0_and_stays_at_its_floor(name: str) -> None:
    agent = small(name)
    for option in movable(agent):
        start = option_of(agent, option)
        line = option_of(decayed(agent, option, 40, 0.25), option)
        steps = np.arange(60)
        want = start * np.maximum(0.25, 1.0 - (steps + 1.0) / 40)
        np.testing.assert_allclose(line.at(jnp.asarray(steps)), want, rtol=1e-12)


@pytest.mark.parametrize(
    ("agent", "option", "floor", "says"),
    [
        (TD3BC(), "q_weigth", 0.5, "did you mean 'q_weight'"),
        (TD3BC(), "policy_noise", 0.5, "no weight in a loss of TD3BC; what can fall is q_weight"),
        (SAC(), "temperature", 0.5, "no weight in a loss of SAC; it has none"),
        (AWAC(), "advantage_temperature", 0.0, "at its end; give a floor above 0"),
        (ReBRAC(critic_cloning=0.0), "critic_cloning", 0.5, "'critic_cloning' of ReBRAC is 0"),
        (SPOT(weight=Linear(0.25, 0.05, 10)), "weight", 0.5, "'weight' of SPOT moves already"),
        (TD3BC(), "q_weight", 1.0, "floor=1.0 is out of range"),
    ],
)
def test_what_does_not_fall_is_refused_in_one_line(agent: Any, option: str, floor: float, says: str) -> None:
    with pytest.raises(SegueError, match=says):
        decayed(agent, option, 40, floor)


def test_refresh_keeps_networks_and_renews_moments() -> None:
    agent = small("IQL")
    old, new = updates(agent, 2)[-1], agent.init(jax.random.key(9), SPEC)
    got = new_optimisers(from_slot("agent"))(
        Handover(SPEC, {"agent": Slot(agent, Learned(old), Scaling())}, None, None, Scaling(), "agent"), new
    )
    assert equal((got.actor.params, got.critic.params, got.target), (old.actor.params, old.critic.params, old.target))
    assert equal((got.actor.optimiser, got.value.optimiser), (new.actor.optimiser, new.value.optimiser))


def test_random_warm_up_is_uniform_and_its_own_for_each_seed() -> None:
    phases = rules.warm_up(400, "random")(PLAN[1:], UNITS)
    assert (phases[0].name, phases[0].steps, phases[0].updates, phases[0].actor) == ("warm-up", 400, 0, RANDOM)
    action = np.asarray(finish(phases[:1]).experience.replay.action)[..., 0]
    assert action.shape == (2, 400)
    assert np.abs(action).max() <= 1.0
    for row in action:
        counts, _ = np.histogram(row, bins=4, range=(-1, 1))
        assert counts.min() > 60
    assert not np.array_equal(action[0], action[1])


def test_frozen_warm_up_collects_with_what_was_trained() -> None:
    phases = rules.warm_up(7)(PLAN, UNITS)
    assert [(p.name, p.updates) for p in phases] == [("offline", 1), ("warm-up", 0), ("online", 1)]
    before, after = finish(phases[:1]), finish(phases[:2])
    assert equal(before.slots["agent"].state, after.slots["agent"].state)
    assert int(after.experience.replay.written[0]) == 7
    again = rules.warm_up(9, "random")(phases, UNITS)
    assert (again[1].name, again[1].steps, again[1].actor) == ("warm-up", 9, RANDOM)
    assert len(again) == 3


def test_discount_and_dataset_change_at_the_switch_only() -> None:
    phases = rules.discount(0.5)(rules.retain(0.25)(PLAN, UNITS), UNITS)
    assert phases[0] == PLAN[0]
    assert phases[1].scaling == replace(UNITS, discount=0.5)
    assert phases[1].batch == Subset(0.25, Mix(8, 8))
    finish(phases)
    assert rules.retain(0.0)(PLAN, UNITS)[1].batch == Mix(0, 16)
    assert rules.own_rows(Union(32, "closed")) == Mix(0, 32, "closed")
    assert rules.retain(1.0)(PLAN, UNITS) == PLAN


def test_rules_run_together_and_resolve_knows_their_origin() -> None:
    words = (
        "warm_up=5",
        "freeze_actor=3",
        "decay=conservative_weight,over=50,floor=0.5",
        "reset_optimisers",
        "retain=0.5",
    )
    phases = PLAN
    for word in words:
        phases = rules.rule_of(word)(phases, UNITS)
    state = finish(phases)
    assert int(state.experience.replay.written[0]) == 25
    decided = resolve(
        find_recipe("iql"),
        TaskFacts(("custom", "mine")),
        {"warm-up.environment_steps": 9},
        {w: rules.rule_of(w) for w in words[:2]},
    )
    table = decided.table()
    assert table["warm-up.environment_steps"] == {"value": 9, "source": "settings"}
    assert table["online.freeze_actor"] == {"value": 3, "source": "rule freeze_actor=3"}


@pytest.mark.parametrize(
    "rule", [rules.warm_up(3, "random"), rules.decay(("weight", "beta"), 7, 0.1), rules.reset_optimisers()]
)
def test_a_rule_is_a_word_and_back(rule: Any) -> None:
    assert rules.rule_of(rules.word_of(rule)) == rule


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("warmup=3", "did you mean 'warm_up'"),
        ("warm_up=many", "whole number"),
        ("warm_up=5,policy=best", "one of 'frozen', 'random'"),
        ("discount", "give discount=value"),
        ("retain=2", "out of range"),
        ("freeze_actor=1,until=3", "no 'until'"),
    ],
)
def test_a_wrong_rule_is_one_line(word: str, says: str) -> None:
    with pytest.raises(SegueError, match=says):
        rules.rule_of(word)(PLAN, UNITS)


def test_a_rule_for_one_phase_outlives_a_setting_for_all() -> None:
    rule = {"discount=0.995": rules.rule_of("discount=0.995")}
    table = resolve(find_recipe("iql"), TaskFacts(("custom",)), {"scaling.discount": 0.98}, rule).table()
    assert (table["scaling.discount"]["value"], table["scaling.discount"]["source"]) == (0.98, "settings")
    assert table["online.scaling.discount"] == {"value": 0.995, "source": "rule discount=0.995"}


def test_an_actor_inside_another_agent_is_frozen_too() -> None:
    agent = OPT(small("TD3"))
    assert policy_of(agent) == ("base.actor",)
    for step, (before, after) in enumerate(itertools.pairwise(updates(agent, 4, frozen=2))):
        # TD3's actor moves in every second update.
        assert equal(after.base.actor, before.base.actor) == (step < 3)
        assert not equal(after.base.critic.params, before.base.critic.params)


def test_optimisers_are_new_behind_any_door_that_keeps_them() -> None:
    made = rules.reset_optimisers()(find_recipe("wsrl")().phases, UNITS)
    assert made[-1].init_from == new_optimisers(from_sac())
    base = SAC(actor_hidden=(8,), critic_hidden=(8,), critics=3, layer_norm=True)
    agent = RLPD(critics=3, actor_hidden=(8,), critic_hidden=(8,), actor_layer_norm=True, critic_layer_norm=True)
    learned, _ = jax.jit(base.update)(begin(base, KEY, SPEC), batch(), KEY, 0)
    fresh = begin(agent, jax.random.key(2), SPEC)
    handover = Handover(SPEC, {"agent": Slot(base, Learned(learned), UNITS)}, None, None, UNITS, "agent")
    got, kept = new_optimisers(from_sac())(handover, fresh), from_sac()(handover, fresh)
    assert equal(got.critic.params, kept.critic.params)
    assert equal(got.critic.optimiser, fresh.critic.optimiser)
    assert not equal(kept.critic.optimiser, fresh.critic.optimiser)
    with pytest.raises(SegueError, match="optimisers are new"):  # PEX's are made at its warm-up
        rules.reset_optimisers()(find_recipe("pex")().phases, UNITS)


def test_rules_need_a_switch() -> None:
    for rule in (rules.freeze_actor(3), rules.retain(0.5), rules.reset_optimisers()):
        with pytest.raises(SegueError, match="it has no switch"):
            rule(PLAN[:1], UNITS)
    with pytest.raises(SegueError, match="optimisers are new"):
        rules.reset_optimisers()(PLAN[1:], UNITS)
    density = Phase("density", VAE((8,)), gradient_steps=3, freeze_actor=1)
    with pytest.raises(SegueError, match="VAE has no policy to freeze"):
        next(iter(loop.run((density,), TASK, (0,), UNITS)))
