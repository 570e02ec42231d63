"""Options that reproduce what an official program does: that they do it, where no fixture shows it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import RLPD, SPOT, TD3, VAE, ReBRAC
from segue.core.optim import APART
from segue.core.types import Spec
from tests.contract.test_agents import batch, begin, equal, learn

SPEC = Spec((5,), 3)
NETS: dict[str, Any] = {"actor_hidden": (16, 16), "critic_hidden": (16, 16)}
KEY = jax.random.key(0)


def test_spot_drops_units_of_its_target_actor() -> None:
    """In the bootstrap, where dropping in the actor alone changes nothing."""
    agents = {
        "none": SPOT(TD3(**NETS), VAE((8,))),
        "actor": SPOT(TD3(**NETS), VAE((8,)), dropout=0.5, target_dropout=False),
        "both": SPOT(TD3(**NETS), VAE((8,)), dropout=0.5),
    }
    state, rows = begin(agents["none"], KEY, SPEC), batch()
    targets = {name: float(learn(agent, state, rows, KEY)[1]["td_target"]) for name, agent in agents.items()}
    assert targets["none"] == pytest.approx(targets["actor"], abs=1e-6)
    assert abs(targets["both"] - targets["none"]) > 1e-4


@pytest.mark.parametrize("agent", [ReBRAC(), TD3(actor_last_limit=1e-3, critic_last_limit=3e-3, **NETS)])
def test_last_layers_begin_within_their_limits(agent: Any) -> None:
    """ReBRAC everywhere and SPOT on AntMaze: uniform up to the limit; other layers, and TD3's own, are wider."""
    state = agent.init(KEY, SPEC)
    for layers, limit in ((state.actor.params.layers, 1e-3), (state.critic.params.members.layers, 3e-3)):
        size = float(jnp.max(jnp.abs(layers[-1].weight)))
        assert 0.5 * limit < size <= limit * (1 + 1e-6)
        assert float(jnp.max(jnp.abs(layers[0].weight))) > 0.1
    plain = TD3(**NETS).init(KEY, SPEC)
    assert float(jnp.max(jnp.abs(plain.actor.params.layers[-1].weight))) > 0.1


def test_a_log_deviation_that_does_not_learn_stands_still() -> None:
    """Even with moments of a phase in which it learned."""
    agent = RLPD(**NETS, critics=2, critic_updates=1)
    update = lambda agent, state: learn(agent, state, batch(), KEY)[0]  # noqa: E731
    scale = lambda state: (state.actor.params.log_std_multiplier, state.actor.params.log_std_offset)  # noqa: E731
    start = begin(agent, KEY, SPEC)
    before = update(replace(agent, learn_log_std_scale=True), start)
    assert not equal(scale(before), scale(start))
    after = update(replace(agent, learn_log_std_scale=False), before)
    assert equal(scale(after), scale(before))
    assert not equal(after.actor.params.network, before.actor.params.network)


def test_keys_beside_a_split_are_none_of_its_keys() -> None:
    """`fold_in(key, i)` is the i-th of `split(key)`, which two draws shared once."""
    data = lambda keys: {tuple(row) for row in np.asarray(jax.random.key_data(keys)).reshape(-1, 2).tolist()}  # noqa: E731
    for seed in range(5):
        key = jax.random.key(seed)
        beside = data(jax.vmap(lambda i: jax.random.fold_in(key, i))(APART + jnp.arange(8)))  # noqa: B023
        assert not beside & data(jax.random.split(key, 64))
