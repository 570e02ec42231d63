"""TD3 and TD3+BC against numbers of the official implementations."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from segue.agents import td3
from segue.agents.td3 import TD3, TD3BC
from segue.core.optim import trained
from tests.parity.numbers import batch, close, gradients, load, mlp, same, twins, under

pytestmark = pytest.mark.usefixtures("double_precision")


def parts(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, theirs in (("actor", "actor"), ("target_actor", "target_actor")):
        if f"{theirs}.W0" in tree:
            found[name] = mlp(tree, theirs)
    for name, members in (("critic", ("qf1", "qf2")), ("target_critic", ("target_qf1", "target_qf2"))):
        if f"{members[0]}.W0" in tree:
            found[name] = twins(tree, *members)
    return found


@pytest.mark.parametrize("name", ["td3", "td3bc"])
def test_four_updates(name: str) -> None:
    fixture = load(name)
    hp = under(fixture, "hp.")
    base = TD3(
        actor_learning_rate=float(hp["lr"]),
        critic_learning_rate=float(hp["lr"]),
        target_rate=float(hp["tau"]),
        policy_noise=float(hp["policy_noise"]),
        noise_clip=float(hp["noise_clip"]),
        policy_delay=int(hp["policy_freq"]),
    )
    cloning = partial(TD3BC(base).actor_loss, weight=float(hp["alpha"])) if name != "td3" else None
    actor_loss = cloning or base.actor_loss
    start = parts(under(fixture, "before."))
    state = td3.State(
        trained(start["actor"], 1.0), trained(start["critic"], 1.0), start["target_actor"], start["target_critic"]
    )
    learn = jax.jit(lambda s, b, n, step: base.learn(s, b, n, step, actor_loss))
    compared = set()
    for t in range(1, 5):
        noise = jnp.asarray(fixture[f"in.noise{t}.target_action"])
        state, metrics = learn(state, batch(fixture, t, float(hp["discount"])), noise, t - 1)
        for ours in ("critic_loss", "actor_loss"):
            if f"out{t}.{ours}" in fixture:
                close(metrics[ours], fixture[f"out{t}.{ours}"], f"{ours} of update {t}")
        for part, want in parts(under(fixture, f"grad{t}.")).items():
            same(gradients(getattr(state, part).optimiser), want, f"gradient {t} of the {part}")
            compared.add((f"grad{t}", part))
        for part, want in parts(under(fixture, f"after{t}.")).items():
            got = getattr(state, part)
            same(getattr(got, "params", got), want, f"{part} after update {t}")
            compared.add((f"after{t}", part))
    assert {
        ("grad1", "critic"),
        ("grad2", "actor"),
        *((f"after{t}", p) for t in (2, 4) for p in state._fields),
    } <= compared
