"""SAC from scratch, without a dataset: the control of offline-to-online experiments."""

from __future__ import annotations

from segue.agents import SAC
from segue.core.scaling import Scaling
from segue.engine.phase import Phase
from segue.recipes.common import pointmaze
from segue.recipes.method import Method
from segue.recipes.plan import Evaluation
from segue.samplers.uniform import Mix

_SPARSE = {"scaling.reward_scale": 10.0, "scaling.reward_shift": -5.0}

# Default of ours: the same networks, batch and budget as the Cal-QL recipe's online phase.
_POINTMAZE = {
    "agent.layer_norm": True,
    "agent.actor_learning_rate": 3e-4,
    "agent.temperature": 0.1,
    "online.batch.online": 128,
}

SAC_METHOD = Method(
    (Phase("online", SAC(), environment_steps=1_000_000, batch=Mix(0, 256), evaluate_every=10_000),),
    Scaling(),
    Evaluation(20),
    {
        "antmaze": _SPARSE,
        "adroit-binary": {"scaling.reward_scale": 10.0, "scaling.reward_shift": 5.0},
        **pointmaze(_POINTMAZE, offline=False),
    },
)
