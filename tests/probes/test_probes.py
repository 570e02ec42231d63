"""Tiny problems with known answers, that every registered agent must solve through its own update."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import AGENTS, CQL, CalQL
from segue.core import options
from segue.core.types import Agent, Spec, Transition
from tests.toys import small_cql

SPEC = Spec((4,), 1)
UPDATES = 2_000

# What every agent gets where it has it, and what some need on top: weak ties to the data, whose actions are random.
FAST: dict[str, Any] = {
    "actor_hidden": (32,),
    "critic_hidden": (32, 32),
    "hidden": (64, 64),
    "actor_learning_rate": 3e-3,
    "critic_learning_rate": 3e-3,
    "value_learning_rate": 3e-3,
    "temperature_learning_rate": 0.0,
    "temperature": 1e-3,
    "target_rate": 0.05,
    "critics": 2,
    "critic_updates": 2,
    "policy_noise": 0.05,
    "samples": 2,
    "target_samples": 1,
    "flow_steps": 3,
}
OWN: dict[str, dict[str, Any]] = {
    "CQL": {"conservative_weight": 0.01, "lagrange": False},
    "CalQL": {"conservative_weight": 0.01, "lagrange": False},
    "IQL": {"inverse_temperature": 30.0, "expectile": 0.9},
    "PEX": {"inverse_temperature": 30.0, "expectile": 0.9, "evaluation_epsilon": 0.0},
    "AWAC": {"advantage_temperature": 0.01},
    "TD3BC": {"q_weight": 100.0},
    "ReBRAC": {"actor_cloning": 0.01, "critic_cloning": 0.0},
    "SPOT": {"weight": 0.01},
    "FQL": {"cloning_weight": 0.003},
    "BFN": {"samples": 16},
}


def fast(name: str) -> Any:
    agent = AGENTS[name].agent()
    for option, value in (FAST | OWN.get(name, {})).items():
        if option in options.reachable(agent):
            agent = options.assign(agent, [option], value, option)[0]
    return agent


def rows(key: jax.Array, n: int = 64) -> Transition:
    """Four states, random actions.

    0 and 1: one step with the reward -(a - a*)^2, a* = 0.5 and -0.5.  2 leads to 3 without reward, 3 ends with
    reward 1; the discount is 0.5.
    """
    k_state, k_action = jax.random.split(key)
    state = jax.random.randint(k_state, (n,), 0, 4)
    action = jax.random.uniform(k_action, (n, 1), minval=-1.0, maxval=1.0)
    best = jnp.asarray([0.5, -0.5, 0.0, 0.0])[state]
    reward = jnp.where(state < 2, -jnp.square(action[:, 0] - best), (state == 3) * 1.0)
    see = lambda s: jax.nn.one_hot(s, 4)  # noqa: E731
    following = jnp.where(state == 2, 3, state)
    continues = jnp.where(state == 2, 0.5, 0.0)
    mc_return = jnp.where(state == 2, 0.5, reward)
    unknown = jnp.full_like(action, jnp.nan)
    return Transition(see(state), action, reward, continues, see(following), mc_return, 0 * reward, unknown)


def learn(agent: Any, make: Any = rows, updates: int = UPDATES) -> Any:
    @jax.jit
    def run(state: Any) -> Any:
        def body(i: int, state: Any) -> Any:
            k_rows, k_update = jax.random.split(jax.random.fold_in(jax.random.key(7), i))
            return agent.update(state, make(k_rows), k_update, i)[0]

        return jax.lax.fori_loop(0, updates, body, state)

    return run(agent.init(jax.random.key(0), SPEC))


@pytest.mark.parametrize("name", [name for name in AGENTS if isinstance(AGENTS[name].agent(), Agent)])
def test_actions_that_pay_and_credit_over_two_steps(name: str) -> None:
    agent = fast(name)
    state = learn(agent)
    seen = jnp.eye(4)
    action = agent.act(state, seen, jax.random.key(0), False)
    np.testing.assert_allclose(action[:2, 0], [0.5, -0.5], atol=0.12)
    values = agent.q(state, seen, jnp.zeros((4, 1)))
    np.testing.assert_allclose(values, [-0.25, -0.25, 0.5, 1.0], atol=0.08)


def test_cal_ql_stays_near_the_return_where_cql_sinks() -> None:
    """Data holds one action only: CQL pushes other actions' values far down, Cal-QL not below the data's return."""

    def logged(key: jax.Array) -> Transition:
        made = rows(key)
        return made._replace(action=jnp.full_like(made.action, 0.5))

    rates = {"actor_learning_rate": 3e-3, "critic_learning_rate": 3e-3, "target_rate": 0.05}
    base = replace(small_cql().base, **rates)  # type: ignore[arg-type]
    seen, values = jnp.eye(4)[2:], {}
    cql = small_cql(base=base, lagrange=False, conservative_weight=5.0)
    for agent in (cql, CalQL(cql)):
        state = learn(agent, logged, 1500)
        policy = agent.act(state, seen, jax.random.key(0), False)
        values[type(agent)] = float(jnp.mean(agent.q(state, seen, policy) - jnp.asarray([0.5, 1.0])))
    assert values[CalQL] > values[CQL] + 0.3, values
