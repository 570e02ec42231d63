"""A plan: the phases and options of a recipe for one task, and the source of each value."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, NamedTuple, TypedDict

from segue.agents.one_of import parts_of
from segue.core import options
from segue.core.parts import extended, is_part, names_part
from segue.core.scaling import Scaling
from segue.core.types import Agent, SegueError
from segue.engine.phase import Phase
from segue.recipes.common import Settings
from segue.recipes.meanings import meaning
from segue.samplers.size import counts, resized, size

Rule = Callable[[tuple[Phase, ...], Scaling], tuple[Phase, ...]]
DEFAULT, USER = "default", "settings"
WHOLE = ("scaling", "evaluation", "experience")
"""What a plan decides for all its phases: fields of `Plan`, and first words of paths."""


class Decided(TypedDict):
    """The value of an option, and where it came from."""

    value: object
    source: str


class Explained(Decided):
    """And what the option means."""

    meaning: str


@dataclass(frozen=True)
class Evaluation:
    """Evaluation of a run: `episodes` per seed and evaluation, without exploration noise."""

    episodes: int = 20
    """Episodes per seed and evaluation; 0, or the setting evaluation=none, switches evaluations off."""
    training_episodes: int = options.option(0, when=lambda e: e.episodes == 0, why="evaluation=none")
    """Number of last training episodes whose mean replaces evaluations in the report; 0 uses none (default of ours; 10
    for a real environment)."""

    def __post_init__(self) -> None:
        options.require(self, episodes=self.episodes >= 0, training_episodes=self.training_episodes >= 0)


@dataclass(frozen=True)
class OwnExperience:
    """How a run collects its own experience, and how much of it is kept to learn from."""

    capacity: int | None = None
    """Rows of own experience that each seed keeps, the oldest thrown away first; none keeps all (default of ours)."""
    envs: int = 1
    """Simulators of each seed, which step side by side (`n_envs` in Stable-Baselines3).  Each step of theirs counts as
    so many environment steps, and updates come after whole ones: train_every becomes a multiple, and utd_ratio stays
    what it is.  Default of ours: 1; more are worth it for slow simulators, with --env-workers."""

    def __post_init__(self) -> None:
        options.require(self, capacity=self.capacity is None or self.capacity >= 1, envs=self.envs >= 1)


@dataclass(frozen=True)
class Plan:
    """The phases and options of a recipe for one task.  Each method returns a changed copy."""

    phases: tuple[Phase, ...]
    scaling: Scaling
    evaluation: Evaluation = field(default_factory=Evaluation)
    experience: OwnExperience = field(default_factory=OwnExperience)
    paper: str = ""
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Where a value came from, by path, unless it is the method's default: "task", "preset NAME", "rule WORD",
    "settings", or "from X" for a number that follows from another."""
    follows: Mapping[str, str] = field(default_factory=dict)
    """{path: other path}: options that take another option's value, unless they are set."""
    aliases: Mapping[str, str] = field(default_factory=dict, compare=False)
    """{name that a setting used: what it stands for}."""

    def options(self) -> dict[str, object]:
        """All options by full path, in the order of phases."""
        out = {f"{name}.{k}": v for name in WHOLE for k, v in options.leaves(getattr(self, name)).items()}
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
            before, (plan, changed) = plan, apply(plan, path, value)
            sources = dict(plan.sources)
            for whole in (full.removesuffix("type") for full in changed if full.endswith(".type")):
                sources = {path: found for path, found in sources.items() if not path.startswith(whole)}
                sources |= {} if is_part(value) or isinstance(value, Mapping) else _inherited(before, plan, whole)
            plan = replace(plan, sources=sources | dict.fromkeys(changed, source))
        return plan

    def preset(self, table: Mapping[str, Settings], names: Sequence[str]) -> Plan:
        """Apply a table of {name: settings} to a task of these names, from the general to the particular."""
        plan = self
        for name in dict.fromkeys(names):
            plan = plan.set(table.get(name, {}), f"preset {name}")
        return plan

    def ruled(self, rules: Mapping[str, Rule]) -> Plan:
        """Apply hand-over rules by their words."""
        plan = self
        for word, rule in rules.items():
            before, plan = plan.options(), replace(plan, phases=rule(plan.phases, plan.scaling))
            moved = {k: f"rule {word}" for k, v in plan.options().items() if k not in before or before[k] != v}
            plan = replace(plan, sources={**plan.sources, **moved})
        return plan

    def rebuilt(
        self, phases: tuple[Phase, ...], made_from: Mapping[str, Sequence[tuple[Plan, str]]] = MappingProxyType({})
    ) -> Plan:
        """Return the plan with other phases, whose options keep the sources that they had.

        A phase is made from the one of its name.  `made_from` names for others the plans and phases that their learner,
        bonus and scaling were taken from.
        """
        sources = {path: source for path, source in self.sources.items() if path.partition(".")[0] in WHOLE}
        for phase in phases:
            parents = [_known(plan, name) for plan, name in made_from.get(phase.name, [(self, phase.name)])]
            for path, value in options.leaves(phase).items():
                way = path.split(".")
                taken = phase.name not in made_from or way[0] in ("learner", "bonus", "scaling")
                if source := _source_of(way, value, parents if taken else []):
                    sources[f"{phase.name}.{path}"] = source
        return replace(self, phases=phases, sources=sources)

    def settled(self) -> Plan:
        """Set the options whose values follow from others, with the source 'from X'."""
        table, plan = self.options(), self
        for path, other in self.follows.items():
            if path in table and other in table and self.source(path) != USER:
                plan = plan.set({path: table[other]}, f"from {other}")
        phases, sources, before, envs = [], dict(plan.sources), 0, plan.experience.envs
        for phase in plan.phases:
            if phase.collects and phase.train_every % envs:
                phase = replace(phase, train_every=math.lcm(phase.train_every, envs))
                sources[f"{phase.name}.train_every"] = "from experience.envs"
            pace = options.Pace(phase.all_updates, phase.utd_ratio if phase.collects else 1.0, before)
            learner, found = options.settled(phase.learner, pace, f"{phase.name}.learner.")
            phases.append(replace(phase, learner=learner))
            sources |= {path: f"from {what}" for path, what in found.items()}
            before += phase.moves
        return replace(plan, phases=tuple(phases), sources=sources)

    def told(self) -> list[str]:
        """Lines that say what the names stand for that other libraries have for options."""
        return [f"{given} is Segue's {own}" for given, own in self.aliases.items()]

    def table(self) -> dict[str, Decided]:
        """{path: {"value", "source"}}, JSON-ready."""
        plain = lambda v: list(v) if isinstance(v, tuple) else v  # noqa: E731
        return {path: {"value": plain(v), "source": self.source(path)} for path, v in self.options().items()}

    def explained(self) -> dict[str, Explained]:
        """{path: {"value", "source", "meaning"}} of everything that a setting can name, JSON-ready.

        Also holds a computed value: PHASE.batch_size.
        """
        rows, owners, phases = dict[str, Explained](), self.owners(), {p.name: p for p in self.phases}
        for path, entry in self.table().items():
            head, _, rest = path.partition(".")
            said = meaning(owners[head], rest)
            if rest == "scaling" and entry["value"] is None:
                said = f"{said} Its parts are set one by one: {path}.reward_scale=2"
            rows[path] = {**entry, "meaning": said}
            if rest == "batch.type" and phases[head].updates and (counted := counts(phases[head].batch)):
                said = "rows of one update of the critics: those that the batch draws / critic_updates"
                drawn, first = size(counted) // _critic_updates(phases[head]), next(iter(counted))
                source = self.source(f"{head}.batch.{first}")
                rows[f"{head}.batch_size"] = {"value": drawn, "source": source, "meaning": said}
        return rows

    def owners(self) -> dict[str, object]:
        """The first words of paths, and what they are of."""
        return {name: getattr(self, name) for name in WHOLE} | {p.name: p for p in self.phases}


