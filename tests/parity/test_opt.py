"""OPT against numbers of a re-implementation (the official code could not be read), and the spec's checks by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import OPT, TD3, OnlinePretraining, online_pretraining, second_critics, td3
from segue.agents.second_critics import Blend, Climber, grow, progress, renew_base
from segue.core.optim import trained
from segue.core.replay import Rows
from segue.core.scaling import Scaling
from segue.core.schedules import Linear
from segue.core.types import Handover, Learned, Slot
from segue.engine import loop
from segue.engine.phase import Phase
from segue.samplers import sum_tree
from segue.samplers.prioritised import Balanced
from segue.samplers.uniform import Mix
from tests.contract.test_agents import SPEC, equal, part_of, small
from tests.contract.test_agents import batch as some_batch
from tests.parity.numbers import Numbers, close, gradients, load, mlp, same, twins, under
from tests.toys import UNITS, CorridorTask, corridor_data

precise = pytest.mark.usefixtures("double_precision")


def rows(fixture: Numbers, name: str, discount: float) -> Any:
    x = {k: jnp.asarray(v) for k, v in under(fixture, f"{name}.").items()}
    return some_batch()._replace(
        observation=x["observations"],
        action=x["actions"],
        reward=x["rewards"],
        continues=discount * (1.0 - x["dones"]),
        next_observation=x["next_observations"],
    )


def pairs(fixture: Numbers, prefix: str, which: str) -> Any:
    return twins(under(fixture, f"{prefix}."), *(f"{which}_q{j}" for j in (1, 2)))


def start(fixture: Numbers) -> second_critics.State:
    before = under(fixture, "before.")
    base = td3.State(
        trained(mlp(before, "actor"), 1.0),
        trained(pairs(fixture, "before", "off"), 1.0),
        mlp(before, "target_actor"),
        pairs(fixture, "before", "target_off"),
    )
    new = trained(pairs(fixture, "before", "on"), 1.0)
    return second_critics.State(base, new, pairs(fixture, "before", "target_on"), jnp.asarray(0.0), jnp.asarray(0.0))


@precise
def test_four_meta_steps_and_two_updates() -> None:
    fixture = load("opt")
    hp = under(fixture, "hp.")
    gamma = float(hp["discount"])
    base = TD3(
        actor_learning_rate=float(hp["actor_learning_rate"]),
        critic_learning_rate=float(hp["critic_learning_rate"]),
        target_rate=float(hp["tau"]),
        policy_noise=float(hp["policy_noise"]),
        noise_clip=float(hp["noise_clip"]),
        policy_delay=int(hp["policy_frequency"]),
    )
    rate, tau = float(hp["critic_learning_rate"]), float(hp["tau"])
    meta = OnlinePretraining(base, rate, float(hp["online_pretrain_inner_lr"]), new_target_rate=tau)
    state = start(fixture)
    for t in range(1, 5):
        offline, online = (rows(fixture, f"meta.in.{side}{t}", gamma) for side in ("off", "on"))
        following = [
            base.smoothed(state.base, side, jnp.asarray(fixture[f"meta.in.noise{t}.{name}"]))
            for side, name in ((offline, "off"), (online, "on"))
        ]
        before = state
        state, metrics = meta.learn(state, offline, online, *following, jnp.int32(t - 1))
        out = under(fixture, f"meta.out{t}.")
        close(metrics["new_loss_offline"], out["loss_off"], f"{t} offline loss")
        close(metrics["new_loss_online"], out["loss_on"], f"{t} online loss")
        close(metrics["online_weight"], out["weight"], f"{t} weight")
        if t == 1:
            want = pairs(fixture, "meta.grad1", "on")
            same(gradients(state.new.optimiser), want, "gradient")
            first, _ = replace(meta, second_order=False).learn(before, offline, online, *following, jnp.int32(0))
            got = np.concatenate([x.ravel() for x in jax.tree.leaves(gradients(first.new.optimiser))])
            true = np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(want)])
            assert np.linalg.norm(got - true) > 0.1 * np.linalg.norm(true)  # the second order matters
        if t in (1, 4):
            same(state.new.params, pairs(fixture, f"meta.after{t}", "on"), f"{t} new critics")
            same(state.new_target, pairs(fixture, f"meta.after{t}", "target_on"), f"{t} new targets")

    for t, kappa in ((1, 0.3), (2, 0.4)):
        assert float(hp["kappas"][t - 1]) == kappa
        agent = OPT(base, kappa, kappa, new_learning_rate=rate, new_target_rate=tau)
        batch = rows(fixture, f"online.in.batch{t}", gamma)
        noise = under(fixture, f"online.in.noise{t}.")
        following = base.smoothed(state.base, batch, jnp.asarray(noise["on_pair"]))
        state, metrics = agent.learn(state, batch, following, jnp.int32(t - 1))
        judge = Blend(state.base.critic.params, state.new.params, state.kappa)

        def actor_loss(actor: Any, critic: Any, rows: Any, judge: Blend = judge) -> Any:
            return base.actor_loss(actor, judge._replace(offline=critic), rows)  # type: ignore[arg-type]

        moved, learned = base.learn(state.base, batch, jnp.asarray(noise["off_pair"]), jnp.int32(t - 1), actor_loss)
        state = state._replace(base=moved)
        out = under(fixture, f"online.out{t}.")
        close(metrics["new_critic_loss"], out["new_critic_loss"], f"{t} new critics' loss")
        close(learned["critic_loss"], out["offline_critic_loss"], f"{t} critics' loss")
        close(metrics["kappa"], out["kappa"], f"{t} kappa")
    close(learned["actor_loss"], out["actor_loss"], "actor's loss")
    after = under(fixture, "online.after2.")
    same(gradients(state.base.actor.optimiser), mlp(under(fixture, "online.grad2."), "actor"), "actor's gradient")
    same(state.base.actor.params, mlp(after, "actor"), "actor")
    same(state.base.target_actor, mlp(after, "target_actor"), "target actor")
    for got, name in (
        (state.base.critic.params, "off"),
        (state.base.target_critic, "target_off"),
        (state.new.params, "on"),
        (state.new_target, "target_on"),
    ):
        same(got, pairs(fixture, "online.after2", name), name)


@precise
def test_density_and_priorities() -> None:
    fixture = load("opt")
    hp = under(fixture, "hp.")
    sampler = Balanced(
        learning_rate=float(hp["density_learning_rate"]),
        temperature=float(hp["priority_temperature"]),
        low=float(hp["priority_min"]),
        high=float(hp["priority_max"]),
    )
    density = trained(mlp(under(fixture, "before."), "density"), 1.0)
    for t in (1, 2):
        x = {s: under(fixture, f"online.in.{s}{t}.") for s in ("off", "on", "batch")}
        logged, own, drawn = (pair(x[s]) for s in ("off", "on", "batch"))
        ratios = [jnp.mean(sampler.ratio(density.params, side)) for side in (logged, own)]
        density, loss, scale = sampler.learn(density, logged, own)
        out = under(fixture, f"online.out{t}.")
        close(loss, out["density_loss"], f"{t} density loss")
        for got, name in zip(ratios, ("offline_density", "online_density")):
            close(got, out[name], f"{t} {name}")
        got = sampler.priority(sampler.ratio(density.params, drawn), scale)
        close(got, out["priorities"], f"{t} priorities")
        assert t == 2 or (np.asarray(got) == 1e-3).any()  # some rows have a ratio of exactly 0
        same(density.params, mlp(under(fixture, f"online.after{t}."), "density"), f"{t} density")


def pair(x: Numbers) -> Rows:
    observation, action = jnp.asarray(x["observations"]), jnp.asarray(x["actions"])
    blank = jnp.zeros(len(action))
    return Rows(observation, action, blank, blank, observation, blank, blank, action)


# -- by hand ---------------------------------------------------------------------------------------------------


@precise
@pytest.mark.parametrize(
    ("second_order", "weigh", "want"), [(True, False, -6.48), (True, True, -2.57143), (False, False, -7.6)]
)
def test_the_meta_gradient_of_two_parabolas(
    second_order: bool, weigh: bool, want: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L_off = (psi - 1)^2 and L_on = (psi - 3)^2 at psi = 0, inner rate 0.1."""
    monkeypatch.setattr(online_pretraining, "bellman_target", lambda target, batch, following: following)
    monkeypatch.setattr(online_pretraining, "critic_loss", lambda psi, batch, target: jnp.square(psi - target))
    nothing = jnp.asarray(0.0)
    state: Any = second_critics.State((), trained(nothing, 1.0), nothing, nothing, nothing)
    meta = OnlinePretraining(TD3(), 1.0, 0.1, weigh, second_order)
    rows = some_batch()._replace(observation=jnp.zeros((1, 1)), action=jnp.zeros((1, 1)))
    monkeypatch.setattr(online_pretraining, "least", lambda critic, batch: nothing)
    monkeypatch.setattr(online_pretraining, "progress", lambda state, batch: nothing)
    monkeypatch.setattr(online_pretraining, "descend", lambda network, rate, slope: network._replace(optimiser=slope))
    monkeypatch.setattr(second_critics, "every", lambda n, step, update, state: state)
    moved, metrics = meta.learn(state, rows, rows, jnp.asarray(1.0), jnp.asarray(3.0), jnp.int32(0))
    np.testing.assert_allclose(moved.new.optimiser, want, atol=1e-5)
    np.testing.assert_allclose(metrics["new_loss_online"], 7.84)
    np.testing.assert_allclose(metrics["online_weight"], 1 / 7.84 if weigh else 1.0)


