"""OOO around a recipe (Mark et al. 2023, arXiv 2310.08558; spec sections 5 to 7): an optimistic agent explores with a
novelty bonus, and a pessimistic one is then trained from scratch, offline and on true rewards, on everything seen up to
a time; for several times from one exploration.

`ooo(iql)`, `ooo(cal-ql)` and `ooo(rlpd)` are the published ones; other recipes lend their own offline agent to the
exploitation.  Where the release errs (spec 6.4), this does what the paper says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from segue.agents import CQL, IQL, RLPD, SAC
from segue.agents.around import Bounded, Decay
from segue.augment import RND, Nothing, Returns
from segue.first import First, measured
from segue.options import reachable
from segue.oversample import Oversample
from segue.phases import Phase, at_switch, fresh
from segue.recipes.recipe import Recipe
from segue.samplers import Mix, Union
from segue.types import Sampler, SegueError

Settings = Mapping[str, Any]

TIMES = 4  # exploitations, at quarters of the exploration
# What RLPD's exploitation trains: SAC, held back by nothing but the smaller of two critics (spec 6.1).
_SAC = RLPD(critics=2, critic_layer_norm=False, critic_updates=1, actor_value="min")


def ooo(recipe: Recipe) -> Recipe:
    """Explore with a bonus as the recipe fine-tunes, then train pessimistic policies from scratch on what was seen.

    Phases: those of the recipe, with the bonus where its agent learns; then `exploit-1` to `exploit-4` in a slot of
    their own, each on the dataset and the first quarter, half, three quarters and all of what was explored.  Raises
    `SegueError` where that makes no sense.
    """
    who = f"ooo({recipe.name})"
    index = at_switch(recipe.phases, who)
    switch = recipe.phases[index]
    offline = [p for p in recipe.phases[:index] if p.slot == switch.slot and p.updates]
    if any(p.enter is not None for p in (*offline, switch)):
        raise SegueError(
            f"{who}: its agent enters through a door, where one that starts from scratch has nothing to take"
        )
    if any(not isinstance(p.augment, Nothing) for p in recipe.phases):
        raise SegueError(
            f"{who}: the recipe has a bonus already; write ooo(RECIPE)+NAME, and ooo's own stands beside it"
        )

    explorer = [_optimist(p) if p.updates and p.slot == switch.slot else p for p in recipe.phases]
    learner, rows = _pessimist(offline[-1].learner if offline else switch.learner), _rows(switch, bool(offline))
    bounded = {"value_minimum", "value_maximum"} <= set(reachable(learner))
    exploiters = [
        Phase(
            f"exploit-{n}",
            Bounded(learner) if bounded else learner,
            2_000_000 if isinstance(learner, IQL) else 1_000_000,
            batch=First(rows, n / TIMES),
            slot="exploiter",
            enter=measured(n / TIMES) if bounded else fresh,
            units=switch.units,
            evaluate_every=50_000,
        )
        for n in range(1, TIMES + 1)
    ]
    return replace(
        recipe,
        name=who,
        paper=f"Mark et al. 2023, OOO, arXiv 2310.08558, on {recipe.paper}",
        aim="14 % to 26 % above its base on average (the paper's abstract)",
        phases=(*explorer, *exploiters),
        presets=_presets(recipe, switch, learner),
    )


def _optimist(phase: Phase) -> Phase:
    """The explorer's phase: its agent, with the bonus."""
    learner, batch = phase.learner, phase.batch
    if isinstance(learner, IQL):
        learner = replace(learner, mean_over_critics=True)
    if isinstance(learner, RLPD) and isinstance(batch, Mix):  # without prior data
        batch = replace(batch, offline=0, online=batch.offline + batch.online)
    bonus = _novelty(learner)
    calibrated = isinstance(learner, CQL) and learner.calibrated
    return replace(phase, learner=learner, batch=batch, augment=Returns(bonus) if calibrated else bonus)


def _novelty(learner: Any) -> RND:
    """RND with the networks and the order that its weight was chosen with (spec 5.1); others get IQL's."""
    if isinstance(learner, CQL):
        return RND(hidden=(512, 512), output_gain=1e-2)
    return RND(initialiser="xavier", before_learning=True) if isinstance(learner, (RLPD, SAC)) else RND()


def _pessimist(learner: Any) -> Any:
    """The exploiter: IQL stays IQL, Cal-QL becomes CQL, an online agent becomes SAC; others stay what they are."""
    if isinstance(learner, Decay):
        return _pessimist(learner.agent)
    if isinstance(learner, IQL):
        return replace(learner, mean_over_critics=True)
    if isinstance(learner, CQL):
        return replace(learner, calibrated=False)
    return _SAC if isinstance(learner, (RLPD, SAC)) else learner


def _rows(switch: Phase, offline: bool) -> Sampler:
    """The exploiter's rows: 8 of 256 are successes, for CQL and without prior data 32 on top of 256 (spec 6.3)."""
    if not offline:
        return Oversample(32, Mix(0, 256), by="reward", threshold=1.0, own_only=True)
    if isinstance(switch.learner, CQL):
        return Oversample(32, Mix(128, 128), by="reward")
    return Oversample(8, Union(248), by="reward")


