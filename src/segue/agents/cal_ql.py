"""Calibrated Q-learning, Cal-QL (Nakamoto et al. 2023, arXiv 2303.05479), as in its release: CQL in which the value of
a policy's action counts for no less than the Monte-Carlo return.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax.numpy as jnp

from segue.agents.conservative import Candidates
from segue.agents.cql import CQL, State
from segue.core.nets import Maximise, own_critics
from segue.core.types import Array, Key, Metrics, Spec, Transition


@dataclass(frozen=True)
class CalQL:
    """Hyper-parameters of Cal-QL; those of CQL are the release's AntMaze settings."""

    policy: ClassVar[tuple[str, ...]] = CQL.policy
    base: CQL = field(default_factory=CQL)
    calibrate_random: bool = False
    """Bound the values of uniform actions too, as OOO's variant does."""

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state, which is CQL's."""
        return self.base.init(key, spec)

    def update(
        self, state: State, batch: Transition, key: Key, step: Array, maximise: Maximise = own_critics
    ) -> tuple[State, Metrics]:
        """Do one update as CQL does, with sampled values calibrated."""
        return self.base.update(state, batch, key, step, maximise, self.calibrate)

    # -- losses ------------------------------------------------------------------------------------------------

    def calibrate(self, values: Candidates, mc_return: Array) -> Candidates:
        """max(Q(s, a), return) of sampled values (E, B, N) and returns (B, 1), -inf where a return is not known."""
        raised = Candidates(*(jnp.maximum(value, mc_return) for value in values))
        return raised if self.calibrate_random else raised._replace(random=values.random)

    # -- use ---------------------------------------------------------------------------------------------------

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """Act as SAC does."""
        return self.base.act(state, observation, key, explore)

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Smallest of the critics' values, (B,)."""
        return self.base.q(state, observation, action)

    def next_action(self, state: State, batch: Transition, key: Key) -> Array:
        """Draw the actions (B, A) that a bootstrap takes at s'."""
        return self.base.next_action(state, batch, key)

    def valued(self, state: State, observation: Array, key: Key) -> tuple[Array, Array]:
        """What SAC's backup takes: (B, A) and (B,)."""
        return self.base.valued(state, observation, key)
