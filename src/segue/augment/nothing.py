"""The trivial augmentation."""

from __future__ import annotations

from dataclasses import dataclass

from segue.types import Door, Key, Metrics, State, Transition


@dataclass(frozen=True)
class Nothing:
    """Leave the batch as it is."""

    def init(self, key: Key, door: Door) -> State:
        """No state."""
        return ()

    def relabel(self, state: State, batch: Transition, key: Key, learner: State) -> tuple[State, Transition, Metrics]:
        """Return the batch unchanged."""
        return state, batch, {}
