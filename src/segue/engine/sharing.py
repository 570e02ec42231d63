"""Which policy acts in an episode: the one that learns online, or one that was learned offline.

Su, Luo and Zhang 2025 (arXiv 2512.00383); the numbers are those of the first author's earlier code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from segue.core.options import require
from segue.core.types import SegueError
from segue.engine.envs import BEHAVIOUR


class Standing(NamedTuple):
    """What is known of one seed's policies, in raw returns, when an episode begins."""

    own: Sequence[float]
    """Validations of the phase so far, in order."""
    validated: Mapping[str, float]
    """What earlier phases' validation has kept, by slot."""
    early: Callable[[int], float]
    """The mean of so many first training episodes of the run."""


class Sharing(Protocol):
    """Lets several policies share the episodes of a phase."""

    @property
    def compares(self) -> tuple[str, ...]:
        """Slots that act beside the phase's own; validation must have filled them."""
        ...

    def validate(self, phase: Any) -> str | None:
        """Return why a phase (`phases.Phase`) cannot be shared, or None."""
        ...

    def turn(self, seed: int, episode: int, standing: Standing) -> int:
        """Who acts in an episode of a run's seed: 0, the phase's own policy, or 1 + the place in `compares`."""
        ...


@dataclass(frozen=True)
class Either:
    """In each episode either the phase's own policy acts, or the policy of another slot.

    With x = (own - random) / (other - random), returns that validation has found, the phase's own policy acts with
    probability x / (x + 1) up to x = 1, and x^2 / (x + 1) above, within `floor` and `cap`.  After `patience`
    validations in a row that found it better than the other, it always does.

    The other policy's return is the best that validation found when its slot was filled; the own one's is that of the
    phase's last validation, and the other's before the first.  The return of random actions is the mean of the seed's
    first `random_episodes` training episodes, 0 where there are none yet (default of ours: the code has constants).
    """

    other: str
    """Slot that an earlier phase's validation has filled."""
    floor: float = 0.2
    cap: float = 0.9
    patience: int = 3
    random_episodes: int = 3

    def __post_init__(self) -> None:
        require(
            self,
            floor=0 <= self.floor <= 1,
            cap=self.floor <= self.cap <= 1,
            patience=self.patience >= 1,
            random_episodes=self.random_episodes >= 1,
        )

    @property
    def compares(self) -> tuple[str, ...]:
        """The other slot."""
        return (self.other,)

    def validate(self, phase: Any) -> str | None:
        """Return why a phase cannot be shared: its own policy must be validated."""
        if phase.validation.steps:
            return None
        return f"shares episodes according to validation; set {phase.name}.validation.steps"

    def turn(self, seed: int, episode: int, standing: Standing) -> int:
        """0 or 1: a function of the run's seed, the episode's number and what is known."""
        if self.other not in standing.validated:
            raise SegueError(
                f"Either: slot '{self.other}' is empty; an earlier phase must validate and keep its best there"
            )
        other, random = standing.validated[self.other], standing.early(self.random_episodes)
        return 1 - own_turn(seed, episode, self.probability(standing.own, other, random))

    def probability(self, own: Sequence[float], other: float, random: float) -> float:
        """Probability that the phase's own policy acts, from the returns of its validations so far (in order)."""
        if len(own) >= self.patience and min(own[-self.patience :]) > other:
            return 1.0
        if other <= random:  # worth nothing
            return self.cap
        x = max(((own[-1] if own else other) - random) / (other - random), 0.0)
        return min(max(x ** (2.0 if x > 1 else 1.0) / (x + 1.0), self.floor), self.cap)


def own_turn(seed: int, episode: int, probability: float) -> bool:
    """Whether the phase's own policy acts in an episode: a function of the run's seed and the episode's number."""
    draw = np.random.default_rng(np.random.SeedSequence([seed, BEHAVIOUR, episode])).random()
    return bool(draw < probability)
