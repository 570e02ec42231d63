"""The slot that a phase trains, in the form in which it goes from dispatch to dispatch.

A dispatch takes every array of the slot and returns it: a step of a simulator waits for that, so that what the host
does there counts.  The arrays stand in one list here, and the metrics' sums in two arrays; `slot` puts them together
when somebody looks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from segue.core.replay import Replay
from segue.core.types import Array, Learned, Slot, Spec
from segue.engine import steps
from segue.engine.phase import Phase
from segue.engine.steps import ACT, UPDATE, Sums, Turn, keys_of


class Training:
    """One slot while a phase trains it, for all seeds."""

    def __init__(
        self,
        phase: Phase,
        slot: Slot,
        seeds: tuple[int, ...],
        spec: Spec,
        offline: Replay,
        online: Replay,
        counted: Mapping[str, tuple[np.ndarray, np.ndarray]],
    ) -> None:
        self.name, self._slot = phase.slot, slot._replace(learned=Learned(()))
        self.turn = Turn.of(phase, slot.scaling)
        self.offline = offline
        self.keys = keys_of(seeds, UPDATE), keys_of(seeds, ACT)
        self.nowhere = np.zeros((len(seeds), *spec.observation), spec.dtype)
        self.names = steps.metrics_of(self.turn.update, slot.learned, offline, online, self.keys[0])
        self.leaves, self.tree = jax.tree.flatten(slot.learned)
        nothing = np.zeros(len(seeds), np.float32), np.zeros(len(seeds), np.int32)
        found = [counted.get(name, nothing) for name in self.names]
        self._sums = self._stacked([total for total, _ in found], [terms for _, terms in found])

    def _stacked(self, totals: list[Any], counts: list[Any]) -> Sums:
        lanes = len(self.nowhere)
        stack = lambda xs, kind: np.stack(xs, axis=1) if xs else np.zeros((lanes, 0), kind)  # noqa: E731
        return Sums(*jax.device_put((stack(totals, np.float32), stack(counts, np.int32))))

    @property
    def slot(self) -> Slot:
        """The slot as it stands."""
        return self._slot._replace(learned=jax.tree.unflatten(self.tree, self.leaves))

    @property
    def sums(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Sums and counts (S,) of each metric since they were taken last."""
        total, terms = jax.device_get(self._sums)
        return {name: (total[:, n], terms[:, n]) for n, name in enumerate(self.names)}

    def advance(
        self, online: Replay, total: int, step: int, count: int, moved: int, observation: np.ndarray | None = None
    ) -> Array:
        """Launch `count` updates, and what the slot's policy does then; return its actions (S, A).

        `total` and `step` count the updates before, in the run and in the phase, and `moved` environment steps.
        """
        seen = self.nowhere if observation is None else observation
        clocks = np.asarray((total, step, count, moved), np.int32)
        self.leaves, self._sums, action = steps.advance(
            self.turn, self.tree, self.leaves, self._sums, self.offline, online, *self.keys, clocks, seen
        )
        return action

    def take_metrics(self) -> dict[str, np.ndarray]:
        """Means since the last call, (S,), NaN where a metric was never computed."""
        total, count = jax.device_get(self._sums)
        self._sums = Sums(*jax.device_put((np.zeros_like(total), np.zeros_like(count))))
        means = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        return {name: means[:, n] for n, name in enumerate(self.names)}


def acts_alone(phase: Phase) -> bool:
    """Whether the actions of a phase are its own policy's after the updates before: one dispatch then does both."""
    return phase.collects and phase.learns and phase.actors == (phase.slot,) and not phase.overlap
