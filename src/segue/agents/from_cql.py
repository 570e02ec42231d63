"""From CQL or Cal-QL to SAC, which they are made of."""

from __future__ import annotations

from dataclasses import dataclass

from segue.agents import sac
from segue.agents.cql import State
from segue.core.types import Handover


def sac_of(state: sac.State | State) -> sac.State:
    """What SAC goes on from: its own state, or the one inside CQL's."""
    return state.sac if isinstance(state, State) else state


@dataclass(frozen=True)
class from_cql:
    """Go on with SAC from what CQL or Cal-QL has learned in a slot, optimisers included: `init_from=from_cql()`.

    The multiplier stays behind.
    """

    slot: str = "agent"

    @property
    def reads(self) -> tuple[str, ...]:
        """Slots that must be there, for `check_handovers`."""
        return (self.slot,)

    def __call__(self, handover: Handover, state: sac.State) -> sac.State:
        """Return the slot's networks and optimisers as SAC's state."""
        return sac_of(handover.slots[self.slot].state)
