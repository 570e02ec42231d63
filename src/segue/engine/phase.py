"""A phase as data, and the hand-overs between phases."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from segue.bonuses.nothing import Nothing
from segue.core.optim import renewed
from segue.core.options import option
from segue.core.scaling import Scaling
from segue.core.types import Bonus, Handover, Learner, Sampler, SegueError, State
from segue.engine.sharing import Sharing
from segue.samplers.uniform import Mix

RANDOM = "random"
InitFrom = Callable[[Handover, State], State]
Windows = Literal["whole", "anywhere"]


@dataclass(frozen=True)
class Validation:
    """Roll-outs that choose among a phase's checkpoints; their environment steps count in the budget.

    As many validations as fit into `steps` environment steps per seed, `episodes` episodes of full length each, evenly
    spaced and the last at the phase's end.  Each seed keeps the checkpoint with the best mean return, without
    exploration noise, in the slot `keep`.  All of `steps` counts as spent, for any length of the episodes.
    """

    steps: int = 0
    """Environment steps per seed for validation; 0 switches it off."""
    episodes: int = option(3, when=lambda v: v.steps > 0, why="validation.steps above 0")
    keep: str = option("best", when=lambda v: v.steps > 0, why="validation.steps above 0")

    def after(self, horizon: int, rounds: int) -> tuple[int, ...]:
        """After which rounds of a phase it validates, ascending."""
        times = min(self.steps // (self.episodes * horizon), rounds) if self.steps else 0
        return tuple(rounds * n // times for n in range(1, times + 1))


@dataclass(frozen=True)
class Phase:
    """Which learner is trained, on which rows, with which rewards, and how many environment steps are taken.

    A phase has one of two lengths.  `gradient_steps` is that of offline learning.  `environment_steps`, per seed, is
    that of a phase that collects: after every `train_every` of them it does `utd_ratio * train_every` updates.
    """

    name: str
    learner: Learner
    gradient_steps: int = option(0, when=lambda p: not p.collects, why="a phase without environment_steps")
    """Updates of a phase that only learns."""
    environment_steps: int | None = None
    """Environment steps of each seed; None collects nothing."""
    utd_ratio: float = option(1.0, when=lambda p: p.collects, why="a phase that collects")
    """Updates per environment step; 0 only collects, with a policy that stays as it is."""
    train_every: int = option(1, when=lambda p: p.collects and p.utd_ratio, why="a phase that collects and updates")
    """Environment steps between two turns of updates (`train_freq` in Stable-Baselines3)."""
    batch: Sampler = field(default_factory=Mix)
    bonus: Bonus = field(default_factory=Nothing)
    slot: str = "agent"
    actor: str | Sharing | None = None
    """Slot whose policy collects; by default the phase's own.  "random" draws actions uniformly from [-1, 1].  With a
    `Guide` another policy begins each episode, also one that Segue did not train; `segue.engine.sharing.Either` lets
    two share the episodes."""
    greedy: bool = option(False, when=lambda p: p.collects, why="a phase that collects")
    """Collect without exploration noise."""
    epsilon: float = option(0.0, when=lambda p: p.greedy, why="greedy=true")
    """Share of uniform actions among the greedy ones (default of ours: none)."""
    freeze_actor: int = option(0, when=lambda p: p.updates, why="a phase that updates")
    """Number of first updates in which the policy is frozen and everything else learns (default of ours: 0)."""
    n_steps: int = option(1, when=lambda p: p.updates, why="a phase that updates")
    """Number of rows whose rewards are summed before the bootstrap (n-step returns, without off-policy correction)."""
    image_shift: int = option(0, when=lambda p: p.updates > 0, why="a phase that updates", images=True)
    """Largest random shift of a batch's images, in pixels, s and s' each for itself (DrQ, arXiv 2004.13649).  Recipes
    take DrQ's 4 where a task has images."""
    chunk: int = 1
    """Number of actions that the policy plans at once and then takes one after the other (Q-chunking, arXiv
    2507.07969); the learner is built for so many times the task's actions.  Default of ours: 1."""
    replan: int | None = option(None, when=lambda p: p.chunk > 1, why="chunk above 1")
    """Number of actions of a plan that are taken before the next plan is made; none takes all, as published."""
    windows: Windows = option("whole", when=lambda p: p.chunk > 1 and p.updates, why="chunk above 1")
    """Where windows of a chunk begin: "whole" draws those alone that no time limit, gap or newest row cuts (default of
    ours); "anywhere" draws every row, as Q-chunking's code does, and a window that is cut counts 0 for the critics.
    (There one that runs over a terminal counts 0 too.)"""
    init_from: InitFrom | None = None
    """(handover, fresh state) -> initial state.  None keeps the slot's state, or takes the fresh one if it is new."""
    scaling: Scaling | None = None
    """Scaling of this phase; by default the recipe's."""
    overlap: bool = option(False, when=lambda p: p.collects and p.updates, why="a phase that collects and updates")
    """Let the simulator step while the device updates; the updates then see only rows up to the updates before."""
    evaluate_every: int = 0
    """Steps of the phase between evaluations; 0 evaluates at the phase's ends only."""
    log_every: int = 1000
    """Steps of the phase between rows of training metrics."""
    validation: Validation = field(default_factory=Validation)
    """Which checkpoints are tried on the task, and where the best one is kept; its steps count in the budget."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "utd_ratio", float(self.utd_ratio))

    @property
    def actors(self) -> tuple[str, ...]:
        """Who acts: slots, "random", and a guide's policy; of several, `actor` says whose turn it is."""
        if self.actor is None or isinstance(self.actor, str):
            return (self.actor or self.slot,)
        return (self.slot, *self.actor.others)

    @property
    def compares(self) -> tuple[str, ...]:
        """Slots that `actor` compares by validation."""
        return () if self.actor is None or isinstance(self.actor, str) else self.actor.compares

    @property
    def listed(self) -> int:
        """Length of the windows whose beginnings are listed to be drawn; 1 draws rows."""
        return self.chunk if self.windows == "whole" else 1

    @property
    def collects(self) -> bool:
        """Whether it is a phase that takes environment steps."""
        return self.environment_steps is not None

    @property
    def steps(self) -> int:
        """Its length, in environment steps where it collects and in gradient steps where it does not."""
        return self.gradient_steps if self.environment_steps is None else self.environment_steps

    @property
    def moves(self) -> int:
        """Environment steps of each seed."""
        return self.environment_steps or 0

    @property
    def round(self) -> int:
        """Steps, in which it is counted, between two turns of updates."""
        return self.train_every if self.collects else 1

    @property
    def updates(self) -> int:
        """Updates of a turn."""
        return round(self.utd_ratio * self.train_every) if self.collects else 1

    @property
    def all_updates(self) -> int:
        """Updates of the whole phase."""
        return self.steps // self.round * self.updates

    @property
    def learns(self) -> bool:
        """Whether it makes an update at all."""
        return self.all_updates > 0


