"""PEX: IQL offline; then its policy is frozen, a new one learns, and the critics choose between the two (arXiv
2302.00935; numbers of the authors' code, commit 0cd4b04).
"""

from __future__ import annotations

from dataclasses import replace

from segue.agents import PEX
from segue.agents.pex import authors, expand
from segue.core.scaling import Scaling
from segue.engine.phase import Phase
from segue.recipes.common import SHORT, pointmaze
from segue.recipes.method import Method
from segue.recipes.plan import Evaluation
from segue.samplers.uniform import Mix

_IMITATION = {"agent.expectile": 0.8, "agent.inverse_temperature": 3.0, "agent.choice_inverse_temperature": 3.0}

PEX_METHOD = Method(
    (
        Phase(
            "offline",
            replace(authors(), actor_decay=None),
            gradient_steps=1_000_000,
            batch=Mix(256),
            evaluate_every=50_000,
        ),
        Phase("warm-up", PEX(), environment_steps=5_000, utd_ratio=0, init_from=expand("agent")),
        Phase("online", PEX(), environment_steps=995_000, batch=Mix(128, 128), evaluate_every=10_000),
    ),
    Scaling(),
    Evaluation(20),
    {
        "antmaze": {"scaling.reward_shift": -1.0},
        "adroit": _IMITATION | {"agent.dropout": 0.1},  # default of ours; the authors ran no Adroit
        "adroit-binary": _IMITATION
        | {
            "agent.dropout": 0.1,
            "offline.gradient_steps": 25_000,
            "offline.evaluate_every": 5_000,
        },
        "kitchen": {"agent.expectile": 0.7, "agent.inverse_temperature": 0.5},  # IQL's
        "custom": SHORT,
        **pointmaze(
            {
                "agent.layer_norm": True,
                "agent.actor_learning_rate": 1e-3,
                "agent.value_learning_rate": 1e-3,
                "offline.actor_decay": 0,
                "warm-up.environment_steps": 500,
                "online.batch.offline": 64,
                "online.batch.online": 64,
            }
        ),
    },
)