def stands_for(plan: Plan, path: str) -> list[str]:
    """Paths that a setting's path stands for: itself, but for a word of `options.BARE` alone.

    That is the plan's own option of that name, else the option of each phase that updates, else that of the learner of
    each slot that has it.  `SegueError` where there is none.
    """
    phases = {p.name: p for p in plan.phases}
    if path not in options.BARE or path in (*phases, *(p.slot for p in plan.phases)):
        return [path]
    name = options.ALIASES.get(path, path)
    found = [f"{head}.{name}" for head in WHOLE if name in options.reachable(getattr(plan, head))]
    if not found and name in ("batch_size", "n_steps"):
        found = [f"{p.name}.{name}" for p in plan.phases if p.updates]
    if not found:
        having = [p.slot for p in plan.phases if p.learns and name in options.reachable(p.learner)]
        found = [f"{slot}.learner.{name}" if slot in phases else f"{slot}.{name}" for slot in dict.fromkeys(having)]
    if not found:
        raise SegueError(f"{path}: no learner of this recipe has {name}")
    return found


def apply(plan: Plan, path: str, value: object) -> tuple[Plan, list[str]]:
    """Return a plan with one setting applied, and the full paths that it changed."""
    if path == "evaluation" and value in (None, "none"):
        path, value = "evaluation.episodes", 0
    changed: list[str] = []
    for one in stands_for(plan, path):
        try:
            plan, more = _apply(plan, one, value, path if path in options.BARE else one)
        except options.Unknown as error:
            head, _, name = one.partition(".")
            own = options.ALIASES.get(name, name)
            owner = next((w for w in WHOLE if w != head and own in options.leaves(getattr(plan, w))), None)
            if owner is None:
                raise
            said = f"{path}: there is no '{name}'; did you mean {owner}.{own}, which is the whole run's?"
            raise options.Unknown(said) from error
        changed += more
    return plan, changed


