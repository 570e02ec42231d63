"""TD3 from scratch; and TD3+BC offline, which TD3 fine-tunes.

The cloning term is dropped at the switch, as OEMA and OPT (arXiv 2507.08387) do.  From scratch, 25,000 random steps
come first (default of ours).
"""

from __future__ import annotations

from segue.agents import TD3, TD3BC
from segue.core.scaling import Scaling
from segue.engine.phase import RANDOM, Phase
from segue.recipes.common import ANTMAZE, SHORT, pointmaze
from segue.recipes.method import Method
from segue.recipes.plan import Evaluation
from segue.samplers.uniform import Mix, Union

_SPARSE = {"antmaze": ANTMAZE | {"scaling.reward_shift": -1.0}}

TD3_METHOD = Method(
    (
        Phase("warm-up", TD3(), environment_steps=25_000, utd_ratio=0, actor=RANDOM),
        Phase("online", TD3(), environment_steps=1_000_000, batch=Mix(0, 256), evaluate_every=10_000),
    ),
    Scaling(),
    Evaluation(20),
    {
        **_SPARSE,
        **pointmaze(
            {"agent.critic_layer_norm": True, "online.batch.online": 128, "warm-up.environment_steps": 500}, False
        ),
    },
)

TD3_BC_METHOD = Method(
    (
        Phase("offline", TD3BC(), gradient_steps=1_000_000, batch=Mix(256), evaluate_every=50_000),
        Phase("online", TD3(), environment_steps=1_000_000, batch=Union(256), evaluate_every=5_000),
    ),
    Scaling(standardise=True),
    Evaluation(20),
    {
        **_SPARSE,
        "custom": SHORT,
        **pointmaze(
            {
                "scaling.standardise": False,
                "agent.critic_layer_norm": True,
                "agent.policy_noise": 0.1,
                "agent.q_weight": 1.0,
                "online.batch.batch": 128,
            }
        ),
    },
)
