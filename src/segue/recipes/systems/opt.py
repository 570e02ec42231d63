"""OPT around a recipe (arXiv 2507.08387; spec section A): gather with the frozen policy, pre-train a second pair of
critics, fine-tune with both.  `opt(td3-bc)` and `opt(spot)` are as published; on other agents it is an experiment of
ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from segue.agents import OPT, SPOT, OnlinePretraining
from segue.agents.around import Decay
from segue.agents.opt import Climber, grow, renew_base
from segue.core.types import SegueError
from segue.engine.phase import Phase, at_switch
from segue.recipes.recipe import Recipe
from segue.samplers.prioritised import Balanced
from segue.samplers.uniform import Halves

Settings = Mapping[str, Any]

_GATHER, _META, _ONLINE = 25_000, 50_000, 275_000  # the first 25,000 of 300,000 steps gather (spec A.2)

_LOCOMOTION = {"units.standardise": False, "online.updates": 5, "agent.kappa": 0.3, "agent.kappa_steps": 150_000}
_ANTMAZE = {"agent.kappa_steps": 100_000}
_ADROIT = {"agent.kappa_steps": 250_000}
# For SPOT alone (spec A.6, A.7).
_SPOT: dict[str, dict[str, Any]] = {
    "antmaze": {"gather.units.discount": 0.995, "meta.units.discount": 0.995, "online.units.discount": 0.995},
    "adroit": {"agent.actor_layer_norm": True, "agent.critic_layer_norm": True, "agent.norm_after": True},
}


def _small(gather: int, meta: int, online: int) -> dict[str, Any]:
    """Default of ours, for runs of thousands of steps: the whole online budget stays the base recipe's.

    The new critics get as many updates as the offline ones had: after 4,000 a goal 100 steps away had not reached them,
    and a policy that climbed them lost it (docs/results/systems.md).
    """
    return {
        "gather.ticks": gather,
        "meta.ticks": meta,
        "online.ticks": online - gather,
        "agent.kappa_steps": online,
    }


_PRESETS: dict[str, dict[str, Any]] = {
    "locomotion": _LOCOMOTION,
    "locomotion-random": {"agent.kappa": 1.0, "agent.kappa_end": 1.0},
    "locomotion-medium-replay": {"agent.kappa": 0.1},
    "antmaze": _ANTMAZE,
    "antmaze-large-diverse": {"agent.kappa_steps": 200_000},
    "adroit": _ADROIT,
    "adroit-binary": _ADROIT,
    "custom": _small(2_000, 20_000, 20_000),
    "pointmaze": _small(500, 4_000, 3_000)
    | {
        "meta.batch.rows": 128,
        "meta.log_every": 100,
        "online.batch.batch": 128,
        "online.batch.density_batch": 128,
        "online.batch.hidden": (128, 128),
        "agent.inner_learning_rate": 1e-3,
    },
    "pointmaze-medium": _small(1_000, 20_000, 6_000),
    "pointmaze-large": _small(2_000, 20_000, 40_000),
}


def opt(recipe: Recipe) -> Recipe:
    """Gather with the frozen policy, pre-train new critics, fine-tune with both pairs.

    Returns the recipe with these phases in the place of its fine-tuning.  Raises `SegueError` where its agent does not
    fit.
    """
    who = f"opt({recipe.name})"
    index = at_switch(recipe.phases, who)
    switch = recipe.phases[index]
    base: Any = switch.learner
    trained = [p for p in recipe.phases[:index] if p.slot == switch.slot and p.updates]
    inner = base.agent if isinstance(base, Decay) else base
    if not isinstance(inner, Climber):
        raise SegueError(f"{who}: the actor of {type(inner).__name__} cannot climb other critics than its own")
    if not trained or switch.enter is not None:
        why = "has a door of its own" if trained else "has no offline phase before it"
        raise SegueError(f"{who}: its fine-tuning {why}; opt goes on with an agent that was trained offline")
    spot = isinstance(inner, SPOT)
    between: Any = {"slot": switch.slot, "units": switch.units}
    visible: Any = getattr(switch.batch, "visible", "all")
    phases = (
        *recipe.phases[:index],
        Phase("gather", trained[-1].learner, _GATHER, collect=1, updates=0, **between),
        Phase(
            "meta",
            OnlinePretraining(base),
            _META,
            batch=Halves(256, visible),
            # Both pairs of critics are to speak of the same rewards.
            augment=trained[-1].augment,
            enter=grow,
            **between,
        ),
        replace(
            switch,
            learner=OPT(base),
            ticks=_ONLINE,
            batch=Balanced(visible=visible),
            enter=renew_base if spot else None,
            evaluate_every=5_000,
        ),
        *recipe.phases[index + 1 :],
    )
    # What the base recipe says of rows and lengths of its fine-tuning does not fit any more.
    gone = (f"{switch.name}.batch.", f"{switch.name}.ticks", f"{switch.name}.updates", f"{switch.name}.utd_ratio")
    presets = {name: {k: v for k, v in kept.items() if not k.startswith(gone)} for name, kept in recipe.presets.items()}
    for more in (_PRESETS, _SPOT if spot else {}):
        for name, settings in more.items():
            renamed = {k.replace("online.", f"{switch.name}.", 1): v for k, v in settings.items()}
            presets[name] = {**presets.get(name, {}), **renamed}
    return replace(
        recipe,
        name=who,
        paper=f"Shin et al. 2025, OPT, arXiv 2507.08387, on {recipe.paper}",
        aim="MuJoCo total 939 on TD3 (752 without), AntMaze total 565 on SPOT (466 without) after 300k steps",
        phases=phases,
        presets=presets,
    )
