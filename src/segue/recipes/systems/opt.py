"""OPT around a recipe (arXiv 2507.08387): collect with the frozen policy, pre-train a second pair of
critics, fine-tune with both.  `opt(td3-bc)` and `opt(spot)` are as published; on other agents it is an experiment of
ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from segue.agents import OPT, SPOT, OnlinePretraining
from segue.agents.second_critics import Climber, grow, renew_base
from segue.core.types import SegueError
from segue.engine.phase import Phase, at_switch
from segue.recipes.common import Settings
from segue.recipes.method import tried
from segue.recipes.plan import DEFAULT, Plan
from segue.recipes.recipe import Recipe
from segue.samplers.prioritised import Balanced
from segue.samplers.uniform import Halves, Visible

_GATHER, _META, _ONLINE = 25_000, 50_000, 275_000  # the first 25,000 of 300,000 steps gather

_LOCOMOTION = {"scaling.standardise": False, "online.utd_ratio": 5, "agent.kappa": 0.3, "agent.kappa_steps": 150_000}
_ANTMAZE = {"agent.kappa_steps": 100_000}
_ADROIT = {"agent.kappa_steps": 250_000}
# For SPOT alone.
SPOT_PRESETS: dict[str, Settings] = {
    "antmaze": {"gather.scaling.discount": 0.995, "meta.scaling.discount": 0.995, "online.scaling.discount": 0.995},
    "adroit": {"agent.actor_layer_norm": True, "agent.critic_layer_norm": True, "agent.norm_after": True},
}


def _small(gather: int, meta: int, online: int) -> dict[str, int]:
    """Default of ours, for runs of thousands of steps: the whole online budget stays the base recipe's.

    The new critics get as many updates as the offline ones had.  After 4,000 updates they had not learned a goal 100
    steps away, and the policy that maximised them failed (docs/results/systems.md).
    """
    return {
        "gather.environment_steps": gather,
        "meta.gradient_steps": meta,
        "online.environment_steps": online - gather,
        "agent.kappa_steps": online,
    }


PRESETS: dict[str, Settings] = {
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
    """Return the recipe with OPT's phases in the place of its fine-tuning.

    Raises `SegueError` where its agent does not fit.
    """
    who = f"opt({recipe.name})"
    return tried(
        who,
        f"Shin et al. 2025, OPT, arXiv 2507.08387, on {recipe.paper}",
        "MuJoCo total 939 on TD3 (752 without), AntMaze total 565 on SPOT (466 without) after 300k steps",
        lambda task: opt_plan(recipe(task), task.names, who),
    )


def opt_plan(plan: Plan, names: Sequence[str], who: str = "opt") -> Plan:
    """Return a plan with OPT's phases in the place of its fine-tuning, for a task of these names."""
    index = at_switch(plan.phases, who)
    switch = plan.phases[index]
    base = switch.learner
    trained = [p for p in plan.phases[:index] if p.slot == switch.slot and p.updates]
    if not isinstance(base, Climber):
        raise SegueError(
            f"{who}: the actor of {type(base).__name__} cannot maximise critics other than its own; use another recipe"
        )
    if not trained or switch.init_from is not None:
        why = "has its own init_from=" if trained else "has no offline phase before it"
        raise SegueError(f"{who}: its fine-tuning {why}; opt continues an agent that was trained offline")
    spot = isinstance(base, SPOT)
    between = partial(Phase, slot=switch.slot, scaling=switch.scaling, chunk=switch.chunk, replan=switch.replan)
    visible: Visible = getattr(switch.batch, "visible", "all")
    often = f"{switch.name}.evaluate_every"
    phases = (
        *plan.phases[:index],
        between("gather", trained[-1].learner, environment_steps=_GATHER, utd_ratio=0),
        between(
            "meta",
            OnlinePretraining(base),
            gradient_steps=_META,
            batch=Halves(256, visible),
            # Both pairs of critics are to speak of the same rewards.
            bonus=trained[-1].bonus,
            init_from=grow,
        ),
        replace(
            switch,
            learner=OPT(base),
            environment_steps=_ONLINE,
            batch=Balanced(visible=visible),
            init_from=renew_base if spot else None,
            evaluate_every=5_000 if plan.source(often) == DEFAULT else switch.evaluate_every,
        ),
        *plan.phases[index + 1 :],
    )
    made_from = {"gather": [(plan, trained[-1].name)], "meta": [(plan, switch.name), (plan, trained[-1].name)]}
    plan = plan.rebuilt(phases, made_from)
    for name in dict.fromkeys(names):
        said = {**PRESETS.get(name, {}), **(SPOT_PRESETS.get(name, {}) if spot else {})}
        plan = plan.set({k.replace("online.", f"{switch.name}.", 1): v for k, v in said.items()}, f"preset {name}")
    return plan
