"""TD3 from scratch; and TD3+BC offline, which TD3 fine-tunes.

The cloning term is dropped at the switch, as OEMA and OPT (arXiv 2507.08387) do.  From scratch, 25,000 random steps
come first (default of ours).
"""

from __future__ import annotations

from segue.agents import TD3, TD3BC
from segue.core.scaling import Scaling
from segue.engine.phase import RANDOM, Phase
from segue.recipes.common import SHORT, pointmaze
from segue.recipes.plan import Evaluation
from segue.recipes.recipe import published
from segue.samplers.uniform import Mix, Union

_SPARSE = {"antmaze": {"scaling.reward_shift": -1.0}}

TD3_RECIPE = published(
    "td3",
    "Fujimoto et al. 2018, TD3, arXiv 1802.09477",
    "a control: what the same online budget gives without data",
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

TD3_BC_RECIPE = published(
    "td3-bc",
    "Fujimoto and Gu 2021, TD3+BC, arXiv 2106.06860; fine-tuned by TD3",
    "hopper-medium 60.4, halfcheetah-medium 48.1 offline (CORL's runs of TD3+BC, 4 seeds)",
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
