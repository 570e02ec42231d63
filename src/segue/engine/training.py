"""The slot that a phase trains, in the form in which it goes from dispatch to dispatch.

A dispatch takes every array of the slot and returns it: a step of a simulator waits for that, so that what the host
does there counts.  The arrays of a group of seeds stand in one list here, and the metrics' sums in two arrays; `slot`
puts them together when somebody looks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

import jax
import numpy as np

from segue.core.experience import Experience
from segue.core.replay import Replay
from segue.core.types import Array, Learned, Slot, Spec
from segue.engine import steps
from segue.engine.phase import Phase
from segue.engine.steps import ACT, UPDATE, Sums, Turn, keys_of

Actions = Sequence[Future[Array]]
"""Actions (size, envs, A) of each group, as soon as they are there."""


class Training:
    """One slot while a phase trains it, for all seeds."""

    def __init__(
        self,
        phase: Phase,
        slot: Slot,
        seeds: tuple[int, ...],
        spec: Spec,
        offline: Sequence[Replay],
        experience: Experience,
        counted: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ) -> None:
        self.name, self._slot = phase.slot, slot._replace(learned=Learned(()))
        self.turn = Turn.of(phase, slot.scaling)
        self.offline, self.groups = offline, experience.groups
        own = [seeds[g.lanes] for g in self.groups.members]
        self.keys = [g.place((keys_of(mine, UPDATE), keys_of(mine, ACT))) for g, mine in zip(self.groups.members, own)]
        self.nowhere = np.zeros((len(seeds), experience.envs, *spec.observation), spec.dtype)
        parts = self.groups.split(slot.learned)
        known = offline[0], experience.given(0), self.keys[0][0]
        self.names = steps.metrics_of(self.turn.update, parts[0], *known)
        self.tree = jax.tree.structure(parts[0])
        self._leaves = [jax.tree.leaves(part) for part in parts]
        self._whole: Learned | None = None
        nothing = np.zeros(len(seeds), np.float32), np.zeros(len(seeds), np.int32)
        found = [counted.get(name, nothing) for name in self.names]
        self._count([total for total, _ in found], [terms for _, terms in found])
        self._launched: Actions = ()
        self._compiled = False

    def _count(self, totals: Sequence[np.ndarray], terms: Sequence[np.ndarray]) -> None:
        """Go on from sums and counts (S,) of the metrics."""
        stack: Any = lambda xs, kind: np.stack(xs, 1) if len(xs) else np.zeros((len(self.nowhere), 0), kind)  # noqa: E731
        self._sums: list[Sums] = self.groups.split(Sums(stack(totals, np.float32), stack(terms, np.int32)))

    def _settle(self) -> None:
        """Wait until every group's last call has returned, and raise what it raised."""
        for launched in self._launched:
            launched.result()

    def wait(self) -> None:
        """Wait until nothing reads experience any more."""
        self._settle()
        jax.block_until_ready(self._leaves)

    @property
    def parts(self) -> list[Learned]:
        """What each group has learned."""
        self._settle()
        return [jax.tree.unflatten(self.tree, leaves) for leaves in self._leaves]

    @property
    def slot(self) -> Slot:
        """The slot as it stands."""
        if self._whole is None:
            self._whole = self.groups.join(self.parts)
        return self._slot._replace(learned=self._whole)

    def _total(self) -> tuple[np.ndarray, np.ndarray]:
        self._settle()
        total, terms = (np.concatenate(parts) for parts in zip(*jax.device_get(self._sums)))
        return total, terms

    @property
    def sums(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Sums and counts (S,) of each metric since they were taken last."""
        total, terms = self._total()
        return {name: (total[:, n], terms[:, n]) for n, name in enumerate(self.names)}

    def advance(
        self,
        experience: Experience,
        total: int,
        step: int,
        count: int,
        moved: int,
        observation: np.ndarray | None = None,
    ) -> Actions:
        """Launch `count` updates, and what the slot's policy does then; return its actions.

        `total` and `step` count the updates before, in the run and in the phase, and `moved` environment steps.
        `observation` is (S, envs, *observation).
        """
        self._settle()
        seen = self.nowhere if observation is None else observation
        clocks = np.asarray((total, step, count, moved), np.int32)
        # Looked up here: an action of one group is taken, and written, while another group may not have begun.
        given = [(experience.given(n), seen[g.lanes]) for n, g in enumerate(self.groups.members)]

        def work(n: int) -> Array:
            rows, here = given[n]
            self._leaves[n], self._sums[n], action = steps.advance(
                self.turn,
                self.tree,
                self._leaves[n],
                self._sums[n],
                self.offline[n],
                rows,
                *self.keys[n],
                clocks,
                here,
            )
            return self.groups.ready(action)

        self._whole = None
        self._launched = self.groups.launch(work, alone=not self._compiled)
        self._compiled = True
        return self._launched

    def take_metrics(self) -> dict[str, np.ndarray]:
        """Means since the last call, (S,), NaN where a metric was never computed."""
        total, count = self._total()
        self._count(list(np.zeros_like(total.T)), list(np.zeros_like(count.T)))
        means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return {name: means[:, n] for n, name in enumerate(self.names)}


def each(actions: Actions) -> Iterator[np.ndarray]:
    """The action (A,) of every world, in order; a simulator may step while others' actions are still computed."""
    for group in actions:
        for seed in np.asarray(group.result()):
            yield from seed


def acts_alone(phase: Phase) -> bool:
    """Whether the actions of a phase are its own policy's after the updates before: one dispatch then does both."""
    return phase.collects and phase.learns and phase.actors == (phase.slot,) and not phase.overlap