def test_kappa_rises_and_stays() -> None:
    agent = OPT(kappa=0.1, kappa_end=0.9, kappa_updates=100)
    got = [float(agent.at(jnp.int32(u))) for u in (0, 50, 100, 10_000)]
    np.testing.assert_allclose(got, [0.1, 0.5, 0.9, 0.9], rtol=1e-6)


BASES = {
    "TD3": small("TD3"),
    "TD3BC": small("TD3BC"),
    "SPOT": replace(small("SPOT"), weight=Linear(0.25, 0.0, 100)),
    "IQL": small("IQL"),
    "SAC": small("SAC"),
    "CalQL": small("CalQL"),
}


def test_stratified_draws_from_the_tree() -> None:
    """Its tree is binary and ours is not; the same positions lead to the same leaves."""
    fixture = load("opt")
    given, wanted = under(fixture, "tree.in."), under(fixture, "tree.out.")
    tree = sum_tree.make(jnp.asarray(given["priorities"], jnp.float32))
    assert float(sum_tree.total(tree)) == wanted["total"]
    count = len(given["uniform"])
    positions = (jnp.arange(count) + jnp.asarray(given["uniform"])) / count * sum_tree.total(tree)
    np.testing.assert_allclose(positions, wanted["positions"], rtol=1e-6)
    np.testing.assert_array_equal(sum_tree.find(tree, positions), wanted["indices"])


