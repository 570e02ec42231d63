"""What every registered agent must do.  A new agent enters by its line in the table."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import AGENTS, build, describe
from segue.core import options
from segue.core.options import reachable
from segue.core.types import Acting, Agent, Spec, Transition

SPEC = Spec((5,), 3)
ROWS = 16


def small(name: str) -> Any:
    """The agent with its default hyper-parameters, but narrow."""
    return build(narrow(describe(AGENTS[name].agent())))


def narrow(description: dict[str, Any]) -> dict[str, Any]:
    """A description with layers of 8, few samples, and every source of randomness on, at any depth."""
    few = {"samples": 3, "target_samples": 2, "critic_updates": 4, "critics": 3}
    random = {"dropout": 0.1, "exploration_noise": 0.1}
    out: dict[str, Any] = {}
    for key, value in description.items():
        if isinstance(value, dict):
            out[key] = narrow(value)
        elif key.endswith("hidden"):
            out[key] = [8]
        else:
            out[key] = min(value, few[key]) if key in few else random.get(key, value)
    return out


def batch(seed: int = 0, **changes: Any) -> Transition:
    rng = np.random.default_rng(seed)
    f = lambda *s: jnp.asarray(rng.standard_normal(s), jnp.float32)  # noqa: E731
    rows = Transition(
        f(ROWS, 5),
        jnp.tanh(f(ROWS, 3)),
        f(ROWS),
        jnp.full(ROWS, 0.99, jnp.float32),
        f(ROWS, 5),
        f(ROWS) - 1,
        jnp.zeros(ROWS),
        jnp.tanh(f(ROWS, 3)),
    )
    return rows._replace(**changes)


@partial(jax.jit, static_argnums=(0, 2))
def begin(agent: Any, key: jax.Array, spec: Spec) -> Any:
    """The agent's first state, in one program: op by op it takes three times as long."""
    return agent.init(key, spec)


@partial(jax.jit, static_argnums=0)
def learn(agent: Any, state: Any, rows: Transition, key: jax.Array, step: int = 0) -> Any:
    """One update, in one program."""
    return agent.update(state, rows, key, step)


def equal(a: Any, b: Any) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


# One worker tests all of an agent: its update compiles once.
EACH = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in AGENTS]


@pytest.fixture(scope="module", params=EACH)
def learned(request: pytest.FixtureRequest) -> tuple[Any, Any, Any]:
    """(agent, its jitted update, a state after one update)."""
    agent = small(request.param)
    update = jax.jit(agent.update)
    state, _ = update(begin(agent, jax.random.key(0), SPEC), batch(), jax.random.key(1), 0)
    return agent, update, state


def test_protocol_and_arrays(learned: Any) -> None:
    agent, _, state = learned
    assert isinstance(agent, Acting)
    assert hash(agent) == hash(build(describe(agent)))
    fresh = begin(agent, jax.random.key(0), SPEC)
    assert jax.tree.structure(fresh) == jax.tree.structure(state)
    for before, after in zip(jax.tree.leaves(fresh), jax.tree.leaves(state), strict=True):
        assert (before.shape, before.dtype, before.weak_type) == (after.shape, after.dtype, after.weak_type)


def test_description_round_trip(learned: Any) -> None:
    import json

    agent, _, _ = learned
    text = json.dumps(describe(agent), allow_nan=False)
    assert build(json.loads(text)) == agent


def test_deterministic_and_moved_by_the_key(learned: Any) -> None:
    agent, update, state = learned
    once, again = (update(state, batch(), jax.random.key(2), 1)[0] for _ in range(2))
    other = update(state, batch(), jax.random.key(3), 1)[0]
    assert equal(once, again)
    assert equal(once, other) == (not isinstance(agent, Agent))  # cloning draws nothing


