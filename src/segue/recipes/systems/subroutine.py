"""Offline RL as a subroutine of online RL (Su, Luo and Zhang 2025, arXiv 2512.00383; spec section D).

An agent that starts from nothing learns online; its own history then is the dataset of an offline agent, whose policy
is recommended, or fine-tuned with what is left of the budget.  Everything that moves the world is charged to one
budget: training, fresh data, and the roll-outs that choose among checkpoints.

      online ──┬── buffer: all rows ─────────────────> retrain ──┬──────────────> recommended
               └── fresh: gather with the best policy ──┘        └─> fine-tune ──> recommended, or retrain again

The paper's lists of variants and tasks could not be read; phases and numbers follow the first author's earlier code.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from segue.agents.around import Greedy, OneOf, better
from segue.core.options import reachable
from segue.core.types import Learner, Sampler, SegueError
from segue.engine.phase import Phase, Validation, at_switch, fresh, take
from segue.engine.sharing import Either
from segue.recipes.recipe import Recipe, apply
from segue.samplers.oversample import Oversample
from segue.samplers.subset import Last
from segue.samplers.uniform import Mix

STUDENT, BEST, BEST_STUDENT, BEST_TUNED = "student", "best", "best-student", "best-tuned"


@dataclass(frozen=True)
class Budget:
    """Environment steps per seed, and how they are spent; the online agent gets what the other items leave."""

    total: int
    warm_up: int
    """Before the online agent learns, where its recipe has such a phase."""
    online_validation: int
    offline_validation: int
    fresh: int
    tuning: int
    updates: int
    """Gradient updates of each offline phase: they cost no steps."""
    temperature: float = 0.3
    """Of weights by return; default of ours, see `SMALL`."""


# The author's numbers: a million steps, 2 % and 1 % of it for validation, 200,000 fresh ones, fine-tuning for 300,000.
# The warm-up is TD3's.
USUAL = Budget(1_000_000, 25_000, 20_000, 10_000, 200_000, 300_000, 500_000, temperature=0.1)
# Default of ours: sizes for a laptop.  Of some dozens of episodes the author's temperature leaves those that went well
# alone, and from these nothing is learned of how one gets there (docs/results/systems.md has the numbers).
SMALL = {
    "pointmaze": Budget(60_000, 500, 5_400, 5_400, 12_000, 12_000, 10_000),
    "pointmaze-medium": Budget(120_000, 500, 10_800, 10_800, 24_000, 24_000, 20_000),
    "pointmaze-large": Budget(200_000, 500, 14_400, 14_400, 40_000, 40_000, 20_000),
    "custom": Budget(50_000, 2_500, 6_000, 6_000, 10_000, 10_000, 20_000),
}


def validated(online: Recipe) -> Recipe:
    """The online agent alone, with the same right to choose among its checkpoints."""
    phases = _online(f"validated({online.name})", online, Validation(1, keep=BEST))
    final = Phase("recommended", phases[-1].learner, 0, slot=phases[-1].slot, enter=take(BEST))
    return _spent(f"validated({online.name})", online, None, (*phases, final))


def recommend(online: Recipe, offline: Recipe, who: str = "recommend", new: bool = False) -> Recipe:
    """Learn online, then offline from one's own history.

    `new`: from fresh rows of the best online policy alone.
    """
    name = f"{who}({online.name},{offline.name})"
    phases = _online(name, online, Validation(1, keep=BEST) if new else Validation())
    if new:
        acting: Any = phases[-1].learner
        greedy = Greedy(acting)
        phases += (Phase("gather", greedy, 0, collect=1, updates=0, slot=phases[-1].slot, enter=take(BEST)),)
    learner, _ = _pair(name, offline)
    return _spent(name, online, offline, (*phases, _retrain(1, learner, new), _best(learner)))


def fine_tune(online: Recipe, offline: Recipe, who: str = "fine-tune", new: bool = False) -> Recipe:
    """As `recommend`, then online again from the best offline policy, with its own history as the dataset."""
    name = f"{who}({online.name},{offline.name})"
    phases, (_, tuned) = recommend(online, offline, who, new).phases[:-1], _pair(name, offline)
    final = Phase("recommended", tuned, 0, slot=STUDENT)
    return _spent(name, online, offline, (*phases, _tune(1, tuned), final))


def recommend_fresh(online: Recipe, offline: Recipe) -> Recipe:
    """As `recommend`, from fresh rows of the best online policy alone."""
    return recommend(online, offline, "recommend-fresh", new=True)


def fine_tune_fresh(online: Recipe, offline: Recipe) -> Recipe:
    """As `fine-tune`, after fresh rows of the best online policy."""
    return fine_tune(online, offline, "fine-tune-fresh", new=True)


def recommend_weighted(online: Recipe, offline: Recipe) -> Recipe:
    """As `recommend`, from rows that are drawn the more often the more their episode earned (the author's code)."""
    made = recommend(online, offline, "recommend-weighted")
    better_rows = Oversample(256, None, by="return", own_only=True)
    phases = tuple(replace(p, batch=better_rows) if p.name == "retrain-1" else p for p in made.phases)
    return _spent(made.name, online, offline, phases)


def recommend_better(online: Recipe, offline: Recipe) -> Recipe:
    """As `recommend`, and each seed then chooses between its best online and its best offline checkpoint.

    Both agents must learn in the same units, for whose values a report shows.
    """
    name = f"recommend-better({online.name},{offline.name})"
    phases = _online(name, online, Validation(1, keep=BEST))
    acting: Any = phases[-1].learner
    learner: Any = _pair(name, offline)[0]
    both = OneOf(acting, learner, (phases[-1].slot, STUDENT))
    final = Phase("recommended", both, 0, slot="recommended", enter=better(BEST, BEST_STUDENT))
    return _spent(name, online, offline, (*phases, _retrain(1, learner, False), final))


def alternate(online: Recipe, offline: Recipe) -> Recipe:
    """As `fine-tune`, while each episode is acted by the policy that fine-tunes or by the offline one it came from."""
    name = f"alternate({online.name},{offline.name})"
    phases, (_, tuned) = recommend(online, offline).phases[:-1], _pair(name, offline)
    shared = replace(_tune(1, tuned), actor=Either(BEST_STUDENT), validation=Validation(1, keep=BEST_TUNED))
    final = Phase("recommended", tuned, 0, slot=STUDENT, enter=take(BEST_TUNED))
    return _spent(name, online, offline, (*phases, shared, final))


def repeat(online: Recipe, offline: Recipe) -> Recipe:
    """Online, offline, fine-tuned, offline on everything, twice over; the best of the last offline phase."""
    name = f"repeat({online.name},{offline.name})"
    learner, tuned = _pair(name, offline)
    lessons = [part for n in (1, 2) for part in (_retrain(n, learner, False), _tune(n, tuned))]
    phases = (*_online(name, online, Validation()), *lessons, _retrain(3, learner, False), _best(learner))
    return _spent(name, online, offline, phases)


# -- phases ----------------------------------------------------------------------------------------------------


def _online(who: str, recipe: Recipe, validation: Validation) -> tuple[Phase, ...]:
    """The phases of a recipe that starts from nothing, up to its learning one."""
    index = at_switch(recipe.phases, who)
    batch = recipe.phases[index].batch
    logged = not isinstance(batch, Mix) or batch.offline > 0
    if logged or any((p.updates and not p.collect) or p.enter for p in recipe.phases):
        raise SegueError(f"{who}: {recipe.name} does not start from nothing; the first recipe must be like sac or td3")
    return (*recipe.phases[:index], replace(recipe.phases[index], validation=validation))


def _pair(who: str, recipe: Recipe) -> tuple[Learner, Learner]:
    """What an offline recipe trains before its switch and after it."""
    index = at_switch(recipe.phases, who)
    switch = recipe.phases[index]
    there = [p for p in recipe.phases[: index + 1] if p.slot == switch.slot]
    before = [p for p in there[:-1] if p.updates]
    if not before or any(p.enter for p in there):
        why = "enters through a door" if before else "has no offline phase"
        raise SegueError(f"{who}: {recipe.name} {why}; the second recipe must be like iql, cql, cal-ql or td3-bc")
    return before[-1].learner, switch.learner


def _retrain(n: int, learner: Learner, new: bool) -> Phase:
    rows: Sampler = Last(Mix(0, 256), 1) if new else Mix(0, 256)
    kept = Validation(1, keep=BEST_STUDENT)
    return Phase(f"retrain-{n}", learner, 1, batch=rows, slot=STUDENT, enter=fresh, validation=kept)


def _tune(n: int, learner: Learner) -> Phase:
    door = take(BEST_STUDENT)
    return Phase(f"fine-tune-{n}", learner, 1, collect=1, batch=Mix(0, 256), slot=STUDENT, enter=door)


def _best(learner: Learner) -> Phase:
    return Phase("recommended", learner, 0, slot=STUDENT, enter=take(BEST_STUDENT))


# -- numbers ---------------------------------------------------------------------------------------------------


def _spent(name: str, online: Recipe, offline: Recipe | None, phases: tuple[Phase, ...]) -> Recipe:
    """Return the recipe of these phases, whose steps and validations cost exactly the budget, in every preset too."""
    made = replace(
        online,
        name=name,
        paper=f"Su, Luo and Zhang 2025, arXiv 2512.00383, with {online.paper}"
        + (f"; {offline.paper}" if offline else ""),
        aim="gains mainly where rewards are sparse, once policies are validated (the paper's abstract)",
        phases=phases,
        presets={},
    )
    for path, value in _settings(phases, USUAL).items():
        made, _ = apply(made, path, value)
    student = _student_phases(phases)
    if offline:
        own = replace(offline.units, standardise=False, reward_span=None)
        made = replace(made, phases=tuple(replace(p, units=own) if p.name in student else p for p in made.phases))
    presets: dict[str, dict[str, Any]] = {}
    for domain in dict.fromkeys([*online.presets, *(offline.presets if offline else ()), *SMALL]):
        steps = ("online.ticks", "online.evaluate_every")
        kept = {k: v for k, v in online.presets.get(domain, {}).items() if k not in steps}
        kept |= _taught(online.presets.get(domain, {}), offline, domain, phases) if offline else {}
        if domain in SMALL:
            kept |= _settings(phases, SMALL[domain])
        presets[domain] = kept
    return replace(made, presets=presets)


def _settings(phases: tuple[Phase, ...], budget: Budget) -> dict[str, Any]:
    """Ticks and validations of all phases, so that together they cost `budget.total`."""
    out: dict[str, Any] = {}
    learning = phases[at_switch(phases, "subroutine")]
    for phase in phases:
        if phase.name.startswith("retrain"):
            out |= {f"{phase.name}.ticks": budget.updates, f"{phase.name}.evaluate_every": budget.updates // 5}
            out[f"{phase.name}.validation.steps"] = budget.offline_validation
            if isinstance(phase.batch, Last):
                out[f"{phase.name}.batch.rows"] = budget.fresh
            if isinstance(phase.batch, Oversample):
                out[f"{phase.name}.batch.temperature"] = budget.temperature
        elif phase.name.startswith("fine-tune"):
            out |= {f"{phase.name}.ticks": budget.tuning, f"{phase.name}.evaluate_every": budget.tuning // 10}
            if phase.validation.steps:
                out[f"{phase.name}.validation.steps"] = budget.offline_validation
        elif phase.name == "gather":
            out["gather.ticks"] = budget.fresh
        elif phase.collect and not phase.updates:
            out[f"{phase.name}.ticks"] = budget.warm_up
        elif phase is learning and phase.validation.steps:
            out[f"{phase.name}.validation.steps"] = budget.online_validation
    steps = sum(v for k, v in out.items() if k.endswith("validation.steps"))
    steps += sum(out[f"{p.name}.ticks"] for p in phases if p.collect and f"{p.name}.ticks" in out)
    left = budget.total - steps
    return out | {f"{learning.name}.ticks": left, f"{learning.name}.evaluate_every": budget.total // 20}


def _size(batch: Sampler) -> str:
    """The option that holds how many rows a student's batch has."""
    return "rows" if isinstance(batch, Oversample) else "online"


def _student_phases(phases: tuple[Phase, ...]) -> list[str]:
    """Names of the phases whose numbers are in the offline recipe's units."""
    return [p.name for p in phases if p.slot in (STUDENT, "recommended")]


def _taught(learned: Mapping[str, Any], offline: Recipe, domain: str, phases: tuple[Phase, ...]) -> dict[str, Any]:
    """An offline recipe's preset, for the phases of the student: its agent, its units, the size of its batches.

    What units read off a dataset is left out: there is none but the run's own.  What the online recipe's preset
    (`learned`) says of units reaches all phases, and is taken back for the student's.
    """
    preset, out = offline.presets.get(domain, {}), dict[str, Any]()
    known = {name for p in phases if p.slot == STUDENT for name in reachable(p.learner)}
    said = {path for path in (*learned, *preset) if path.startswith("units.")}
    for path in said - {"units.standardise", "units.reward_span"}:
        value = preset.get(path, getattr(offline.units, path.removeprefix("units.")))
        out |= {f"{name}.{path}": value for name in _student_phases(phases)}
    for path, value in preset.items():
        head, _, rest = path.partition(".")
        # What a rule of the offline recipe's own fine-tuning has (a weight's decay), a student may lack.
        if head == "agent" and rest.rpartition(".")[2] in known:
            out[f"{STUDENT}.{rest}"] = value
        elif head == "offline" and rest in known:
            out |= {f"{p.name}.{rest}": value for p in phases if p.name.startswith("retrain")}
        elif path == "offline.batch.offline":
            out |= {f"{p.name}.batch.{_size(p.batch)}": value for p in phases if p.slot == STUDENT and p.ticks}
    return out
