"""All checks of a plan: every hand-over and one update of every phase, as shapes, before anything is computed.

So a wrong name or shape in the last of ten phases is found before the first one runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from segue.core import replay
from segue.core.scaling import Units, settled
from segue.core.types import Agent, Learned, SegueError, Slot, Spec, Task, policy_of
from segue.engine import steps
from segue.engine.phase import RANDOM, Phase
from segue.engine.steps import DOOR, keys_of, trained, update_of


class Shapes:
    """What every slot of a run holds, as shapes: hand-overs and updates are traced, and nothing is computed."""

    def __init__(self, spec: Spec, seeds: int, logged: int, capacity: int) -> None:
        self.spec, self.seeds, self.slots = spec, seeds, dict[str, Slot]()
        self.tried: dict[str, Any] = {}
        empty = partial(replay.empty, observation=spec.observation, action=spec.action, dtype=spec.dtype)
        self.offline = jax.eval_shape(lambda: empty(1, logged))
        self.online = jax.eval_shape(lambda: empty(seeds, capacity))
        self.keys = jax.eval_shape(lambda: keys_of(range(seeds), DOOR))

    def enter(self, phase: Phase, index: int, units: Units) -> Slot:
        """Hand over to a phase and return its slot."""
        there = {name: slot.learned for name, slot in self.slots.items()}
        program = steps.entering(phase, index, self.spec, units, dict(self.slots))
        learned = jax.eval_shape(program, self.keys, there, self.tried, self.offline, self.online)
        self.slots[phase.slot] = trained(phase, units, learned, self.slots.get(phase.slot))
        return self.slots[phase.slot]

    def validated(self, phase: Phase) -> None:
        """Note that a phase has kept the best of its policies."""
        slot = self.slots[phase.slot]
        self.slots[phase.validation.keep] = Slot(slot.learner, Learned(slot.state), slot.units)
        self.tried[phase.validation.keep] = jax.ShapeDtypeStruct((self.seeds,), jnp.float32)

    def one(self, learned: Learned) -> tuple[Any, ...]:
        """Arguments of one update of one seed."""
        state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), learned)
        number, key = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), self.keys.dtype)
        return state, self.offline, self.online, number, key, number, number


def validate(phases: Sequence[Phase], task: Task, seeds: Sequence[int], units: Units) -> None:
    """Raise `SegueError`, one line that names the phase, where a list of phases cannot run on a task.

    How much experience a phase will find is not known yet; the most that it can be is assumed.
    """
    check_doors(phases, units)
    data, written = task.dataset(), 0
    logged, whole = 0 if data is None else len(data), sum(p.ticks * p.collect for p in phases)
    shapes = Shapes(task.spec, len(seeds), logged, max(whole, 1))
    for index, phase in enumerate(phases):
        here = settled(phase.units or units, task.failure, data)
        check_phase(phase, shapes.slots, task.spec, task.horizon, logged, written, written)
        with _telling(phase, shapes.slots.get(phase.slot)):
            slot = shapes.enter(phase, index, here)
            if phase.learns:
                _check_update(phase, here, shapes, slot)
            if phase.collect and phase.ticks:
                _check_actions(phase, shapes)
        if phase.validation.steps:
            shapes.validated(phase)
        written = min(written + phase.ticks * phase.collect, 2**31 - 1)


def _check_update(phase: Phase, units: Units, shapes: Shapes, slot: Slot) -> None:
    """Trace an update; what it returns must be made as what it got, or it could not be repeated."""
    given = shapes.one(slot.learned)
    learned, _ = steps.once.eval_shape(update_of(phase, units), *given)
    kind = lambda tree: (jax.tree.structure(tree), [(x.shape, x.dtype) for x in jax.tree.leaves(tree)])  # noqa: E731
    for name, before, after in zip(Learned._fields, given[0], learned):
        if kind(before) != kind(after):
            whose = {"learner": phase.learner, "sampler": phase.batch, "augment": phase.augment}[name]
            raise SegueError(
                f"{type(whose).__name__} returns a state with other parts, shapes or types than it was given; "
                "keep them the same"
            )


def _check_actions(phase: Phase, shapes: Shapes) -> None:
    """Trace the policies that act: an action per observation, of the task's size."""
    spec, key = shapes.spec, jax.ShapeDtypeStruct((), shapes.keys.dtype)
    seen = jax.ShapeDtypeStruct((1, *spec.observation), spec.dtype)
    for name in phase.actors:
        slot = shapes.slots.get(name)
        if slot is None or not isinstance(slot.learner, Agent):
            continue
        state = shapes.one(slot.learned)[0].learner
        act = lambda state, seen, key, s=slot: s.learner.act(state, s.units.see(seen), key, True)  # noqa: E731
        action = jax.eval_shape(act, state, seen, key)
        if action.shape != (1, spec.action):
            raise SegueError(
                f"{type(slot.learner).__name__} returns actions of shape {action.shape} for one observation; the task "
                f"needs (1, {spec.action})"
            )


