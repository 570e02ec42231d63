"""IQL, offline then online, as in its official code (arXiv 2110.06169): one pool of rows, the dataset's
and one's own, sampled uniformly; one update after each environment step.
"""

from __future__ import annotations

from segue.agents import IQL
from segue.core.scaling import Scaling
from segue.engine.phase import Phase
from segue.recipes.common import ANTMAZE, SHORT, pointmaze
from segue.recipes.method import Method
from segue.recipes.plan import Evaluation
from segue.samplers.uniform import Mix, Union

_LOCOMOTION = {"agent.expectile": 0.7, "agent.inverse_temperature": 3.0, "scaling.reward_span": 1000.0}

IQL_METHOD = Method(
    (
        Phase("offline", IQL(), gradient_steps=1_000_000, batch=Mix(256), evaluate_every=50_000),
        Phase("online", IQL(), environment_steps=1_000_000, batch=Union(256), evaluate_every=5_000),
    ),
    Scaling(),
    Evaluation(20),
    {
        "antmaze": ANTMAZE | {"scaling.reward_shift": -1.0},
        "adroit-binary": {
            "agent.expectile": 0.7,
            "agent.inverse_temperature": 0.5,
            "agent.dropout": 0.1,
            "offline.gradient_steps": 25_000,
            "offline.evaluate_every": 5_000,
        },
        "adroit": {"agent.expectile": 0.8, "agent.inverse_temperature": 3.0, "agent.dropout": 0.1},
        "kitchen": {"agent.expectile": 0.7, "agent.inverse_temperature": 0.5, "agent.dropout": 0.1},
        "maze2d": {
            "scaling.reward_shift": -1.0,
            "agent.inverse_temperature": 3.0,
            "offline.gradient_steps": 500_000,
        },  # OOO's
        "locomotion": _LOCOMOTION,
        "custom": SHORT | {"agent.expectile": 0.7, "agent.inverse_temperature": 3.0},
        **pointmaze(
            {
                "agent.layer_norm": True,
                "agent.actor_learning_rate": 1e-3,
                "agent.value_learning_rate": 1e-3,
                "online.batch.batch": 128,
            }
        ),
    },
)
