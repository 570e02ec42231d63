"""The better of two finished policies, chosen at a hand-over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segue.core.types import Agent, Array, Handover, Key, Metrics, SegueError, Spec, State, Transition, valued


class OneOfState(NamedTuple):
    """Two agents' states, and 1 where the second acts, 0 where the first does."""

    first: State
    second: State
    second_acts: Array


@dataclass(frozen=True)
class OneOf:
    """The better of two finished policies, for each seed its own, as `better` chooses.  Learns nothing."""

    first: Agent
    second: Agent
    slots: tuple[str, str]
    """Slots of the two agents; a setting for one of these slots changes the agent here too."""

    def init(self, key: Key, spec: Spec) -> OneOfState:
        """Return fresh states of both, the first acting."""
        k_first, k_second = jax.random.split(key)
        return OneOfState(self.first.init(k_first, spec), self.second.init(k_second, spec), jnp.zeros(()))

    def update(self, state: OneOfState, batch: Transition, key: Key, step: Array) -> tuple[OneOfState, Metrics]:
        """Refuse: `SegueError`."""
        raise SegueError("OneOf chooses between finished policies and learns nothing; give its phase no steps")

    def act(self, state: OneOfState, observation: Array, key: Key, explore: bool) -> Array:
        """Act as the chosen agent does."""
        first = self.first.act(state.first, observation, key, explore)
        return jnp.where(state.second_acts > 0, self.second.act(state.second, observation, key, explore), first)

    def valued(self, state: OneOfState, observation: Array, key: Key) -> tuple[Array, Array]:
        """What the backup of the agent that acts takes: (B, A) and (B,)."""
        first = valued(self.first, state.first, observation, key)
        second = valued(self.second, state.second, observation, key)
        return jax.tree.map(lambda a, b: jnp.where(state.second_acts > 0, b, a), first, second)

    def q(self, state: OneOfState, observation: Array, action: Array) -> Array:
        """Values of the chosen agent, (B,)."""
        first = self.first.q(state.first, observation, action)
        return jnp.where(state.second_acts > 0, self.second.q(state.second, observation, action), first)


@dataclass(frozen=True)
class better:
    """Take each seed's better one of two slots that validation has filled, for a `OneOf` of their agents; the first of
    equals.  Both must have learned in the phase's scaling: `check_handovers` sees to it before the run begins.
    """

    first: str
    second: str

    @property
    def compares(self) -> tuple[str, str]:
        """Slots that validation must have filled, for `segue.engine.phase.check_handovers`."""
        return self.first, self.second

    def __call__(self, handover: Handover, state: OneOfState) -> OneOfState:
        """Return both slots' states and which of them acts."""
        known = handover.validated
        second = known[self.second] > known[self.first]
        return OneOfState(
            handover.slots[self.first].state,
            handover.slots[self.second].state,
            jnp.asarray(second, state.second_acts.dtype),
        )


def parts_of(learner: Any) -> dict[str, str]:
    """Other slots whose agents a learner holds, with the names of its fields that do."""
    return dict(zip(learner.slots, ("first", "second"))) if isinstance(learner, OneOf) else {}
