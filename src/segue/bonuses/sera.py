"""SERA, later called QCSE: state entropy conditioned on Q, as a reward (arXiv 2310.19805)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax.numpy as jnp

from segue.bonuses.bonus import Moments, Relabelled, Trains, no_moments, paid
from segue.bonuses.neighbours import Critic, Scale, Scaled, conditioned_bonus, copied, current, refuse_values, scaled
from segue.core.options import option, require, tunable
from segue.core.types import Handover, Key, Slot, Spec, Transition


class SERAState(NamedTuple):
    """State of SERA."""

    critic: Critic | None
    scale: Scaled
    bonus: Moments


@dataclass(frozen=True)
class SERA:
    """Q-conditioned state entropy:  r + weight * tanh(bonus),  the bonus with v_i = min_j Q_j(s_i, a_i).

    The paper does not say whether Q is frozen, how states and values are scaled, and where neighbours are searched.
    Defaults of ours are a frozen copy of the offline critic, states divided by their dimension (as VCSE's program, the
    only public code of the estimator, does), values standardised by the batch, and neighbours in the batch.
    """

    weight: float = tunable(1.0)
    """lambda, the factor on the bonus."""
    neighbours: int = tunable(20)
    """k, the row itself included; the paper's ablation found 10 (hopper), 20 (walker2d) and 25 (AntMaze) best."""
    q_source: Literal["frozen", "average", "current"] = "frozen"
    average_rate: float = option(5e-3, when=lambda a: a.q_source == "average", why="q_source=average", tunable=True)
    slot: str | None = option(None, when=lambda a: a.q_source != "current", why="a q_source that is copied")
    """Slot whose critic is copied at the beginning of the phase; the phase's own by default."""
    scale: Scale = "dimension"
    """How distances see states: divided by their dimension, standardised by the dataset, or as they are.

    Standardised states are so far apart that the bonus lies where tanh is flat: it is nearly constant then.
    """
    normalise_bonus: bool = tunable(False)
    """Standardise the bonus by running moments before the tanh."""
    rows: Literal["all", "online"] = tunable("all")
    """Rows that get the bonus: all of the batch, or only the run's own."""

    def __post_init__(self) -> None:
        require(self, weight=self.weight >= 0, neighbours=self.neighbours >= 2, average_rate=0 < self.average_rate <= 1)

    def validate(self, phase: Trains, slots: Mapping[str, Slot], spec: Spec, offline: int) -> str | None:
        """Return why a phase cannot have this bonus."""
        return refuse_values("sera", self.q_source, self.slot, phase, slots, spec, offline, self.scale)

    def init(self, key: Key, handover: Handover) -> SERAState:
        """Copy the critic at the beginning of the phase."""
        apart = None if self.q_source == "current" else copied(handover, self.slot, "sera")
        return SERAState(apart, scaled(self.scale, handover, "sera"), no_moments(()))

    def reward(self, state: SERAState, batch: Transition, key: Key, slot: Slot) -> Relabelled[SERAState]:
        """Add weight * tanh(bonus) to the rewards of a batch."""
        critic = state.critic
        if critic is not None and self.q_source == "average":
            critic = critic.followed_by(slot.state, self.average_rate)
        q = (critic or current(slot)).q(batch.observation, batch.action)
        q = (q - jnp.mean(q)) / (jnp.std(q) + 1e-6)
        raw = conditioned_bonus(state.scale(batch.observation), q, self.neighbours)
        moments = state.bonus.take(raw)
        bonus = (raw - moments.mean) / jnp.sqrt(moments.variance + 1e-8) if self.normalise_bonus else raw
        earned = jnp.tanh(bonus) * (batch.online if self.rows == "online" else 1.0)
        batch, metrics = paid(batch, self.weight * earned, "sera")
        return SERAState(critic, state.scale, moments), batch, metrics | {"sera_saturation": jnp.mean(bonus > 2.0)}
