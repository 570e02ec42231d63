"""A plan: what a recipe says for one task, option by option, and where each value came from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from segue.agents.around import parts_of
from segue.core import options
from segue.core.scaling import Units
from segue.core.types import SegueError
from segue.engine.phase import Phase
from segue.recipes.meanings import meaning

Settings = Mapping[str, Any]
Rule = Callable[[tuple[Phase, ...], Units], tuple[Phase, ...]]
DEFAULT, USER = "default", "settings"


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
class Plan:
    """What a recipe says for one task.  Each method returns a changed copy."""

    phases: tuple[Phase, ...]
    units: Units
    evaluation: Evaluation = field(default_factory=Evaluation)
    paper: str = ""
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where a value came from, by path, unless it is the method's default: "task", "preset NAME", "rule WORD",
    "settings", or "from X" for a number that follows from another."""
    follows: Mapping[str, str] = field(default_factory=dict)
    """{path: other path}: options that take another option's value, unless they are set."""

    def options(self) -> dict[str, Any]:
        """All options by full path, in the order of phases."""
        out = {f"units.{k}": v for k, v in options.leaves(self.units).items()}
        out |= {f"evaluation.{k}": v for k, v in options.leaves(self.evaluation).items()}
        for phase in self.phases:
            out |= {f"{phase.name}.{k}": v for k, v in options.leaves(phase).items() if k not in ("name", "slot")}
        return out

    def source(self, path: str) -> str:
        """Where the value of an option came from."""
        return self.sources.get(path, DEFAULT)

    def set(self, settings: Settings, source: str) -> Plan:
        """Set options by path (see `segue.core.options`), and note their source.  Raises `SegueError`."""
        plan = self
        for path, value in settings.items():
            plan, changed = apply(plan, path, value)
            plan = replace(plan, sources={**plan.sources, **dict.fromkeys(changed, source)})
        return plan

    def preset(self, table: Mapping[str, Settings], names: Sequence[str]) -> Plan:
        """Set what a table of {name: settings} says for a task of these names, the particular after the general."""
        plan = self
        for name in dict.fromkeys(names):
            plan = plan.set(table.get(name, {}), f"preset {name}")
        return plan

    def ruled(self, rules: Mapping[str, Rule]) -> Plan:
        """Apply hand-over rules by their words."""
        plan = self
        for word, rule in rules.items():
            before, plan = plan.options(), replace(plan, phases=rule(plan.phases, plan.units))
            moved = {k: f"rule {word}" for k, v in plan.options().items() if k not in before or before[k] != v}
            plan = replace(plan, sources={**plan.sources, **moved})
        return plan

    def rebuilt(
        self, phases: tuple[Phase, ...], made_from: Mapping[str, Sequence[tuple[Plan, str]]] = MappingProxyType({})
    ) -> Plan:
        """Return the plan with other phases, whose options keep the sources that they had.

        A phase is made from the one of its name.  `made_from` names for others the plans and phases that their learner,
        bonus and units were taken from.
        """
        sources = {path: source for path, source in self.sources.items() if path.startswith(("units.", "evaluation."))}
        for phase in phases:
            parents = [_known(plan, name) for plan, name in made_from.get(phase.name, [(self, phase.name)])]
            for path, value in options.leaves(phase).items():
                way = path.split(".")
                taken = phase.name not in made_from or way[0] in ("learner", "augment", "units")
                options_of = (option for parent in parents for option in parent.get((way[0], way[-1]), ()) if taken)
                alike = [option for option in options_of if option.value == value]
                if alike:  # of several with that name and value the one with the longest way in common
                    nearest = max(alike, key=lambda option: _common(way, option.way))
                    sources[f"{phase.name}.{path}"] = nearest.source
        return replace(self, phases=phases, sources=sources)

    def settled(self) -> Plan:
        """Give the numbers that follow from others their values, and say from what."""
        table, plan = self.options(), self
        for path, other in self.follows.items():
            if path in table and other in table and self.source(path) != USER:
                plan = plan.set({path: table[other]}, f"from {other}")
        phases, sources, before = [], dict(plan.sources), 0
        for phase in plan.phases:
            per_step = phase.updates / phase.collect if phase.collect else 1.0
            pace = options.Pace(phase.ticks * phase.updates, per_step, before)
            learner, found = options.settled(phase.learner, pace, f"{phase.name}.learner.")
            phases.append(replace(phase, learner=learner))
            sources |= {path: f"from {what}" for path, what in found.items()}
            before += phase.ticks * phase.collect
        return replace(plan, phases=tuple(phases), sources=sources)

    def table(self) -> dict[str, dict[str, Any]]:
        """{path: {"value", "source"}}, JSON-ready."""
        plain = lambda v: list(v) if isinstance(v, tuple) else v  # noqa: E731
        return {path: {"value": plain(v), "source": self.source(path)} for path, v in self.options().items()}

    def explained(self) -> dict[str, dict[str, Any]]:
        """{path: {"value", "source", "meaning"}} of everything that a setting can name, JSON-ready.

        Beside the options stands what is computed from them: PHASE.utd_ratio.
        """
        rows, owners = {}, self.owners()
        for path, entry in self.table().items():
            head, _, rest = path.partition(".")
            said = meaning(owners[head], rest)
            if rest == "units" and entry["value"] is None:
                said = f"{said} Its parts are set one by one: {path}.scale=2"
            rows[path] = entry | {"meaning": said}
            if rest == "updates" and owners[head].collect:
                ratio = owners[head].updates / owners[head].collect
                said = f"updates per environment step: {head}.updates / {head}.collect"
                rows[f"{head}.utd_ratio"] = {"value": ratio, "source": entry["source"], "meaning": said}
        return rows

    def owners(self) -> dict[str, Any]:
        """The first words of paths, and what they are of."""
        return {"units": self.units, "evaluation": self.evaluation} | {p.name: p for p in self.phases}


