"""CQL, Cal-QL and SAC against numbers of the official implementation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import CQL, SAC, CalQL, sac
from segue.agents import cql as cql_file
from segue.core.bounds import unbounded
from segue.core.layers import Layer
from segue.core.nets import MLP, Critics, TanhGaussian, squashed_log_density
from segue.core.optim import Trained, trained
from segue.core.types import Transition

FIXTURES = Path(__file__).parent / "fixtures"
LOSS = dict(np.load(FIXTURES / "calql_loss.npz", allow_pickle=False))
STEP = dict(np.load(FIXTURES / "calql_step.npz", allow_pickle=False))
pytestmark = pytest.mark.usefixtures("double_precision")


def close(got: Any, want: Any, what: str) -> None:
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-9, atol=1e-9, err_msg=what)


def agent(hp: Mapping[str, Any], samples: int, **base: Any) -> CQL:
    return CQL(
        base=SAC(
            target_samples=samples if hp["max_target_backup"] else 1, backup_entropy=bool(hp["backup_entropy"]), **base
        ),
        conservative_weight=float(hp["cql_alpha"]),
        samples=samples,
        importance_sampling=bool(hp["importance_sample"]),
        soft_maximum_temperature=float(hp["cql_temp"]),
        lagrange=bool(hp["lagrange"]),
        gap=float(hp["target_action_gap"]),
        clip_minimum=float(hp.get("clip_diff_min", -np.inf)),
        clip_maximum=float(hp.get("clip_diff_max", np.inf)),
    )


def calibration(learner: CQL, hp: Mapping[str, Any], **options: bool) -> cql_file.Calibration:
    """CQL's, or Cal-QL's where the official program is told to calibrate."""
    return CalQL(learner, **options).calibrate if hp["enable_calql"] else cql_file.uncalibrated


@pytest.mark.parametrize("case", [str(c) for c in LOSS["meta.cases"]])
def test_loss_given_values(case: str) -> None:
    """Every number and every gradient of the critic's loss, the actor's and the temperature's, from Q-values."""
    x = {k.removeprefix("in."): jnp.asarray(v) for k, v in LOSS.items() if k.startswith("in.")}
    hp = {k.removeprefix(f"case.{case}."): v for k, v in LOSS.items() if k.startswith(f"case.{case}.")}
    out = {k.removeprefix("out."): v for k, v in hp.items() if k.startswith("out.")}
    learner = agent(hp, int(LOSS["hp.n_actions"]))
    calibrate = calibration(learner, hp)
    batch = Transition(
        None,
        None,
        x["rewards"],
        LOSS["hp.discount"] * (1 - x["dones"]),
        None,
        x["mc_returns"],
        None,  # type: ignore[arg-type]
        None,  # type: ignore[arg-type]
    )
    alpha = jnp.exp(x["log_alpha"])
    close(alpha, out["alpha"], "alpha")

    value = jnp.minimum(x["target_q1_next"], x["target_q2_next"])
    log_density = x["logp_target_next"]
    if not hp["max_target_backup"]:
        value, log_density = value[:, 0], log_density[:, 0]
    target = sac.backup(batch, value, log_density, alpha if hp["backup_entropy"] else 0.0)
    close(target, out["td_target"], "td_target")

    actions = int(LOSS["hp.action_dim"])
    log_densities = cql_file.Candidates(
        jnp.full_like(x["logp_cur"], -actions * jnp.log(2.0)), x["logp_next"], x["logp_cur"]
    )

    def critic_loss(q_data: Any, rand: Any, following: Any, current: Any, log_multiplier: Any) -> Any:
        gap, metrics = learner.conservative_gap(
            q_data, cql_file.Candidates(rand, following, current), log_densities, batch.mc_return, calibrate=calibrate
        )
        bellman = jnp.mean(jnp.square(q_data - target), axis=-1)
        penalty = (
            learner.penalty(gap, learner.multiplier(log_multiplier), learner.conservative_weight)
            if hp["use_cql"]
            else jnp.zeros_like(gap)
        )
        return jnp.sum(bellman + penalty), dict(bellman=bellman, gap=gap, penalty=penalty, **metrics)

    q = [jnp.stack([x[f"q{j}_{name}"] for j in (1, 2)]) for name in ("data", "rand", "next", "cur")]
    (_, aux), grads = jax.value_and_grad(critic_loss, argnums=(0, 1, 2, 3), has_aux=True)(*q, x["log_alpha_prime"])
    seen = SimpleNamespace(**aux)
    for j in (1, 2):
        close(seen.bellman[j - 1], out[f"qf{j}_bellman_loss"], "bellman")
        close(seen.bellman[j - 1] + seen.penalty[j - 1], out[f"qf{j}_loss"], "critic loss")
        named = zip(("data", "rand", "next", "cur"), grads)
        for name, gradient in named if hp["use_cql"] else list(named)[:1]:
            close(gradient[j - 1], out[f"dqf{j}_loss_dq{j}_{name}"], f"gradient with respect to q{j}_{name}")
        if hp["use_cql"]:
            close(seen.gap[j - 1], out[f"cql_qf{j}_diff"], "gap")
            close(seen.penalty[j - 1], out[f"cql_min_qf{j}_loss"], "conservative term")
    if hp["use_cql"]:
        for ours, theirs in (("next", "next"), ("current", "cur")):
            want = np.mean([out[f"bound_rate_q{j}_{theirs}"] for j in (1, 2)])
            close(getattr(seen, f"bound_rate_{ours}"), want, "bound rate")
        close(seen.q_spread, np.mean([out["cql_std_q1"], out["cql_std_q2"]]), "spread")
        values = calibrate(cql_file.Candidates(*q[1:]), batch.mc_return[:, None])
        options = learner.soft_maximum_temperature, learner.importance_sampling
        soft = cql_file.soft_maximum(q[0], values, log_densities, *options)
        close(soft, np.stack([out["cql_q1_logsumexp"], out["cql_q2_logsumexp"]]), "soft maximum")
    if hp["lagrange"]:
        loss, slope = jax.value_and_grad(learner.multiplier_loss)(
            x["log_alpha_prime"], seen.gap, learner.conservative_weight
        )
        close(loss, out["alpha_prime_loss"], "multiplier loss")
        close(slope, out["dalpha_prime_loss_dlog_alpha_prime"], "multiplier gradient")

    loss = sac.policy_loss(alpha, x["logp_pi"], jnp.minimum(x["q1_pi"], x["q2_pi"]))
    close(loss, out["policy_loss"], "policy loss")
    loss, slope = jax.value_and_grad(sac.temperature_loss)(
        x["log_alpha"], x["logp_pi"], float(LOSS["hp.target_entropy"])
    )
    close(loss, out["alpha_loss"], "temperature loss")
    close(slope, out["dalpha_loss_dlog_alpha"], "temperature gradient")


