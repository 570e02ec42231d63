"""Hand-over rules: changes at the switch, or of the budget, for every recipe and agent.

A rule is a function from a recipe's phases to its phases.  The switch is the first phase that learns
online.  On the command line a rule is written `name`, `name=value` or `name=value,field=value`:

    segue run iql hopper-mixed --rules warm_up=5000 freeze_actor=2000 retain=0.5

Without a rule, the optimisers' states, the dataset, the discount and everything else are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from segue import agents, engine, samplers
from segue.core.options import assign, movable, option_of, parse, require, unknown
from segue.core.types import Sampler, SegueError

# Rooms are imported, and not what is in them: to list the rules and to check their words must not wait for JAX.
if TYPE_CHECKING:
    from segue.core.scaling import Scaling

    Phases = tuple[engine.Phase, ...]
    Rule = Callable[[Phases, Scaling], Phases]


def changed(phases: Phases, index: int, **fields: Any) -> Phases:
    """Return phases with one of them changed."""
    return (*phases[:index], replace(phases[index], **fields), *phases[index + 1 :])


@dataclass(frozen=True)
class warm_up:
    """Collect `steps` environment steps before fine-tuning, with the frozen policy or with random actions.

    WSRL collects with the frozen pre-trained policy (arXiv 2412.07762), RLPD (arXiv 2302.02948) and TD3 at random.
    """

    steps: int = 5_000
    policy: Literal["frozen", "random"] = "frozen"

    def __call__(self, phases: Phases, scaling: Scaling) -> Phases:
        """Add a phase that only collects before the switch, or replace an existing one."""
        require(self, steps=self.steps > 0)
        index = engine.at_switch(phases, "warm_up")
        if index and phases[index - 1].collects and not phases[index - 1].updates:
            there = phases[index - 1].actor
            actor = engine.RANDOM if self.policy == "random" else None if there == engine.RANDOM else there
            return changed(phases, index - 1, environment_steps=self.steps, actor=actor)
        switch = phases[index]
        before = next((p for p in reversed(phases[:index]) if p.slot == switch.slot), None)
        # The learner before the switch: the slot is carried on, and the switch's own hand-over stays where it is.
        learner = switch.learner if before is None else before.learner
        extra = engine.Phase(
            "warm-up",
            learner,
            environment_steps=self.steps,
            utd_ratio=0,
            slot=switch.slot,
            scaling=switch.scaling if before is None else before.scaling,
            actor=engine.RANDOM if self.policy == "random" else None,
            chunk=switch.chunk if before is None else before.chunk,
            replan=switch.replan if before is None else before.replan,
        )
        return (*phases[:index], extra, *phases[index:])


@dataclass(frozen=True)
class reset_optimisers:
    """Reset the optimisers at the switch, as CORL's fine-tuning code does; without this rule they are kept."""

    def __call__(self, phases: Phases, scaling: Scaling) -> Phases:
        """Wrap the `init_from` of the fine-tuning phase, or its own slot, in `new_optimisers`."""
        index = engine.at_switch(phases, "reset_optimisers")
        switch = phases[index]
        there = [p for p in phases[:index] if p.slot == switch.slot]
        last = max((n for n, p in enumerate(there) if p.updates), default=None)
        # A hand-over behind the last update leaves optimisers that have not moved since.
        if last is None or any(p.init_from is not None for p in there[last + 1 :]):
            raise SegueError(
                "reset_optimisers: nothing is trained before the switch, so optimisers are new; leave it out"
            )
        source = switch.init_from or engine.from_slot(switch.slot)
        return changed(phases, index, init_from=engine.new_optimisers(source))


@dataclass(frozen=True)
class freeze_actor:
    """Freeze the actor for the first `updates` updates after the switch."""

    updates: int = 5_000

    def __call__(self, phases: Phases, scaling: Scaling) -> Phases:
        """Let the phase that fine-tunes freeze its policy at first."""
        require(self, updates=self.updates >= 0)
        index = engine.at_switch(phases, "freeze_actor")
        return changed(phases, index, freeze_actor=self.updates)


@dataclass(frozen=True)
class decay:
    """Decay weights in the losses linearly after the switch: towards 0 over `over` updates, but not below `floor` times
    their value.
    """

    options: tuple[str, ...]
    over: int = 100_000
    floor: float = 0.0

    def __call__(self, phases: Phases, scaling: Scaling) -> Phases:
        """Put a line in the place of each number of the agent that fine-tunes."""
        updates = round(self.over * (1.0 - self.floor))
        require(self, over=self.over > 0, floor=self.floor >= 0 and updates > 0)
        index = engine.at_switch(phases, "decay")
        agent: Any = phases[index].learner
        for name in self.options:
            number, known = option_of(agent, name), movable(agent)
            if name not in known:
                these = f"what can fall is {', '.join(known)}" if known else "it has none that can fall"
                raise SegueError(f"decay={name}: is no weight in a loss of {agents.title(agent)}; {these}")
            if not number or isinstance(number, agents.Linear):
                why = "moves already; leave the rule out and set its end" if number else "is 0; leave the rule out"
                raise SegueError(f"decay={name}: '{name}' of {agents.title(agent)} {why}")
            try:
                agent, _ = assign(agent, [name], agents.Linear(number, number * self.floor, updates), f"decay={name}")
            except SegueError as error:
                raise SegueError(f"{error} at its end; give a floor above {self.floor:g}") from error
        return changed(phases, index, learner=agent)


