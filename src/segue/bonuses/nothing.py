"""The trivial bonus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from segue.core.types import Handover, Key, Metrics, Slot, Spec, State, Transition


@dataclass(frozen=True)
class Nothing:
    """Leave the batch as it is."""

    def validate(self, phase: object, slots: Mapping[str, Slot], spec: Spec, offline: int) -> str | None:
        """Fit everywhere."""
        return None

    def init(self, key: Key, handover: Handover) -> State:
        """No state."""
        return ()

    def reward(self, state: State, batch: Transition, key: Key, slot: Slot) -> tuple[State, Transition, Metrics]:
        """Return the batch unchanged."""
        return state, batch, {}