OOO = dict(np.load(FIXTURES / "calql_loss_ooo.npz", allow_pickle=False))


@pytest.mark.parametrize("case", [str(c) for c in OOO["meta.cases"]])
def test_loss_given_values_in_ooo(case: str) -> None:
    """OOO's variant of the critic's loss: uniform actions calibrated too, bootstrap values clipped, a bonus added."""
    x = {k.removeprefix("in."): jnp.asarray(v) for k, v in OOO.items() if k.startswith("in.")}
    hp = {k.removeprefix(f"case.{case}."): v for k, v in OOO.items() if k.startswith(f"case.{case}.")}
    out = {k.removeprefix("out."): v for k, v in hp.items() if k.startswith("out.")}
    limits = {"value_minimum": float(hp["min_q"]), "value_maximum": float(hp["max_q"])} if hp["bound_q"] else {}
    learner = CQL(
        base=SAC(target_samples=4, **limits),
        conservative_weight=float(OOO["hp.cql_alpha"]),
        importance_sampling=bool(hp["importance_sample"]),
        lagrange=False,
    )
    calibrate = calibration(learner, hp, calibrate_random=True)
    bonus = OOO["hp.rnd_reward_scale"] * hp["in.intrinsic_reward"] if hp["use_rnd"] else 0.0
    blank: Any = None
    batch = Transition(
        blank,
        blank,
        x["rewards"] + bonus,
        OOO["hp.discount"] * (1 - x["dones"]),
        blank,
        x["mc_returns"],  # the release means to add the bonuses' returns to it, and does not
        blank,
        blank,
    )
    value = learner.base.bound(jnp.minimum(x["target_q1_next"], x["target_q2_next"]), unbounded())
    target = sac.backup(batch, value, jnp.zeros_like(value), 0.0)
    close(target, out["td_target"], "td_target")
    uniform = jnp.full_like(x["logp_cur"], -int(OOO["hp.action_dim"]) * jnp.log(2.0))
    log_densities = cql_file.Candidates(uniform, x["logp_next"], x["logp_cur"])

    def critic_loss(q_data: Any, *sampled: Any) -> Any:
        values = cql_file.Candidates(*sampled)
        gap, _ = learner.conservative_gap(q_data, values, log_densities, batch.mc_return, calibrate=calibrate)
        bellman = jnp.mean(jnp.square(q_data - target), axis=-1)
        return jnp.sum(bellman + learner.penalty(gap, jnp.asarray(1.0), learner.conservative_weight)), (bellman, gap)

    q = [jnp.stack([x[f"q{j}_{name}"] for j in (1, 2)]) for name in ("data", "rand", "next", "cur")]
    (_, (bellman, gap)), grads = jax.value_and_grad(critic_loss, argnums=(0, 1, 2, 3), has_aux=True)(*q)
    close(bellman[0], out["qf1_bellman_loss"], "bellman")
    for j in (1, 2):
        close(gap[j - 1], out[f"cql_qf{j}_diff"], "gap")
        loss = bellman[j - 1] + learner.conservative_weight * gap[j - 1]
        close(loss, out[f"qf{j}_loss"], "critic loss")
        for name, gradient in zip(("data", "rand", "next", "cur"), grads):
            close(gradient[j - 1], out[f"dqf{j}_loss_dq{j}_{name}"], f"gradient with respect to q{j}_{name}")


