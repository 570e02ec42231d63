"""Cal-QL and CQL, offline then online, as in the release of Cal-QL (arXiv 2303.05479).

The schedule differs from the release in one point: there, a whole episode is rolled out and then as many updates are
done as it had steps; here one update follows each environment step, and a batch sees the rows of closed episodes
only, so that every online row has its true return in both.
"""

from __future__ import annotations

from dataclasses import replace

from segue.agents import CQL, CalQL
from segue.core.scaling import Scaling
from segue.engine.phase import Phase
from segue.recipes.common import Settings
from segue.recipes.method import Method
from segue.recipes.plan import Evaluation
from segue.samplers.uniform import Mix

_ANTMAZE = {
    "scaling.reward_scale": 10.0,
    "scaling.reward_shift": -5.0,
    "online.batch.offline": 128,
    "online.batch.online": 128,
}

_MAZE2D = {
    "scaling.reward_scale": 10.0,
    "scaling.reward_shift": -5.0,
    "offline.gradient_steps": 500_000,
}  # of OOO's explorers

_ADROIT_BINARY = {
    "scaling.reward_scale": 10.0,
    "scaling.reward_shift": 5.0,
    "agent.conservative_weight": 1.0,
    "agent.lagrange": False,
    "agent.actor_hidden": (512, 512),
    "agent.critic_hidden": (512, 512, 512),
    "offline.gradient_steps": 20_000,
    "offline.evaluate_every": 2_000,
}

_ADROIT = {  # dense rewards: CORL's settings, in the networks of the binary tasks
    "agent.conservative_weight": 1.0,
    "agent.lagrange": False,
    "agent.actor_hidden": (512, 512),
    "agent.critic_hidden": (512, 512, 512),
}

_KITCHEN = {
    "scaling.continuing": True,
    "agent.lagrange": False,
    "agent.importance_sampling": False,
    "agent.actor_hidden": (512, 512, 512),
    "agent.critic_hidden": (512, 512, 512),
    "offline.gradient_steps": 500_000,
    "offline.evaluate_every": 25_000,
    "online.environment_steps": 1_500_000,
    "online.evaluate_every": 5_000,
    "online.batch.offline": 64,
    "online.batch.online": 192,
}

_LOCOMOTION = {  # WSRL's settings for CQL on MuJoCo (arXiv 2412.07762)
    "agent.lagrange": False,
    "agent.critic_hidden": (256, 256),
    "offline.gradient_steps": 250_000,
    "offline.evaluate_every": 25_000,
    "online.environment_steps": 500_000,
    "online.evaluate_every": 20_000,
}

_POINTMAZE = {
    # Default of ours: sized for a laptop, so that a first run takes minutes.  Measured on umaze, see
    # docs/results/pointmaze.md: no penalty per step, since values that start at 0 need 1e5 updates to fall to -500; a
    # conservative weight that is small beside the goal's 10, no max-target backup and layer normalisation, since
    # without any of them values rose above 10 online and policies were lost; and fast critics and targets, since a run
    # has thousands of updates where the paper's have a million.
    "scaling.reward_scale": 10.0,
    "agent.conservative_weight": 0.2,
    "agent.lagrange": False,
    "agent.samples": 4,
    "agent.target_samples": 1,
    "agent.layer_norm": True,
    "agent.actor_hidden": (128, 128),
    "agent.critic_hidden": (128, 128),
    "agent.actor_learning_rate": 3e-4,
    "agent.critic_learning_rate": 1e-3,
    "agent.target_rate": 0.02,
    "agent.temperature": 0.1,
    "offline.gradient_steps": 4_000,
    "offline.evaluate_every": 500,
    "offline.log_every": 100,
    "offline.batch.offline": 128,
    "online.environment_steps": 3_000,
    "online.evaluate_every": 250,
    "online.log_every": 100,
    "online.batch.offline": 64,
    "online.batch.online": 64,
    "evaluation.episodes": 10,
}

_PHASES = (
    Phase("offline", CalQL(), gradient_steps=1_000_000, batch=Mix(256), evaluate_every=50_000),
    Phase("online", CalQL(), environment_steps=1_000_000, batch=Mix(128, 128, "closed"), evaluate_every=2_000),
)
_PRESETS: dict[str, Settings] = {
    "antmaze": _ANTMAZE,
    "adroit": _ADROIT,
    "adroit-binary": _ADROIT_BINARY,
    "pen-binary": {"online.environment_steps": 200_000},
    "kitchen": _KITCHEN,
    "maze2d": _MAZE2D,
    "locomotion": _LOCOMOTION,
    "custom": _LOCOMOTION
    | {"offline.gradient_steps": 20_000, "online.environment_steps": 20_000, "offline.evaluate_every": 5_000},
    "pointmaze": _POINTMAZE,
    "pointmaze-pixels": _POINTMAZE,
    "pointmaze-medium": {
        "offline.gradient_steps": 5_000,
        "offline.evaluate_every": 1_000,
        "online.environment_steps": 6_000,
        "online.evaluate_every": 500,
    },
    "pointmaze-large": {
        "offline.gradient_steps": 20_000,
        "offline.evaluate_every": 4_000,
        "online.environment_steps": 40_000,
        "online.evaluate_every": 2_000,
    },
}

CAL_QL_METHOD = Method(
    _PHASES,
    Scaling(),
    Evaluation(20),
    _PRESETS,
)

CQL_METHOD = Method(
    tuple(replace(phase, learner=CQL()) for phase in _PHASES),
    Scaling(),
    Evaluation(20),
    _PRESETS,
)
