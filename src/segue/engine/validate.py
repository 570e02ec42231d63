"""All checks of a plan: every hand-over and one update of every phase, as shapes, before anything is computed.

So a wrong name or shape in the last of ten phases is found before the first one runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from segue.core import replay, starts
from segue.core.foreign import is_foreign, refuse_foreign
from segue.core.groups import Groups
from segue.core.log import Data
from segue.core.observations import parts_seen
from segue.core.optim import Trained, kind_of
from segue.core.scaling import Scaling, settled
from segue.core.types import Acting, Learned, SegueError, Slot, Spec, State, Task
from segue.engine import steps
from segue.engine.checks import check_first, check_handovers, check_phase, check_windows
from segue.engine.phase import Phase, fresh, room
from segue.engine.steps import HANDOVER, keys_of, trained, update_of


class Shapes:
    """What every slot of a run holds, as shapes: hand-overs and updates are traced, and nothing is computed."""

    def __init__(
        self, spec: Spec, seeds: int, logged: int, capacity: int, data: Data | None = None, envs: int = 1
    ) -> None:
        self.spec, self.seeds, self.slots = spec, seeds, dict[str, Slot]()
        self.tried: dict[str, Any] = {}
        empty = partial(replay.empty, observation=spec.observation, action=spec.action, dtype=spec.dtype)
        self.offline: Any = jax.eval_shape(lambda: empty(1, logged)) if data is None else replay.shape_of(data, spec)
        self.online = jax.eval_shape(lambda: empty(seeds, capacity, envs=envs))
        self.keys = jax.eval_shape(lambda: keys_of(range(seeds), HANDOVER))

    def hand_over(self, phase: Phase, index: int, scaling: Scaling) -> Slot:
        """Hand over to a phase and return its slot."""
        there = {name: slot.learned for name, slot in self.slots.items()}
        program = steps.handing_over(phase, index, self.spec, scaling, dict(self.slots))
        learned = jax.eval_shape(program, self.keys, there, self.tried, *self.rows(phase.listed))
        self.slots[phase.slot] = trained(phase, scaling, learned, self.slots.get(phase.slot))
        return self.slots[phase.slot]

    def validated(self, phase: Phase) -> None:
        """Note that a phase has kept the best of its policies."""
        slot = self.slots[phase.slot]
        self.slots[phase.validation.keep] = slot._replace(learned=Learned(slot.state), batch=None, bonus=None)
        self.tried[phase.validation.keep] = jax.ShapeDtypeStruct((self.seeds,), jnp.float32)

    def rows(self, chunk: int) -> tuple[Any, Any]:
        """Dataset and own experience, with a list of whole windows of `chunk` rows."""
        if chunk == 1:
            return self.offline, self.online

        def listed(rows: Any) -> Any:
            lanes, capacity = rows.reward.shape
            return rows._replace(starts=jax.eval_shape(lambda: starts.empty(lanes, capacity, chunk)))

        return listed(self.offline), listed(self.online)

    def one(self, learned: Learned, chunk: int = 1) -> tuple[Any, ...]:
        """Arguments of one update of one seed."""
        state = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), learned)
        number, key = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), self.keys.dtype)
        return state, *self.rows(chunk), number, key, number, number


def validate(
    phases: Sequence[Phase],
    task: Task,
    seeds: Sequence[int],
    scaling: Scaling,
    capacity: int | None = None,
    envs: int = 1,
) -> None:
    """Raise `SegueError`, one line that names the phase, where a list of phases cannot run on a task.

    `capacity` bounds own experience per seed, in rows, which `envs` simulators write.  How much experience a phase will
    find is not known yet; the most that it can be is assumed.
    """
    check_handovers(phases, scaling)
    data, written = task.dataset(), 0
    logged, most = 0 if data is None else len(data), room(phases, capacity)
    longest = task.horizon * envs  # between the rows of an episode lie those of the other simulators
    if most < min(room(phases, None), longest):
        raise SegueError(f"capacity={most} keeps less than one episode ({longest:,} steps); give at least that")
    one = Groups.of(len(seeds)).members[0].size  # what is traced here is not traced again for the first program
    shapes = Shapes(task.spec, one, logged, max(most, 1), data, envs)
    made: dict[str, Slot] = {}  # by whom a slot's state is: a phase that only collects does not look into it
    for index, phase in enumerate(phases):
        here = settled(phase.scaling or scaling, task.failure, data, parts_seen(task.spec))
        check_phase(phase, shapes.slots, task.spec, task.horizon, logged, written, written, most, envs)
        check_windows(phase, data)
        for name in phase.actors[1:]:
            if is_foreign(name):
                refuse_foreign(name, task.spec)
        go = partial(_go_through, index=index, scaling=here, shapes=shapes)
        with _telling(phase, made.get(phase.slot), partial(go, replace(phase, init_from=fresh))):
            go(phase)
        if phase.learns or phase.init_from is not None or phase.slot not in made:
            made[phase.slot] = shapes.slots[phase.slot]
        if phase.validation.steps:
            shapes.validated(phase)
        written = min(written + phase.moves, 2**31 - 1)
        check_first(phase, written, most)


def _go_through(phase: Phase, index: int, scaling: Scaling, shapes: Shapes) -> None:
    """Trace a phase: its hand-over, an update, and its actions."""
    before = shapes.slots.get(phase.slot)
    slot = shapes.hand_over(phase, index, scaling)
    if phase.learns:
        _check_update(phase, scaling, shapes, slot)
        if before is not None or phase.init_from is not None:
            _check_networks(phase, shapes, slot)
    if phase.moves:
        _check_actions(phase, shapes)


def _check_update(phase: Phase, scaling: Scaling, shapes: Shapes, slot: Slot) -> None:
    """Trace an update; what it returns must be made as what it got, or it could not be repeated."""
    given = shapes.one(slot.learned, phase.listed)
    learned, _ = steps.once.eval_shape(update_of(phase, scaling), *given)
    kind = lambda tree: (jax.tree.structure(tree), [(x.shape, x.dtype) for x in jax.tree.leaves(tree)])  # noqa: E731
    for name, before, after in zip(Learned._fields, given[0], learned):
        if kind(before) != kind(after):
            whose = {"learner": phase.learner, "sampler": phase.batch, "bonus": phase.bonus}[name]
            raise SegueError(
                f"{type(whose).__name__} returns a state with other parts, shapes or types than it was given; "
                "keep them the same"
            )


def _check_networks(phase: Phase, shapes: Shapes, slot: Slot) -> None:
    """Refuse networks of another phase that the phase's learner would make otherwise: its options had no effect."""
    wide = shapes.spec.chunks(phase.chunk)
    fresh = jax.eval_shape(lambda: phase.learner.init(jax.random.key(0), wide))
    known = {path: kind_of(part) for path, part in _networks(fresh)}
    for path, part in _networks(shapes.one(slot.learned)[0].learner):
        if path in known and kind_of(part) != known[path]:
            who = type(phase.learner).__name__
            raise SegueError(
                f"{who} goes on with '{path.strip('.')}', whose sizes, activation or optimiser are not those of its "
                f"options; set them for all phases at once ({phase.slot}.NAME), or init_from=fresh"
            )


