"""ReBRAC, offline then online, in the form of CORL's fine-tuning code (arXiv 2305.09836): half of each batch is the
dataset's, the actor's cloning weight falls to a half, the critics' is 0.  Numbers are those of the
authors' configuration files.
"""

from __future__ import annotations

from segue.agents import ReBRAC
from segue.core.scaling import Scaling
from segue.core.schedules import Linear
from segue.engine.phase import Phase
from segue.recipes.common import ANTMAZE, SHORT, pointmaze
from segue.recipes.method import Method
from segue.recipes.plan import Evaluation
from segue.samplers.uniform import Mix


def _weights(actor: float, critic: float) -> dict[str, float]:
    return {"agent.actor_cloning": actor, "offline.critic_cloning": critic}


# Weights of the cloning terms, actor's and critics', of the configuration files: those of CORL's, which are those that
# the authors' program goes on with online; an earlier state of the authors' own has others for a third of the logs.
_PAIRS = {
    "halfcheetah-random": (0.001, 0.1),
    "halfcheetah-medium": (0.001, 0.01),
    "halfcheetah-expert": (0.01, 0.01),
    "halfcheetah-medium-expert": (0.01, 0.1),
    "halfcheetah-medium-replay": (0.01, 0.001),
    "halfcheetah-full-replay": (0.001, 0.1),
    "hopper-random": (0.001, 0.01),
    "hopper-medium": (0.01, 0.01),
    "hopper-expert": (0.1, 0.1),
    "hopper-medium-expert": (0.1, 0.01),
    "hopper-medium-replay": (0.05, 0.5),
    "hopper-full-replay": (0.01, 0.01),
    "walker2d-random": (0.01, 0.0),
    "walker2d-medium": (0.05, 0.1),
    "walker2d-expert": (0.01, 0.5),
    "walker2d-medium-expert": (0.01, 0.01),
    "walker2d-medium-replay": (0.05, 0.01),
    "walker2d-full-replay": (0.01, 0.01),
    "pen-human": (0.1, 0.5),
    "pen-cloned": (0.05, 0.5),
    "pen-expert": (0.01, 0.01),
    "door-human": (0.1, 0.1),
    "door-cloned": (0.01, 0.1),
    "door-expert": (0.05, 0.01),
    "hammer-human": (0.01, 0.5),
    "hammer-cloned": (0.1, 0.5),
    "hammer-expert": (0.01, 0.01),
    "relocate-human": (0.1, 0.01),
    "relocate-cloned": (0.1, 0.01),
    "relocate-expert": (0.05, 0.01),
    "antmaze-umaze": (0.003, 0.002),
    "antmaze-umaze-diverse": (0.003, 0.001),
    "antmaze-medium-play": (0.001, 0.0005),
    "antmaze-medium-diverse": (0.001, 0.0),
    "antmaze-large-play": (0.002, 0.001),
    "antmaze-large-diverse": (0.002, 0.002),
}
_LOCOMOTION = {
    "agent.actor_learning_rate": 1e-3,
    "agent.critic_learning_rate": 1e-3,
    "offline.batch.offline": 1024,
    "online.batch.offline": 512,
    "online.batch.online": 512,
}
_ADROIT = {"agent.actor_learning_rate": 3e-4, "agent.critic_learning_rate": 3e-4}

REBRAC_METHOD = Method(
    (
        Phase("offline", ReBRAC(), gradient_steps=1_000_000, batch=Mix(256), evaluate_every=50_000),
        Phase(
            "online",
            # Towards 0 over a million updates; at a half it stays.
            ReBRAC(actor_cloning=Linear(0.4, 0.2, 500_000), critic_cloning=0.0),
            environment_steps=1_000_000,
            batch=Mix(128, 128),
            evaluate_every=5_000,
        ),
    ),
    Scaling(),
    Evaluation(20),
    {
        "antmaze": ANTMAZE
        | {
            "agent.actor_learning_rate": 3e-4,
            "agent.critic_learning_rate": 5e-5,
            "scaling.discount": 0.999,
            "scaling.reward_scale": 100.0,
        },
        "adroit": _ADROIT,
        "adroit-binary": _ADROIT
        | _weights(0.05, 0.5)
        | {"offline.gradient_steps": 25_000, "offline.evaluate_every": 5_000},
        "locomotion": _LOCOMOTION | _weights(0.01, 0.01),  # for logs that the table below has not
        **{name: _weights(*pair) for name, pair in _PAIRS.items()},
        "custom": SHORT | _weights(0.01, 0.01),
        **pointmaze(
            {
                **_weights(0.1, 0.01),
                "agent.actor_learning_rate": 3e-4,
                "agent.exploration_noise": 0.1,
                "online.batch.offline": 64,
                "online.batch.online": 64,
                "online.actor_cloning.updates": 3_000,
            }
        ),
    },
)
