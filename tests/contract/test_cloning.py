"""Cloning: any agent's policy, and nothing else of the agent."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import AGENTS, BC
from segue.core import options
from segue.core.paths import part_at
from segue.core.types import policy_of
from tests.contract.test_agents import ROWS, SPEC, batch, begin, equal, learn, small

# PEX acts with two policies, of which it learns one.
CLONED = [name for name, entry in AGENTS.items() if policy_of(entry.agent()) and name not in ("BC", "PEX")]


@pytest.mark.parametrize("name", CLONED)
def test_the_policy_comes_near_the_data_and_the_rest_stays(name: str) -> None:
    agent = options.assign(small(name), ["actor_learning_rate"], 1e-2, "")[0]
    before = state = begin(agent, jax.random.key(0), SPEC)
    rows = batch(action=jnp.full((ROWS, 3), 0.5))
    update = jax.jit(BC(agent, learning_rate=1e-2).update)
    for step in range(300):
        state, metrics = update(state, rows, jax.random.key(step), step)
    assert jax.tree.structure(state) == jax.tree.structure(before)

    def error(state: Any) -> float:
        action = agent.act(state, rows.observation, jax.random.key(0), False)
        return float(np.abs(action - rows.action).mean())

    assert error(state) < 0.6 * error(before), metrics
    for part in ("critic", "sac.critic", "td3.critic", "target", "temperature"):
        try:
            assert equal(part_at(state, part), part_at(before, part))
        except AttributeError:
            continue


@pytest.mark.parametrize("name", ["TD3", "SPOT", "ReBRAC"])
def test_a_slow_copy_of_the_policy_is_as_new_as_the_policy(name: str) -> None:
    agent = small(name)
    state, _ = learn(BC(agent), begin(agent, jax.random.key(0), SPEC), batch(), jax.random.key(1))
    inner: Any = getattr(state, "td3", state)
    assert equal(inner.target_actor, inner.actor.params)


def test_the_first_step_is_along_the_squared_error() -> None:
    """Adam's first step is the learning rate, against the sign of the gradient."""
    agent = small("TD3")
    before, rows = begin(agent, jax.random.key(0), SPEC), batch()
    loss = lambda actor: jnp.mean(jnp.square(jnp.tanh(actor(rows.observation)) - rows.action))  # noqa: E731
    value, gradient = jax.value_and_grad(loss)(before.actor.params)
    after, metrics = learn(BC(agent, learning_rate=1e-3), before, rows, jax.random.key(1))
    np.testing.assert_allclose(metrics["cloning_error"], value, rtol=1e-6)
    leaves = (jax.tree.leaves(x) for x in (after.actor.params, before.actor.params, gradient))
    for new, old, slope in zip(*leaves, strict=True):
        there = np.abs(slope) > 1e-5
        np.testing.assert_allclose((new - old)[there], -1e-3 * np.sign(slope)[there], rtol=1e-2)


def test_behind_an_episodes_end_a_chunk_counts_nothing() -> None:
    agent = small("TD3")
    state, rows = begin(agent, jax.random.key(0), SPEC.chunks(2)), batch()
    rows = rows._replace(valid=jnp.tile(jnp.array([1.0, 0.0]), (ROWS, 1)))
    plans = [jnp.concatenate([rows.action, behind], 1) for behind in (rows.action, -rows.action)]
    one, other = (learn(BC(agent), state, rows._replace(action=plan), jax.random.key(1)) for plan in plans)
    assert equal(one, other)
