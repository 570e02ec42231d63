"""From SAC, CQL or Cal-QL to RLPD, the hand-over of WSRL (Zhou et al. 2024, arXiv 2412.07762)."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from segue.agents.from_cql import sac_of
from segue.agents.rlpd import State
from segue.agents.soft import TemperatureForm, raw_temperature
from segue.core.optim import kind_of, scaled_moments
from segue.core.types import Handover, SegueError


@dataclass(frozen=True)
class from_sac:
    """Continue from the state of SAC, CQL or Cal-QL in a slot, optimisers included: `init_from=from_sac()`.

    The critics' loss is a sum over critics before the hand-over and a mean after it.  So their moments are divided by
    the number of critics; Adam then steps as if both were means, as in WSRL's program.
    """

    slot: str = "agent"
    temperature_loss: TemperatureForm = "softplus"
    """Form of the temperature in the agent that continues; the temperature keeps its value."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Slots that must be there, for `check_handovers`."""
        return (self.slot,)

    def __call__(self, handover: Handover, state: State) -> State:
        """Return the slot's networks in the form of RLPD's state."""
        old = sac_of(handover.slots[self.slot].state)
        kinds = lambda s: [kind_of(s.actor), kind_of(s.critic)]  # noqa: E731
        if kinds(old) != kinds(state):
            raise SegueError(
                f"from_sac: the networks in slot '{self.slot}' differ from those of the next agent; give both "
                "the same widths, number of critics, layer normalisation and options of 'networks'"
            )
        alpha = jnp.exp(old.temperature.params)
        raw = raw_temperature(alpha, "softplus") if self.temperature_loss == "softplus" else old.temperature.params
        count = jax.tree.leaves(old.critic.params.members)[0].shape[0]
        critic = scaled_moments(old.critic, 1.0 / count)
        return State(old.actor, critic, old.target, state.temperature._replace(params=raw))