def fresh(handover: Handover, state: State) -> State:
    """Start with a fresh state (OOO's exploiters, a repeated offline cycle); only the state of a bonus is kept."""
    return state


@dataclass(frozen=True)
class from_slot:
    """Start from another slot's state: `init_from=from_slot("explorer")`."""

    slot: str

    @property
    def reads(self) -> tuple[str, ...]:
        """Slots that must be there, for `check_handovers`."""
        return (self.slot,)

    def __call__(self, handover: Handover, state: State) -> Any:
        """Return the named slot's state; the learner must accept its structure."""
        if self.slot not in handover.slots:
            known = ", ".join(handover.slots) or "none"
            raise SegueError(f"from_slot: no earlier phase fills slot '{self.slot}'; name one of: {known}")
        return handover.slots[self.slot].state


@dataclass(frozen=True)
class new_optimisers:
    """Apply another `init_from`, then reset the optimisers: `new_optimisers(from_slot("agent"))`.

    CORL's fine-tuning code resets its optimisers at the switch; the official programs keep them.
    """

    init_from: InitFrom

    @property
    def reads(self) -> tuple[str, ...]:
        """Slots that must be there, for `check_handovers`."""
        return tuple(getattr(self.init_from, "reads", ()))

    def __call__(self, handover: Handover, state: State) -> Any:
        """Return the state of the inner `init_from` with the moments of the fresh one; structures must be the same."""
        return renewed(self.init_from(handover, state), state)


def at_switch(phases: Sequence[Phase], who: str) -> int:
    """Index of the phase that fine-tunes; `SegueError` where no phase learns while the environment moves."""
    for index, phase in enumerate(phases):
        if phase.collects and phase.updates:
            return index
    raise SegueError(
        f"{who}: no phase of this recipe learns online, so it has no switch; use a recipe with an online phase"
    )


def room(phases: Sequence[Phase], capacity: int | None) -> int:
    """Rows of own experience that each seed of a run holds: all that its phases collect, or the newest `capacity`."""
    collected = sum(p.moves for p in phases)
    return collected if capacity is None else min(capacity, collected)


def charged(phases: Sequence[Phase]) -> int:
    """Environment steps per seed that phases cost: those they take, and all that validation may take."""
    return sum(p.moves + p.validation.steps for p in phases)


def passes(interval: int, before: int, now: int) -> bool:
    """Whether a multiple of an interval lies after one step and not after another; 0 has none."""
    return interval > 0 and now // interval > before // interval


def next_stop(phase: Phase, step: int) -> int:
    """Return the next step at which the phase must speak."""
    intervals = [i for i in (phase.log_every, phase.evaluate_every) if i]
    return min([phase.steps, *((step // i + 1) * i for i in intervals)])