def _apply(plan: Plan, path: str, value: object, shown: str) -> tuple[Plan, list[str]]:
    """Apply a setting of one path; messages call it `shown`."""
    head, _, rest = path.partition(".")
    words = rest.split(".") if rest else []
    slots = {p.slot for p in plan.phases}
    known = [*WHOLE, *(p.name for p in plan.phases), *slots]
    if head not in known:
        options.unknown(path, head, known if rest else [*known, *options.BARE])
    whole = not words and head in slots and names_part(value)
    if not words and not whole:
        raise SegueError(f"{path}: name a field of it, for example {head}.{_example(plan, head)}")
    if head in WHOLE:
        part, full = options.assign(getattr(plan, head), words, value, shown)
        if head == "scaling":  # phases with a scaling of their own follow where they had the plan's value
            before, name = plan.scaling, full.partition(".")[0]
            same = [p.scaling is not None and getattr(p.scaling, name) == getattr(before, name) for p in plan.phases]
            plan = replace(
                plan,
                phases=tuple(
                    replace(p, scaling=options.assign(p.scaling, words, value, path)[0]) if follows else p
                    for p, follows in zip(plan.phases, same)
                ),
            )
        return replace(plan, **{head: part}), [f"{head}.{full}"]
    phases, changed, refused = [], [], []
    usual = next((type(p.learner) for p in plan.phases if p.slot == head), None)
    for phase in plan.phases:
        if whole and phase.slot == head:  # systems have the agent inside another learner in some phases
            phase, full = options.assign(phase, ["learner", *_way_to(usual, phase.learner)], value, shown)
            changed.append(f"{phase.name}.{full}")
        elif phase.name == head and not whole:
            if words[0] == "scaling" and phase.scaling is None:
                phase = replace(phase, scaling=plan.scaling)
            phase, paths = _assign_phase(phase, words, value, shown)
            changed += [f"{phase.name}.{full}" for full in paths]
        elif phase.slot == head or head in (parts := parts_of(phase.learner)):
            inside = [] if phase.slot == head else [parts[head]]
            try:
                learner, full = options.assign(phase.learner, [*inside, *words], value, shown)
            except options.Unknown as error:  # one learner of several in the slot may have the option alone
                refused.append(error)
            else:
                phase = replace(phase, learner=learner)
                changed.append(f"{phase.name}.learner.{full}")
        phases.append(phase)
    if refused and not changed:
        raise refused[0]
    if words[-1:] != ["start"]:  # a bare number has moved the end of a line with its start
        changed += [f"{full.removesuffix('start')}end" for full in changed if full.endswith(".start")]
    return replace(plan, phases=tuple(phases)), changed


