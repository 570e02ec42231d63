"""Best-of-N flow policies, offline then online, as in the official code of Q-chunking (arXiv 2507.07969): 5,000 steps
with the policy as it is, then one update after each step, on the dataset's rows and one's own in one pool.

`chunk(bfn,5)` is QC.
"""

from __future__ import annotations

from segue.agents import BFN
from segue.core.scaling import Scaling
from segue.engine.phase import Phase
from segue.recipes.common import SHORT, pointmaze
from segue.recipes.method import Method
from segue.recipes.plan import Evaluation
from segue.samplers.uniform import Mix, Union

BFN_METHOD = Method(
    (
        Phase("offline", BFN(samples=4), gradient_steps=1_000_000, batch=Mix(256), evaluate_every=100_000),
        Phase("warm-up", BFN(samples=4), environment_steps=5_000, utd_ratio=0),
        Phase("online", BFN(samples=4), environment_steps=995_000, batch=Union(256), evaluate_every=100_000),
    ),
    Scaling(),
    Evaluation(50),
    {
        "ogbench-antmaze-giant": {"scaling.discount": 0.995},
        "ogbench-humanoidmaze-medium": {"scaling.discount": 0.995},
        "ogbench-humanoidmaze-large": {"scaling.discount": 0.995},
        "ogbench-antsoccer-arena": {"scaling.discount": 0.995},
        "antmaze": {"scaling.reward_shift": -1.0},
        "custom": SHORT | {"warm-up.environment_steps": 1_000},
        **pointmaze({"agent.actor_learning_rate": 1e-3, "online.batch.batch": 128, "warm-up.environment_steps": 500}),
    },
)