@contextmanager
def _telling(phase: Phase, before: Slot | None) -> Iterator[None]:
    """Say whose phase it is; and that a learner cannot go on with another one's state, where it cannot."""
    try:
        yield
    except SegueError as error:
        said = str(error)
        raise SegueError(said if said.startswith("phase '") else f"phase '{phase.name}': {said}") from error
    except Exception as error:
        if before is None or type(before.learner) is type(phase.learner):
            raise
        who, other = type(phase.learner).__name__, type(before.learner).__name__
        raise SegueError(
            f"phase '{phase.name}': {who} cannot continue from the state of {other} in slot '{phase.slot}' "
            f"({' '.join(str(error).split())[:160]}); give it a slot of its own, or enter=fresh"
        ) from error


def check_phase(
    phase: Phase, slots: Mapping[str, Slot], spec: Spec, horizon: int, logged: int, written: int, closed: int
) -> None:
    """Refuse a phase whose parts do not fit, naming both sides.

    `slots` stand when it begins.  There are `logged` rows of a dataset, and `written` rows of own experience per seed,
    of which `closed` belong to episodes that have ended.
    """
    where = f"phase '{phase.name}'"
    if phase.ticks < 0 or phase.collect < 0 or phase.updates < 0 or phase.log_every < 1 or phase.evaluate_every < 0:
        raise SegueError(f"{where}: ticks, collect, updates and intervals must not be negative (log_every at least 1)")
    if phase.freeze_actor < 0 or not 0 <= phase.epsilon <= 1:
        raise SegueError(f"{where}: freeze_actor must not be negative, and epsilon must lie between 0 and 1")
    if phase.freeze_actor and not policy_of(phase.learner):
        raise SegueError(f"{where}: {type(phase.learner).__name__} has no policy to freeze; leave out freeze_actor")
    if phase.n_steps < 1:
        raise SegueError(f"{where}: n_steps={phase.n_steps} is out of range; give 1 (no n-step returns) or more")
    if phase.validation.steps and (phase.validation.steps < 0 or phase.validation.episodes < 1):
        raise SegueError(f"{where}: validation.steps must not be negative, validation.episodes must be at least 1")
    if phase.validation.steps and not isinstance(phase.learner, Agent):
        raise SegueError(
            f"{where}: {type(phase.learner).__name__} does not act, so it cannot be validated; set validation.steps=0"
        )
    if phase.validation.steps and phase.ticks and not phase.validation.ticks(horizon, phase.ticks):
        least = phase.validation.episodes * horizon
        raise SegueError(
            f"{where}: one validation takes up to {least:,} steps; set {phase.name}.validation.steps to that"
        )
    if phase.validation.steps and phase.validation.keep == phase.slot:
        raise SegueError(
            f"{where}: it trains slot '{phase.slot}', so its best checkpoint needs another slot; set validation.keep"
        )
    for name in phase.actors:
        if name not in (RANDOM, phase.slot, *slots):
            known = ", ".join(sorted(slots)) or "none yet"
            raise SegueError(f"{where} acts with slot '{name}', but no earlier phase trains it; name one of: {known}")
    sharing = None if isinstance(phase.actor, str) else phase.actor
    if phase.collect and sharing is not None and (refusal := sharing.refuse(phase)):
        raise SegueError(f"{where} {refusal}")
    if phase.learns:
        ready = 0 if phase.overlap else phase.collect
        refusal = phase.batch.refuse(logged, written + ready, closed)
        refusal = refusal or phase.augment.refuse(phase, slots, spec, logged)
        if refusal:
            raise SegueError(f"{where}: {refusal}")


def check_doors(phases: Sequence[Phase], units: Units) -> None:
    """Refuse a phase that needs a slot that nothing before it fills; `units` are the recipe's.

    `enter` may say which slots it `reads`, and which slots it compares by validation (`judges`).
    """
    held: dict[str, Units] = {}
    kept: set[str] = set()
    for phase in phases:
        where, here, door = f"phase '{phase.name}'", phase.units or units, phase.enter
        chosen: tuple[str, ...] = getattr(door, "judges", ())
        judged = (*chosen, *phase.actors[1:])
        for name in (*judged, *getattr(door, "reads", ())):
            if name not in held:
                known = ", ".join(held) or "none"
                raise SegueError(f"{where} reads slot '{name}', but no earlier phase fills it; name one of: {known}")
        for name in judged:
            if name not in kept:
                raise SegueError(
                    f"{where} compares slot '{name}' by validation; an earlier phase must keep its best there"
                )
            if name in chosen and held[name] != here:
                raise SegueError(
                    f"{where} chooses between policies that learn in different units; give the phases that train "
                    f"'{chosen[0]}' and '{chosen[1]}', and '{phase.name}' itself, the same units"
                )
        held[phase.slot] = here
        if phase.validation.steps:
            held[phase.validation.keep] = here
            kept.add(phase.validation.keep)