@pytest.mark.parametrize("name", BASES)
def test_kappa_zero_is_the_base_agent_bit_for_bit(name: str, fused_as_for_users: Any) -> None:
    base: Any = BASES[name]
    assert isinstance(base, Climber)
    agent = OPT(base, 0.0, 0.0)
    state = agent.init(jax.random.key(0), SPEC)
    alone = state.base
    update, blended = fused_as_for_users(base.update), fused_as_for_users(agent.update)
    for step in range(3):
        key = jax.random.key(step)
        _, k_base = jax.random.split(key)  # the other half draws the actions that the new critics' targets are of
        alone, _ = update(alone, some_batch(step), k_base, jnp.int32(step))
        state, metrics = blended(state, some_batch(step), key, jnp.int32(step))
    assert equal(state.base, alone)
    assert float(metrics["new_critic_loss"]) > 0
    raised = jax.jit(OPT(base, 1.0, 1.0).update)(state, some_batch(3), jax.random.key(3), jnp.int32(1))[0]
    other = blended(state, some_batch(3), jax.random.key(3), jnp.int32(1))[0]
    assert not equal(part_of(raised, "actor"), part_of(other, "actor"))


def test_progress_is_the_way_from_the_first_values_to_those_of_the_offline_critics() -> None:
    meta = OnlinePretraining(small("TD3"))
    state = meta.init(jax.random.key(0), SPEC)
    state, metrics = jax.jit(meta.learn)(state, some_batch(), some_batch(), *[some_batch().action] * 2, jnp.int32(0))
    assert abs(float(metrics["new_progress"])) < 0.2  # of a single update
    said = meta.remark(metrics)
    assert said
    assert "of the way from their first values" in said
    there = state._replace(new=state.base.critic)
    assert float(progress(there, some_batch())) == pytest.approx(1.0)
    assert meta.remark({"new_progress": jnp.ones(3)}) is meta.remark({}) is None


def test_the_phase_between_trains_the_new_critics_alone() -> None:
    meta = OnlinePretraining(small("TD3"))
    state = meta.init(jax.random.key(0), SPEC)
    moved, _ = jax.jit(meta.update)(state, some_batch(), jax.random.key(1), jnp.int32(0))
    assert equal(moved.base, state.base)
    assert not equal(moved.new.params, state.new.params)
    assert equal(moved.new_target, state.new_target)  # they move in every second update
    observation, action = some_batch().observation, some_batch().action
    assert equal(meta.q(moved, observation, action), meta.base.q(state.base, observation, action))


def test_doors() -> None:
    meta = OnlinePretraining(small("TD3"))
    old, new = (meta.init(jax.random.key(k), SPEC) for k in (0, 1))
    handover = Handover(SPEC, {"agent": Slot(meta.base, Learned(old.base), Scaling())}, None, None, Scaling(), "agent")
    assert equal(grow(handover, new), new._replace(base=old.base))
    moved, _ = jax.jit(OPT(meta.base).update)(old, some_batch(), jax.random.key(1), jnp.int32(1))
    handover = handover._replace(slots={"agent": Slot(OPT(meta.base), Learned(moved), Scaling())})
    got = renew_base(handover, new)
    assert equal(got.base.critic.params, moved.base.critic.params)
    assert equal(got.base.critic.optimiser, new.base.critic.optimiser)
    assert equal(got.new, moved.new)


def test_all_phases_in_a_run() -> None:
    base, rows = small("TD3"), Mix(8)
    phases = (
        Phase("offline", small("TD3BC"), gradient_steps=4, batch=rows),
        Phase("gather", base, environment_steps=8, utd_ratio=0),
        Phase("meta", OnlinePretraining(base), gradient_steps=4, batch=Mix(8, 8), init_from=grow),
        Phase("online", OPT(base, kappa_updates=10), environment_steps=8, utd_ratio=2, batch=Balanced(8, 8, (4,))),
    )
    task = CorridorTask(corridor_data())
    before: Any = None
    for record in loop.run(phases, task, (0, 1), UNITS):
        if record.phase.name == "meta" and record.ends:
            assert equal(record.slot.state.base, before)
        if record.phase.name == "gather":
            before = jax.tree.map(jnp.copy, record.slot.state)
    assert record.metrics["kappa"].shape == (2,)
    assert (np.asarray(record.slot.state.kappa) > 0.5).all()
