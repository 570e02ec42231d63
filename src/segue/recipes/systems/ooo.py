"""OOO around a recipe (Mark et al. 2023, arXiv 2310.08558): an optimistic agent explores with a
novelty bonus; then pessimistic agents are trained from scratch, offline and on true rewards, each on the rows collected
up to some time of the exploration.

`ooo(iql)`, `ooo(cal-ql)` and `ooo(rlpd)` are the published ones; other recipes use their own offline agent for
exploitation.  Where the release differs from the paper, this follows the paper.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from segue.agents import CQL, IQL, RLPD, SAC, CalQL
from segue.bonuses import BONUSES, RND, Nothing
from segue.core.options import reachable
from segue.core.types import Learner, Sampler, SegueError
from segue.engine.measured import measured
from segue.engine.phase import Phase, at_switch, fresh
from segue.recipes.common import Settings
from segue.recipes.method import tried
from segue.recipes.plan import DEFAULT, Plan
from segue.recipes.recipe import Recipe
from segue.samplers.oversample import Oversample
from segue.samplers.subset import Prefix
from segue.samplers.uniform import Mix, Union

# Shares of the exploration after which exploiters are trained: the release's times where it has others than quarters.
# Its IQL explores AntMaze for 2,000,000 steps and exploits at 500,000 to 1,500,000.
_QUARTERS = (0.25, 0.5, 0.75, 1.0)
IQL_TIMES: dict[str, tuple[float, ...]] = {"antmaze": (0.25, 0.375, 0.5, 0.625, 0.75)}
CQL_TIMES: dict[str, tuple[float, ...]] = {
    "kitchen": (0.1, 0.25, 0.5, 1.0),
    "kitchen-complete": (0.025, 0.0625, 0.125, 0.25, 0.5, 0.75, 1.0),
}
# What RLPD's exploitation trains: SAC, which bootstraps from the smaller of two critics and climbs their mean.
_SAC = RLPD(critics=2, critic_layer_norm=False, critic_updates=1)


def ooo(recipe: Recipe) -> Recipe:
    """Return the recipe with OOO's bonus, and OOO's exploiters behind it.

    Phases: those of the recipe, with the bonus where its agent learns; then `exploit-1` to `exploit-4` in a slot of
    their own, each on the dataset and the first quarter, half, three quarters and all of the collected rows; or at the
    release's times, if it has others.  Raises `SegueError` if the recipe does not fit.
    """
    who = f"ooo({recipe.name})"
    return tried(
        who,
        f"Mark et al. 2023, OOO, arXiv 2310.08558, on {recipe.paper}",
        "14 % to 26 % above its base on average (the paper's abstract)",
        lambda task: ooo_plan(recipe(task), task.names, who),
    )


def ooo_plan(plan: Plan, names: Sequence[str], who: str = "ooo") -> Plan:
    """Return a plan with OOO's bonus and its exploiters, for a task of these names."""
    index = at_switch(plan.phases, who)
    switch = plan.phases[index]
    offline = [p for p in plan.phases[:index] if p.slot == switch.slot and p.updates]
    if any(p.init_from is not None for p in (*offline, switch)):
        raise SegueError(
            f"{who}: its agent starts from another slot (init_from=), and exploiters start from scratch; "
            "use another recipe"
        )
    if any(not isinstance(p.bonus, Nothing) for p in plan.phases):
        raise SegueError(f"{who}: the recipe already has a bonus; write ooo(RECIPE)+NAME to add it to the bonus of ooo")
    teacher = offline[-1] if offline else switch
    learner, rows = _pessimist(plan, teacher), _rows(switch, bool(offline))
    bounded = {"value_minimum", "value_maximum"} <= set(reachable(learner))
    published, release = _published(learner)
    named, times = next(((n, release[n]) for n in reversed(names) if n in release), (None, _QUARTERS))
    exploiters = [
        Phase(
            f"exploit-{n}",
            learner,
            gradient_steps=2_000_000 if isinstance(learner, IQL) else 1_000_000,
            batch=Prefix(rows, share),
            slot="exploiter",
            init_from=measured if bounded else fresh,
            chunk=teacher.chunk,
            scaling=switch.scaling,
            evaluate_every=50_000,
        )
        for n, share in enumerate(times, start=1)
    ]
    explorer = [_optimist(p) if p.updates and p.slot == switch.slot else p for p in plan.phases]
    made_from = {p.name: [(plan, teacher.name), (plan, switch.name)] for p in exploiters}
    made = plan.rebuilt((*explorer, *exploiters), made_from)
    if isinstance(switch.learner, RLPD) and isinstance(switch.batch, Mix):  # `_optimist` has summed both up
        rows_of = f"{switch.name}.batch.online"
        made = made.set({rows_of: switch.batch.offline + switch.batch.online}, plan.source(rows_of))
    if named is not None:
        made = made.set({f"{p.name}.batch.share": t for p, t in zip(exploiters, times)}, f"preset {named}")
    heads = {
        "exploit": [p.name for p in exploiters],
        "online": [switch.name],
        "agent": ["agent"],
        "scaling": ["scaling"],
    }
    heads |= {"exploiter": ["exploiter"]} | {p.name: [p.name] for p in plan.phases if p is not switch}
    for name in dict.fromkeys(names):
        for path, value in {**SIZES.get(name, {}), **published.get(name, {})}.items():
            head, _, rest = path.partition(".")
            made = made.set({f"{phase}.{rest}": value for phase in heads.get(head, ())}, f"preset {name}")
    return made


