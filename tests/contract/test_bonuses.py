"""What every reward bonus must do.  A new one enters by its line in the table (and its variants here)."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import AGENTS, VAE
from segue.bonuses import BONUSES, RND, SERA, VCSE, Both, Nothing, Returns, StateEntropy
from segue.bonuses.bonus import begun, no_moments, paid
from segue.bonuses.neighbours import Critic, Scaled, conditioned_bonus
from segue.bonuses.returns import ReturnsState
from segue.bonuses.sera import SERAState
from segue.core import replay
from segue.core.options import alike, brief
from segue.core.replay import View
from segue.core.scaling import Scaling
from segue.core.types import Agent, Bonus, Handover, Learned, SegueError, Slot, Spec
from segue.engine import loop, steps
from segue.engine.envs import here
from segue.engine.phase import Phase, from_slot, new_optimisers
from segue.recipes import TaskFacts, find_recipe, resolve
from segue.runs import checkpoint
from segue.samplers.prioritised import Balanced
from segue.samplers.uniform import Mix
from tests.contract.test_agents import batch, equal, small
from tests.toys import SPEC, UNITS, CorridorTask, corridor_data

TASK = CorridorTask(corridor_data())
SEEDS = (3, 5)
KEY = jax.random.key(0)
NARROW = {"rnd": {"hidden": (8,), "features": 8}, "rnd-textbook": {"hidden": (8,), "features": 8}}
TABLE = {
    name: replace(entry.bonus, **(NARROW.get(name) or {"neighbours": 3}))  # type: ignore[type-var]
    for name, entry in BONUSES.items()
}
EACH: dict[str, Bonus] = TABLE | {
    "sera that follows": SERA(neighbours=3, q_source="average", normalise_bonus=True),
    "sera of today": SERA(neighbours=3, q_source="current", rows="online", scale="none"),
    "vcse with a frozen critic": VCSE(neighbours=3, q_source="frozen", scale="data"),
    "rnd and sera": Both(TABLE["rnd"], TABLE["sera"]),
}


def phases(bonus: Bonus, online: Bonus | None = None) -> tuple[Phase, Phase]:
    agent, rows = small("TD3"), Mix(8, 8)
    before = bonus if online is None and "RND" in str(bonus) and not isinstance(bonus, Both) else Nothing()
    return (
        Phase("offline", agent, gradient_steps=5, batch=rows, log_every=2, bonus=before),
        Phase(
            "online",
            agent,
            environment_steps=16,
            batch=rows,
            log_every=4,
            bonus=bonus if online is None else online,
        ),
    )


def finish(plan: Any, seeds: tuple[int, ...] = SEEDS) -> tuple[Any, dict[str, np.ndarray]]:
    for record in loop.run(plan, TASK, seeds, UNITS):
        if record.metrics:
            metrics = record.metrics
    return record.state, metrics


@pytest.fixture(scope="module")
def plain() -> Any:
    return finish(phases(Nothing()))[0]


def free(bonus: Any) -> Any:
    """The bonus with weight 0."""
    if isinstance(bonus, Both):
        return Both(free(bonus.first), free(bonus.second))
    return replace(bonus, weight=0.0)


@pytest.mark.parametrize("name", EACH)
def test_a_weight_of_zero_changes_no_reward(name: str) -> None:
    agent, bonus = small("SAC"), free(EACH[name])
    view = View(replay.from_data(corridor_data(4), UNITS), jnp.int32(0), 0.0)
    slot = Slot(agent, Learned(agent.init(KEY, SPEC)), UNITS)
    state = bonus.init(KEY, Handover(SPEC, {"agent": slot}, view, view, UNITS, "agent"))
    rows = view.take(jnp.arange(8)).transition(UNITS)
    _, paid_for, metrics = jax.jit(lambda state, rows: bonus.reward(state, rows, KEY, slot))(state, rows)
    jax.tree.map(np.testing.assert_array_equal, paid_for, rows)
    shares = [float(v) for k, v in metrics.items() if k.endswith("_bonus_share")]
    assert shares
    assert not any(shares)


@pytest.mark.usefixtures("users_updates")
def test_a_weight_of_zero_changes_nothing_in_a_run() -> None:
    bare, state = (finish(phases(bonus))[0] for bonus in (Nothing(), free(EACH["rnd and sera"])))
    assert equal(state.slots["agent"].state, bare.slots["agent"].state)


@pytest.mark.parametrize("name", EACH)
def test_it_pays_resumes_exactly_and_leaves_the_truth_in_replay(name: str, plain: Any, tmp_path: Path) -> None:
    steps.advance.clear_cache()
    plan, whole = phases(EACH[name]), None
    for record in loop.run(plan, TASK, SEEDS, UNITS, keep_rows=True):
        whole, metrics = record.state, record.metrics or {}
        if record.index == 1 and record.phase_step == 8:
            checkpoint.save(tmp_path, record.state)
    assert whole is not None
    kinds = {type(p.bonus) for p in plan}
    assert steps.advance._cache_size() == len(kinds)
    shares = [v for k, v in metrics.items() if k.endswith("_bonus_share")]
    assert all(((v > 0) & (v <= 1)).all() for v in shares)
    assert all((metrics[k.removesuffix("_share") + "_spread"] > 0).all() for k in metrics if k.endswith("_bonus_share"))
    assert not equal(whole.slots["agent"].state, plain.slots["agent"].state)
    rewards = np.asarray(whole.experience.replay.reward)
    assert set(np.unique(rewards)) <= {0.0, 1.0}  # the corridor's own

    state, _ = checkpoint.load(tmp_path, plan, SPEC, len(TASK.data or ()), here(TASK.make_env))
    for record in loop.run(plan, TASK, SEEDS, UNITS, state=state):
        resumed = record.state
    slots = [c.slots["agent"] for c in (resumed, whole)]
    assert equal(*((s.state, s.learned.bonus) for s in slots))


@pytest.mark.parametrize("name", ["sera", "rnd and sera"])
def test_a_seed_does_not_notice_the_others(name: str) -> None:
    plan = phases(EACH[name])
    alone, both = finish(plan, (5,))[0], finish(plan)[0]
    one = jax.tree.map(lambda x: x[1], both.slots["agent"].state)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(alone.slots["agent"].state), strict=True):
        np.testing.assert_allclose(a, b[0], rtol=1e-6, atol=1e-6)


def test_what_rnd_knows_goes_on_beside_another_bonus_over_collecting_and_through_a_door() -> None:
    first, both = EACH["rnd"], EACH["rnd and sera"]
    offline, online = phases(first, both)
    gather = replace(online, name="gather", utd_ratio=0, environment_steps=3, bonus=Nothing())
    shown = replace(offline, gradient_steps=0, name="shown")
    louder = Both(replace(both.first, weight=2.0), both.second)  # type: ignore[attr-defined, type-var]
    plan = (
        replace(offline, bonus=first),
        gather,
        shown,
        replace(online, bonus=louder, environment_steps=2, init_from=new_optimisers(from_slot("agent"))),
    )
    state = finish(plan)[0].slots["agent"].learned.bonus[0]
    assert (np.asarray(state.updates) == 5 + 2).all()


@pytest.mark.parametrize(
    ("before", "after", "goes_on"),
    [
        (RND(), RND(weight=1.0, learning_rate=1e-3, clip=3.0, frozen_after=9), True),
        (RND(), RND(features=8), False),
        (RND(), RND(spread="raw"), False),
        (SERA(), SERA(weight=0.1, neighbours=5, normalise_bonus=True, rows="online"), True),
        (SERA(), SERA(scale="data"), False),
        (SERA(q_source="average"), SERA(q_source="average", average_rate=0.1), True),
        (VCSE(), VCSE(weight=1.0, target_rate=0.1), True),
        (VCSE(), StateEntropy(), False),
        (StateEntropy(), StateEntropy(weight=1.0), True),
        (Both(SERA(), RND()), RND(weight=1.0), True),
        (Returns(RND()), Returns(RND(weight=1.0), value_target_rate=0.1), True),
        (Returns(Both(RND(), SERA())), SERA(weight=0.5), True),
        (RND(), Nothing(), False),
    ],
    ids=brief,
)
def test_a_weight_may_change_at_a_door_and_what_was_learned_goes_on(before: Any, after: Any, goes_on: bool) -> None:
    """As the learner itself goes on with other hyper-parameters; what its state is made of may not change."""

    def state(bonus: Any) -> Any:
        if isinstance(bonus, Both):
            return state(bonus.first), state(bonus.second)
        return ReturnsState(state(bonus.inner), None, None) if isinstance(bonus, Returns) else type(bonus)  # type: ignore[arg-type]

    slot = Slot(small("SAC"), Learned(None, (), state(before)), UNITS, bonus=before)
    handover = Handover(SPEC, {"agent": slot}, None, None, UNITS, "agent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(after), "init", lambda *_: "fresh")
        assert (begun(after, KEY, handover) == state(after)) == goes_on


@pytest.mark.parametrize("bonus", [RND(), SERA(), VCSE(), StateEntropy(), Balanced(), Returns(Nothing())], ids=brief)
def test_what_may_change_at_a_door_is_no_part_of_the_state(bonus: Any) -> None:
    """Structures and shapes of fresh states are the same whatever a tunable option is."""
    agent, view = small("SAC"), View(replay.from_data(corridor_data(4), UNITS), jnp.int32(0), 0.0)
    slot = Slot(agent, Learned(agent.init(KEY, SPEC)), UNITS)
    handover = Handover(SPEC, {"agent": slot}, view, view, UNITS, "agent")
    shape = lambda of: jax.eval_shape(lambda key: of.init(key, handover), KEY)  # noqa: E731
    usual = shape(bonus)
    tunable = [f.name for f in fields(bonus) if f.metadata.get("tunable")]
    for name in tunable:
        value = getattr(bonus, name)
        other = {bool: lambda x: not x, int: lambda x: x + 1, float: lambda x: x / 2, str: lambda x: "online"}
        moved = replace(bonus, **{name: 3 if value is None else other[type(value)](value)})
        assert alike(moved, bonus)
        assert shape(moved) == usual
    assert tunable


@pytest.mark.parametrize("name", [name for name, entry in AGENTS.items() if issubclass(entry.agent, Agent)])
def test_any_agent_may_have_any_bonus(name: str) -> None:
    learner = small(name)
    state = learner.init(jax.random.key(0), Spec((5,), 3))
    slot = Slot(learner, Learned(state), Scaling())
    for name, bonus in TABLE.items():
        if getattr(bonus, "q_source", "") == "frozen":
            bonus = replace(bonus, q_source="current")  # type: ignore[type-var]
        bonus = replace(bonus, scale="none") if hasattr(bonus, "scale") else bonus  # type: ignore[type-var]
        start = bonus.init(jax.random.key(1), Handover(Spec((5,), 3), {"agent": slot}, None, None, Scaling(), "agent"))
        reward = jax.jit(lambda s, rows, slot_state: bonus.reward(s, rows, KEY, slot.moved(slot_state)))  # noqa: B023
        _, paid_for, metrics = reward(start, batch(), state)
        assert np.isfinite(np.asarray(paid_for.reward)).all(), name
        assert not np.array_equal(paid_for.reward, batch().reward), name
        assert all(np.isfinite(v) for v in metrics.values())


# -- SERA, by hand ---------------------------------------------------------------------------------------------


class Halves:
    """An agent whose value is the first number of an observation plus the first of an action, times its state."""

    def q(self, state: Any, observation: Any, action: Any) -> Any:
        return state * (observation[:, 0] + action[:, 0])


def seras(bonus: SERA, critic: float | None, current: float) -> tuple[Any, np.ndarray, dict[str, Any]]:
    agent: Any = Halves()
    apart = None if critic is None else Critic(agent, jnp.asarray(critic))
    state = SERAState(apart, Scaled(jnp.ones(5), jnp.full(5, 2.0)), no_moments(()))
    moved, rows, metrics = bonus.reward(
        state, batch(), jax.random.key(0), Slot(agent, Learned(jnp.asarray(current)), Scaling())
    )
    return moved, np.asarray(rows.reward), metrics


def test_sera_by_hand() -> None:
    rows = batch()
    s, value = (np.asarray(rows.observation) - 1) / 2, np.asarray(rows.observation[:, 0] + rows.action[:, 0])
    value = (value - value.mean()) / (value.std() + 1e-6)
    bonus = np.asarray(conditioned_bonus(jnp.asarray(s), jnp.asarray(value), 4))
    want = np.asarray(rows.reward) + 0.5 * np.tanh(bonus)
    _, got, _ = seras(SERA(0.5, 4), 3.0, -1.0)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    # A critic of the opposite sign has the same distances between its values.
    np.testing.assert_allclose(seras(SERA(0.5, 4, "current"), None, -1.0)[1], want, rtol=1e-4, atol=1e-4)
    moved, _, _ = seras(SERA(0.5, 4, "average", 0.25), 3.0, -1.0)
    assert float(moved.critic.state) == 2.0


def test_sera_literal_saturates_and_normalised_does_not() -> None:
    """Raw bonuses lie where tanh is flat."""
    _, literal, _ = seras(SERA(1.0, 10), 3.0, 3.0)
    bonus = literal - np.asarray(batch().reward)
    assert bonus.min() > 0.85
    _, normalised, _ = seras(SERA(1.0, 10, normalise_bonus=True), 3.0, 3.0)
    assert (normalised - np.asarray(batch().reward)).std() > 5 * bonus.std()


def test_own_rows_alone_may_be_paid() -> None:
    rows = batch()
    _, got, _ = seras(SERA(1.0, 4, rows="online"), 3.0, 3.0)
    np.testing.assert_array_equal(got, np.asarray(rows.reward))  # none of them is the run's own


# -- how much is paid, and what is refused ---------------------------------------------------------------------


def test_the_numbers_of_a_bonus() -> None:
    rows = batch()._replace(reward=jnp.asarray([1.0, -1.0, 2.0, 0.0]))
    paid_for, metrics = paid(rows, jnp.asarray([0.5, 0.5, -0.5, 1.5]), "x")
    np.testing.assert_allclose(paid_for.reward, [1.5, -0.5, 1.5, 1.5])
    want = {"x_bonus": 0.5, "x_bonus_spread": 0.5**0.5, "x_bonus_share": 0.75 / 1.75}
    assert {k: pytest.approx(float(v)) for k, v in metrics.items()} == want


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("cal-ql+", "expected a bonus, found the end"),
        ("cal-ql+ser", "did you mean 'sera'"),
        ("cal-qll+sera", "did you mean 'cal-ql'"),
        ("cal-ql sera", "there is one 'sera' too many"),
        ("cal-ql+sera+sera", "already has that bonus"),
        ("cal-ql*2", "'*' is not allowed here"),
        ("opt", "opt needs a recipe in parentheses; write opt(td3-bc)"),
        ("opz(spot)", "did you mean 'opt'"),
        ("opt(spot", "a ')' is missing"),
        ("opt(rebrac)", "the actor of ReBRAC cannot maximise critics other than its own"),
        ("opt(rlpd)", "the actor of RLPD cannot maximise critics other than its own"),
        ("opt(opt(spot))", "the actor of OPT cannot maximise critics other than its own"),
        ("opt(td3)", "its fine-tuning has no offline phase before it"),
    ],
)
def test_compositions_that_are_none(recipe: str, says: str) -> None:
    with pytest.raises(SegueError, match=r"recipe|opt\(") as error:
        find_recipe(recipe)
    assert says in str(error.value)


def test_compositions() -> None:
    recipe = find_recipe("cal-ql + rnd + sera")
    assert recipe.name == "cal-ql+rnd+sera"
    offline, online = (p.bonus for p in recipe().phases)
    assert offline == RND()
    assert online == Both(RND(), SERA())
    assert recipe(TaskFacts(("antmaze",))).options()["online.bonus.second.neighbours"] == 25
    binary = recipe(TaskFacts(("adroit-binary",))).table()
    for way in ("online.bonus.first.weight", "offline.bonus.weight"):
        assert binary[way] == {"value": 0.5, "source": "preset adroit-binary"}
    assert find_recipe("sac+sera")().phases[0].bonus == SERA(q_source="current", scale="dimension")
    spot = find_recipe("spot+rnd+state-entropy")().phases
    assert [type(p.bonus) for p in spot] == [Nothing, RND, Both]
    assert isinstance(spot[2].bonus, Both)
    assert spot[2].bonus.second == StateEntropy()


@pytest.mark.parametrize(
    ("bonus", "learner", "task", "says"),
    [
        (
            SERA(),
            small("CQL"),
            TASK,
            "no earlier phase trains an agent in slot 'agent'; set bonus.q_source=current",
        ),
        (SERA(scale="data"), small("SAC"), CorridorTask(), "scales states by a dataset, but the task has none"),
        (SERA(q_source="current"), "VAE", TASK, "needs the values of an agent, and VAE has none"),
        (StateEntropy(neighbours=99), small("CQL"), TASK, "a batch of 8 rows is too small for 99 neighbours"),
    ],
)
def test_what_makes_no_sense_is_refused(bonus: Any, learner: Any, task: Any, says: str) -> None:
    rows = Mix(8) if task.data else Mix(0, 8)
    agent = VAE((8,)) if learner == "VAE" else learner
    length = {"gradient_steps": 9} if task.data else {"environment_steps": 9}
    phase = Phase("one", agent, **length, batch=rows, bonus=bonus)
    with pytest.raises(SegueError) as error:
        list(loop.run((phase,), task, (0,), UNITS))
    assert says in str(error.value)


def test_average_needs_the_same_parts() -> None:
    plan = (
        Phase("offline", small("CQL"), gradient_steps=1, batch=Mix(8)),
        Phase("online", small("RLPD"), gradient_steps=1, batch=Mix(8), bonus=SERA(neighbours=3, q_source="average")),
    )
    with pytest.raises(SegueError, match="CQL's critic cannot move towards RLPD's"):
        list(loop.run(plan, TASK, (0,), UNITS))


def test_parts_of_a_composition_are_named_by_the_way_to_them() -> None:
    """A name that several parts have is said to be ambiguous; a word that an option knows is not Python's None."""
    both: Any = find_recipe("ooo(rlpd)+sera")
    domains = TaskFacts(("pointmaze", "pointmaze-umaze"))
    with pytest.raises(SegueError, match="'weight' is in several parts; name one of them: first, second"):
        resolve(both, domains, {"online.bonus.weight": "0.5"})
    words = {"weight": "0.5", "scale": "none", "q_source": "frozen", "slot": "none"}
    made = resolve(both, domains, {f"online.bonus.second.{k}": word for k, word in words.items()})
    sera: Any = next(p for p in made.phases if p.name == "online").bonus.second
    assert (sera.weight, sera.scale, sera.slot) == (0.5, "none", None)
    plain: Any = resolve(find_recipe("sac"), domains, {"agent.target_entropy": "none"}).phases[-1].learner
    assert plain.target_entropy is None
