"""RLPD: no pre-training, twenty critic updates a step on batches of which one half is the dataset's (arXiv
2302.02948).
"""

from __future__ import annotations

from segue.agents import RLPD
from segue.core.scaling import Scaling
from segue.engine.phase import RANDOM, Phase
from segue.recipes.common import pointmaze
from segue.recipes.method import Method
from segue.recipes.plan import Evaluation
from segue.samplers.uniform import Mix

# The published steps, of which the warm-up is a part: 250,000, 300,000 on AntMaze and 1,000,000 on Adroit.
_SPARSE = {"agent.critic_hidden": (256, 256, 256), "agent.actor_hidden": (256, 256, 256), "agent.backup_entropy": False}

RLPD_METHOD = Method(
    (
        Phase("warm-up", RLPD(), environment_steps=5_000, utd_ratio=0, actor=RANDOM),
        Phase("online", RLPD(), environment_steps=245_000, batch=Mix(2560, 2560), evaluate_every=5_000),
    ),
    Scaling(),
    Evaluation(10),
    {
        "antmaze": _SPARSE | {"scaling.reward_shift": -1.0, "agent.subset": 1, "online.environment_steps": 295_000},
        "adroit-binary": _SPARSE | {"online.environment_steps": 995_000},
        # Q-chunking's form of it (arXiv 2507.07969, acrlpd.py).
        "ogbench": {
            "agent.critic_hidden": (512, 512, 512, 512),
            "agent.actor_hidden": (512, 512, 512, 512),
            "agent.subset": 10,
            "agent.target_value": "mean",
            "agent.simultaneous": True,
            "agent.backup_entropy": False,
            "agent.critic_updates": 1,
            "online.batch.offline": 128,
            "online.batch.online": 128,
            "online.environment_steps": 995_000,
            "online.evaluate_every": 100_000,
            "evaluation.episodes": 50,
        },
        **pointmaze(
            {
                "agent.critics": 5,
                "agent.critic_updates": 4,
                "agent.actor_learning_rate": 1e-3,
                "agent.temperature_learning_rate": 1e-3,
                "agent.temperature": 0.1,
                "agent.backup_entropy": False,
                "online.batch.offline": 256,
                "online.batch.online": 256,
                "warm-up.environment_steps": 500,
            },
            offline=False,
        ),
    },
)