def _networks(state: State) -> list[tuple[str, Trained]]:
    """All networks in a learner's state that are trained, by their paths."""
    is_trained = lambda x: isinstance(x, Trained)  # noqa: E731
    found = jax.tree_util.tree_leaves_with_path(state, is_leaf=is_trained)
    return [(jax.tree_util.keystr(path), part) for path, part in found if is_trained(part)]


def _check_actions(phase: Phase, shapes: Shapes) -> None:
    """Trace the policies that act: an action per observation, of the task's size."""
    spec, key = shapes.spec, jax.ShapeDtypeStruct((), shapes.keys.dtype)
    seen = jax.ShapeDtypeStruct((1, *spec.observation), spec.dtype)
    for name in phase.actors:
        slot = shapes.slots.get(name)
        if slot is None or not isinstance(slot.learner, Acting):
            continue
        state = shapes.one(slot.learned)[0].learner
        act = lambda state, seen, key, s=slot: s.learner.act(state, s.scaling.see(seen), key, True)  # noqa: E731
        action = jax.eval_shape(act, state, seen, key)
        if action.shape != (1, slot.chunk * spec.action):
            raise SegueError(
                f"{type(slot.learner).__name__} returns actions of shape {action.shape} for one observation; the task "
                f"needs (1, {slot.chunk * spec.action})"
            )


@contextmanager
def _telling(phase: Phase, before: Slot | None, anew: Callable[[], None]) -> Iterator[None]:
    """Say whose phase it is; and that a learner cannot go on with another one's state, where it can start `anew`."""
    try:
        yield
    except SegueError as error:
        said = str(error)
        raise SegueError(said if said.startswith("phase '") else f"phase '{phase.name}': {said}") from error
    except Exception as error:
        if before is None or type(before.learner) is type(phase.learner) or _fails(anew):
            raise
        who, other = type(phase.learner).__name__, type(before.learner).__name__
        raise SegueError(
            f"phase '{phase.name}': {who} cannot continue from the state of {other} in slot '{phase.slot}' "
            f"({' '.join(str(error).split())[:160]}); give it a slot of its own, init_from=fresh, or a "
            "hand-over that converts the state"
        ) from error


def _fails(what: Callable[[], None]) -> bool:
    try:
        what()
    except Exception:
        return True
    return False
