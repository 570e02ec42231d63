"""Reward bonuses, which change copies of rewards between replay and learner, and the table of their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, NamedTuple

from segue.core.lazy import Later, face
from segue.core.named import is_named, named
from segue.core.options import unknown
from segue.core.parts import part_of
from segue.core.types import Bonus

if TYPE_CHECKING:
    from segue.bonuses.bonus import Both
    from segue.bonuses.nothing import Nothing
    from segue.bonuses.returns import Returns
    from segue.bonuses.rnd import RND, textbook
    from segue.bonuses.sera import SERA
    from segue.bonuses.vcse import VCSE, StateEntropy
else:
    __getattr__, __dir__ = face(__name__)

__all__ = [
    "BONUSES",
    "RND",
    "SERA",
    "VCSE",
    "Both",
    "Nothing",
    "Returns",
    "StateEntropy",
    "bonus_of",
    "parts",
    "textbook",
]


class Entry(NamedTuple):
    """A bonus as `segue list` shows it, and as a recipe's name adds it: `cal-ql+sera`."""

    part: Bonus | Callable[[], Bonus]
    """The bonus, or what makes it."""
    when: Literal["online", "always"]
    """Whether offline phases have it too."""
    paper: str
    parity: str
    """Source of the numbers that its tests compare with."""
    presets: Mapping[str, Mapping[str, object]] = MappingProxyType({})
    """Options by a task's domain, its presets or its name."""
    unscaled: Mapping[str, Mapping[str, object]] = MappingProxyType({})
    """The same for recipes that do not rescale rewards, where a failing step costs 1 at most."""
    from_scratch: Bonus | Callable[[], Bonus] | None = None
    """Its replacement when nothing is trained before it, so that there is no critic to copy; or what makes it."""

    @property
    def bonus(self) -> Bonus:
        """The bonus with its defaults."""
        return self.after(True)

    def after(self, trained: bool) -> Bonus:
        """The bonus with its defaults, where something is trained before it or nothing."""
        part = self.part if trained or self.from_scratch is None else self.from_scratch
        return part() if callable(part) else part


_SERA = Later("segue.bonuses.sera:SERA")
BONUSES: dict[str, Entry] = {
    "sera": Entry(
        _SERA,
        "online",
        "Zhang et al. 2023, SERA (later QCSE), arXiv 2310.19805",
        "our reading of the paper, by hand; its estimator against VCSE's program",
        {
            "antmaze": {"neighbours": 25},
            # Ours: in four dimensions the literal form pays nearly a constant (0.90 with a spread of 0.04 on the medium
            # log), and where steps are free an agent then learns never to arrive.  Ten times the weight takes the goal
            # from IQL and finds it for CQL (docs/results/systems.md).
            "pointmaze": {"normalise_bonus": True, "weight": 0.01},
            "hopper": {"neighbours": 10},
        },
        # Ours, not measured: on Adroit the literal bonus is between -0.6 and -0.9 in nearly all rows, as much as a step
        # costs there.
        {"adroit-binary": {"normalise_bonus": True, "weight": 0.1}},
        partial(_SERA, q_source="current"),
    ),
    "vcse": Entry(
        Later("segue.bonuses.vcse:VCSE"),
        "online",
        "Kim et al. 2023, VCSE, arXiv 2305.19476",
        "estimator and rewards of the official program",
    ),
    "state-entropy": Entry(
        Later("segue.bonuses.vcse:StateEntropy"),
        "online",
        "state entropy as VCSE's program has it",
        "bonus of the official program",
    ),
    "rnd": Entry(
        Later("segue.bonuses.rnd:RND"),
        "always",
        "Burda et al. 2018, RND, arXiv 1810.12894, as in OOO, arXiv 2310.08558",
        "three steps of OOO's programs, two variants",
        {
            "adroit-binary": {"weight": 0.5},
            "adroit": {"weight": 0.5},
            # Ours, for a laptop.  At 10 IQL's first bonuses, before the predictor has learned, lift values to 80 where
            # a goal is worth 10.
            "pointmaze": {"weight": 0.5, "hidden": (128,), "features": 128},
        },
    ),
    "rnd-textbook": Entry(
        Later("segue.bonuses.rnd:textbook"), "always", "Burda et al. 2018, RND, arXiv 1810.12894", "unit checks by hand"
    ),
}


def parts(bonus: Bonus) -> list[Bonus]:
    """Bonuses that are joined in one."""
    from segue.bonuses.bonus import Both
    from segue.bonuses.returns import Returns

    if isinstance(bonus, Both):
        return [*parts(bonus.first), *parts(bonus.second)]
    return [bonus, *parts(bonus.inner)] if isinstance(bonus, Returns) else [bonus]


def bonus_of(word: str) -> Entry:
    """Return the bonus of that name: of the table, or module:name of one's own.

    What module:name finds is an `Entry`, or a bonus (or what makes one, see `part_of`), which acts online.
    """
    if word in BONUSES:
        return BONUSES[word]
    if not is_named(word):
        unknown("bonus", word, BONUSES)
    found = named(word, "a bonus")
    return found if isinstance(found, Entry) else Entry(part_of(word, Bonus, "bonus"), "online", word, "nothing")
