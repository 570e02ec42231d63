"""Who acts in an episode: the policy that learns online, or another one, and until when."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np

from segue.core.options import option, require
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
    returns: Callable[[], Sequence[float]] = tuple
    """Those of the phase's finished training episodes, in order."""
    done: float = 0.0
    """The share of the phase's environment steps that is done."""
    horizon: int = 0
    """Longest episode of the task, in steps."""


class Turn(NamedTuple):
    """Who begins an episode, 0 for the phase's own policy, else 1 + the place in `Sharing.others`; after `steps` steps
    the own policy takes over (None: never)."""

    who: int
    steps: int | None = None

    def at(self, step: int) -> int:
        """Who acts at a step of the episode, counted from 0."""
        return self.who if self.steps is None or step < self.steps else 0

    def own(self, length: int) -> float:
        """The share of an episode of so many steps in which the phase's own policy acted."""
        others = 0 if self.who == 0 else length if self.steps is None else min(self.steps, length)
        return 1.0 - others / length


class Sharing(Protocol):
    """Lets several policies share the episodes of a phase."""

    @property
    def others(self) -> tuple[str, ...]:
        """Who acts beside the phase's own policy: slots, FILE.onnx or module:name (`segue.core.foreign`)."""
        ...

    @property
    def compares(self) -> tuple[str, ...]:
        """Those of them that validation must have filled."""
        ...

    def validate(self, phase: Any) -> str | None:
        """Return why a phase (`phases.Phase`) cannot be shared, or None."""
        ...

    def turn(self, seed: int, episode: int, standing: Standing) -> Turn:
        """Who acts in an episode of a run's seed."""
        ...


@dataclass(frozen=True)
class Either:
    """In each episode either the phase's own policy acts, or the policy of another slot (Su, Luo and Zhang 2025, arXiv
    2512.00383; the numbers are those of the first author's earlier code).

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
    def others(self) -> tuple[str, ...]:
        """The other slot."""
        return (self.other,)

    @property
    def compares(self) -> tuple[str, ...]:
        """The other slot."""
        return (self.other,)

    def validate(self, phase: Any) -> str | None:
        """Return why a phase cannot be shared: its own policy must be validated."""
        if phase.validation.steps:
            return None
        return f"shares episodes according to validation; set {phase.name}.validation.steps"

    def turn(self, seed: int, episode: int, standing: Standing) -> Turn:
        """Whose the episode is: a function of the run's seed, the episode's number and what is known."""
        if self.other not in standing.validated:
            raise SegueError(
                f"Either: slot '{self.other}' is empty; an earlier phase must validate and keep its best there"
            )
        other, random = standing.validated[self.other], standing.early(self.random_episodes)
        return Turn(1 - own_turn(seed, episode, self.probability(standing.own, other, random)))

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


HandOver = Literal["never", "random", "curriculum", "linear"]


@dataclass(frozen=True)
class Guide:
    """Another policy begins every episode, and the phase's own policy takes over: jump-start roll-ins (JSRL: Uchendu et
    al. 2023, arXiv 2204.02372).

    The guide acts for h steps of at most H = `horizon`.  `hand_over` says what h is:

    "random"      uniform in 0..H for each episode (JSRL-Random)
    "curriculum"  H in the first of `stages` stages, 0 in the last.  The next stage begins when the mean return of
                  `window` training episodes is at least the best such mean so far, less `tolerance` times its size.
                  (JSRL has evaluations of the two policies together where Segue has training episodes, whose steps the
                  run takes anyway.  Numbers of stages and of episodes are defaults of ours.)
    "linear"      falls from H to 0 over the first half of the phase's environment steps (default of ours)
    "never"       the guide acts alone, which only collects

    What the guide does is experience like any other.  Evaluations are of the own policy alone.
    """

    policy: str = ""
    """Who guides: FILE.onnx, module:name, or a slot that an earlier phase has filled."""
    hand_over: HandOver = "random"
    """How many steps of an episode are the guide's: random, curriculum, linear or never, see `Guide`."""
    horizon: int | None = option(None, when=lambda g: g.hand_over != "never", why="a hand_over other than never")
    """H, the guide's most steps of an episode; none is the task's longest episode."""
    stages: int = option(10, when=lambda g: g.hand_over == "curriculum", why="hand_over=curriculum")
    """Stages of the curriculum, the first with H steps of the guide, the last with none."""
    window: int = option(10, when=lambda g: g.hand_over == "curriculum", why="hand_over=curriculum")
    """Training episodes whose mean return is compared."""
    tolerance: float = option(0.05, when=lambda g: g.hand_over == "curriculum", why="hand_over=curriculum")
    """Share of the best mean by which a mean may be below it."""

    def __post_init__(self) -> None:
        require(
            self,
            hand_over=self.hand_over in get_args(HandOver),
            horizon=self.horizon is None or self.horizon >= 1,
            stages=self.stages >= 2,
            window=self.window >= 1,
            tolerance=self.tolerance >= 0,
        )

    @property
    def others(self) -> tuple[str, ...]:
        """The guide."""
        return (self.policy,)

    @property
    def compares(self) -> tuple[str, ...]:
        """None: the guide is not judged."""
        return ()

    def validate(self, phase: Any) -> str | None:
        """Return why a phase cannot be guided."""
        if not self.policy:
            return f"has no guide; set {phase.name}.actor.policy to FILE.onnx, to module:name, or to a slot"
        if self.policy == phase.slot:
            return f"would be guided by slot '{self.policy}', which it trains; name another policy"
        return None

    def turn(self, seed: int, episode: int, standing: Standing) -> Turn:
        """The guide's steps: a function of the run's seed, the episode's number and what is known."""
        if self.hand_over == "never":
            return Turn(1)
        most = self.horizon or standing.horizon
        if self.hand_over == "random":
            drawn = np.random.default_rng(np.random.SeedSequence([seed, BEHAVIOUR, episode]))
            return Turn(1, int(drawn.integers(most, endpoint=True)))
        if self.hand_over == "linear":
            return Turn(1, round(most * max(1.0 - 2.0 * standing.done, 0.0)))
        return Turn(1, round(most * (1.0 - self.stage(standing.returns()) / (self.stages - 1))))

    def stage(self, returns: Sequence[float]) -> int:
        """The stage, from 0 to `stages` - 1, after training episodes of these returns."""
        stage, best = 0, -math.inf
        for end in range(self.window, len(returns) + 1, self.window):
            mean = float(np.mean(returns[end - self.window : end]))
            if mean >= best - self.tolerance * abs(best) or best == -math.inf:
                stage += 1
            best = max(best, mean)
        return min(stage, self.stages - 1)
