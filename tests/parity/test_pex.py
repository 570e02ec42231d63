"""PEX by hand: no fixture of the authors' program exists, so that numpy recomputes what it must be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import iql, pex
from segue.agents.pex import PEX, expand
from segue.core.bounds import unbounded
from segue.core.layers import Layer
from segue.core.nets import MLP, Critics, Gaussian
from segue.core.optim import APART, trained
from segue.core.scaling import Scaling
from segue.core.types import Handover, Learned, Slot, Spec, Transition
from tests.parity.numbers import close, same

pytestmark = pytest.mark.usefixtures("double_precision")
SPEC = Spec((4,), 2)
SMALL = replace(pex.authors(), actor_hidden=(8,), critic_hidden=(8,))
AGENT = PEX(SMALL)
INIT, UPDATE = jax.jit(AGENT.init, static_argnums=1), jax.jit(AGENT.update)


def rows(count: int = 32, seed: int = 0) -> Transition:
    rng = np.random.default_rng(seed)
    f = lambda *s: jnp.asarray(rng.standard_normal(s))  # noqa: E731
    action = jnp.tanh(f(count, 2))
    return Transition(
        f(count, 4), action, f(count), jnp.full(count, 0.99), f(count, 4), f(count), jnp.zeros(count), action
    )


def linear(smaller: float, larger: float) -> Critics:
    """Two critics of (s, a), 3 s + smaller * a and 3 s + larger * a + 10; the first is the smaller one in bounds."""
    members = [
        MLP((Layer(jnp.asarray([[3.0], [slope]]), jnp.asarray([shift])),))
        for slope, shift in ((smaller, 0.0), (larger, 10.0))
    ]
    return Critics(jax.tree.map(lambda *x: jnp.stack(x), *members))


def constant(action: float, log_std: float = 0.0) -> Gaussian:
    """A policy over one action dimension with the same mean in every state."""
    return Gaussian(MLP((Layer(jnp.zeros((1, 1)), jnp.arctanh(jnp.asarray([action]))),)), jnp.asarray([log_std]))


def known(old: float, new: float, log_std: float = -5.0) -> Any:
    """A state with constant policies, min Q(s, a) = 3 s + 2 a, min target(s, a) = 3 s + a and V(s) = 3 s."""
    value = MLP((Layer(jnp.asarray([[3.0]]), jnp.zeros(1)),))
    actor = trained(constant(new, log_std), 1.0)
    critic = trained(linear(2.0, 5.0), 1.0)
    return pex.State(iql.State(actor, critic, linear(1.0, -4.0), trained(value, 1.0), unbounded()), constant(old))


def equal(got: Any, want: Any) -> None:
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(a, b)


def differ(got: Any, want: Any) -> bool:
    return any(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True))


@pytest.mark.parametrize("inverse_temperature", [0.0, 0.3, 10.0])
def test_choice_is_a_softmax(inverse_temperature: float) -> None:
    values = np.random.default_rng(0).standard_normal((64, 2))
    exponents = np.exp(inverse_temperature * values)
    got = replace(AGENT, choice_inverse_temperature=inverse_temperature).new_probability(*jnp.asarray(values.T))
    np.testing.assert_allclose(got, exponents[:, 1] / exponents.sum(1), rtol=1e-12)


def test_choice_without_temperature_is_the_better_one() -> None:
    cold = replace(AGENT, choice_inverse_temperature=np.inf)
    old, new = jnp.asarray([-1e-9, 2.0, -1e4, 0.0]), jnp.asarray([0.0, 1.0, 1e4, 0.0])
    np.testing.assert_array_equal(cold.new_probability(old, new), [1.0, 0.0, 1.0, 0.5])


@pytest.mark.parametrize(("old", "new"), [(0.5, -0.5), (-0.5, 0.5)])
def test_cold_mixture_always_takes_the_better_action(old: float, new: float) -> None:
    cold = replace(AGENT, choice_inverse_temperature=np.inf)
    observation = jnp.asarray(np.random.default_rng(1).standard_normal((500, 1)))
    action = jax.jit(lambda k: cold.act(known(old, new), observation, k, True))(jax.random.key(0))
    assert np.all(np.abs(action - 0.5) < 0.05)  # the new policy's standard deviation is exp(-5)


def test_frequencies_and_vmap() -> None:
    """Seeds, states and draws: the old mean is taken as often as the softmax of 2 * 2 * (0.1 - -0.1) says."""
    warm = replace(AGENT, choice_inverse_temperature=2.0)
    state, observation = known(0.1, -0.1), jnp.zeros((4000, 1))
    act = jax.jit(jax.vmap(lambda k: warm.act(state, observation, k, True)))
    action = np.asarray(act(jax.random.split(jax.random.key(0), 5)))
    from_old = action == float(jnp.tanh(jnp.arctanh(0.1)))
    wanted = np.exp(0.4) / (np.exp(0.4) + np.exp(-0.4))
    assert abs(from_old.mean() - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / action.size) + 1e-3
    drawn = action[~from_old]
    assert abs(drawn.mean() + 0.1) < 1e-3
    assert drawn.std() == pytest.approx(np.exp(-5), rel=0.05)


def test_proposals_are_valued_inside_the_bounds() -> None:
    """A draw far outside is worth what the bound is worth, and no more."""
    chance = float(AGENT.new_probability(jnp.asarray(2 * 0.9), jnp.asarray(2 * 1.0)))
    for choice, taken in ((chance - 1e-6, True), (chance + 1e-6, False)):
        action, new = AGENT.compose(
            known(0.9, 0.0, 2.0), jnp.zeros((1, 1)), jnp.asarray([[5.0]]), jnp.asarray([choice])
        )
        assert bool(new[0]) == taken
        assert float(action[0, 0]) == pytest.approx(5.0 * np.exp(2.0) if taken else 0.9)


def test_greedy_evaluation() -> None:
    greedy = replace(AGENT, evaluation_epsilon=0.0)
    observation = jnp.asarray(np.random.default_rng(2).standard_normal((50, 1)))
    for old, new in ((0.3, -0.2), (-0.2, 0.3)):
        action = greedy.act(known(old, new), observation, jax.random.key(0), False)
        np.testing.assert_allclose(action, 0.3, rtol=1e-12)


def test_epsilon_of_evaluation() -> None:
    """Both exceptions occur in the stated share of the states, independently, and repeat with the state."""
    observation = jnp.asarray(np.random.default_rng(3).standard_normal((20_000, 4)))
    noise, choice = map(np.asarray, AGENT.evaluation_draws(observation, 2))
    drawn, chosen = np.any(noise != 0, axis=1), choice != 0.5
    for share, wanted in ((drawn, 0.1), (chosen, 0.1), (drawn & chosen, 0.01)):
        assert abs(share.mean() - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / len(share))
    assert abs(noise[drawn].mean()) < 0.1
    assert noise[drawn].std() == pytest.approx(1.0, abs=0.05)
    assert choice[chosen].mean() == pytest.approx(0.5, abs=0.05)
    again, _ = AGENT.evaluation_draws(observation[::-1], 2)
    np.testing.assert_array_equal(again[::-1], noise)


def test_improvement_by_hand() -> None:
    """Loss -mean w log pi(a|s) of given draws, w = min(exp(beta (min_j target_j(s, a) - V(s))), 100), in numpy."""
    agent = PEX(replace(SMALL, inverse_temperature=6.0), choice_inverse_temperature=2.0)
    state, std = known(0.1, -0.3, -1.0), np.exp(-1.0)
    batch = rows(6)._replace(observation=jnp.asarray([[0.3], [-1.0], [2.0], [0.0], [1.0], [-2.0]]))
    noise = np.asarray([0.5, -1.0, 4.0, -5.0, 0.0, 2.0])
    choice = np.asarray([0.1, 0.9, 0.3, 0.0, 0.5, 0.7])

    old, new = 0.1, -0.3 + std * noise
    inside = lambda a: np.clip(a, -1, 1)  # noqa: E731
    exponent = lambda a: np.exp(2.0 * 2.0 * inside(a))  # noqa: E731  (3 s is the same for both proposals)
    taken = choice < exponent(new) / (exponent(new) + exponent(old))
    action = np.where(taken, new, old)
    advantage = inside(action)
    weight = np.minimum(np.exp(6.0 * advantage), 100.0)
    density = -0.5 * ((action + 0.3) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    assert 0 < taken.sum() < 6
    assert np.any(np.abs(action) > 1)  # an action out of bounds and a weight at its maximum are among them
    assert np.any(weight == 100.0)

    moved, metrics = jax.jit(agent.improve)(
        state, batch, jnp.asarray(noise)[:, None], jnp.asarray(choice), jax.random.key(0)
    )
    np.testing.assert_allclose(metrics["actor_loss"], -np.mean(weight * density), rtol=1e-10)
    np.testing.assert_allclose(metrics["weight"], weight.mean(), rtol=1e-10)
    np.testing.assert_allclose(metrics["advantage"], advantage.mean(), rtol=1e-10)
    np.testing.assert_allclose(metrics["new_policy_share"], taken.mean(), rtol=1e-12)
    slope = -np.mean(weight * (((action + 0.3) / std) ** 2 - 1))  # of the loss in log std
    np.testing.assert_allclose(moved.iql.actor.optimiser[0].mu.log_std, [0.1 * slope], rtol=1e-9)
    equal(moved._replace(iql=moved.iql._replace(actor=state.iql.actor)), state)


@pytest.mark.parametrize("imitate", ["composite", "batch"])
def test_update_is_iql_below_and_leaves_the_old_policy(imitate: Any) -> None:
    update = UPDATE if imitate == "composite" else jax.jit(replace(AGENT, imitate=imitate).update)
    state = start = INIT(jax.random.key(0), SPEC)
    plain = jax.jit(SMALL.update)
    for step in range(3):
        batch, key = rows(seed=step), jax.random.key(step)
        below, _ = plain(state.iql, batch, key, step)
        state, _ = update(state, batch, key, step)
        for part in ("critic", "target", "value"):
            same(getattr(state.iql, part), getattr(below, part), part)
        assert differ(state.iql.actor, below.actor) == (imitate == "composite")
    equal(state.old, start.old)
    assert differ(state.iql.actor.params, start.iql.actor.params)


def test_the_new_policy_moves_after_what_it_is_weighted_with() -> None:
    """The draws come from the policy before the step; values, targets and V are those after it."""
    state, batch, key = INIT(jax.random.key(0), SPEC), rows(), jax.random.key(7)
    after, metrics = UPDATE(state, batch, key, 0)
    k_noise, k_choice, k_dropout = jax.random.split(jax.random.fold_in(key, APART), 3)
    noise, choice = jax.random.normal(k_noise, (32, 2)), jax.random.uniform(k_choice, (32,))
    before = after._replace(iql=after.iql._replace(actor=state.iql.actor))
    alone, own = jax.jit(AGENT.improve)(before, batch, noise, choice, k_dropout)
    same(alone.iql.actor, after.iql.actor, "the new policy")
    for name, value in own.items():
        close(value, metrics[name], name)


def test_expand() -> None:
    learner = replace(SMALL, actor_decay=100)
    offline = jax.jit(learner.init, static_argnums=1)(jax.random.key(1), SPEC)
    offline = jax.tree.map(lambda x: x + 1, offline)._replace(target=jax.tree.map(lambda x: 0.5 * x, offline.target))
    fresh = INIT(jax.random.key(2), SPEC)
    state = expand("offline")(
        Handover(SPEC, {"offline": Slot(learner, Learned(offline), Scaling())}, None, None, Scaling(), "agent"), fresh
    )

    equal(state.old, offline.actor.params)
    equal(state.iql.critic.params, offline.critic.params)
    equal(state.iql.target, offline.target)
    equal(state.iql.value.params, offline.value.params)
    equal(state.iql.actor, fresh.iql.actor)
    for part in ("critic", "value"):
        equal(getattr(state.iql, part).optimiser, getattr(fresh.iql, part).optimiser)
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    moved, _ = UPDATE(state, rows(), jax.random.key(3), 0)
    equal(moved.old, offline.actor.params)
