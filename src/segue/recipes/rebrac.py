"""ReBRAC, offline then online, in the form of CORL's fine-tuning code (arXiv 2305.09836): half of each batch is the
dataset's, and both cloning terms fall to half of their weight.  Numbers are those of the authors' configuration files.
"""

from __future__ import annotations

from segue.agents import ReBRAC
from segue.agents.around import Decay
from segue.phases import Phase
from segue.recipes.common import SHORT, pointmaze
from segue.recipes.recipe import Evaluation, Recipe
from segue.samplers import Mix
from segue.units import Units


def _weights(actor: float, critic: float) -> dict[str, float]:
    return {"agent.actor_cloning": actor, "agent.critic_cloning": critic}


_LOCOMOTION = {
    "agent.actor_learning_rate": 1e-3,
    "agent.critic_learning_rate": 1e-3,
    "offline.batch.offline": 1024,
    "online.batch.offline": 512,
    "online.batch.online": 512,
}
_ADROIT = {"agent.actor_learning_rate": 3e-4, "agent.critic_learning_rate": 3e-4}

REBRAC_RECIPE = Recipe(
    "rebrac",
    "Tarasov et al. 2023, ReBRAC, arXiv 2305.09836",
    "pen-cloned 74.0 offline, 138.2 after 1M online steps (CORL's runs of ReBRAC, 4 seeds)",
    (
        Phase("offline", ReBRAC(), 1_000_000, batch=Mix(256), evaluate_every=50_000),
        Phase(
            "online",
            Decay(ReBRAC(), ("actor_cloning", "critic_cloning"), over=1_000_000, floor=0.5),
            1_000_000,
            collect=1,
            batch=Mix(128, 128),
            evaluate_every=5_000,
        ),
    ),
    Units(),
    Evaluation(20),
    {
        "antmaze": {  # of umaze-diverse; medium-diverse has 0.001 and 0
            **_weights(0.003, 0.001),
            "agent.actor_learning_rate": 3e-4,
            "agent.critic_learning_rate": 5e-5,
            "units.discount": 0.999,
            "units.scale": 100.0,
        },
        "antmaze-medium-diverse": _weights(0.001, 0.0),
        "adroit": _ADROIT | _weights(0.05, 0.5),
        "adroit-pen": _weights(0.05, 0.5),
        "adroit-door": _weights(0.01, 0.1),
        "adroit-binary": _ADROIT | _weights(0.05, 0.5) | {"offline.ticks": 25_000, "offline.evaluate_every": 5_000},
        "locomotion": _LOCOMOTION | _weights(0.01, 0.01),
        "hopper-medium": _weights(0.01, 0.001),
        "hopper-mixed": _weights(0.05, 0.5),
        "halfcheetah-medium": _weights(0.001, 0.5),
        "halfcheetah-mixed": _weights(0.001, 0.1),
        "custom": SHORT | _weights(0.01, 0.01),
        **pointmaze(
            {
                **_weights(0.1, 0.01),
                "agent.actor_learning_rate": 3e-4,
                "agent.exploration_noise": 0.1,
                "online.batch.offline": 64,
                "online.batch.online": 64,
                "agent.over": 6_000,
            }
        ),
    },
)
