"""CQL's and Cal-QL's mathematics, by hand."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents.cal_ql import CalQL
from segue.agents.conservative import Candidates
from segue.agents.cql import CQL
from segue.agents.from_cql import from_cql
from segue.core.types import Handover, Learned, Slot
from tests.contract.test_agents import SPEC, batch, begin, equal, learn, small
from tests.toys import UNITS


@pytest.mark.parametrize(("actions", "gap"), [(8, 8.946), (24, 20.04), (28, 22.81), (30, 24.20)])
def test_gap_of_a_constant_critic(actions: int, gap: float) -> None:
    """With a uniform policy: log 30 + A log 2 with importance sampling, log 31 without."""
    values = Candidates(*(jnp.full((2, 4, 10), 7.0) for _ in range(3)))
    densities = Candidates(*(jnp.full((4, 10), -actions * jnp.log(2.0)) for _ in range(3)))
    data = jnp.full((2, 4), 7.0)
    unknown = jnp.full(4, jnp.nan)
    got, _ = CQL().conservative_gap(data, values, densities, unknown)
    np.testing.assert_allclose(got, np.log(30) + actions * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(got, gap, atol=0.01)
    plain, _ = CQL(importance_sampling=False).conservative_gap(data, values, densities, unknown)
    np.testing.assert_allclose(plain, np.log(31), rtol=1e-6)


def test_calibration_stops_at_the_return() -> None:
    """Below the return no gradient flows through policy actions; random ones are never bounded; unknown never binds."""
    values = Candidates(*(jnp.asarray(np.random.default_rng(i).normal(size=(1, 3, 4))) for i in range(3)))
    densities = Candidates(*(jnp.zeros((3, 4)) for _ in range(3)))
    returns = jnp.asarray([10.0, -10.0, jnp.nan])  # above all values, below all values, unknown

    def gap(values: Candidates, agent: CalQL) -> jax.Array:
        return agent.base.conservative_gap(jnp.zeros((1, 3)), values, densities, returns, calibrate=agent.calibrate)[
            0
        ].sum()

    slope = jax.grad(gap)(values, CalQL())
    for name in ("next", "current"):
        gradient = getattr(slope, name)[0]
        assert np.all(gradient[0] == 0)
        assert np.all(gradient[1:] > 0)
    assert np.all(slope.random > 0)
    assert np.all(jax.grad(gap)(values, CalQL(calibrate_random=True)).random[0, 0] == 0)
    _, metrics = CQL().conservative_gap(jnp.zeros((1, 3)), values, densities, returns)
    assert metrics["bound_rate_current"] == pytest.approx(0.5)  # of the rows whose return is known


def test_each_loss_moves_only_its_own_part() -> None:
    """Perturb what one part's step depends on; the others' steps must not notice."""
    agent = small("CQL")
    state = begin(agent, jax.random.key(0), SPEC)

    def after(a: CQL) -> dict:
        after = learn(a, state, batch(), jax.random.key(1))[0]
        return after.sac._asdict() | {"multiplier": after.multiplier}

    plain = after(agent)
    heavier = after(replace(agent, conservative_weight=50.0))
    assert equal(plain["actor"], heavier["actor"])
    assert equal(plain["temperature"], heavier["temperature"])
    assert not equal(plain["critic"], heavier["critic"])
    calmer = after(replace(agent, base=replace(agent.base, actor_learning_rate=1.0, target_entropy=-9.0)))
    assert equal(plain["critic"], calmer["critic"])
    assert equal(plain["multiplier"], calmer["multiplier"])
    assert not equal(plain["actor"], calmer["actor"])
    assert not equal(plain["temperature"], calmer["temperature"])


@pytest.mark.parametrize(("gap", "falls"), [(-50.0, False), (50.0, True)])
def test_multiplier_follows_the_gap(gap: float, falls: bool) -> None:
    """alpha' falls while the gap is smaller than wanted, and rises while it is larger."""
    agent = small("CQL")
    agent = replace(agent, gap=gap)
    state = begin(agent, jax.random.key(0), SPEC)
    after, _ = learn(agent, state, batch(), jax.random.key(1))
    assert (float(after.multiplier.params) < float(state.multiplier.params)) == falls


def test_sac_goes_on_with_networks_and_optimisers_and_without_the_multiplier() -> None:
    agent = small("CalQL")
    state, _ = learn(agent, begin(agent, jax.random.key(0), SPEC), batch(), jax.random.key(1))
    sac = agent.base.base
    for learner, held in ((agent, state), (sac, state.sac)):
        handover = Handover(SPEC, {"agent": Slot(learner, Learned(held), UNITS)}, None, None, UNITS, "agent")
        got = from_cql()(handover, begin(sac, jax.random.key(2), SPEC))
        assert equal(got, state.sac)
    assert type(learn(sac, got, batch(), jax.random.key(1))[0]) is type(got)


def test_blocks_of_rows_change_rounding_only(double_precision: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The critics' loss is a mean over rows: computed in parts it is the same update, Lagrange multiplier included."""
    from segue.agents import conservative

    rng = np.random.default_rng(0)
    rows = jax.tree.map(lambda x: jnp.asarray(rng.standard_normal((128, *x.shape[1:]))), batch())
    rows = rows._replace(action=jnp.tanh(rows.action), continues=jnp.full(128, 0.9))
    # Returns that are not known: in all rows of a part, in some of another, and in none of the rest.
    rows = rows._replace(mc_return=jnp.where(jnp.isin(jnp.arange(128), jnp.arange(7, 28)), jnp.nan, rows.mc_return))
    agent = small("CQL")
    state, noise = begin(agent, jax.random.key(0), SPEC), agent.draw(jax.random.key(1), rows.action)
    assert conservative.blocks(128) == 8
    assert conservative.blocks(120) == conservative.blocks(130) == 1
    parts, said = jax.jit(lambda *given: agent.learn(*given))(state, rows, noise)
    monkeypatch.setattr(conservative, "BLOCKS", 1)
    whole, also = jax.jit(lambda *given: agent.learn(*given))(state, rows, noise)
    for a, b in zip(jax.tree.leaves((parts, said)), jax.tree.leaves((whole, also)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert np.isfinite(also["bound_rate_next"])