def _way_to(usual: type | None, learner: Any) -> list[str]:
    """Fields that lead to a slot's agent in a learner: none, but where a system has put another one around it."""
    inside = [f.name for f in fields(learner) if isinstance(getattr(learner, f.name), Agent)]
    return [] if type(learner) is usual else inside[:1]


def _assign_phase(phase: Phase, words: list[str], value: object, path: str) -> tuple[Phase, list[str]]:
    if words == ["batch_size"]:
        batch, paths = resized(phase.batch, options.parse(path, value, int) * _critic_updates(phase), path)
        return replace(phase, batch=batch), [f"batch.{inner}" for inner in paths]
    phase, full = options.assign(phase, words, value, path)
    return phase, [full]


def _critic_updates(phase: Phase) -> int:
    """Updates of the critics that a phase's learner does on parts of one batch."""
    found = options.leaves(phase.learner)
    return next((int(v) for path, v in found.items() if path.rpartition(".")[2] == "critic_updates"), 1)


def _example(plan: Plan, head: str) -> str:
    if head in WHOLE:
        return next(iter(options.leaves(getattr(plan, head))))
    return "evaluate_every" if any(p.name == head for p in plan.phases) else "base.actor_learning_rate"


def _inherited(before: Plan, plan: Plan, whole: str) -> dict[str, str]:
    """Sources of what a class that was set as a whole has taken over from the part before, at the path `whole`."""
    head, *way = whole[:-1].split(".")
    was, now = before.owners()[head], plan.owners()[head]
    for name in way:
        was, now = getattr(was, name), getattr(now, name)
    if extended(now, was) is None:
        return {}
    known, values = [_known(before, head)], options.leaves(now, whole)
    found = {path: _source_of(path.split(".")[1:], value, known) for path, value in values.items()}
    return {path: source for path, source in found.items() if source}


class _Option(NamedTuple):
    way: list[str]
    value: object
    source: str


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many last words two paths have in common."""
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(reversed(one), reversed(other))))


def _source_of(
    way: Sequence[str], value: object, parents: Sequence[Mapping[tuple[str, str], list[_Option]]]
) -> str | None:
    """Where an option's value came from: of those with its name and value the one with the longest way in common."""
    alike = [o for parent in parents for o in parent.get((way[0], way[-1]), ()) if o.value == value]
    return max(alike, key=lambda option: _common(way, option.way)).source if alike else None


def _known(plan: Plan, name: str) -> dict[tuple[str, str], list[_Option]]:
    """Options of a plan's phase of that name (none where there is none), by the first and the last word of their path.

    A phase without a scaling of its own has the plan's.
    """
    out: dict[tuple[str, str], list[_Option]] = {}
    for phase in plan.phases:
        if phase.name == name:
            owned = {path: (f"{name}.{path}", value) for path, value in options.leaves(phase).items()}
            if phase.scaling is None:
                owned |= {path: (path, value) for path, value in options.leaves(plan.scaling, "scaling.").items()}
            for path, (full, value) in owned.items():
                way = path.split(".")
                out.setdefault((way[0], way[-1]), []).append(_Option(way, value, plan.source(full)))
    return out
