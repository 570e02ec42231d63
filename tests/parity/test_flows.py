"""FQL and Q-chunking's agents against numbers of the official implementations."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from segue.agents import bfn, fql
from segue.agents.bfn import BFN
from segue.agents.flow import Flow
from segue.agents.fql import FQL
from segue.core.flows import flowed
from segue.core.nets import MLP, Conditional, Critics
from segue.core.optim import trained
from tests.parity.numbers import batch, chunks, close, gradients, load, mlp, same, under

pytestmark = pytest.mark.usefixtures("double_precision")
FQL_NUMBERS, QC_NUMBERS = load("fql"), load("qc")
METRICS = {"critic_loss": "critic_loss", "flow_loss": "bc_flow_loss", "q_data": "q_mean"}
DISTILLED = {"distillation_loss": "distill_loss"}


def network(tree: dict[str, Any], name: str, norm: bool = True) -> MLP:
    kept = tree if norm else {k: v for k, v in tree.items() if not k.startswith(f"{name}.ln")}
    return MLP(mlp(kept, name).layers, norm_after=True, activation="gelu")


def parts(tree: dict[str, Any], single: bool, norm: bool = False) -> dict[str, Any]:
    """Parts of a state; with one network that acts (BFN), the flow is the actor."""
    theirs = {"actor": "actor_flow"} if single else {"actor": "actor_onestep", "flow": "actor_flow"}
    found: dict[str, Any] = {}
    for ours, name in theirs.items():
        if f"{name}.W0" in tree:
            inner = network(tree, name, norm)
            found[ours] = Conditional(inner, inner.layers[-1].bias.shape[-1])
    for ours, name in {"critic": "critic", "target": "target_critic"}.items():
        if f"{name}.W0" in tree:
            found[ours] = Critics(network(tree, name))
    return found


def begun(kind: Any, found: dict[str, Any]) -> Any:
    return kind(**{name: x if name == "target" else trained(x, 1.0) for name, x in found.items()})


def base(numbers: dict[str, Any], agg: Any) -> Flow:
    hp = under(numbers, "hp.")
    rates = {f"{part}_learning_rate": float(hp["lr"]) for part in ("actor", "critic")}
    return Flow(target_rate=float(hp["tau"]), flow_steps=int(hp["flow_steps"]), target_value=str(agg), **rates)  # type: ignore[arg-type]


def compare(state: Any, own: dict[str, Any], t: int, single: bool, norm: bool = False) -> set[tuple[str, int, str]]:
    """Compare gradients and weights of an update; return what was compared."""
    compared = set()
    for part, want in parts(under(own, f"grad{t}."), single, norm).items():
        same(gradients(getattr(state, part).optimiser), want, f"gradient of the {part} of update {t}")
        compared.add(("gradient", t, part))
    for part, want in parts(under(own, f"after{t}."), single, norm).items():
        got = getattr(state, part)
        same(getattr(got, "params", got), want, f"{part} after update {t}")
        compared.add(("weights", t, part))
    return compared


@pytest.mark.parametrize("case", [str(c) for c in FQL_NUMBERS["meta.cases"]])
def test_two_updates_of_fql(case: str) -> None:
    own, hp = under(FQL_NUMBERS, f"case.{case}."), under(FQL_NUMBERS, "hp.")
    norm = bool(own["actor_layer_norm"])
    agent = FQL(base(FQL_NUMBERS, own["q_agg"]), float(hp["alpha"]), bool(own["normalize_q_loss"]))
    state = begun(fql.State, parts(under(FQL_NUMBERS, "before."), False, norm))
    learn, compared = jax.jit(agent.learn), set()
    for t in (1, 2):
        draws = {k: jnp.asarray(v) for k, v in under(FQL_NUMBERS, f"in.noise{t}.").items()}
        rows, before = batch(FQL_NUMBERS, t, float(hp["discount"])), state
        state, metrics = learn(state, rows, fql.Noise(draws["next"], draws["x0"], draws["t"], draws["distill"]), 0)
        want = under(own, f"out{t}.")
        for ours, theirs in {**METRICS, **DISTILLED, "q_loss": "q_loss", "q_policy": "q"}.items():
            close(metrics[ours], want[theirs], f"{ours} of update {t}")
        close(metrics["actor_loss"] + metrics["flow_loss"], want["actor_loss"], f"actor's losses of update {t}")
        acted = agent.one_step(before.actor.params, rows.next_observation, draws["next"])
        close(agent.base.bellman_target(before.target, rows, acted), want["td_target"], f"target of update {t}")
        arrived = flowed(before.flow.params, rows.observation, draws["distill"], agent.base.flow_steps)
        close(arrived, want["flow_actions"], f"flow's actions of update {t}")
        mse = jnp.mean(jnp.square(agent.one_step(before.actor.params, rows.observation, draws["mse"]) - rows.action))
        close(mse, want["mse"], f"distance to the data of update {t}")
        compared |= compare(state, own, t, False, norm)
    assert {("weights", 2, part) for part in state._fields} <= compared
    assert {("gradient", 1, part) for part in ("actor", "flow", "critic")} <= compared


def test_samplers_of_fql() -> None:
    state = begun(fql.State, parts(under(FQL_NUMBERS, "before."), False))
    seen, noise = (jnp.asarray(FQL_NUMBERS[f"flow.in.{x}"]) for x in ("observations", "noise"))
    for steps in FQL_NUMBERS["flow.steps"].tolist():
        close(flowed(state.flow.params, seen, noise, steps), FQL_NUMBERS[f"flow.out.actions_{steps}"], f"{steps} steps")
    close(state.actor.params(seen, noise), FQL_NUMBERS["flow.out.onestep_raw"], "one step")
    acted = FQL().one_step(state.actor.params, seen, jnp.asarray(FQL_NUMBERS["flow.in.act_noise"]))
    close(acted, FQL_NUMBERS["flow.out.act"], "action")


@pytest.mark.parametrize("case", [str(c) for c in QC_NUMBERS["meta.cases"]])
def test_two_updates_of_q_chunking(case: str) -> None:
    own, hp = under(QC_NUMBERS, f"case.{case}."), under(QC_NUMBERS, "hp.")
    nets, single = str(own["nets"]), str(own["actor_type"]) == "best-of-n"
    inside = base(QC_NUMBERS, own["q_agg"])
    agent: Any = BFN(inside, int(hp["n_samples"])) if single else FQL(inside, float(hp["alpha"]))
    before = {k: v for k, v in under(QC_NUMBERS, f"before.{nets}.").items() if not (single and "onestep" in k)}
    state = begun(bfn.State if single else fql.State, parts(before, single))
    learn, compared = jax.jit(agent.learn), set()
    for t in (1, 2):
        draws = {k: jnp.asarray(v) for k, v in under(QC_NUMBERS, f"in.noise{t}.{nets}.").items()}
        rows, was = chunks(QC_NUMBERS, t, bool(own["action_chunking"])), state
        if single:
            following = agent.best(was, rows.next_observation, draws["next_n"])
            state, metrics = learn(state, rows, bfn.Noise(draws["next_n"], draws["x0"], draws["t"]))
        else:
            following = agent.one_step(was.actor.params, rows.next_observation, draws["next"])
            noise = fql.Noise(draws["next"], draws["x0"], draws["t"], draws["distill"])
            state, metrics = learn(state, rows, noise, 0)
        want = under(own, f"out{t}.")
        close(following, want["next_action"], f"next action of update {t}")
        close(inside.bellman_target(was.target, rows, following), want["td_target"], f"target of update {t}")
        for ours, theirs in {**METRICS, **({} if single else DISTILLED)}.items():
            close(metrics[ours], want[theirs], f"{ours} of update {t}")
        compared |= compare(state, own, t, single)
    assert {("weights", 2, part) for part in state._fields} <= compared
    assert {("gradient", 1, part) for part in set(state._fields) - {"target"}} <= compared


@pytest.mark.parametrize("case", ["qc", "qc_min", "bfn_n"])
def test_choice_of_q_chunking(case: str) -> None:
    own, nets = under(QC_NUMBERS, f"act.out.{case}."), str(QC_NUMBERS[f"case.{case}.nets"])
    agent = BFN(base(QC_NUMBERS, QC_NUMBERS[f"case.{case}.q_agg"]))
    state = begun(bfn.State, parts(under(QC_NUMBERS, f"before.{nets}."), True))
    seen, noise = jnp.asarray(QC_NUMBERS["act.in.observations"]), jnp.asarray(QC_NUMBERS[f"act.in.noise.{nets}.n"])
    candidates = flowed(state.actor.params, seen, noise, agent.base.flow_steps)
    close(candidates, own["candidates"], "candidates")
    close(agent.q(state, seen, candidates), own["q"], "values")
    close(agent.best(state, seen, noise), own["action"], "action")


def test_action_of_qc_fql() -> None:
    state = begun(fql.State, parts(under(QC_NUMBERS, "before.chunk."), False))
    seen, noise = jnp.asarray(QC_NUMBERS["act.in.observations"]), jnp.asarray(QC_NUMBERS["act.in.noise.chunk.one"])
    close(FQL().one_step(state.actor.params, seen, noise), QC_NUMBERS["act.out.qc_fql.action"], "action")
