"""Compile the updates of later phases while an offline phase learns: the compiler takes seconds that nobody then waits.

Only what a phase's first dispatch would compile is compiled, from shapes.  What goes wrong here is not told: the phase
meets it when it begins, and tells it in its own words.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait

import jax
import jax.numpy as jnp

from segue.core.scaling import Scaling
from segue.engine import steps
from segue.engine.offline import Offline
from segue.engine.phase import Phase
from segue.engine.state import RunState
from segue.engine.steps import Sums, Turn
from segue.engine.validate import Shapes

Later = Iterable[tuple[int, Phase, Scaling]]
"""Phases that come, with their place in the run and their scaling."""


class Ahead:
    """A thread that compiles for phases to come, in their order."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(1, "segue-compile")
        self._begun: dict[int, Future[None]] = {}

    def begin(self, state: RunState, source: Offline, later: Later) -> None:
        """Begin with those up to the first one that learns while its world moves."""
        data, group = source.data, state.experience.groups.members[0]
        logged = 0 if data is None else len(data)
        shapes = Shapes(source.spec, group.size, logged, state.experience.capacity, data, state.experience.envs)
        like = lambda x: jax.ShapeDtypeStruct((group.size, *x.shape[1:]), x.dtype)  # noqa: E731
        shapes.slots |= {n: slot._replace(learned=jax.tree.map(like, slot.learned)) for n, slot in state.slots.items()}
        for index, phase, scaling in later:
            if index not in self._begun:
                self._begun[index] = self._worker.submit(compile_for, shapes, index, phase, scaling)
            if phase.learns and phase.collects:
                return

    def wait(self, index: int) -> None:
        """Wait for what is compiled for a phase; two compilers at once would do the same work."""
        if (begun := self._begun.get(index)) is not None:
            wait([begun])

    def close(self) -> None:
        """Finish what is being compiled, and nothing more."""
        self._worker.shutdown(cancel_futures=True)


def compile_for(shapes: Shapes, index: int, phase: Phase, scaling: Scaling) -> None:
    """Compile what a phase's first dispatch calls, and note what it leaves in its slot."""
    with contextlib.suppress(Exception):
        slot = shapes.hand_over(phase, index, scaling)
        if phase.validation.steps:
            shapes.validated(phase)
        if not phase.learns:
            return
        turn, seeds, spec = Turn.of(phase, scaling), shapes.seeds, shapes.spec
        _, metrics = steps.once.eval_shape(turn.update, *shapes.one(slot.learned, phase.listed))
        leaves, tree = jax.tree.flatten(slot.learned)
        sums = Sums(*(jax.ShapeDtypeStruct((seeds, len(metrics)), kind) for kind in (jnp.float32, jnp.int32)))  # type: ignore[arg-type]
        clocks = jax.ShapeDtypeStruct((4,), jnp.int32)
        seen = jax.ShapeDtypeStruct((seeds, shapes.online.stride, *spec.observation), spec.dtype)
        rows = shapes.rows(phase.listed)
        steps.advance.lower(turn, tree, leaves, sums, *rows, shapes.keys, shapes.keys, clocks, seen).compile()
