"""A recipe: a paper as plain data, and how presets and a user's words change it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from segue.agents.around import parts_of
from segue.core import options
from segue.core.scaling import Units
from segue.core.types import SegueError
from segue.engine.phase import Phase
from segue.recipes.meanings import meaning

Settings = Mapping[str, Any]
Rule = Callable[[tuple[Phase, ...], Units], tuple[Phase, ...]]


@dataclass(frozen=True)
class Evaluation:
    """How a run is judged: `episodes` per seed and evaluation, without exploration noise."""

    episodes: int = 20
    """0 evaluates nothing, and so does the setting evaluation=none."""
    training_episodes: int = options.option(0, when=lambda e: e.episodes == 0, why="evaluation=none")
    """Training episodes, the last ones, whose mean the report takes for an evaluation; 0 takes none (default of ours,
    and 10 for a world that exists once)."""

    def __post_init__(self) -> None:
        options.require(self, episodes=self.episodes >= 0, training_episodes=self.training_episodes >= 0)


@dataclass(frozen=True)
class Recipe:
    """Phases, units and presets of one published method.

    `presets` maps a task's domain, its `presets` or its name to settings by path (see `segue.core.options`); the
    particular comes after the general.
    """

    name: str
    paper: str
    aim: str
    """The published number that the recipe aims at, or what it is for."""
    phases: tuple[Phase, ...]
    units: Units
    evaluation: Evaluation = field(default_factory=Evaluation)
    presets: Mapping[str, Settings] = field(default_factory=dict)
    more: Mapping[str, tuple[Phase, ...]] = field(default_factory=dict)
    """Phases that come last on tasks of these names alone."""

    def options(self) -> dict[str, Any]:
        """All options by full path, in the order of phases."""
        out = {f"units.{k}": v for k, v in options.leaves(self.units).items()}
        out |= {f"evaluation.{k}": v for k, v in options.leaves(self.evaluation).items()}
        for phase in self.phases:
            out |= {f"{phase.name}.{k}": v for k, v in options.leaves(phase).items() if k not in ("name", "slot")}
        return out


@dataclass(frozen=True)
class Resolved:
    """A recipe with all its numbers decided, and where each of them came from."""

    recipe: Recipe
    sources: Mapping[str, str]

    def table(self) -> dict[str, dict[str, Any]]:
        """{path: {"value", "source"}}, JSON-ready."""
        plain = lambda v: list(v) if isinstance(v, tuple) else v  # noqa: E731
        return {
            path: {"value": plain(value), "source": self.sources.get(path, "default")}
            for path, value in self.recipe.options().items()
        }

    def explained(self) -> dict[str, dict[str, Any]]:
        """{path: {"value", "source", "meaning"}} of everything that a setting can name, JSON-ready.

        Beside the options stands what is computed from them: PHASE.utd_ratio.
        """
        table, rows = self.table(), {}
        owners = {"units": self.recipe.units, "evaluation": self.recipe.evaluation}
        phases = {p.name: p for p in self.recipe.phases}
        for path, entry in table.items():
            head, _, rest = path.partition(".")
            said = meaning({**owners, **phases}[head], rest)
            if rest == "units" and entry["value"] is None:
                said = f"{said} Its parts are set one by one: {path}.scale=2"
            rows[path] = entry | {"meaning": said}
            if rest == "updates" and phases[head].collect:
                ratio = phases[head].updates / phases[head].collect
                said = f"updates per environment step: {head}.updates / {head}.collect"
                rows[f"{head}.utd_ratio"] = {"value": ratio, "source": entry["source"], "meaning": said}
        return rows


def extended(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """Return a recipe with the phases that it has on a task of these names."""
    more = [phase for name in dict.fromkeys(names) for phase in recipe.more.get(name, ())]
    return replace(recipe, phases=(*recipe.phases, *more), more={})


def resolve(
    recipe: Recipe,
    names: Sequence[str],
    settings: Settings,
    facts: Settings | None = None,
    rules: Mapping[str, Rule] | None = None,
) -> Resolved:
    """Apply the task's own facts, presets in the order of `names`, hand-over rules, and the user's settings; then
    settle the numbers that follow from others.

    Raises `SegueError` for an unknown name (with the nearest known one), a wrong type, or an option of the user's
    that has no effect.
    """
    sources: dict[str, str] = {}
    recipe = extended(recipe, names)
    for path, value in (facts or {}).items():
        recipe, changed = apply(recipe, path, value)
        sources |= dict.fromkeys(changed, "task")
    for name, preset in ((n, recipe.presets[n]) for n in dict.fromkeys(names) if n in recipe.presets):
        for path, value in preset.items():
            recipe, changed = apply(recipe, path, value)
            sources |= dict.fromkeys(changed, f"preset {name}")
    for word, rule in (rules or {}).items():
        before, recipe = recipe.options(), replace(recipe, phases=rule(recipe.phases, recipe.units))
        sources |= {k: f"rule {word}" for k, v in recipe.options().items() if k not in before or before[k] != v}
    touched: list[tuple[str, list[str]]] = []
    for path, value in settings.items():
        recipe, changed = apply(recipe, path, value)
        sources |= dict.fromkeys(changed, "settings")
        touched.append((path, changed))
    for path, changed in touched:
        failures = []
        for full in changed:
            owner, _, rest = full.partition(".")
            try:
                options.check_effect(_owner(recipe, owner), rest, path)
            except SegueError as error:
                failures.append(error)
        if len(failures) == len(changed):
            raise failures[0]
    recipe, following = _settled(recipe)
    return Resolved(recipe, sources | following)


def _settled(recipe: Recipe) -> tuple[Recipe, dict[str, str]]:
    """Give the learners' numbers that follow from others their values, and say by path from what."""
    phases, sources, before = [], dict[str, str](), 0
    for phase in recipe.phases:
        per_step = phase.updates / phase.collect if phase.collect else 1.0
        pace = options.Pace(phase.ticks * phase.updates, per_step, before)
        learner, found = options.settled(phase.learner, pace, f"{phase.name}.learner.")
        phases.append(replace(phase, learner=learner))
        sources |= {path: f"from {what}" for path, what in found.items()}
        before += phase.ticks * phase.collect
    return replace(recipe, phases=tuple(phases)), sources


