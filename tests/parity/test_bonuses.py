"""Reward bonuses against numbers of the official implementations, and the spec's checks by hand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.bonuses import neighbours, rnd
from segue.bonuses.bonus import Moments
from segue.bonuses.neighbours import conditioned_bonus, state_bonus
from segue.bonuses.rnd import RND
from segue.bonuses.vcse import VCSE, layer_normalised
from segue.core.optim import trained
from tests.contract.test_agents import batch as some_batch
from tests.parity.numbers import Numbers, close, gradients, load, mlp, same, under

pytestmark = pytest.mark.usefixtures("double_precision")


# -- neighbours ------------------------------------------------------------------------------------------------


def test_the_bonus_of_four_points_by_hand() -> None:
    states = jnp.asarray([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [7.0, 0.0]])
    got = conditioned_bonus(states, jnp.asarray([0.0, 0.5, 0.0, 10.0]), 2)
    np.testing.assert_allclose(got, [1.3212, 1.3212, 2.0144, 3.1558], atol=1e-4)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_vcse_of_the_official_code(k: int) -> None:
    fixture = load("vcse")
    states, values = jnp.asarray(fixture["in.states"]), jnp.asarray(fixture["in.values"])[:, 0]
    out = under(fixture, f"k{k}.out.")
    close(conditioned_bonus(states, values, k), out["reward"][:, 0], "bonus")
    close(state_bonus(states, k), out["state_entropy_bonus"][:, 0], "state entropy")


def test_vcse_of_the_a2c_code_counts_one_neighbour_more() -> None:
    fixture = load("vcse")
    states, values = jnp.asarray(fixture["in.states"]), jnp.asarray(fixture["in.values"])[:, 0]
    k = int(fixture["a2c.hp.k"]) + 1
    close(conditioned_bonus(states, values, k), fixture["a2c.out.reward"][:, 0], "bonus")
    close(jnp.expm1(state_bonus(states, k)), fixture["a2c.out.state_entropy"][:, 0], "distance")


def test_vcse_of_the_official_agent() -> None:
    fixture = under(load("vcse"), "agent.")
    hp, out = under(fixture, "hp."), under(fixture, "out.")
    states = jnp.asarray(fixture["in.observations"])
    value = jnp.minimum(jnp.asarray(fixture["in.target_q1"]), jnp.asarray(fixture["in.target_q2"]))[:, 0]
    scale = neighbours.Scaled(jnp.zeros(5), jnp.full(5, 5.0))
    bonus = conditioned_bonus(scale(states), layer_normalised(value), int(hp["k"]))
    close(bonus, out["intrinsic_reward"][:, 0], "bonus")
    reward = jnp.asarray(fixture["in.rewards"])[:, 0] + VCSE(weight=float(hp["beta"])).weight * bonus
    close(reward, out["augmented_reward"][:, 0], "reward")


def test_a_large_batch_looks_for_neighbours_in_a_part_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    states, values = jnp.asarray(rng.standard_normal((60, 3))), jnp.asarray(rng.standard_normal(60))
    monkeypatch.setattr(neighbours, "POOL", 20)
    got = conditioned_bonus(states, values, 4)
    monkeypatch.undo()
    for i in range(60):  # each row against the pool and itself, where the pool does not hold it
        rows = sorted({*range(0, 60, 3), i})
        alone = conditioned_bonus(states[np.asarray(rows)], values[np.asarray(rows)], 4)
        close(got[i], alone[rows.index(i)], f"row {i}")


# -- RND -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["rlpd", "iql"])
def test_three_steps_of_both_official_variants(variant: str) -> None:
    fixture = load("rnd")
    hp = under(fixture, "hp.")
    agent = RND(
        learning_rate=float(hp["lr"]),
        update_share=float(hp["update_proportion"]),
        clip=float(hp["obs_clip"]),
        before_learning=variant == "rlpd",
        epsilon=0.0,
    )
    nothing = rnd.no_moments(())._replace(rows=jnp.asarray(hp["rms_count_init"]))
    seen = Moments(jnp.zeros(5), jnp.ones(5), nothing.rows)
    before = under(fixture, "before.")
    state = rnd.State(trained(mlp(before, "predictor"), 1.0), mlp(before, "target"), seen, nothing, jnp.int32(0))
    for t in (1, 2, 3):
        rows = batch_of(fixture, t)
        # The draws that choose rows are stored once, and both variants use them.
        state, bonus, loss = agent.learn(state, rows, jnp.asarray(fixture[f"in.noise{t}.mask_uniform"]))
        out, after = under(fixture, f"{variant}.out{t}."), under(fixture, f"{variant}.after{t}.")
        close(bonus, out["bonus"], f"{t} bonus")
        close(loss, out["rnd_loss"], f"{t} loss")
        for name, moments in (("obs_rms", state.observation), ("reward_rms", state.bonus)):
            close(moments.mean, after[f"{name}.mean"], f"{t} {name} mean")
            close(moments.variance, after[f"{name}.var"], f"{t} {name} variance")
            close(moments.rows, after[f"{name}.count"], f"{t} {name} count")
        if "predictor.W0" in after:
            same(state.predictor.params, mlp(after, "predictor"), f"{t} predictor")
        if t == 1 and variant == "rlpd":
            same(gradients(state.predictor.optimiser), mlp(under(fixture, "rlpd.grad1."), "predictor"), "gradient")


def batch_of(fixture: Numbers, t: int) -> Any:
    now, following = (jnp.asarray(fixture[f"in.batch{t}.{name}"]) for name in ("observations", "next_observations"))
    return some_batch()._replace(observation=now, next_observation=following)


def test_the_textbook_form_by_hand() -> None:
    """Mean error over the features, of observations normalised by their own moments, over the spread of raw bonuses."""
    agent, rng = rnd.textbook(), np.random.default_rng(0)
    shape, before = (8, 5), under(load("rnd"), "before.")
    state = rnd.State(
        trained(mlp(before, "predictor"), 1.0),
        mlp(before, "target"),
        Moments(jnp.full(5, 0.5), jnp.full(5, 4.0), jnp.asarray(10.0)),
        Moments(jnp.asarray(1.0), jnp.asarray(9.0), jnp.asarray(10.0)),
        jnp.int32(0),
    )
    rows = some_batch()._replace(
        observation=jnp.asarray(rng.standard_normal(shape)), next_observation=jnp.asarray(rng.standard_normal(shape))
    )
    moved, bonus, _ = agent.learn(state, rows, jnp.zeros(8))
    seen = np.clip((np.asarray(rows.next_observation) - 0.5) / np.sqrt(4.0 + 1e-8), -5, 5)
    raw = np.mean((np.asarray(moved.predictor.params(seen)) - np.asarray(state.target(seen))) ** 2, axis=1)
    close(bonus, raw / np.sqrt(9.0 + 1e-8), "bonus")
    same(moved.bonus, state.bonus.take(jnp.asarray(raw)), "moments of raw bonuses")
    same(moved.observation, state.observation.take(rows.next_observation), "moments of next observations")


@pytest.mark.parametrize("spread", [1e-2, 1.0, 100.0])
def test_the_divided_bonus_has_the_root_of_the_raw_spread(spread: float) -> None:
    """The variance that divides is fed with the divided bonus, and settles at std(raw)."""
    rng = np.random.default_rng(0)
    moments = rnd.no_moments(())
    take = jax.jit(Moments.take)
    for _ in range(1000):
        divided = spread * rng.standard_normal(256) / np.sqrt(moments.variance)
        moments = take(moments, divided)
    np.testing.assert_allclose(float(moments.variance), spread, rtol=0.05)
    np.testing.assert_allclose(float(divided.std()), spread**0.5, rtol=0.1)
