"""Offline RL as a subroutine of online RL (Su, Luo and Zhang 2025, arXiv 2512.00383).

An agent learns online from scratch.  Its history is then the dataset of an offline agent, whose policy is recommended,
or fine-tuned with the rest of the budget.  One budget counts all environment steps: training, fresh data, and the
roll-outs that choose among checkpoints.

      online ──┬── buffer: all rows ─────────────────> retrain ──┬──────────────> recommended
               └── fresh: gather with the best policy ──┘        └─> fine-tune ──> recommended, or retrain again

The paper's lists of variants and tasks could not be read; phases and numbers follow the first author's earlier code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from segue.agents.one_of import OneOf, better
from segue.core.types import Agent, Learner, SegueError
from segue.engine.phase import Phase, Validation, at_switch, fresh, from_slot
from segue.engine.sharing import Either
from segue.recipes.method import tried
from segue.recipes.plan import DEFAULT, Plan
from segue.recipes.recipe import Recipe
from segue.samplers.oversample import Oversample
from segue.samplers.subset import Last
from segue.samplers.uniform import Mix

STUDENT, BEST, BEST_STUDENT, BEST_TUNED = "student", "best", "best-student", "best-tuned"


@dataclass(frozen=True)
class Budget:
    """Environment steps per seed, and their items; the online agent gets the rest."""

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


Phases = tuple[Phase, ...]
# A form of the method: from the phases of the online agent, and the offline agent as it learns offline and fine-tunes.
Form = Callable[[Phases, Learner, Learner], Phases]


# What each form does: `segue.recipes.SYSTEMS`.
def _validated(online: Phases, learner: Learner, tuned: Learner) -> Phases:
    acting = online[-1]
    return (*_kept(online), Phase("recommended", acting.learner, slot=acting.slot, init_from=from_slot(BEST)))


def _recommend(online: Phases, learner: Learner, tuned: Learner) -> Phases:
    return (*online, _retrain(1, learner), _best(learner))


def _recommend_fresh(online: Phases, learner: Learner, tuned: Learner) -> Phases:
    return (*_fresh(online), _retrain(1, learner, new=True), _best(learner))


def _recommend_weighted(online: Phases, learner: Learner, tuned: Learner) -> Phases:
    better_rows = Oversample(256, None, by="return", own_only=True)
    return (*online, replace(_retrain(1, learner), batch=better_rows), _best(learner))


def _fine_tune(online: Phases, learner: Learner, tuned: Learner) -> Phases:
    return (*online, _retrain(1, learner), _tune(1, tuned), Phase("recommended", tuned, slot=STUDENT))


def _fine_tune_fresh(online: Phases, learner: Learner, tuned: Learner) -> Phases:
    final = Phase("recommended", tuned, slot=STUDENT)
    return (*_fresh(online), _retrain(1, learner, new=True), _tune(1, tuned), final)


def _recommend_better(online: Phases, learner: Learner, tuned: Learner) -> Phases:
    # Both agents must learn in the same scaling, for whose values a report shows.
    acting = online[-1].learner
    if not isinstance(acting, Agent) or not isinstance(learner, Agent):
        raise SegueError("recommend-better: both recipes need values; take another than a cloned policy")
    both = OneOf(acting, learner, (online[-1].slot, STUDENT))
    final = Phase("recommended", both, slot="recommended", init_from=better(BEST, BEST_STUDENT))
    return (*_kept(online), _retrain(1, learner), final)


def _alternate(online: Phases, learner: Learner, tuned: Learner) -> Phases:
    shared = replace(_tune(1, tuned), actor=Either(BEST_STUDENT), validation=Validation(1, keep=BEST_TUNED))
    final = Phase("recommended", tuned, slot=STUDENT, init_from=from_slot(BEST_TUNED))
    return (*online, _retrain(1, learner), shared, final)


def _repeat(online: Phases, learner: Learner, tuned: Learner) -> Phases:
    lessons = [part for n in (1, 2) for part in (_retrain(n, learner), _tune(n, tuned))]
    return (*online, *lessons, _retrain(3, learner), _best(learner))


FORMS: dict[str, Form] = {
    "validated": _validated,
    "recommend": _recommend,
    "recommend-fresh": _recommend_fresh,
    "recommend-weighted": _recommend_weighted,
    "fine-tune": _fine_tune,
    "fine-tune-fresh": _fine_tune_fresh,
    "recommend-better": _recommend_better,
    "alternate": _alternate,
    "repeat": _repeat,
}


def subroutine(word: str, online: Recipe, offline: Recipe | None = None) -> Recipe:
    """Return a form of the method, by its word, with these two recipes (`validated` takes the online one alone)."""
    second = [] if offline is None else [offline]
    who = f"{word}({','.join(r.name for r in (online, *second))})"
    return tried(
        who,
        f"Su, Luo and Zhang 2025, arXiv 2512.00383, with {'; '.join(r.paper for r in (online, *second))}",
        "gains mainly where rewards are sparse, once policies are validated (the paper's abstract)",
        lambda task: subroutine_plan(FORMS[word], online(task), *(r(task) for r in second), names=task.names, who=who),
    )


def subroutine_plan(
    form: Form, online: Plan, offline: Plan | None = None, *, names: Sequence[str], who: str = "subroutine"
) -> Plan:
    """Return the plan of a form for a task of these names, whose steps and validations cost exactly its budget."""
    acting, taught = _online(who, online), [] if offline is None else _pair(who, offline)
    phases = form(acting, *(p.learner for p in taught or (acting[-1], acting[-1])))
    chunks = {"recommended": acting[-1].chunk, STUDENT: taught[0].chunk if taught else acting[-1].chunk}
    if any(p.slot == "recommended" for p in phases) and len({*chunks.values()}) > 1:
        raise SegueError(f"{who}: chooses between policies that plan {' and '.join(map(str, chunks.values()))} actions")
    phases = tuple(replace(p, chunk=chunks.get(p.slot, acting[-1].chunk)) for p in phases)
    students = [p.name for p in phases if p.slot in (STUDENT, "recommended")]
    made_from = {p.name: [(online, acting[-1].name)] for p in phases if p.name not in {a.name for a in acting}}
    if offline is not None:
        # What scaling reads off a dataset is left out: there is none but the run's own.
        scaling = replace(offline.scaling, standardise=False, reward_span=None)
        phases = tuple(replace(p, scaling=scaling) if p.name in students else p for p in phases)
        for phase in phases:
            if phase.name in students:
                of = taught[phase.name.startswith("fine-tune")]
                first = made_from[phase.name] if phase.slot == "recommended" else []
                made_from[phase.name] = [(offline, of.name), *((offline, p.name) for p in taught), *first]
    made = online.rebuilt(phases, made_from)
    if offline is not None and isinstance(taught[0].batch, Mix):
        sizes = {
            f"{p.name}.batch.{'rows' if isinstance(p.batch, Oversample) else 'online'}": taught[0].batch.offline
            for p in phases
            if p.slot == STUDENT and p.steps
        }
        made = made.set(sizes, offline.source(f"{taught[0].name}.batch.offline"))
    name = next((name for name in reversed(names) if name in SMALL), None)
    budget, source = (USUAL, DEFAULT) if name is None else (SMALL[name], f"preset {name}")
    own = {f"{p.name}.environment_steps": p.moves for p in acting if not p.updates and name is None}
    own = {path: steps for path, steps in own.items() if online.source(path) != DEFAULT}
    spent = _settings(phases, budget, own)
    rows = {f"{p.name}.batch.rows": "gather.environment_steps" for p in phases if isinstance(p.batch, Last)}
    return replace(made.set(spent, source), follows=rows)


def _online(who: str, plan: Plan) -> Phases:
    """The phases of an agent that starts from nothing, up to its learning one."""
    index = at_switch(plan.phases, who)
    batch = plan.phases[index].batch
    logged = not isinstance(batch, Mix) or batch.offline > 0
    if logged or any((p.updates and not p.collects) or p.init_from for p in plan.phases):
        name = who.partition("(")[2].partition(",")[0].removesuffix(")")
        raise SegueError(f"{who}: {name} does not start from scratch; the first recipe must be like sac or td3")
    return plan.phases[: index + 1]


def _pair(who: str, plan: Plan) -> list[Phase]:
    """The phases in which an offline recipe trains its agent before its switch and after it."""
    index = at_switch(plan.phases, who)
    there = [p for p in plan.phases[: index + 1] if p.slot == plan.phases[index].slot]
    before = [p for p in there[:-1] if p.updates]
    if not before or any(p.init_from for p in there):
        why = "starts from another slot (init_from=)" if before else "has no offline phase"
        name = who.removesuffix(")").rpartition(",")[2]
        raise SegueError(f"{who}: {name} {why}; the second recipe must be like iql, cql, cal-ql or td3-bc")
    return [before[-1], there[-1]]


def _kept(online: Phases) -> Phases:
    """The online phases with validations in the last one."""
    return (*online[:-1], replace(online[-1], validation=Validation(1, keep=BEST)))


def _fresh(online: Phases) -> Phases:
    """The online phases, and fresh rows of their best policy."""
    last = online[-1]
    gather = Phase(
        "gather", last.learner, environment_steps=0, utd_ratio=0, slot=last.slot, init_from=from_slot(BEST), greedy=True
    )
    return (*_kept(online), gather)


def _retrain(n: int, learner: Learner, new: bool = False) -> Phase:
    rows = Last(Mix(0, 256), 1) if new else Mix(0, 256)
    kept = Validation(1, keep=BEST_STUDENT)
    return Phase(f"retrain-{n}", learner, gradient_steps=1, batch=rows, slot=STUDENT, init_from=fresh, validation=kept)


def _tune(n: int, tuned: Learner) -> Phase:
    handover = from_slot(BEST_STUDENT)
    return Phase(f"fine-tune-{n}", tuned, environment_steps=1, batch=Mix(0, 256), slot=STUDENT, init_from=handover)


def _best(learner: Learner) -> Phase:
    return Phase("recommended", learner, slot=STUDENT, init_from=from_slot(BEST_STUDENT))


def _settings(phases: tuple[Phase, ...], budget: Budget, own: Mapping[str, int]) -> dict[str, int | float]:
    """Steps and validations of all phases, so that together they cost `budget.total`.

    `own` holds the warm-ups of the online recipe's own presets, by path: they stay, and count.
    """
    out: dict[str, int | float] = {}
    learning = phases[at_switch(phases, "subroutine")]
    for phase in phases:
        if phase.name.startswith("retrain"):
            out |= {f"{phase.name}.gradient_steps": budget.updates, f"{phase.name}.evaluate_every": budget.updates // 5}
            out[f"{phase.name}.validation.steps"] = budget.offline_validation
            if isinstance(phase.batch, Last):
                out[f"{phase.name}.batch.rows"] = budget.fresh
            if isinstance(phase.batch, Oversample):
                out[f"{phase.name}.batch.temperature"] = budget.temperature
        elif phase.name.startswith("fine-tune"):
            out |= {
                f"{phase.name}.environment_steps": budget.tuning,
                f"{phase.name}.evaluate_every": budget.tuning // 10,
            }
            if phase.validation.steps:
                out[f"{phase.name}.validation.steps"] = budget.offline_validation
        elif phase.name == "gather":
            out["gather.environment_steps"] = budget.fresh
        elif phase.collects and not phase.updates:
            warm_up = f"{phase.name}.environment_steps"
            out[warm_up] = own.get(warm_up, budget.warm_up)
        elif phase is learning and phase.validation.steps:
            out[f"{phase.name}.validation.steps"] = budget.online_validation
    steps = sum(v for k, v in out.items() if k.endswith("validation.steps"))
    steps += sum(v for k, v in out.items() if k.endswith(".environment_steps"))
    left = budget.total - steps
    out = {path: value for path, value in out.items() if path not in own}
    return out | {f"{learning.name}.environment_steps": left, f"{learning.name}.evaluate_every": budget.total // 20}