def _owner(recipe: Recipe, name: str) -> Any:
    known = {"units": recipe.units, "evaluation": recipe.evaluation} | {p.name: p for p in recipe.phases}
    return known[name]


def apply(recipe: Recipe, path: str, value: Any) -> tuple[Recipe, list[str]]:
    """Return the recipe with one setting applied, and the full paths that it changed."""
    if path == "evaluation" and value in (None, "none"):
        path, value = "evaluation.episodes", 0
    head, _, rest = path.partition(".")
    words = rest.split(".") if rest else []
    slots = {p.slot for p in recipe.phases}
    known = ["units", "evaluation", *(p.name for p in recipe.phases), *slots]
    if head not in known:
        options.unknown(path, head, known)
    if not words:
        raise SegueError(f"{path}: name a field of it, for example {head}.{_example(recipe, head)}")
    if head in ("units", "evaluation"):
        part, full = options.assign(getattr(recipe, head), words, value, path)
        if head == "units":  # phases with units of their own follow where they had the recipe's value
            before, name = recipe.units, full.partition(".")[0]
            same = [p.units is not None and getattr(p.units, name) == getattr(before, name) for p in recipe.phases]
            recipe = replace(
                recipe,
                phases=tuple(
                    replace(p, units=options.assign(p.units, words, value, path)[0]) if follows else p
                    for p, follows in zip(recipe.phases, same)
                ),
            )
        return replace(recipe, **{head: part}), [f"{head}.{full}"]
    phases, changed, refused = [], [], []
    for phase in recipe.phases:
        if phase.name == head:
            if words[0] == "units" and phase.units is None:
                phase = replace(phase, units=recipe.units)
            phase, full = _assign_phase(phase, words, value, path)
            changed.append(f"{phase.name}.{full}")
        elif phase.slot == head or head in (parts := parts_of(phase.learner)):
            inside = [] if phase.slot == head else [parts[head]]
            try:
                learner, full = options.assign(phase.learner, [*inside, *words], value, path)
            except options.Unknown as error:  # one learner of several in the slot may have the option alone
                refused.append(error)
            else:
                phase = replace(phase, learner=learner)
                changed.append(f"{phase.name}.learner.{full}")
        phases.append(phase)
    if refused and not changed:
        raise refused[0]
    return replace(recipe, phases=tuple(phases)), changed


def _assign_phase(phase: Phase, words: list[str], value: Any, path: str) -> tuple[Phase, str]:
    if words == ["utd_ratio"]:  # the field's word for updates per environment step
        if not phase.collect:
            raise SegueError(f"{path}: phase '{phase.name}' takes no environment steps, so it has no utd_ratio")
        updates = options.parse(path, value, float) * phase.collect
        if not math.isfinite(updates) or updates != int(updates) or updates < 0:
            raise SegueError(f"{path}: {value} x {phase.collect} steps a tick is not a whole number of updates")
        return replace(phase, updates=int(updates)), "updates"
    return options.assign(phase, words, value, path)


def _example(recipe: Recipe, head: str) -> str:
    if head in ("units", "evaluation"):
        return next(iter(options.leaves(getattr(recipe, head))))
    return "ticks" if any(p.name == head for p in recipe.phases) else "base.actor_learning_rate"
