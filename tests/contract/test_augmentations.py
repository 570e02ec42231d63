"""What every reward augmentation must do.  A new one enters by its line in the table (and its variants here)."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import AGENTS, VAE
from segue.bonuses import AUGMENTATIONS, RND, SERA, VCSE, Both, Nothing, Returns, StateEntropy
from segue.bonuses.bonus import begun, no_moments, paid
from segue.bonuses.neighbours import Critic, Scaled, conditioned_bonus
from segue.bonuses.returns import ReturnsState
from segue.bonuses.sera import SERAState
from segue.core import replay
from segue.core.options import alike, brief
from segue.core.replay import View
from segue.core.scaling import Units
from segue.core.types import Agent, Augmentation, Door, Learned, SegueError, Slot, Spec
from segue.engine import loop, steps
from segue.engine.phase import Phase, refresh
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
    name: replace(entry.augmentation, **(NARROW.get(name) or {"neighbours": 3}))  # type: ignore[type-var]
    for name, entry in AUGMENTATIONS.items()
}
EACH: dict[str, Augmentation] = TABLE | {
    "sera that follows": SERA(neighbours=3, q_source="average", normalise_bonus=True),
    "sera of today": SERA(neighbours=3, q_source="current", rows="online", scale="none"),
    "vcse with a frozen critic": VCSE(neighbours=3, q_source="frozen", scale="data"),
    "rnd and sera": Both(TABLE["rnd"], TABLE["sera"]),
}


def phases(augment: Augmentation, online: Augmentation | None = None) -> tuple[Phase, Phase]:
    agent, rows = small("SAC"), Mix(8, 8)
    before = augment if online is None and "RND" in str(augment) and not isinstance(augment, Both) else Nothing()
    return (
        Phase("offline", agent, 5, batch=rows, log_every=2, augment=before),
        Phase("online", agent, 16, collect=1, batch=rows, log_every=4, augment=augment if online is None else online),
    )


def finish(plan: Any, seeds: tuple[int, ...] = SEEDS) -> tuple[Any, dict[str, np.ndarray]]:
    for record in loop.run(plan, TASK, seeds, UNITS):
        if record.metrics:
            metrics = record.metrics
    return record.state, metrics


@pytest.fixture(scope="module")
def plain() -> Any:
    return finish(phases(Nothing()))[0]


def free(augment: Any) -> Any:
    """The augmentation with weight 0."""
    if isinstance(augment, Both):
        return Both(free(augment.first), free(augment.second))
    return replace(augment, weight=0.0)


@pytest.fixture(scope="module")
def exact(fused_advance: Any) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "advance", fused_advance)
        return finish(phases(Nothing()))[0]


@pytest.mark.usefixtures("users_updates")
@pytest.mark.parametrize("name", [*TABLE, "rnd and sera"])
def test_a_weight_of_zero_changes_nothing(name: str, exact: Any) -> None:
    carry, metrics = finish(phases(free(EACH[name])))
    assert equal(carry.slots["agent"].state, exact.slots["agent"].state)
    shares = [v for k, v in metrics.items() if k.endswith("_bonus_share")]
    assert shares
    assert all((v == 0).all() for v in shares)


@pytest.mark.parametrize("name", EACH)
def test_it_pays_resumes_exactly_and_leaves_the_truth_in_replay(name: str, plain: Any, tmp_path: Path) -> None:
    steps.advance.clear_cache()
    plan, whole = phases(EACH[name]), None
    for record in loop.run(plan, TASK, SEEDS, UNITS, keep_rows=True):
        whole, metrics = record.state, record.metrics or {}
        if record.index == 1 and record.tick == 8:
            checkpoint.save(tmp_path, record.state)
    assert whole is not None
    kinds = {type(p.augment) for p in plan}
    assert steps.advance._cache_size() == len(kinds)
    shares = [v for k, v in metrics.items() if k.endswith("_bonus_share")]
    assert all(((v > 0) & (v <= 1)).all() for v in shares)
    assert all((metrics[k.removesuffix("_share") + "_spread"] > 0).all() for k in metrics if k.endswith("_bonus_share"))
    assert not equal(whole.slots["agent"].state, plain.slots["agent"].state)
    rewards = np.asarray(whole.experience.replay.reward)
    assert set(np.unique(rewards)) <= {0.0, 1.0}  # the corridor's own

    carry, _ = checkpoint.load(tmp_path, plan, SPEC, len(TASK.data or ()), TASK.world)
    for record in loop.run(plan, TASK, SEEDS, UNITS, state=carry):
        resumed = record.state
    slots = [c.slots["agent"] for c in (resumed, whole)]
    assert equal(*((s.state, s.learned.augment) for s in slots))


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
    gather = replace(online, name="gather", updates=0, ticks=3, augment=Nothing())
    shown = replace(offline, ticks=0, name="shown")
    louder = Both(replace(both.first, weight=2.0), both.second)  # type: ignore[attr-defined, type-var]
    plan = (replace(offline, augment=first), gather, shown, replace(online, augment=louder, ticks=2, enter=refresh()))
    state = finish(plan)[0].slots["agent"].learned.augment[0]
    assert (np.asarray(state.updates) == 5 + 2).all()


@pytest.mark.parametrize(
    ("before", "after", "goes_on"),
    [
        (RND(), RND(weight=1.0, learning_rate=1e-3, clip=3.0, frozen_after=9), True),
        (RND(), RND(features=8), False),
        (RND(), RND(spread="raw"), False),
        (SERA(), SERA(weight=0.1, neighbours=5, normalise_bonus=True, rows="online"), True),
        (SERA(), SERA(scale="dimension"), False),
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

    def state(augment: Any) -> Any:
        if isinstance(augment, Both):
            return state(augment.first), state(augment.second)
        return ReturnsState(state(augment.inner), None, None) if isinstance(augment, Returns) else type(augment)  # type: ignore[arg-type]

    slot = Slot(small("SAC"), Learned(None, (), state(before)), UNITS, augment=before)
    door = Door(SPEC, {"agent": slot}, None, None, UNITS, "agent")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(after), "init", lambda *_: "fresh")
        assert (begun(after, KEY, door) == state(after)) == goes_on


@pytest.mark.parametrize("augment", [RND(), SERA(), VCSE(), StateEntropy(), Balanced(), Returns(Nothing())], ids=brief)
def test_what_may_change_at_a_door_is_no_part_of_the_state(augment: Any) -> None:
    """Structures and shapes of fresh states are the same whatever a tunable option is."""
    agent, view = small("SAC"), View(replay.from_data(corridor_data(4), UNITS), jnp.int32(0), 0.0)
    slot = Slot(agent, Learned(agent.init(KEY, SPEC)), UNITS)
    door = Door(SPEC, {"agent": slot}, view, view, UNITS, "agent")
    shape = lambda of: jax.eval_shape(lambda key: of.init(key, door), KEY)  # noqa: E731
    usual = shape(augment)
    tunable = [f.name for f in fields(augment) if f.metadata.get("tunable")]
    for name in tunable:
        value = getattr(augment, name)
        other = {bool: lambda x: not x, int: lambda x: x + 1, float: lambda x: x / 2, str: lambda x: "online"}
        moved = replace(augment, **{name: 3 if value is None else other[type(value)](value)})
        assert alike(moved, augment)
        assert shape(moved) == usual
    assert tunable


@pytest.mark.parametrize("name", [name for name, entry in AGENTS.items() if issubclass(entry.agent, Agent)])
def test_any_agent_may_have_any_bonus(name: str) -> None:
    learner = small(name)
    state = learner.init(jax.random.key(0), Spec((5,), 3))
    slot = Slot(learner, Learned(state), Units())
    for name, augment in TABLE.items():
        if getattr(augment, "q_source", "") == "frozen":
            augment = replace(augment, q_source="current")  # type: ignore[type-var]
        augment = replace(augment, scale="none") if hasattr(augment, "scale") else augment  # type: ignore[type-var]
        start = augment.init(jax.random.key(1), Door(Spec((5,), 3), {"agent": slot}, None, None, Units(), "agent"))
        relabel = jax.jit(lambda s, rows, slot_state: augment.relabel(s, rows, KEY, slot.moved(slot_state)))  # noqa: B023
        _, paid_for, metrics = relabel(start, batch(), state)
        assert np.isfinite(np.asarray(paid_for.reward)).all(), name
        assert not np.array_equal(paid_for.reward, batch().reward), name
        assert all(np.isfinite(v) for v in metrics.values())


# -- SERA, by hand ---------------------------------------------------------------------------------------------


class Halves:
    """An agent whose value is the first number of an observation plus the first of an action, times its state."""

    def q(self, state: Any, observation: Any, action: Any) -> Any:
        return state * (observation[:, 0] + action[:, 0])


def seras(augment: SERA, critic: float | None, current: float) -> tuple[Any, np.ndarray, dict[str, Any]]:
    agent: Any = Halves()
    apart = None if critic is None else Critic(agent, jnp.asarray(critic))
    state = SERAState(apart, Scaled(jnp.ones(5), jnp.full(5, 2.0)), no_moments(()))
    moved, rows, metrics = augment.relabel(
        state, batch(), jax.random.key(0), Slot(agent, Learned(jnp.asarray(current)), Units())
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
        ("cal-ql+", "expected an augmentation, found the end"),
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
    offline, online = (p.augment for p in recipe().phases)
    assert offline == RND()
    assert online == Both(RND(), SERA())
    assert recipe(TaskFacts(("antmaze",))).options()["online.augment.second.neighbours"] == 25
    binary = recipe(TaskFacts(("adroit-binary",))).table()
    for way in ("online.augment.first.weight", "offline.augment.weight"):
        assert binary[way] == {"value": 0.5, "source": "preset adroit-binary"}
    assert find_recipe("sac+sera")().phases[0].augment == SERA(q_source="current", scale="dimension")
    spot = find_recipe("spot+rnd+state-entropy")().phases
    assert [type(p.augment) for p in spot] == [Nothing, RND, Both]
    assert isinstance(spot[2].augment, Both)
    assert spot[2].augment.second == StateEntropy()


@pytest.mark.parametrize(
    ("augment", "learner", "task", "says"),
    [
        (
            SERA(),
            small("CQL"),
            TASK,
            "no earlier phase trains an agent in slot 'agent'; set augment.q_source=current",
        ),
        (SERA(), small("SAC"), CorridorTask(), "scales states by a dataset, but the task has none"),
        (SERA(q_source="current"), "VAE", TASK, "needs the values of an agent, and VAE has none"),
        (StateEntropy(neighbours=99), small("CQL"), TASK, "a batch of 8 rows is too small for 99 neighbours"),
    ],
)
def test_what_makes_no_sense_is_refused(augment: Any, learner: Any, task: Any, says: str) -> None:
    rows = Mix(8) if task.data else Mix(0, 8)
    agent = VAE((8,)) if learner == "VAE" else learner
    phase = Phase("one", agent, 9, collect=int(not task.data), batch=rows, augment=augment)
    with pytest.raises(SegueError) as error:
        list(loop.run((phase,), task, (0,), UNITS))
    assert says in str(error.value)


def test_average_needs_the_same_parts() -> None:
    plan = (
        Phase("offline", small("CQL"), 1, batch=Mix(8)),
        Phase("online", small("RLPD"), 1, batch=Mix(8), augment=SERA(neighbours=3, q_source="average")),
    )
    with pytest.raises(SegueError, match="CQL's critic cannot move towards RLPD's"):
        list(loop.run(plan, TASK, (0,), UNITS))


def test_parts_of_a_composition_are_named_by_the_way_to_them() -> None:
    """A name that several parts have is said to be ambiguous; a word that an option knows is not Python's None."""
    both: Any = find_recipe("ooo(rlpd)+sera")
    domains = TaskFacts(("pointmaze", "pointmaze-umaze"))
    with pytest.raises(SegueError, match="'weight' is in several parts; name one of them: first, second"):
        resolve(both, domains, {"online.augment.weight": "0.5"})
    words = {"weight": "0.5", "scale": "none", "q_source": "frozen", "slot": "none"}
    made = resolve(both, domains, {f"online.augment.second.{k}": word for k, word in words.items()})
    sera: Any = next(p for p in made.phases if p.name == "online").augment.second
    assert (sera.weight, sera.scale, sera.slot) == (0.5, "none", None)
    plain: Any = resolve(find_recipe("sac"), domains, {"agent.target_entropy": "none"}).phases[-1].learner
    assert plain.target_entropy is None
