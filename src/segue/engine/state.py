"""The state of a run: one object holds it, and everything else is a function of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segue.core.experience import Experience, Step
from segue.core.groups import Groups
from segue.core.optim import first_not_finite
from segue.core.scaling import Scaling
from segue.core.types import Array, Learned, SegueError, Slot, Spec
from segue.engine.envs import Envs, Episode
from segue.engine.phase import RANDOM, Phase
from segue.engine.training import Training


@dataclass
class RunState:
    """Everything that a run needs to continue."""

    seeds: tuple[int, ...]
    experience: Experience
    held: dict[str, Slot] = field(default_factory=dict)
    """Slots that no phase trains; of the one that is trained, what it was before."""
    history: tuple[dict[str, Any], ...] = ()
    """Facts of the finished phases, in order (JSON); a plan decides from them, so a resumed run decides alike."""
    entered: bool = False
    """Whether the current phase has begun."""
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON about the current phase, which the caller may add to; it becomes the phase's entry in `history`."""
    step: int = 0
    """Of the current phase: environment steps where it collects, gradient steps where it does not."""
    environment_steps: int = 0
    updates: int = 0
    training: Training | None = None
    """The slot that the current phase trains, once its updates have begun here."""
    apart: dict[str, tuple[Learned, list[Learned]]] = field(default_factory=dict)
    """Slots that no phase trains, and what each group of seeds has learned in them."""
    counted: dict[str, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    """Sums of metrics that a checkpoint has brought."""
    envs: Envs | None = None
    queue: dict[int, np.ndarray] = field(default_factory=dict)
    """Actions (n, A) that a chunk has planned and that are not taken yet, by world; none at the end of an episode
    or a phase."""
    begun: tuple[int, ...] | None = None
    """Episodes (W,) that have begun in environments that were left behind: a real one's, after loading, and those of a
    run that another one has begun from."""
    moved: int = 0
    """Environment steps since the last updates that an environment's failure has broken off."""
    learned: bool = False
    """Whether the updates behind those steps are done (where they overlap with the simulator)."""
    cuts: tuple[int, ...] = ()
    """Rows of own experience, counted from the first, after which a resumed run left an open episode behind."""
    scaling: Scaling | None = None
    """Scaling that the returns in `experience` are written in; None when they are not written (after loading)."""
    unsaved: list[Step] = field(default_factory=list)
    saved: tuple[dict[str, Any], ...] = ()
    """Parts of the log of experience that are on the disk, in order, with their checksums."""

    @property
    def slots(self) -> dict[str, Slot]:
        """All slots as they stand; arrays have a leading axis of seeds."""
        if self.training is not None:
            self.held[self.training.name] = self.training.slot
        return self.held

    @property
    def sums(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Sums and counts (S,) of each metric since the last log."""
        return self.counted if self.training is None else self.training.sums

    def acting(self, phase: Phase) -> Slot:
        """The slot whose policy a phase acts with; the one that it trains where others act too, or at random."""
        return self.slots[self.actor(phase)]

    @staticmethod
    def actor(phase: Phase) -> str:
        """The name of that slot."""
        first = phase.actors[0]
        return phase.slot if first == RANDOM else first

    def parts(self, name: str) -> list[Learned]:
        """What each group of seeds has learned in a slot; what is not trained is taken apart once."""
        if self.training is not None and name == self.training.name:
            return self.training.parts
        held = self.held[name].learned
        if name not in self.apart or self.apart[name][0] is not held:
            self.apart[name] = held, self.experience.groups.split(held)
        return self.apart[name][1]


@dataclass(frozen=True)
class Record:
    """A record of a run.  `state` is complete and may be saved; it must not be kept beyond the next record."""

    phase: Phase
    index: int
    phase_step: int
    environment_step: int
    update: int
    state: RunState
    begins: bool = False
    logs: bool = False
    evaluates: bool = False
    ends: bool = False
    metrics: dict[str, np.ndarray] = field(default_factory=dict)
    """Means (S,) since the last log; NaN where nothing was computed."""
    episodes: tuple[Episode, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """JSON about the phase, which the caller may add to: a plan sees it in its history once the phase is over."""
        return self.state.facts

    @property
    def scaling(self) -> Scaling:
        """The phase's reward scaling, with the task's failure reward filled in."""
        assert self.state.scaling is not None
        return self.state.scaling

    @property
    def slot(self) -> Slot:
        """The slot that the phase trains."""
        return self.state.slots[self.phase.slot]

    @property
    def acting(self) -> Slot:
        """The slot whose policy the phase acts with; the one that it trains where actions are random."""
        return self.state.acting(self.phase)


def new_state(seeds: Sequence[int], spec: Spec, capacity: int, envs: int = 1) -> RunState:
    """Return the state of a run before its first phase."""
    if len(set(seeds)) != len(seeds) or not seeds:
        raise SegueError(f"seeds {list(seeds)}: give at least one seed, none twice")
    return RunState(tuple(seeds), Experience(len(seeds), capacity, spec, Groups.of(len(seeds)), envs))


def validated(history: Sequence[dict[str, Any]]) -> dict[str, Array]:
    """Raw returns (S,) of the policies that finished phases have kept by validation, by slot."""
    tried = [f for f in history if f.get("validations")]
    return {f["validation_keep"]: jnp.max(jnp.asarray([v["return"] for v in f["validations"]]), axis=0) for f in tried}


class Diverged(SegueError):
    """A number stopped being finite in the phase named `phase`."""

    def __init__(self, message: str, phase: str) -> None:
        super().__init__(message)
        self.phase = phase


_probe = jax.jit(first_not_finite)


def not_finite(state: RunState, phase: Phase) -> str | None:
    """The first array of a phase's slot that is not finite, and the seeds that it is of."""
    seeds: list[int] = []
    name = ""
    for group, learned in zip(state.experience.groups.members, state.parts(phase.slot)):
        parts = {"learner": learned.learner, "sampler": learned.sampler, "bonus": learned.bonus}
        if (bad := int(_probe(parts))) < 0:
            continue
        (part, *path), leaf = jax.tree_util.tree_leaves_with_path(parts)[bad]
        whose = phase.slot if part.key == "learner" else f"{part.key} of {phase.slot}, "
        name = name or f"{whose}{jax.tree_util.keystr(tuple(path))}"
        rows = np.flatnonzero(~np.isfinite(np.asarray(leaf)).reshape(group.size, -1).all(axis=1))
        seeds += [state.seeds[group.first + int(row)] for row in rows]
    return f"{name} is not finite (seeds {', '.join(map(str, seeds))})" if seeds else None


def check_finite(state: RunState, phase: Phase) -> None:
    """Raise `Diverged` with the name of the first array of the phase's slot that is not finite."""
    if (found := not_finite(state, phase)) is not None:
        raise Diverged(
            f"phase '{phase.name}', update {state.updates}: {found}; check the rewards' scale, or lower a learning "
            "rate",
            phase.name,
        )
