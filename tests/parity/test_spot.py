"""SPOT and its density against numbers of the official implementation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from segue.agents import spot, td3
from segue.agents.spot import SPOT, VAE, Autoencoder, DensityState, Noise, State
from segue.agents.td3 import TD3
from segue.core.layers import Layer
from segue.core.nets import MLP
from segue.core.optim import trained
from segue.core.schedules import Linear
from tests.parity.numbers import batch, close, gradients, load, mlp, same, twins, under

pytestmark = pytest.mark.usefixtures("double_precision")
FIXTURE = load("spot")
HP = under(FIXTURE, "hp.")
BETA = float(HP["beta"])


def autoencoder(tree: dict[str, Any]) -> Autoencoder:
    layer = lambda *names: Layer(*(jnp.concatenate([tree[f"{n}.{k}"] for n in names], -1) for k in "Wb"))  # noqa: E731
    return Autoencoder(
        MLP((layer("e1"), layer("e2"), layer("mean", "log_std"))), MLP((layer("d1"), layer("d2"), layer("d3")))
    )


def test_density_values_and_their_slope_in_the_action() -> None:
    model = autoencoder(under(FIXTURE, "before.vae."))
    x, a = (jnp.asarray(FIXTURE[f"vae.in.{n}"]) for n in ("observations", "actions"))
    mean, std = model.encode(x, a)
    close(mean, FIXTURE["vae.out.mean"], "mean")
    close(std, FIXTURE["vae.out.std"], "std")
    functions = {
        "elbo_loss_1": lambda a, e: spot.unlikeliness(model, x, a, e, BETA),
        "elbo_loss_S": lambda a, e: spot.unlikeliness(model, x, a, e, BETA),
        "iwae_loss_S": lambda a, e: spot.negative_bound(model, x, a, e, BETA, True),
        "elbo_estimator_S": lambda a, e: -spot.negative_bound(model, x, a, e, BETA, False),
    }
    for name, function in functions.items():
        noise = jnp.asarray(FIXTURE[f"vae.in.{name}.eps"])
        close(function(a, noise), FIXTURE[f"vae.out.{name}"], name)
        slope = jax.grad(lambda a: jnp.mean(function(a, noise)))(a)  # noqa: B023
        close(slope, FIXTURE[f"vae.out.{name}.dmean_daction"], f"slope of {name}")


def test_density_learns() -> None:
    learner = VAE(beta=BETA, learning_rate=float(HP["vae_lr"]))
    state = DensityState(trained(autoencoder(under(FIXTURE, "before.vae.")), 1.0))
    x, a = (jnp.asarray(FIXTURE[f"vae.in.{n}"]) for n in ("observations", "actions"))
    rows = batch(FIXTURE, 1, 0.99)._replace(observation=x, action=a)
    for t in (1, 2):
        state, metrics = jax.jit(learner.learn)(state, rows, jnp.asarray(FIXTURE[f"vae.in.train{t}.eps"])[:, None])
        for ours, theirs in (
            ("density_loss", "loss"),
            ("reconstruction_error", "recon_loss"),
            ("divergence", "kl_loss"),
        ):
            close(metrics[ours], FIXTURE[f"vae.out.train{t}.{theirs}"], ours)
        if t == 1:
            same(gradients(state.model.optimiser), autoencoder(under(FIXTURE, "grad1.vae.")), "gradient")
    same(state.model.params, autoencoder(under(FIXTURE, "after2.vae.")), "density after two updates")


@pytest.mark.parametrize("case", [str(c) for c in FIXTURE["meta.cases"]])
def test_two_updates(case: str) -> None:
    own = under(FIXTURE, f"case.{case}.")
    base = TD3(
        actor_learning_rate=float(HP["actor_lr"]),
        critic_learning_rate=float(HP["lr"]),
        target_rate=float(HP["tau"]),
        policy_noise=float(HP["policy_noise"]),
        noise_clip=float(HP["noise_clip"]),
        policy_delay=1,
    )
    agent = SPOT(
        base,
        VAE(beta=BETA),
        weight=float(HP["lambd"]),
        estimate="weighted" if own["iwae"] else "elbo",
        samples=int(own["num_samples"]),
    )
    end = float(HP["lambd_end"])
    cooled = replace(agent, weight=Linear(float(HP["lambd"]), float(HP["lambd"]) * end, round(1_000_000 * (1.0 - end))))
    start = under(FIXTURE, "before.")
    state: Any = State(
        td3.State(
            trained(mlp(start, "actor"), 1.0),
            trained(twins(start, "qf1", "qf2"), 1.0),
            mlp(start, "target_actor"),
            twins(start, "target_qf1", "target_qf2"),
        ),
        autoencoder(under(start, "vae.")),
    )
    before = int(own["total_it_before"])
    for t in (1, 2):
        noise = Noise(*(jnp.asarray(own[f"in.noise{t}.{n}"]) for n in ("target_action", "vae_eps")))
        rows, step = batch(FIXTURE, t, float(HP["discount"])), before + t - 1
        now = cooled if own["lambd_cool"] else agent
        state, metrics = jax.jit(now.learn)(state, rows, noise, step)
        if own["lambd_cool"]:
            close(metrics["weight"], own[f"out{t}.lambd"], f"weight of update {t}")
        for ours, theirs in (
            ("critic_loss", "critic_loss"),
            ("actor_loss", "actor_loss"),
            ("unlikeliness", "neg_log_beta"),
        ):
            if f"out{t}.{theirs}" in own:
                close(metrics[ours], own[f"out{t}.{theirs}"], f"{ours} of update {t}")
        if t == 1:
            first = under(own, "grad1.")
            same(gradients(state.td3.actor.optimiser), mlp(first, "actor"), "gradient of the actor")
            assert ("qf1.W0" in first) == (case == "elbo")
            if case == "elbo":
                same(gradients(state.td3.critic.optimiser), twins(first, "qf1", "qf2"), "gradient of the critics")
    after = under(own, "after2.")
    same(state.td3.actor.params, mlp(after, "actor"), "actor")
    same(state.td3.target_actor, mlp(after, "target_actor"), "target actor")
    if "qf1.W0" in after:
        same(state.td3.critic.params, twins(after, "qf1", "qf2"), "critics")
        same(state.td3.target_critic, twins(after, "target_qf1", "target_qf2"), "target critics")