def mlp(tree: Mapping[str, Any], name: str) -> MLP:
    count = sum(k.startswith(f"{name}.W") for k in tree)
    return MLP(tuple(Layer(jnp.asarray(tree[f"{name}.W{i}"]), jnp.asarray(tree[f"{name}.b{i}"])) for i in range(count)))


def state_of(tree: Mapping[str, Any]) -> cql_file.State:
    """Our state from the fixture's weights, with fresh optimisers."""
    pair = lambda *names: Critics(jax.tree.map(lambda *x: jnp.stack(x), *(mlp(tree, n) for n in names)))  # noqa: E731
    scalar = lambda name: jnp.asarray(tree.get(name, 0.0))  # noqa: E731
    policy = TanhGaussian(mlp(tree, "policy"), scalar("policy.log_std_multiplier"), scalar("policy.log_std_offset"))
    base = sac.State(
        trained(policy, 1.0),
        trained(pair("qf1", "qf2"), 1.0),
        pair("target_qf1", "target_qf2"),
        trained(scalar("log_alpha"), 1.0),
        unbounded(),
    )
    return cql_file.State(base, trained(scalar("log_alpha_prime"), 1.0))


def subtree(tree: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in tree.items() if k.startswith(prefix)}


def same_parts(got: cql_file.State, want: Mapping[str, Any], what: str) -> None:
    """Compare the parts that the fixture stores."""
    expected = state_of(want)
    for part in ("actor", "critic", "target", "temperature", "multiplier"):
        name = {"actor": "policy.W0", "critic": "qf1.W0", "target": "target_qf1.W0", "temperature": "log_alpha"}.get(
            part, "log_alpha_prime"
        )
        if name in want:
            a, b = (s.multiplier if part == "multiplier" else getattr(s.sac, part) for s in (got, expected))
            a, b = (a, b) if part == "target" else (a.params, b.params)
            for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
                close(x, y, f"{what}: {part}")


def gradients(state: cql_file.State) -> cql_file.State:
    """A state after its first update with the gradients in the place of parameters."""
    is_trained = lambda part: isinstance(part, Trained)  # noqa: E731
    moved = lambda part: trained(jax.tree.map(lambda x: x / 0.1, part.optimiser[0].mu), 1.0)  # noqa: E731
    return jax.tree.map(lambda part: moved(part) if is_trained(part) else part, state, is_leaf=is_trained)


def batch_of(t: int) -> Transition:
    x = subtree(STEP, f"in.batch{t}.")
    f = lambda *names: next(jnp.asarray(x[n]) for n in names if n in x)  # noqa: E731
    return Transition(
        f("observations"),
        f("actions"),
        f("rewards"),
        float(STEP["hp.discount"]) * (1 - f("dones")),
        f("next_observations"),
        f("mc_returns"),
        jnp.zeros_like(f("rewards")),
        jnp.full_like(f("actions"), jnp.nan),
    )


