"""FQL, offline then online with the same losses, as in its official code (arXiv 2502.02538): one pool of rows, the
dataset's and one's own, sampled uniformly; one update after each environment step, from the first one on.

Weights of cloning are those of the paper's fine-tuning, and for tasks that it does not fine-tune those of its offline
runs.
"""

from __future__ import annotations

from segue.agents import FQL
from segue.core.scaling import Scaling
from segue.engine.phase import Phase
from segue.recipes.common import SHORT, pointmaze
from segue.recipes.method import Method
from segue.recipes.plan import Evaluation
from segue.samplers.uniform import Mix, Union

LONG: dict[str, object] = {"scaling.discount": 0.995}
_LEAST: dict[str, object] = {"agent.target_value": "min"}


def _weight(weight: float) -> dict[str, object]:
    return {"agent.cloning_weight": weight}


# Default of ours: as the authors advise for new tasks, with a weight in the middle of their range.
_NEW: dict[str, object] = _weight(1.0) | {"agent.normalise_q": True}
_ADROIT = {
    "pen-human": 10_000.0,
    "pen-cloned": 1_000.0,
    "pen-expert": 3_000.0,
    "door-cloned": 1_000.0,
    "hammer-cloned": 1_000.0,
    "relocate-human": 10_000.0,
    "relocate-cloned": 10_000.0,
}

FQL_METHOD = Method(
    (
        Phase("offline", FQL(), gradient_steps=1_000_000, batch=Mix(256), evaluate_every=100_000),
        Phase("online", FQL(), environment_steps=1_000_000, batch=Union(256), evaluate_every=100_000),
    ),
    Scaling(),
    Evaluation(50),
    {
        "ogbench": _weight(300.0),
        "ogbench-antmaze-large": _weight(10.0) | _LEAST,
        "ogbench-antmaze-giant": _weight(10.0) | _LEAST | LONG,
        "ogbench-humanoidmaze-medium": _weight(100.0) | LONG,
        "ogbench-humanoidmaze-large": _weight(30.0) | LONG,
        "ogbench-antsoccer-arena": _weight(30.0) | LONG,
        "ogbench-puzzle-3x3": _weight(1000.0),
        "ogbench-puzzle-4x4": _weight(1000.0),
        "antmaze": _weight(10.0) | {"scaling.reward_shift": -1.0, "offline.gradient_steps": 500_000},
        "antmaze-large": _weight(3.0),
        "adroit": _weight(30_000.0) | _LEAST | {"offline.gradient_steps": 500_000},
        **{name: _weight(weight) for name, weight in _ADROIT.items()},
        "custom": SHORT | _NEW,
        "locomotion": _NEW,
        **pointmaze(_NEW | {"agent.actor_learning_rate": 1e-3, "online.batch.batch": 128}),
    },
)
