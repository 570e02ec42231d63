"""A phase as data, and the doors between phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from segue.bonuses.nothing import Nothing
from segue.core.optim import renewed
from segue.core.options import option
from segue.core.scaling import Units
from segue.core.types import Augmentation, Door, Learner, Sampler, SegueError, State
from segue.engine.sharing import Sharing
from segue.samplers.uniform import Mix

RANDOM = "random"
Enter = Callable[[Door, State], State]


@dataclass(frozen=True)
class Validation:
    """Roll-outs that choose among a phase's checkpoints; they cost environment steps, and the budget pays for them.

    As many validations as fit into `steps` environment steps per seed, `episodes` episodes of full length each, evenly
    spaced and the last at the phase's end.  Each seed keeps the checkpoint with the best mean return, without
    exploration noise, in the slot `keep`.  The whole of `steps` counts as spent, whatever the episodes' lengths.
    """

    steps: int = 0
    """0 validates nothing."""
    episodes: int = option(3, when=lambda v: v.steps > 0, why="validation.steps above 0")
    keep: str = option("best", when=lambda v: v.steps > 0, why="validation.steps above 0")

    def ticks(self, horizon: int, ticks: int) -> tuple[int, ...]:
        """After which ticks of a phase it validates, ascending."""
        times = min(self.steps // (self.episodes * horizon), ticks) if self.steps else 0
        return tuple(ticks * n // times for n in range(1, times + 1))


@dataclass(frozen=True)
class Phase:
    """Who learns, on which rows, with which rewards, while the world moves how much.

    Three clocks: a phase lasts `ticks`; each tick takes `collect` environment steps per seed and then does `updates`
    gradient updates.  `collect=0` is offline learning; `updates=0` is collection with a frozen policy.
    """

    name: str
    learner: Learner
    ticks: int
    collect: int = 0
    updates: int = 1
    batch: Sampler = field(default_factory=Mix)
    augment: Augmentation = field(default_factory=Nothing)
    slot: str = "agent"
    actor: str | Sharing | None = None
    """Slot whose policy collects; the phase's own unless named.  "random" draws actions uniformly from [-1, 1], and
    `behaviour.Either` lets two policies share the episodes."""
    greedy: bool = option(False, when=lambda p: p.collect > 0, why="a phase that collects")
    """Collect without exploration noise."""
    epsilon: float = option(0.0, when=lambda p: p.greedy, why="greedy=true")
    """Share of uniform actions among the greedy ones (default of ours: none)."""
    freeze_actor: int = option(0, when=lambda p: p.updates > 0, why="a phase that updates")
    """Updates at the beginning in which everything but the policy learns (default of ours: none)."""
    n_steps: int = option(1, when=lambda p: p.updates > 0, why="a phase that updates")
    """Rows whose rewards are summed before a value stands for the rest (n-step returns; no correction for the policy
    that acted)."""
    chunk: int = 1
    """Actions that the policy plans at once and then takes one after the other (Q-chunking, arXiv 2507.07969); the
    learner is built for so many times the task's actions.  Default of ours: one."""
    enter: Enter | None = None
    """(door, fresh state) -> starting state.  None carries the slot on, or starts it fresh if it is new."""
    units: Units | None = None
    """Reward units of this phase; the recipe's unless given."""
    overlap: bool = option(False, when=lambda p: p.collect and p.updates, why="a phase that collects and updates")
    """Let the simulator step while the device updates: a tick's updates then see the rows up to the tick before."""
    evaluate_every: int = 0
    """Ticks between evaluations; 0 evaluates at the phase's ends only."""
    log_every: int = 1000
    """Ticks between rows of training metrics."""
    validation: Validation = field(default_factory=Validation)
    """Which checkpoints are tried on the task, at the expense of the budget, and where the best one is kept."""

    @property
    def actors(self) -> tuple[str, ...]:
        """Slots whose policies act; where there are several, `actor` says whose turn an episode is."""
        if self.actor is None or isinstance(self.actor, str):
            return (self.actor or self.slot,)
        return (self.slot, *self.actor.judges)

    @property
    def learns(self) -> bool:
        """Whether it makes an update at all."""
        return self.ticks > 0 and self.updates > 0


def fresh(door: Door, state: State) -> State:
    """Start over, whatever the slot held (OOO's exploiter, a repeated offline cycle), but for what a bonus has seen."""
    return state


@dataclass(frozen=True)
class take:
    """Start from another slot's state: `enter=take("explorer")`."""

    slot: str

    @property
    def reads(self) -> tuple[str, ...]:
        """Slots that must be there, for `check_doors`."""
        return (self.slot,)

    def __call__(self, door: Door, state: State) -> Any:
        """Return the named slot's state; the learner must accept its structure."""
        if self.slot not in door.slots:
            known = ", ".join(door.slots) or "none"
            raise SegueError(f"take: no phase before has left a slot '{self.slot}' (slots: {known})")
        return door.slots[self.slot].state


@dataclass(frozen=True)
class refresh:
    """Keep what another slot's networks (or, by its own name, this slot's) have learned, with new optimisers.

    CORL's fine-tuning code builds its optimisers anew at the switch; the official ones keep them.
    """

    slot: str = "agent"

    @property
    def reads(self) -> tuple[str, ...]:
        """Slots that must be there, for `check_doors`."""
        return (self.slot,)

    def __call__(self, door: Door, state: State) -> Any:
        """Return the slot's state with the moments of the fresh one; the structures must be the same."""
        return renewed(door.slots[self.slot].state, state)


@dataclass(frozen=True)
class renew:
    """Go through another door, and give what comes in new optimisers."""

    door: Enter

    @property
    def reads(self) -> tuple[str, ...]:
        """Slots that must be there, for `check_doors`."""
        return tuple(getattr(self.door, "reads", ()))

    def __call__(self, door: Door, state: State) -> Any:
        """Return what the door returns with the moments of the fresh state."""
        return renewed(self.door(door, state), state)


def at_switch(phases: Sequence[Phase], who: str) -> int:
    """Index of the phase that fine-tunes; `SegueError` where no phase learns while the world moves."""
    for index, phase in enumerate(phases):
        if phase.collect and phase.updates:
            return index
    raise SegueError(f"{who}: no phase of this recipe learns while it collects, so there is no switch to change")


def charged(phases: Sequence[Phase]) -> int:
    """Environment steps per seed that phases cost: those they take, and all that validation may take."""
    return sum(p.ticks * p.collect + p.validation.steps for p in phases)