def test_seeds_do_not_mix_under_vmap(learned: Any) -> None:
    agent, update, _ = learned
    keys = jax.random.split(jax.random.key(5), 2)
    states = jax.tree.map(lambda *x: jnp.stack(x), *(begin(agent, k, SPEC) for k in keys))
    two = jax.jit(jax.vmap(agent.update, in_axes=(0, None, 0, None)))
    both, _ = two(states, batch(), keys, 0)
    alone, _ = update(jax.tree.map(lambda x: x[1], states), batch(), keys[1], 0)
    for a, b in zip(jax.tree.leaves(both), jax.tree.leaves(alone), strict=True):
        # Batched matrix products round differently; Adam's first step turns a gradient's sign into a learning rate.
        np.testing.assert_allclose(a[1], b, atol=1e-3)


def test_acts_in_bounds(learned: Any) -> None:
    agent, _, state = learned
    far = 1e3 * batch().observation
    for explore in (False, True):
        action = agent.act(state, far, jax.random.key(0), explore)
        assert action.shape == (ROWS, 3)
        assert float(jnp.max(jnp.abs(action))) <= 1.0
    near = batch().observation  # far from the data a squashed policy may be certain
    assert not equal(agent.act(state, near, jax.random.key(0), True), agent.act(state, near, jax.random.key(1), True))
    assert equal(agent.act(state, near, jax.random.key(0), False), agent.act(state, near, jax.random.key(1), False))
    if isinstance(agent, Agent):
        assert agent.q(state, far, action).shape == (ROWS,)


def part_of(state: Any, name: str) -> Any:
    """A trained part of an agent's state, or of the agent's that it holds; None where there is none of that name."""
    held = [getattr(state, inner, None) for inner in ("base", "sac", "td3", "iql")]
    return getattr(state, name, None) or next((part_of(s, name) for s in held if s is not None), None)


def test_a_part_moves_by_its_own_loss_alone(learned: Any) -> None:
    """Without its learning rate a part stays as it is, bit for bit; the actor's rate reaches no critic at once."""
    agent, update, state = learned
    rates = sorted({name for name in reachable(agent) if name.endswith("_learning_rate")})
    parts = [r.removesuffix("_learning_rate") for r in rates if part_of(state, r.removesuffix("_learning_rate"))]
    assert {"actor", "critic"} <= set(parts)
    if not isinstance(agent, Agent):
        pytest.skip("only its policy moves (test_cloning.py)")

    def two(update: Any) -> tuple[Any, Any]:  # a delayed actor moves in one of two updates
        once, _ = update(state, batch(), jax.random.key(2), 0)
        return once, update(once, batch(1), jax.random.key(3), 1)[0]

    once, twice = two(update)
    for stopped in (["actor"], [p for p in parts if p != "actor"]):
        still = agent
        for part in stopped:
            still = options.assign(still, [f"{part}_learning_rate"], 0.0, part)[0]
        first, second = two(jax.jit(still.update))
        for part in parts:
            moved = not equal(part_of(second, part).params, part_of(state, part).params)
            assert moved == (part not in stopped), f"{part} while {stopped} stands still"
        if stopped == ["actor"]:
            critics = (jax.tree.leaves(part_of(s, "critic").params) for s in (first, once))
            for a, b in zip(*critics, strict=True):
                np.testing.assert_allclose(a, b, rtol=0, atol=1e-6)
    assert not equal(twice, once)


@pytest.mark.parametrize(
    "rows",
    [
        batch(reward=jnp.full(ROWS, -1e4, jnp.float32)),
        batch(action=jnp.ones((ROWS, 3))),
        batch(mc_return=jnp.full(ROWS, jnp.nan, jnp.float32)),
        batch(continues=jnp.zeros(ROWS)),
        batch(observation=1e4 * batch().observation),
    ],
    ids=["large reward", "saturated action", "open episodes", "all terminal", "far observation"],
)
def test_hostile_batches_stay_finite(learned: Any, rows: Transition) -> None:
    _, update, state = learned
    for step in range(3):
        state, _ = update(state, rows, jax.random.key(step), step)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