def apply(plan: Plan, path: str, value: Any) -> tuple[Plan, list[str]]:
    """Return a plan with one setting applied, and the full paths that it changed."""
    if path == "evaluation" and value in (None, "none"):
        path, value = "evaluation.episodes", 0
    head, _, rest = path.partition(".")
    words = rest.split(".") if rest else []
    slots = {p.slot for p in plan.phases}
    known = ["units", "evaluation", *(p.name for p in plan.phases), *slots]
    if head not in known:
        options.unknown(path, head, known)
    if not words:
        raise SegueError(f"{path}: name a field of it, for example {head}.{_example(plan, head)}")
    if head in ("units", "evaluation"):
        part, full = options.assign(getattr(plan, head), words, value, path)
        if head == "units":  # phases with units of their own follow where they had the plan's value
            before, name = plan.units, full.partition(".")[0]
            same = [p.units is not None and getattr(p.units, name) == getattr(before, name) for p in plan.phases]
            plan = replace(
                plan,
                phases=tuple(
                    replace(p, units=options.assign(p.units, words, value, path)[0]) if follows else p
                    for p, follows in zip(plan.phases, same)
                ),
            )
        return replace(plan, **{head: part}), [f"{head}.{full}"]
    phases, changed, refused = [], [], []
    for phase in plan.phases:
        if phase.name == head:
            if words[0] == "units" and phase.units is None:
                phase = replace(phase, units=plan.units)
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
    if words[-1] != "start":  # a bare number has moved the end of a line with its start
        changed += [f"{full.removesuffix('start')}end" for full in changed if full.endswith(".start")]
    return replace(plan, phases=tuple(phases)), changed


def _assign_phase(phase: Phase, words: list[str], value: Any, path: str) -> tuple[Phase, str]:
    if words == ["utd_ratio"]:  # the field's word for updates per environment step
        if not phase.collect:
            raise SegueError(f"{path}: phase '{phase.name}' takes no environment steps, so it has no utd_ratio")
        updates = options.parse(path, value, float) * phase.collect
        if not math.isfinite(updates) or updates != int(updates) or updates < 0:
            raise SegueError(f"{path}: {value} x {phase.collect} steps a tick is not a whole number of updates")
        return replace(phase, updates=int(updates)), "updates"
    return options.assign(phase, words, value, path)


def _example(plan: Plan, head: str) -> str:
    if head in ("units", "evaluation"):
        return next(iter(options.leaves(getattr(plan, head))))
    return "ticks" if any(p.name == head for p in plan.phases) else "base.actor_learning_rate"


class _Option(NamedTuple):
    way: list[str]
    value: Any
    source: str


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many last words two paths have in common."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(reversed(one), reversed(other))))


def _known(plan: Plan, name: str) -> dict[tuple[str, str], list[_Option]]:
    """Options of a plan's phase of that name (none where there is none), by the first and the last word of their path.

    A phase without units of its own has the plan's.
    """
    out: dict[tuple[str, str], list[_Option]] = {}
    for phase in plan.phases:
        if phase.name == name:
            owned = {path: (f"{name}.{path}", value) for path, value in options.leaves(phase).items()}
            if phase.units is None:
                owned |= {path: (path, value) for path, value in options.leaves(plan.units, "units.").items()}
            for path, (full, value) in owned.items():
                way = path.split(".")
                out.setdefault((way[0], way[-1]), []).append(_Option(way, value, plan.source(full)))
    return out