def noise_of(case: str, t: int, loss: str = "") -> cql_file.Noise:
    x = {k: jnp.asarray(v) for k, v in subtree(STEP, f"case.{case}.in.noise{t}.{loss}").items()}
    nothing = jnp.zeros((8, 1, 3))
    return cql_file.Noise(x["pi"], x["next"], x.get("rand", nothing), x.get("cql_next", nothing), x.get("cur", nothing))


@pytest.mark.parametrize("case", [str(c) for c in STEP["meta.cases"]])
def test_two_updates(case: str) -> None:
    """Gradients of the first update and all weights after each, from the official weights and draws."""
    hp = subtree(STEP, f"case.{case}.")
    rates = {"actor_learning_rate": float(STEP["hp.policy_lr"]), "critic_learning_rate": float(STEP["hp.qf_lr"])}
    learner = agent(
        hp | {"cql_alpha": STEP["hp.cql_alpha"], "cql_temp": STEP["hp.temp"], "target_action_gap": STEP["hp.gap"]},
        int(STEP["hp.n_actions"]),
        **rates,
        temperature_learning_rate=rates["actor_learning_rate"],
        target_rate=float(STEP["hp.tau"]),
    )
    start = subtree(STEP, "before.") | {
        "log_alpha": STEP["hp.log_alpha_init"],
        "log_alpha_prime": STEP["hp.log_alpha_prime_init"],
    }
    state: Any = state_of(start)

    @jax.jit
    def learn(state: cql_file.State, batch: Transition, noise: Any) -> tuple[cql_file.State, Any]:
        if hp["use_cql"]:
            return learner.learn(state, batch, noise, calibrate=calibration(learner, hp))
        moved, metrics = learner.base.learn(state.sac, batch, noise)
        return state._replace(sac=moved), metrics

    for t in (1, 2):
        batch = batch_of(t)
        if hp["shared_noise"]:
            noise: Any = noise_of(case, t)
            noise = noise if hp["use_cql"] else sac.Noise(noise.actor, noise.target)
            state, metrics = learn(state, batch, noise)
            out = subtree(hp, f"out{t}.")
            close(metrics["actor_loss"], out["policy_loss"], "policy loss")
            close(metrics["td_target"], np.mean(out["td_target"]), "target")
            bellman = (
                [out["qf1_bellman_loss"], out["qf2_bellman_loss"]]
                if hp["use_cql"]
                else [out["qf1_loss"], out["qf2_loss"]]
            )
            close(metrics["critic_loss"], np.sum(bellman), "critic loss")
            close(metrics["q_data"], np.mean([out["q1_pred"], out["q2_pred"]]), "Q of the data")
            if hp["use_cql"]:
                close(metrics["conservative_gap"], np.mean([out["cql_qf1_diff"], out["cql_qf2_diff"]]), "gap")
        else:
            # The official code draws fresh noise for each network's loss: take each part from its own update.
            parts = {
                n: learn(state, batch, noise_of(case, t, n + "."))[0].sac for n in ("policy", "qf1", "qf2", "log_alpha")
            }
            multiplier = learn(state, batch, noise_of(case, t, "log_alpha_prime."))[0].multiplier
            critic = jax.tree.map(
                lambda a, b: a if a.ndim == 0 else jnp.stack([a[0], b[1]]), parts["qf1"].critic, parts["qf2"].critic
            )
            target = jax.tree.map(lambda a, b: jnp.stack([a[0], b[1]]), parts["qf1"].target, parts["qf2"].target)
            base = sac.State(parts["policy"].actor, critic, target, parts["log_alpha"].temperature, unbounded())
            state = cql_file.State(base, multiplier)
        if t == 1:
            same_parts(gradients(state), subtree(hp, "grad1."), "gradient")
        if f"after{t}.policy.W0" in hp:
            same_parts(state, subtree(hp, f"after{t}."), f"after update {t}")


def test_log_density_of_data_actions() -> None:
    """log pi(a_data), through atanh, as the official code logs it."""
    policy = state_of(subtree(STEP, "before.")).sac.actor.params
    batch = batch_of(1)
    got = squashed_log_density(*policy(batch.observation), jnp.arctanh(batch.action))
    close(got, STEP["case.calql.out1.log_pi_data"], "log pi of the data")
