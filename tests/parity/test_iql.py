"""IQL against numbers of the official implementation and of CORL's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from segue.agents import iql
from segue.agents.iql import IQL
from segue.core.bounds import unbounded
from segue.core.nets import Gaussian
from segue.core.optim import trained
from tests.parity.numbers import batch, close, gradients, load, mlp, same, twins, under

pytestmark = pytest.mark.usefixtures("double_precision")
OFFICIAL, CORL = load("iql_step_official"), load("iql_step")


def parts(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What of a state the fixture stores."""
    found: dict[str, Any] = {}
    if "actor.W0" in tree:
        spread = tree.get("actor.log_std", tree.get("actor.log_stds", jnp.zeros(3)))
        found["actor"] = Gaussian(mlp(tree, "actor"), jnp.asarray(spread))
    for name, members in (("critic", ("qf1", "qf2")), ("target", ("target_qf1", "target_qf2"))):
        if f"{members[0]}.W0" in tree:
            found[name] = twins(tree, *members)
    if "value.W0" in tree:
        found["value"] = mlp(tree, "value")
    return found


def run(agent: IQL, fixture: dict[str, Any], out: dict[str, Any], updates: int, names: dict[str, str]) -> None:
    start = parts(under(fixture, "before."))
    state = iql.State(
        trained(start["actor"], 1.0, agent.actor_decay),
        trained(start["critic"], 1.0),
        start["target"],
        trained(start["value"], 1.0),
        unbounded(),
    )
    learn, discount = jax.jit(agent.update), float(fixture["hp.discount"])
    for t in range(1, updates + 1):
        state, metrics = learn(state, batch(fixture, t, discount), jax.random.key(0), 0)
        for ours, theirs in names.items():
            if f"out{t}.{theirs}" in out:
                close(metrics[ours], out[f"out{t}.{theirs}"], f"{ours} of update {t}")
        got = {n: getattr(state, n) for n in state._fields}
        for prefix, pick in (
            (f"grad{t}.", lambda x: gradients(x.optimiser) if hasattr(x, "optimiser") else x),
            (f"after{t}.", lambda x: getattr(x, "params", x)),
        ):
            for name, want in parts(under(out, prefix)).items():
                if name == "actor" and not agent.stochastic:
                    same(pick(got[name]).network, want.network, f"{prefix}{name}")
                else:
                    same(pick(got[name]), want, f"{prefix}{name}")


def test_official() -> None:
    hp = under(OFFICIAL, "hp.")
    agent = IQL(
        actor_learning_rate=float(hp["actor_lr"]),
        critic_learning_rate=float(hp["critic_lr"]),
        value_learning_rate=float(hp["value_lr"]),
        actor_decay=int(hp["max_steps"]),
        expectile=float(hp["expectile"]),
        inverse_temperature=float(hp["temperature"]),
        target_rate=float(hp["tau"]),
    )
    assert {"after1.", "after2."} <= {k[:7] for k in OFFICIAL}
    names = {"critic_loss": "critic_loss", "value_loss": "value_loss", "actor_loss": "actor_loss"}
    run(agent, OFFICIAL, OFFICIAL, 2, names)


@pytest.mark.parametrize("case", ["gaussian", "deterministic"])
def test_corl(case: str) -> None:
    hp = under(CORL, "hp.")
    agent = IQL(
        actor_learning_rate=float(hp["actor_lr"]),
        critic_learning_rate=float(hp["qf_lr"]),
        value_learning_rate=float(hp["vf_lr"]),
        actor_decay=int(hp["max_steps"]),
        expectile=float(hp["iql_tau"]),
        inverse_temperature=float(hp["beta"]),
        target_rate=float(hp["tau"]),
        log_std_minimum=float(hp["log_std_min"]),
        stochastic=case == "gaussian",
        mean_over_critics=True,
        stale_value=True,
    )
    out = under(CORL, f"case.{case}.")
    updates = max(int(k[5]) for k in out if k.startswith("after"))
    assert updates >= 2
    run(agent, CORL, out, updates, {"critic_loss": "q_loss", "value_loss": "value_loss", "actor_loss": "actor_loss"})
