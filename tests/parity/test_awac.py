"""AWAC against numbers of CORL's implementation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from segue.agents import awac
from segue.agents.awac import AWAC, Noise
from segue.core.nets import Gaussian
from segue.core.optim import trained
from tests.parity.numbers import batch, close, gradients, load, mlp, same, twins, under

pytestmark = pytest.mark.usefixtures("double_precision")


def parts(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "actor.W0" in tree:
        found["actor"] = Gaussian(mlp(tree, "actor"), jnp.asarray(tree["actor.log_std"]))
    for name, members in (("critic", ("qf1", "qf2")), ("target", ("target_qf1", "target_qf2"))):
        if f"{members[0]}.W0" in tree:
            found[name] = twins(tree, *members)
    return found


def test_two_updates() -> None:
    fixture = load("awac")
    hp = under(fixture, "hp.")
    agent = AWAC(
        actor_learning_rate=float(hp["lr"]),
        critic_learning_rate=float(hp["lr"]),
        target_rate=float(hp["tau"]),
        advantage_temperature=float(hp["awac_lambda"]),
        weight_maximum=float(hp["exp_adv_max"]),
        log_std_minimum=float(hp["log_std_min"]),
        log_std_maximum=float(hp["log_std_max"]),
    )
    start = parts(under(fixture, "before."))
    state = awac.State(trained(start["actor"], 1.0), trained(start["critic"], 1.0), start["target"])
    learn = jax.jit(agent.learn)
    for t in (1, 2):
        draws = {k: jnp.asarray(v) for k, v in under(fixture, f"in.noise{t}.").items()}
        noise = Noise(draws["next_action"], draws["pi_action"])
        state, metrics = learn(state, batch(fixture, t, float(hp["gamma"])), noise)
        for name in ("critic_loss", "actor_loss"):
            close(metrics[name], fixture[f"out{t}.{name}"], f"{name} of update {t}")
        if t == 1:
            found = parts(under(fixture, "grad1."))
            assert set(found) == {"actor", "critic"}
            for part, want in found.items():
                same(gradients(getattr(state, part).optimiser), want, f"gradient of the {part}")
        for part, want in parts(under(fixture, f"after{t}.")).items():
            same(getattr(getattr(state, part), "params", getattr(state, part)), want, f"{part} after update {t}")
    assert "after2.target_qf2.W0" in fixture
