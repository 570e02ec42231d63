"""WSRL: pre-train a calibrated ensemble, collect with the frozen policy into an empty replay, then fine-tune without
the dataset (arXiv 2412.07762).

The online agent is RLPD's program with other options.  Its actor and temperature change only when they are updated; the
release also changes them by old momentum in between (`online.learner.drift=true`).
"""

from __future__ import annotations

from segue.agents import CQL, RLPD, SAC, CalQL
from segue.agents.from_sac import from_sac
from segue.core.scaling import Scaling
from segue.engine.phase import Phase
from segue.recipes.common import SHORT, pointmaze
from segue.recipes.method import Method
from segue.recipes.plan import Evaluation
from segue.samplers.uniform import Mix

_BASE = SAC(
    critic_hidden=(256, 256, 256, 256),
    critics=10,
    subset=2,
    subset_replacement=True,
    layer_norm=True,
    actor_learning_rate=1e-4,
    temperature_learning_rate=1e-4,
    log_std_offset=0.0,
    target_samples=10,
)
_OFFLINE = CalQL(CQL(_BASE, penalised=2))
_ONLINE = RLPD(
    critic_hidden=(256, 256, 256, 256),
    actor_layer_norm=True,
    initialiser="orthogonal",
    output_gain=1e-2,
    actor_learning_rate=1e-4,
    temperature_learning_rate=1e-4,
    critic_updates=4,
    subset_replacement=True,
    target_samples=10,
    backup_entropy=False,
    actor_value="min",
    actor_rows="all",
    entropy_share=1.0,
    temperature_loss="softplus",
)
_PLAIN = {f"{phase}.learner": _OFFLINE.base for phase in ("offline", "warm-up")}  # CQL
_NO_MAXIMUM = {"online.target_samples": 1, "agent.lagrange": False}  # pre-training keeps the best of ten

WSRL_METHOD = Method(
    (
        Phase("offline", _OFFLINE, gradient_steps=1_000_000, batch=Mix(256), evaluate_every=50_000),
        Phase("warm-up", _OFFLINE, environment_steps=5_000, utd_ratio=0),
        Phase(
            "online",
            _ONLINE,
            environment_steps=495_000,
            batch=Mix(0, 1024),
            init_from=from_sac(),
            evaluate_every=20_000,
        ),
    ),
    Scaling(),
    Evaluation(20),
    {
        "antmaze": {"scaling.reward_scale": 10.0, "scaling.reward_shift": -5.0},
        "adroit-binary": _NO_MAXIMUM
        | {
            "scaling.reward_scale": 10.0,
            "scaling.reward_shift": 5.0,
            "agent.conservative_weight": 1.0,
            "agent.actor_hidden": (512, 512),
            "agent.critic_hidden": (512, 512, 512),
            "offline.gradient_steps": 20_000,
            "offline.evaluate_every": 2_000,
        },
        "adroit": _NO_MAXIMUM
        | {
            "agent.conservative_weight": 1.0,
            "agent.actor_hidden": (512, 512),
            "agent.critic_hidden": (512, 512, 512),
        },
        "kitchen": _NO_MAXIMUM
        | {
            "scaling.continuing": True,
            "scaling.reward_shift": -4.0,
            "agent.importance_sampling": False,
            "agent.actor_hidden": (512, 512, 512),
            "agent.critic_hidden": (512, 512, 512),
            "offline.gradient_steps": 250_000,
        },
        "locomotion": _PLAIN
        | _NO_MAXIMUM
        | {
            "agent.critic_hidden": (256, 256),
            "offline.gradient_steps": 250_000,
            "offline.evaluate_every": 25_000,
        },
        "custom": SHORT | _NO_MAXIMUM | {"agent.critic_hidden": (256, 256)},
        **pointmaze(
            {
                "agent.conservative_weight": 0.2,
                "agent.lagrange": False,
                "agent.samples": 4,
                "agent.target_samples": 1,
                "agent.critics": 5,
                "agent.actor_learning_rate": 3e-4,
                "agent.temperature": 0.1,
                "warm-up.environment_steps": 500,
                "online.batch.online": 512,
            },
            medium={
                "offline.gradient_steps": 10_000,
                "offline.evaluate_every": 2_000,
            },  # its updates are ten times as dear
        ),
    },
)