@dataclass(frozen=True)
class discount:
    """Fine-tune with another discount; the returns of all rows are computed again."""

    value: float

    def __call__(self, phases: Phases, scaling: Scaling) -> Phases:
        """Give the fine-tuning phase a scaling of its own."""
        index = engine.at_switch(phases, "discount")
        return changed(phases, index, scaling=replace(phases[index].scaling or scaling, discount=self.value))


@dataclass(frozen=True)
class retain:
    """Fine-tune with a random `share` of the dataset's rows: 1 keeps all of them, 0 drops the dataset."""

    share: float = 1.0

    def __call__(self, phases: Phases, scaling: Scaling) -> Phases:
        """Let the fine-tuning phase's sampler see so many rows."""
        require(self, share=0 <= self.share <= 1)
        index = engine.at_switch(phases, "retain")
        batch = phases[index].batch
        if self.share == 1:
            return phases
        return changed(phases, index, batch=own_rows(batch) if self.share == 0 else samplers.Subset(self.share, batch))


@dataclass(frozen=True)
class budget:
    """Give the whole run exactly `steps` environment steps per seed.

    Everything that takes environment steps keeps its share: warm-ups, fresh rows, validations and fine-tuning; the
    fine-tuning phase takes the rest of the rounding.  Offline updates and schedules in updates (kappa, `decay`) do not
    change.
    """

    steps: int

    def __call__(self, phases: Phases, scaling: Scaling) -> Phases:
        """Give each phase its share."""
        require(self, steps=self.steps > 0)
        index, before = engine.at_switch(phases, "budget"), engine.charged(phases)
        if not before:
            raise SegueError(f"budget={self.steps}: no phase takes environment steps; set environment_steps")
        of = lambda number: number * self.steps // before  # noqa: E731
        made = []
        for phase in phases:
            validation = replace(phase.validation, steps=of(phase.validation.steps))
            phase, batch = replace(phase, validation=validation), phase.batch
            if phase.moves:
                moves = of(phase.moves) // phase.train_every * phase.train_every
                if not moves:
                    why = f"too few for phase '{phase.name}', which has {phase.moves:,} of {before:,} steps in all"
                    raise SegueError(f"budget={self.steps}: {why}; give a larger one")
                often = max(of(phase.evaluate_every), 1) if phase.evaluate_every else 0
                phase = replace(phase, environment_steps=moves, evaluate_every=often)
            if isinstance(batch, samplers.Last):
                phase = replace(phase, batch=replace(batch, rows=of(batch.rows)))
            made.append(phase)
        switch, left = made[index], self.steps - engine.charged(made)
        if short := left % switch.train_every:
            why = f"phase '{switch.name}' learns every {switch.train_every} steps, which leaves {short} over"
            raise SegueError(f"budget={self.steps}: {why}; give a few more or fewer")
        return changed(tuple(made), index, environment_steps=switch.moves + left)


def own_rows(batch: Sampler) -> Sampler:
    """Return a sampler of as many rows that takes them from own experience alone."""
    if isinstance(batch, samplers.Mix):
        return samplers.Mix(0, batch.offline + batch.online, batch.visible)
    if isinstance(batch, samplers.Union):
        return samplers.Mix(0, batch.batch, batch.visible)
    raise SegueError(f"retain: {type(batch).__name__} needs the dataset; keep a share above 0")


_ALL = (warm_up, reset_optimisers, freeze_actor, decay, discount, retain, budget)
RULES: dict[str, type[Any]] = {r.__name__: r for r in _ALL}


def rule_of(text: str) -> Rule:
    """Return the rule that a word of the command line names; `SegueError` says what is wrong with it."""
    name, _, rest = text.partition("=")
    name = name.strip().replace("-", "_")
    if name not in RULES:
        unknown(f"rule {text}", name, RULES)
    kind, hints, values = RULES[name], get_type_hints(RULES[name]), {}
    names = [f.name for f in fields(kind)]
    for place, item in enumerate(rest.split(",") if rest else []):
        key, equals, value = item.partition("=")
        key, value = (key, value) if equals else (names[place] if place < len(names) else "", key)
        if key not in names:
            unknown(f"rule {text}", key, names)
        tuples = hints[key] == tuple[str, ...]
        values[key] = tuple(value.split("+")) if tuples else parse(key, value, hints[key], f"rule {text}")
    try:
        rule: Rule = kind(**values)
    except TypeError as error:
        missing = [f for f in names if f not in values]
        raise SegueError(f"rule {text}: give {name}={missing[0]}") from error
    return rule


def word_of(rule: Any) -> str:
    """Return a rule as a word of the command line (`rule_of` reads it)."""
    write = lambda v: "+".join(v) if isinstance(v, tuple) else str(v)  # noqa: E731
    values = [f"{f.name}={write(getattr(rule, f.name))}" for f in fields(rule)]
    return f"{type(rule).__name__}={','.join(values)}" if values else type(rule).__name__


def usage(kind: type[Any]) -> str:
    """How a rule is written, with its defaults: "warm_up=5000,policy=frozen"."""
    values = [f.name.upper() if f.default is MISSING else str(f.default) for f in fields(kind)]
    named = [value if place == 0 else f"{f.name}={value}" for place, (f, value) in enumerate(zip(fields(kind), values))]
    return "=".join([kind.__name__, *([",".join(named)] if named else [])])


def words_of(rules: Iterable[Any]) -> tuple[str, ...]:
    """Return rules, given as objects or as words, as words that are known to be good."""
    words = tuple(r if isinstance(r, str) else word_of(r) for r in rules)
    for word in words:
        rule_of(word)
    return words
