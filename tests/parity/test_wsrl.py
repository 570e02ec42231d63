"""WSRL by hand: no fixture covers its options, so each of the spec's formulas (section 9) is computed apart here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import CQL, RLPD, SAC, CalQL
from segue.agents.from_sac import from_sac
from segue.core.scaling import Scaling
from segue.core.types import Handover, Learned, SegueError, Slot, Spec, Transition
from segue.recipes import find_recipe
from segue.recipes.recipe import TaskFacts
from tests.contract.test_agents import begin, equal

pytestmark = pytest.mark.usefixtures("double_precision")
SPEC = Spec((3,), 2)
PARTS, ROWS = 4, 6
KEY = jax.random.key(0)


def wsrl(**changes: Any) -> RLPD:
    online = find_recipe("wsrl")().phases[-1].learner
    assert isinstance(online, RLPD)
    small = {"actor_hidden": (5,), "critic_hidden": (5, 5), "critics": 4, "critic_updates": PARTS, "target_samples": 3}
    return replace(online, **(small | changes))


def parts() -> Transition:
    rng = np.random.default_rng(1)
    f = lambda *s: jnp.asarray(rng.standard_normal((PARTS, ROWS, *s)))  # noqa: E731
    zero = jnp.zeros((PARTS, ROWS))
    return Transition(f(3), jnp.tanh(f(2)), f(), 0.99 + zero, f(3), zero, zero, jnp.tanh(f(2)))


def gaussian(state: Any, observation: Any, noise: Any) -> tuple[np.ndarray, np.ndarray]:
    """Actions tanh(mean + std noise) and their log-densities, by the textbook."""
    mean, std = (np.asarray(x) for x in state.actor.params(observation))
    before = mean + std * np.asarray(noise)
    normal = -0.5 * ((before - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
    return np.tanh(before), (normal - np.log(1 - np.tanh(before) ** 2)).sum(-1)


def test_defaults_are_the_spec_s() -> None:
    agent = find_recipe("wsrl")().phases[-1].learner
    assert isinstance(agent, RLPD)
    assert (agent.critics, agent.subset, agent.critic_updates) == (10, 2, 4)
    assert (agent.subset_replacement, agent.backup_entropy, agent.actor_value) == (True, False, "min")
    raw = replace(agent, actor_hidden=(4,), critic_hidden=(4,)).init(KEY, SPEC).temperature.params
    assert float(raw) == pytest.approx(np.log(np.e - 1.0))  # softplus(x_0) = 1


def test_target_is_the_best_of_the_samples_under_the_least_of_the_subset() -> None:
    agent, batch = wsrl(), jax.tree.map(lambda x: x[0], parts())
    state = agent.init(KEY, SPEC)
    noise, subset = jax.random.normal(jax.random.key(2), (ROWS, 3, 2)), jnp.asarray([1, 1])
    got = agent.bellman_target(state, batch, noise, subset)
    for row in range(ROWS):
        values = []
        for draw in range(3):
            action, _ = gaussian(state, batch.next_observation[row], noise[row, draw])
            q = state.target(batch.next_observation[row][None], jnp.asarray(action)[None])[:, 0]
            values.append(min(q[1], q[1]))
        assert float(got[row]) == pytest.approx(float(batch.reward[row] + 0.99 * max(values)), abs=1e-12)


def test_actor_sees_the_least_of_all_and_the_temperature_the_next_state() -> None:
    agent, cut = wsrl(), parts()
    rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), cut)
    state, noise = agent.init(KEY, SPEC), agent.draw(jax.random.key(3), cut.action)
    after, metrics = agent.improve_actor(state, rows, noise)
    action, log_density = gaussian(state, rows.observation, noise.actor)
    q = np.min(state.critic.params(rows.observation, jnp.asarray(action)), axis=0)
    assert float(metrics["actor_loss"]) == pytest.approx(float(np.mean(log_density - q)), abs=1e-10)
    _, following = gaussian(state, rows.next_observation, noise.following)
    x = float(state.temperature.params)
    slope = (-following.mean() - (-2.0)) / (1 + np.exp(-x))  # d softplus = sigmoid; the goal is minus |A|
    np.testing.assert_allclose(after.temperature.optimiser[0].mu, 0.1 * slope, rtol=1e-9)


def test_nothing_but_critics_moves_between_updates_unless_drift_is_on() -> None:
    batch = jax.tree.map(lambda x: x[0], parts())
    noise, subset = jax.random.normal(jax.random.key(2), (ROWS, 3, 2)), jnp.asarray([0, 2])
    for drift in (False, True):
        agent = wsrl(drift=drift)
        state, _ = agent.learn(agent.init(KEY, SPEC), parts(), agent.draw(KEY, parts().action))
        after, _ = agent.improve_critics(state, batch, noise, subset)
        assert not equal(after.critic, state.critic)
        assert equal((after.actor, after.temperature), (state.actor, state.temperature)) == (not drift)
    # With a zero gradient Adam's moments shrink and the parameters go on: by hand for the temperature.
    adam, old = state.temperature.optimiser[0], float(state.temperature.params)
    count = int(adam.count) + 1
    mean, square = 0.9 * float(adam.mu) / (1 - 0.9**count), 0.999 * float(adam.nu) / (1 - 0.999**count)
    step = agent.temperature_learning_rate * mean / (np.sqrt(square) + 1e-8)
    assert float(after.temperature.params) == pytest.approx(old - step, abs=1e-12)


def test_subsets_repeat_in_wsrl_and_never_in_rlpd() -> None:
    draw = lambda agent: np.asarray(  # noqa: E731
        jax.vmap(lambda k: agent.draw(k, parts().action).subset)(jax.random.split(KEY, 100))
    ).reshape(-1, 2)
    ours, theirs = draw(replace(wsrl(), subset_replacement=False)), draw(wsrl())
    assert (ours[:, 0] != ours[:, 1]).all()
    assert 0.15 < np.mean(theirs[:, 0] == theirs[:, 1]) < 0.35  # 1 in 4 critics


def test_every_minibatch_holds_its_share_of_the_dataset() -> None:
    """RLPD's 2560 + 2560 rows, dataset first: each of the 20 parts has 128 of each."""
    origin = jnp.concatenate([jnp.zeros(2560), jnp.ones(2560)])
    seen: list[Any] = []

    class Spy(RLPD):
        def learn(self, state: Any, parts: Transition, noise: Any) -> Any:
            seen.append(parts.online)
            return state, {}

    rows = Transition(*[jnp.zeros((5120, 1))] * 6, origin, jnp.zeros((5120, 1)))
    Spy().update(None, rows, KEY, jnp.int32(0))  # type: ignore[arg-type]
    assert seen[0].shape == (20, 256)
    assert (np.asarray(seen[0]).sum(axis=1) == 128).all()