def _optimist(phase: Phase) -> Phase:
    """The explorer's phase: its agent, with the bonus."""
    learner, batch = phase.learner, phase.batch
    if isinstance(learner, IQL):
        learner = replace(learner, mean_over_critics=True)
    if isinstance(learner, RLPD) and isinstance(batch, Mix):  # without prior data
        batch = replace(batch, offline=0, online=batch.offline + batch.online)
    return replace(phase, learner=learner, batch=batch, bonus=_novelty(learner))


def _novelty(learner: Learner) -> RND:
    """RND with the networks and the order that its weight was chosen with; others get IQL's."""
    if isinstance(learner, (CQL, CalQL)):
        return RND(hidden=(512, 512), output_gain=1e-2)
    return RND(initialiser="xavier", before_learning=True) if isinstance(learner, (RLPD, SAC)) else RND()


def _pessimist(plan: Plan, teacher: Phase) -> Any:
    """The exploiter: IQL stays IQL, Cal-QL becomes CQL, an online agent becomes SAC; others stay what they are."""
    learner: Any = teacher.learner
    if isinstance(learner, IQL):
        return replace(learner, mean_over_critics=True)
    if isinstance(learner, CalQL):
        return learner.base
    if not isinstance(learner, (RLPD, SAC)):
        return learner
    # What a preset says of the explorer holds for it too, but for what makes it SAC.
    said = {f.name for f in fields(learner) if plan.source(f"{teacher.name}.learner.{f.name}") != DEFAULT}
    kept = said & {f.name for f in fields(_SAC)} - {"critics", "critic_updates", "subset", "backup_entropy"}
    return replace(_SAC, **{name: getattr(learner, name) for name in kept})


def _rows(switch: Phase, offline: bool) -> Sampler:
    """The exploiter's rows: 8 of 256 are successes, for CQL and without prior data 32 on top of 256."""
    if not offline:
        return Oversample(32, Mix(0, 256), by="reward", threshold=1.0, own_only=True)
    if isinstance(switch.learner, (CQL, CalQL)):
        return Oversample(32, Mix(128, 128), by="reward")
    return Oversample(8, Union(248), by="reward")


def _published(learner: Learner) -> tuple[dict[str, Settings], dict[str, tuple[float, ...]]]:
    """Numbers of the release, by task, and its times where they are not quarters."""
    if isinstance(learner, CQL):
        return CQL_PRESETS, CQL_TIMES
    return (IQL_PRESETS, IQL_TIMES) if isinstance(learner, IQL) else ({}, {})


_HALF: dict[str, object] = {"offline.bonus.weight": 0.5, "online.bonus.weight": 0.5}
_NO_MORE: dict[str, object] = {"exploit.batch.inner.rows": 0}  # successes are drawn as often as other rows
_ONLY_UNION = _NO_MORE | {"exploit.batch.inner.beside.batch": 256}


def _within(minimum: float, maximum: float) -> dict[str, object]:
    """Bounds of an explorer's values: the release's rewards in the learner's scaling, for ever at discount 0.99."""
    limits = {"agent.value_minimum": minimum * 100.0, "agent.value_maximum": maximum * 100.0}
    return {path: value for path, value in limits.items() if math.isfinite(value)}


IQL_PRESETS: dict[str, Settings] = {
    "antmaze": {"offline.gradient_steps": 500_000, "online.environment_steps": 2_000_000},
    "maze2d": {"online.environment_steps": 500_000},
    "adroit": _HALF | _ONLY_UNION,
    "locomotion": _ONLY_UNION,
    "adroit-binary": _HALF
    | _ONLY_UNION
    | _within(-1.0, 5.0)
    | {
        "online.environment_steps": 1_000_000,
        "agent.expectile": 0.8,
        "agent.inverse_temperature": 3.0,
        "exploiter.expectile": 0.8,
        "exploiter.inverse_temperature": 3.0,
    },
    "kitchen": {
        "online.environment_steps": 4_000_000,
        "scaling.reward_shift": -4.0,
        "exploit.batch.inner.by": "success",
        "exploit.batch.inner.threshold": 4.0,
    },
}
_KITCHEN_ROWS = _NO_MORE | {"exploit.batch.inner.beside.offline": 64, "exploit.batch.inner.beside.online": 192}
CQL_PRESETS: dict[str, Settings] = {
    "antmaze": _NO_MORE
    | {"offline.bonus.weight": 50.0, "online.bonus.weight": 50.0, "online.environment_steps": 2_000_000},
    "maze2d": _within(-5.0, 6.0) | {"online.environment_steps": 1_000_000},
    "adroit": _HALF | _NO_MORE,
    "hammer": _within(-math.inf, 103.0),
    "locomotion": _NO_MORE,
    "adroit-binary": _HALF | _NO_MORE | {"online.environment_steps": 1_000_000},
    "pen-binary": {"online.environment_steps": 1_000_000},
    "kitchen": _KITCHEN_ROWS
    | _within(-math.inf, 0.5)
    | {
        "scaling.reward_shift": -4.0,
        "offline.scaling.reward_shift": -5.0,
        "online.scaling.reward_shift": -5.0,
        "online.environment_steps": 1_000_000,
    },
    "kitchen-complete": _KITCHEN_ROWS | {"online.environment_steps": 4_000_000},
}
# Default of ours: sizes for a laptop; the bonus is that of `RECIPE+rnd`.
_RND = BONUSES["rnd"].presets["pointmaze"]
_POINTMAZE = {
    **{f"{phase}.bonus.{name}": value for phase in ("offline", "online") for name, value in _RND.items()},
    "exploit.log_every": 100,
}
SIZES: dict[str, Settings] = {
    "pointmaze": _POINTMAZE | {"exploit.gradient_steps": 20_000, "exploit.evaluate_every": 2_500},
    "custom": {"exploit.gradient_steps": 20_000, "exploit.evaluate_every": 5_000},
}
