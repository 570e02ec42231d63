"""The training loop: phases, hand-overs, compiled steps, simulators, evaluation.  It imports no agent or task.

`loop.run` runs a list of `phase.Phase`s and yields `state.Record`s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.core.lazy import face

if TYPE_CHECKING:
    from segue.engine.phase import RANDOM, Phase, at_switch, charged, from_slot, new_optimisers
else:
    __getattr__, __dir__ = face(__name__)

__all__ = ["RANDOM", "Phase", "at_switch", "charged", "from_slot", "new_optimisers"]
