"""ReBRAC against numbers of CORL's implementation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from segue.agents import td3
from segue.agents.rebrac import ReBRAC
from segue.agents.td3 import TD3
from segue.core.nets import MLP, Critics
from segue.core.optim import trained
from tests.parity.numbers import batch, close, gradients, load, mlp, same, under

pytestmark = pytest.mark.usefixtures("double_precision")
FIXTURE = load("rebrac")


def parts(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ("actor", "target_actor", "critic", "target_critic"):
        if f"{name}.W0" in tree:
            network = MLP(mlp(tree, name).layers, norm_after=True)
            found[name] = Critics(network) if "critic" in name else network
    return found


@pytest.mark.parametrize("case", [str(c) for c in FIXTURE["meta.cases"]])
def test_three_updates(case: str) -> None:
    hp, own = under(FIXTURE, "hp."), under(FIXTURE, f"case.{case}.")
    base = TD3(
        actor_learning_rate=float(hp["actor_lr"]),
        critic_learning_rate=float(hp["critic_lr"]),
        target_rate=float(hp["tau"]),
        policy_noise=float(hp["policy_noise"]),
        noise_clip=float(hp["noise_clip"]),
    )
    agent = ReBRAC(base, float(hp["actor_bc_coef"]), float(hp["critic_bc_coef"]), bool(own["use_calibration"]))
    start = parts(under(FIXTURE, "before."))
    state = td3.State(
        trained(start["actor"], 1.0), trained(start["critic"], 1.0), start["target_actor"], start["target_critic"]
    )
    learn, compared = jax.jit(agent.learn), set()
    for t in (1, 2, 3):
        noise = jnp.asarray(FIXTURE[f"in.noise{t}.target_action"])
        state, metrics = learn(state, batch(FIXTURE, t, float(hp["gamma"])), noise, t - 1)
        names = {"critic_loss": "critic_loss", "actor_loss": "actor_loss", "cloning_error": "bc_mse_policy"}
        for ours, theirs in names.items():
            if f"out{t}.{theirs}" in own:
                close(metrics[ours], own[f"out{t}.{theirs}"], f"{ours} of update {t}")
        for part, want in parts(under(own, f"grad{t}.")).items():
            same(gradients(getattr(state, part).optimiser), want, f"gradient of the {part} of update {t}")
            compared.add((part, "gradient"))
        for part, want in parts(under(own, f"after{t}.")).items():
            got = getattr(state, part)
            same(getattr(got, "params", got), want, f"{part} after update {t}")
            compared.add((t, part))
    assert {(3, p) for p in state._fields} | {("critic", "gradient")} <= compared
    assert (("actor", "gradient") in compared) == (case == "plain")  # the other case stores the critics' alone