def test_the_switch_keeps_networks_moments_and_the_value_of_the_temperature() -> None:
    base = SAC(actor_hidden=(5,), critic_hidden=(5, 5), critics=4, layer_norm=True, temperature=0.3)
    offline, rows = begin(CQL(base), KEY, SPEC), jax.tree.map(lambda x: x[0], parts())
    update = jax.jit(CQL(base).update)
    for step in range(3):
        offline, _ = update(offline, rows, jax.random.key(step), step)
    agent, left = wsrl(), offline.sac
    fresh = agent.init(jax.random.key(7), SPEC)
    got = from_sac()(
        Handover(SPEC, {"agent": Slot(CQL(base), Learned(offline), Scaling())}, None, None, Scaling(), "agent"), fresh
    )
    assert equal((got.actor, got.critic.params, got.target), (left.actor, left.critic.params, left.target))
    # The loss before is a sum over 4 critics and the one after it their mean: so are gradients, and their squares.
    adam, before = got.critic.optimiser[0], left.critic.optimiser[0]
    assert int(adam.count) == 3
    for new, old, factor in ((adam.mu, before.mu, 4), (adam.nu, before.nu, 16)):
        for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(old), strict=True):
            np.testing.assert_allclose(factor * a, b, rtol=1e-12)
    alpha = float(jnp.exp(left.temperature.params))
    assert alpha != pytest.approx(0.3)
    assert float(agent.alpha(got.temperature.params)) == pytest.approx(alpha)
    assert jax.tree.structure(got) == jax.tree.structure(fresh)
    other = replace(agent, critics=3).init(KEY, SPEC)
    with pytest.raises(SegueError, match="give both the same"):
        from_sac()(
            Handover(SPEC, {"agent": Slot(CQL(base), Learned(offline), Scaling())}, None, None, Scaling(), "agent"),
            other,
        )


def test_pre_training_draws_critics_with_replacement() -> None:
    """As the release does for both draws, so that one critic in ten draws stands alone; CQL's own are all different."""
    learner = find_recipe("wsrl")().phases[0].learner
    assert isinstance(learner, CalQL)
    learner, hopper = learner.base, find_recipe("wsrl")(TaskFacts(("locomotion",))).phases[0].learner
    assert hopper == replace(learner, base=replace(learner.base, critic_hidden=(256, 256)), lagrange=False)
    keys, action = jax.random.split(KEY, 200), jnp.zeros((2, 2))
    draws = [jax.vmap(lambda k: a.draw(k, action)[-2:])(keys) for a in (learner, replaced(learner, False))]  # noqa: B023
    for with_replacement, without in zip(*draws):
        assert 5 <= int(jnp.sum(with_replacement[:, 0] == with_replacement[:, 1])) <= 40
        assert not jnp.any(without[:, 0] == without[:, 1])


def replaced(learner: CQL, replacement: bool) -> CQL:
    return replace(learner, base=replace(learner.base, subset_replacement=replacement))


def test_a_subset_of_all_critics_is_all_critics() -> None:
    base = SAC(actor_hidden=(5,), critic_hidden=(5, 5), critics=3, target_samples=2)
    whole = CQL(base, samples=2, conservative_weight=1.5)
    chosen = replace(whole, base=replace(base, subset=3), penalised=3)
    state, batch = whole.init(KEY, SPEC), jax.tree.map(lambda x: x[0], parts())
    a, _ = whole.learn(state, batch, whole.draw(KEY, batch.action))
    noise = chosen.draw(KEY, batch.action)
    assert sorted(np.asarray(noise.subset)) == sorted(np.asarray(noise.penalised)) == [0, 1, 2]
    b, _ = chosen.learn(state, batch, noise)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-9, atol=1e-12)
    one = replace(chosen, penalised=1)
    moved, _ = one.learn(state, batch, one.draw(KEY, batch.action)._replace(subset=None))
    apart = [
        not np.allclose(x, y)
        for x, y in zip(moved.critic.params.members.layers[0].weight, a.critic.params.members.layers[0].weight)
    ]
    assert any(apart)
