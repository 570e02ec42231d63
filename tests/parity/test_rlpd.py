"""RLPD against numbers of the official implementation, and of Q-chunking's."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from segue.agents.rlpd import RLPD, Noise, State
from segue.core.nets import Critics, TanhGaussian
from segue.core.optim import trained
from segue.core.types import Transition
from tests.parity.numbers import batch, chunks, close, gradients, load, mlp, same, under

pytestmark = pytest.mark.usefixtures("double_precision")
FIXTURE, CHUNKED = load("rlpd"), load("qc_rlpd")


def parts(tree: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    tree = {key.replace("actor.trunk.", "actor."): value for key, value in tree.items()}
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


@pytest.mark.parametrize("case", [str(c) for c in CHUNKED["meta.cases"]])
def test_two_updates_of_q_chunking(case: str) -> None:
    """RLPD-AC, QC-RLPD and n-step RLPD: the mean (or least) of all targets, no entropy, all losses at once."""
    hp, own = under(CHUNKED, "hp."), under(CHUNKED, f"case.{case}.")
    nets, rate = str(own["nets"]), float(hp["lr"])
    start = parts(under(CHUNKED, f"before.{nets}.") | {"log_temp": CHUNKED["before.log_temp"]})
    count = start["critic"].members.layers[0].weight.shape[0]
    agent = RLPD(
        critics=count,
        subset=count,
        target_value=str(own["q_agg"]),  # type: ignore[arg-type]
        simultaneous=True,
        backup_entropy=False,
        cloning_weight=float(own["bc_alpha"]),
        critic_updates=1,
        actor_learning_rate=rate,
        critic_learning_rate=rate,
        temperature_learning_rate=rate,
        target_rate=float(hp["tau"]),
        entropy_share=float(hp["target_entropy_multiplier"]),
    )
    state = State(*(start[name] if name == "target" else trained(start[name], 1.0) for name in State._fields))
    learn, compared = jax.jit(agent.learn), set()
    for t in (1, 2):
        rows = chunks(CHUNKED, t, bool(own["action_chunking"]))
        assert float(own["target_entropy"]) == -agent.entropy_share * rows.action.shape[1]
        draws = {k: jnp.asarray(v) for k, v in under(CHUNKED, f"in.noise{t}.{nets}.").items()}
        noise = Noise(draws["next"][None], jnp.arange(count)[None], draws["pi"], jnp.zeros_like(draws["pi"]))
        state, metrics = learn(state, jax.tree.map(lambda x: x[None], rows), noise)
        want = under(own, f"out{t}.")
        close(metrics["critic_loss"], want["critic_loss"], f"critics' loss of update {t}")
        close(metrics["actor_loss"], want["actor_loss"] + want["bc_loss"], f"actor's loss of update {t}")
        close(metrics["entropy"], want["entropy"], f"entropy of update {t}")
        close(metrics["temperature"], want["alpha"], f"temperature of update {t}")
        close(metrics["q_data"], want["q_mean"], f"values of update {t}")
        for part, wanted in parts(under(own, f"grad{t}.")).items():
            got, inner = gradients(getattr(state, part).optimiser), part == "actor"
            same(got.network if inner else got, wanted.network if inner else wanted, f"gradient of the {part}")
            compared.add(("gradient", part))
        for part, wanted in parts(under(own, f"after{t}.")).items():
            same(getattr(getattr(state, part), "params", getattr(state, part)), wanted, f"{part} after update {t}")
            compared.add((t, part))
    assert {(2, part) for part in state._fields} | {("gradient", "actor"), ("gradient", "critic")} <= compared