def _presets(recipe: Recipe, switch: Phase, learner: Any) -> dict[str, dict[str, Any]]:
    """The base recipe's presets, for the exploiter too where it has the option; OOO's own on top (spec 6.2)."""
    online = switch.name
    # RLPD's exploiter is SAC with two critics, the smaller of which counts, whatever the explorer has (spec 6.1).
    fixed = {"critics", "critic_updates", "subset", "backup_entropy"} if isinstance(learner, RLPD) else set()
    known = set(reachable(learner)) - fixed
    presets = {name: dict(kept) for name, kept in recipe.presets.items()}
    for kept in presets.values():
        own = {k.partition(".")[2]: v for k, v in kept.items() if k.startswith(("agent.", "offline."))}
        kept |= {f"exploiter.{name}": value for name, value in own.items() if name in known}
        if isinstance(switch.learner, RLPD) and f"{online}.batch.offline" in kept:
            kept[f"{online}.batch.online"] += kept.pop(f"{online}.batch.offline")
    if isinstance(learner, CQL):
        published = _CQL
    else:
        published = _IQL if isinstance(learner, IQL) else {}
    has = {p.name for p in recipe.phases} | {"agent", "exploiter", "units"}
    exploit = [f"exploit-{n}" for n in range(1, TIMES + 1)]
    for name in {*published, *_SIZES}:
        kept = presets.setdefault(name, {})
        for path, value in {**_SIZES.get(name, {}), **published.get(name, {})}.items():
            head, _, rest = path.partition(".")
            for phase in exploit if head == "exploit" else [online if head == "online" else head]:
                if phase in has or phase in exploit:
                    kept[f"{phase}.{rest}"] = value
    return presets


_HALF = {"offline.augment.weight": 0.5, "online.augment.weight": 0.5}
_NO_MORE = {"exploit.batch.inner.rows": 0}  # successes are drawn as often as other rows
_ONLY_UNION = _NO_MORE | {"exploit.batch.inner.beside.batch": 256}
_IQL: dict[str, Settings] = {
    "antmaze": {"offline.ticks": 500_000, "online.ticks": 2_000_000},
    "maze2d": {"online.ticks": 500_000},
    "adroit": _HALF | _ONLY_UNION,
    "locomotion": _ONLY_UNION,
    "adroit-binary": _HALF
    | _ONLY_UNION
    | {
        "online.ticks": 1_000_000,
        "agent.expectile": 0.8,
        "agent.inverse_temperature": 3.0,
        "exploiter.expectile": 0.8,
        "exploiter.inverse_temperature": 3.0,
    },
    "kitchen": {
        "online.ticks": 4_000_000,
        "units.shift": -4.0,
        "exploit.batch.inner.by": "success",
        "exploit.batch.inner.threshold": 4.0,
    },
}
_CQL: dict[str, Settings] = {
    "antmaze": _NO_MORE | {"offline.augment.weight": 50.0, "online.augment.weight": 50.0, "online.ticks": 2_000_000},
    "maze2d": {"online.ticks": 1_000_000},
    "adroit": _HALF | _NO_MORE,
    "locomotion": _NO_MORE,
    "adroit-binary": _HALF | _NO_MORE | {"online.ticks": 1_000_000},
    "pen-binary": {"online.ticks": 1_000_000},
    "kitchen": _NO_MORE
    | {
        "units.shift": -4.0,
        "offline.units.shift": -5.0,
        "online.units.shift": -5.0,
        "online.ticks": 1_000_000,
        "exploit.batch.inner.beside.offline": 64,
        "exploit.batch.inner.beside.online": 192,
    },
    "kitchen-complete": {"online.ticks": 4_000_000},
    # As many as its base's offline phase has: one takes seven times as long as IQL's.
    "pointmaze-medium": {"exploit.ticks": 5_000, "exploit.evaluate_every": 1_000},
}
# Default of ours: sizes for a laptop.
_POINTMAZE = {
    # At 10 the first bonuses, before the predictor has learned, lift values to 80 where a goal is worth 10.
    "offline.augment.weight": 0.5,
    "online.augment.weight": 0.5,
    "offline.augment.hidden": (128,),
    "offline.augment.features": 128,
    "online.augment.hidden": (128,),
    "online.augment.features": 128,
    "offline.augment.output_gain": 2.0**0.5,
    "online.augment.output_gain": 2.0**0.5,
    "exploit.log_every": 100,
}
_SIZES: dict[str, Settings] = {
    "pointmaze": _POINTMAZE | {"exploit.ticks": 5_000, "exploit.evaluate_every": 1_000},
    "pointmaze-medium": {"exploit.ticks": 20_000, "exploit.evaluate_every": 2_500},
    "pointmaze-large": {"exploit.ticks": 20_000, "exploit.evaluate_every": 2_500},
    "custom": {"exploit.ticks": 20_000, "exploit.evaluate_every": 5_000},
}
