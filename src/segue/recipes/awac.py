"""AWAC, offline then online, as CORL runs it (arXiv 2006.09359): one pool of rows, sampled uniformly."""

from __future__ import annotations

from segue.agents import AWAC
from segue.core.scaling import Scaling
from segue.engine.phase import Phase
from segue.recipes.common import ANTMAZE, SHORT, pointmaze
from segue.recipes.method import Method
from segue.recipes.plan import Evaluation
from segue.samplers.uniform import Mix, Union

AWAC_METHOD = Method(
    (
        Phase("offline", AWAC(), gradient_steps=1_000_000, batch=Mix(256), evaluate_every=50_000),
        Phase("online", AWAC(), environment_steps=1_000_000, batch=Union(256), evaluate_every=5_000),
    ),
    Scaling(standardise=True),  # CORL does so for every task
    Evaluation(20),
    {
        "antmaze": ANTMAZE | {"scaling.reward_shift": -1.0, "agent.advantage_temperature": 0.1},
        "adroit": {"agent.advantage_temperature": 0.1},
        "adroit-binary": {
            "agent.advantage_temperature": 0.1,
            "offline.gradient_steps": 25_000,
            "offline.evaluate_every": 5_000,
        },
        "custom": SHORT,
        **pointmaze({"scaling.standardise": False, "agent.actor_learning_rate": 1e-3, "online.batch.batch": 128}),
    },
)
