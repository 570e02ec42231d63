"""RLPD against numbers of the official implementation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from segue.agents.rlpd import RLPD, Noise, State
from segue.core.nets import Critics, TanhGaussian
from segue.core.optim import trained
from segue.core.types import Transition
from tests.parity.numbers import batch, close, gradients, load, mlp, same, under

pytestmark = pytest.mark.usefixtures("double_precision")
FIXTURE = load("rlpd")


def parts(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "actor.W0" in tree:  # two heads there, one layer with both here
        heads = {k: jnp.concatenate([tree[f"actor.{h}.{k}"] for h in ("mean", "log_std")], -1) for k in ("W", "b")}
        depth = sum(k.startswith("actor.W") for k in tree)
        network = mlp(tree | {f"actor.W{depth}": heads["W"], f"actor.b{depth}": heads["b"]}, "actor")
        found["actor"] = TanhGaussian(network, jnp.asarray(1.0), jnp.asarray(0.0))
    for name, theirs in (("critic", "critic"), ("target", "target_critic")):
        if f"{theirs}.W0" in tree:
            found[name] = Critics(mlp(tree, theirs))
    if "log_temp" in tree:
        found["temperature"] = jnp.asarray(tree["log_temp"])
    return found


@pytest.mark.parametrize("case", [str(c) for c in FIXTURE["meta.cases"]])
def test_two_updates(case: str) -> None:
    hp, own = under(FIXTURE, "hp."), under(FIXTURE, f"case.{case}.")
    agent = RLPD(
        critics=int(hp["num_qs"]),
        subset=int(hp["num_min_qs"]),
        actor_learning_rate=float(hp["actor_lr"]),
        critic_learning_rate=float(hp["critic_lr"]),
        temperature_learning_rate=float(hp["temp_lr"]),
        target_rate=float(hp["tau"]),
        target_entropy=float(hp["target_entropy"]),
        weight_decay=float(own["weight_decay"]),
        backup_entropy=bool(own["backup_entropy"]),
        critic_updates=int(own["utd_ratio"]),
    )
    start = parts(under(FIXTURE, "before."))
    state = State(
        trained(start["actor"], 1.0),
        trained(start["critic"], 1.0, 0, agent.weight_decay),
        start["target"],
        trained(start["temperature"], 1.0),
    )
    learn, compared = jax.jit(agent.learn), set()
    for t in (1, 2):
        rows: Transition = batch(FIXTURE, t, float(hp["discount"]))
        cut = jax.tree.map(lambda x: x.reshape(agent.critic_updates, -1, *x.shape[1:]), rows)
        draws = {k: jnp.asarray(v) for k, v in under(own, f"in.noise{t}.").items()}
        noise = Noise(draws["next"], draws["subset"], draws["pi"], jnp.zeros_like(draws["pi"]))
        state, metrics = learn(state, cut, noise)
        for name in ("actor_loss", "entropy", "temperature"):
            close(metrics[name], own[f"out{t}.{name}"], f"{name} of update {t}")
        if agent.critic_updates == 1:
            close(metrics["critic_loss"], own[f"out{t}.critic_loss"], "critic loss")
        for part, want in parts(under(own, f"grad{t}.")).items():
            same(gradients(getattr(state, part).optimiser), want, f"gradient of the {part}") if part != "actor" else (
                same(gradients(state.actor.optimiser).network, want.network, "gradient of the actor")
            )
        for part, want in parts(under(own, f"after{t}.")).items():
            same(getattr(getattr(state, part), "params", getattr(state, part)), want, f"{part} after update {t}")
            compared.add((t, part))
    stored = {"critic"} if case == "weight_decay" else set(state._fields)
    assert {(2, part) for part in stored} <= compared
