"""Tiny problems with known answers, learned through the engine's own update."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from segue.agents import SAC
from segue.types import Spec, Transition
from tests.toys import small_cql

SPEC = Spec((1,), 1)
AGENT = SAC(
    actor_hidden=(32,),
    critic_hidden=(32, 32),
    actor_learning_rate=3e-3,
    critic_learning_rate=3e-3,
    target_rate=0.05,
    temperature=1e-3,
    learn_temperature=False,
)


def rows(key: jax.Array, n: int = 64) -> tuple[jax.Array, jax.Array]:
    k_state, k_action = jax.random.split(key)
    state = jax.random.bernoulli(k_state, 0.5, (n, 1)).astype(jnp.float32)
    return state, jax.random.uniform(k_action, (n, 1), minval=-1.0, maxval=1.0)


def learn(agent: object, make: object, updates: int) -> object:
    @jax.jit
    def run(state: object) -> object:
        def body(i: int, state: object) -> object:
            k_rows, k_update = jax.random.split(jax.random.fold_in(jax.random.key(7), i))
            return agent.update(state, make(*rows(k_rows)), k_update, i)[0]  # type: ignore[attr-defined, operator]

        return jax.lax.fori_loop(0, updates, body, state)

    return run(agent.init(jax.random.key(0), SPEC))  # type: ignore[attr-defined]


def best_action(state: jax.Array, action: jax.Array) -> Transition:
    """One step: reward -(a - a*)^2, where a* = 0.5 in state 0 and -0.5 in state 1."""
    reward = -jnp.square(action - (0.5 - state))[:, 0]
    zero = jnp.zeros(len(state))
    return Transition(state, action, reward, zero, state, reward, zero, jnp.full_like(action, jnp.nan))


def test_one_step_reward_depends_on_action() -> None:
    state = learn(AGENT, best_action, 1500)
    seen = jnp.asarray([[0.0], [1.0]])
    action = AGENT.act(state, seen, jax.random.key(0), False)  # type: ignore[arg-type]
    np.testing.assert_allclose(action[:, 0], [0.5, -0.5], atol=0.1)
    np.testing.assert_allclose(AGENT.q(state, seen, jnp.zeros((2, 1))), [-0.25, -0.25], atol=0.05)  # type: ignore[arg-type]


def two_steps(state: jax.Array, action: jax.Array) -> Transition:
    """State 0 leads to state 1 without reward; state 1 ends with reward 1.  Discount 0.5."""
    flat = state[:, 0]
    return Transition(
        state,
        action,
        flat,
        0.5 * (1.0 - flat),
        jnp.ones_like(state),
        jnp.where(flat == 1, 1.0, 0.5),
        0 * flat,
        0 * action,
    )


def test_two_step_credit() -> None:
    state = learn(AGENT, two_steps, 1500)
    seen = jnp.asarray([[0.0], [1.0]])
    np.testing.assert_allclose(AGENT.q(state, seen, jnp.zeros((2, 1))), [0.5, 1.0], atol=0.05)  # type: ignore[arg-type]


def test_cal_ql_stays_near_the_return_where_cql_sinks() -> None:
    """Data holds one action only: CQL pushes other actions' values far down, Cal-QL not below the data's return."""

    def logged(state: jax.Array, action: jax.Array) -> Transition:
        return two_steps(state, jnp.full_like(action, 0.5))

    fast = {"actor_learning_rate": 3e-3, "critic_learning_rate": 3e-3, "target_rate": 0.05}
    base = replace(small_cql().base, **fast)  # type: ignore[arg-type]
    seen, values = jnp.asarray([[0.0], [1.0]]), {}
    for calibrated in (False, True):
        agent = small_cql(base=base, calibrated=calibrated, lagrange=False, conservative_weight=5.0)
        state = learn(agent, logged, 1500)
        policy = agent.act(state, seen, jax.random.key(0), False)  # type: ignore[arg-type]
        values[calibrated] = float(jnp.mean(agent.q(state, seen, policy) - jnp.asarray([0.5, 1.0])))  # type: ignore[arg-type]
    assert values[True] > values[False] + 0.3, values
