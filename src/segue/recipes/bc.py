"""Behaviour cloning as a recipe of its own: what the log's actions alone give, and a start for what comes after.

`bc` has the numbers of CORL's BC (a policy like TD3's, on standardised observations).  `flow-bc` clones with a flow,
with the networks of FQL (arXiv 2502.02538), whose paper calls it FBC.
"""

from __future__ import annotations

from segue.agents import BC, BFN, TD3
from segue.core.scaling import Scaling
from segue.engine.phase import Phase
from segue.recipes.common import Settings
from segue.recipes.method import Method
from segue.recipes.plan import Evaluation
from segue.samplers.uniform import Mix

# Defaults of ours, as long as the other recipes' offline phases.
_SHORT: dict[str, object] = {"offline.gradient_steps": 20_000, "offline.evaluate_every": 5_000}
_MAZE: dict[str, object] = {
    "agent.actor_hidden": (128, 128),
    "offline.gradient_steps": 4_000,
    "offline.evaluate_every": 500,
    "offline.log_every": 100,
    "offline.batch.offline": 128,
    "evaluation.episodes": 10,
}
_LONGER: dict[str, object] = {"offline.gradient_steps": 20_000, "offline.evaluate_every": 2_500}


def _mazes(rate: Settings) -> dict[str, Settings]:
    small = _MAZE | dict(rate)
    return {
        "pointmaze": small,
        "pointmaze-medium": _LONGER,
        "pointmaze-large": _LONGER,
        "pointmaze-pixels": small,
    }


BC_METHOD = Method(
    (Phase("offline", BC(TD3()), gradient_steps=1_000_000, batch=Mix(256), evaluate_every=50_000),),
    Scaling(standardise=True),
    Evaluation(20),
    {"custom": _SHORT, **_mazes({"agent.learning_rate": 1e-3, "scaling.standardise": False})},
)
FLOW_BC_METHOD = Method(
    (Phase("offline", BC(BFN(samples=1)), gradient_steps=1_000_000, batch=Mix(256), evaluate_every=100_000),),
    Scaling(),
    Evaluation(50),
    {"custom": _SHORT, **_mazes({"agent.actor_learning_rate": 1e-3})},
)
