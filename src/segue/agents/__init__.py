"""The table of agents, and agents as JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from segue.core import parts
from segue.core.lazy import face
from segue.core.types import Acting, Learner, SegueError

if TYPE_CHECKING:
    from segue.agents.awac import AWAC
    from segue.agents.bc import BC
    from segue.agents.bfn import BFN
    from segue.agents.cal_ql import CalQL
    from segue.agents.cql import CQL
    from segue.agents.flow import Flow
    from segue.agents.fql import FQL
    from segue.agents.iql import IQL
    from segue.agents.one_of import OneOf
    from segue.agents.online_pretraining import OnlinePretraining
    from segue.agents.opt import OPT
    from segue.agents.pex import PEX
    from segue.agents.rebrac import ReBRAC
    from segue.agents.rlpd import RLPD
    from segue.agents.sac import SAC
    from segue.agents.spot import SPOT, VAE
    from segue.agents.td3 import TD3, TD3BC
    from segue.core.encoders import Encoder
    from segue.core.networks import Networks
    from segue.core.parts import describe
    from segue.core.schedules import Linear
else:
    __getattr__, __dir__ = face(__name__)


class Entry(NamedTuple):
    """An agent as `segue list` shows it."""

    name: str
    paper: str
    kind: str
    parity: str
    """Source of the numbers that its tests compare with."""

    @property
    def agent(self) -> type[Acting]:
        """Its class."""
        kind: type[Acting] = class_of(self.name)
        return kind


_ROWS = (
    Entry(
        "SAC", "Haarnoja et al. 2018, arXiv 1812.05905", "online", "two updates of the official Cal-QL program's SAC"
    ),
    Entry(
        "CQL",
        "Kumar et al. 2020, arXiv 2006.04779",
        "offline and online",
        "losses, gradients and two updates of the official Cal-QL program, not calibrated",
    ),
    Entry(
        "CalQL",
        "Nakamoto et al. 2023, arXiv 2303.05479",
        "offline and online",
        "losses, gradients and two updates of the official program",
    ),
    Entry(
        "IQL",
        "Kostrikov et al. 2021, arXiv 2110.06169",
        "offline and online",
        "updates of the official program, and of CORL's (both actors)",
    ),
    Entry("PEX", "Zhang, Xu and Yu 2023, arXiv 2302.00935", "online", "unit checks by hand"),
    Entry("AWAC", "Nair et al. 2020, arXiv 2006.09359", "offline and online", "two updates of CORL's program"),
    Entry("TD3", "Fujimoto et al. 2018, arXiv 1802.09477", "online", "four updates of OEMA's TD3"),
    Entry(
        "TD3BC", "Fujimoto and Gu 2021, arXiv 2106.06860", "offline", "four updates of CORL's and the authors' program"
    ),
    Entry("ReBRAC", "Tarasov et al. 2023, arXiv 2305.09836", "offline and online", "three updates of CORL's program"),
    Entry(
        "SPOT",
        "Wu et al. 2022, arXiv 2202.06239",
        "offline and online",
        "two updates of the official program, three forms",
    ),
    Entry(
        "RLPD",
        "Ball et al. 2023, arXiv 2302.02948; WSRL's online agent: Zhou et al. 2024, arXiv 2412.07762",
        "online",
        "two updates of the official RLPD program, three forms; WSRL's options by hand",
    ),
    Entry(
        "FQL",
        "Park, Li and Levine 2025, arXiv 2502.02538",
        "offline and online",
        "two updates of the official program, four forms; its samplers; of Q-chunking's program, three forms",
    ),
    Entry(
        "BFN",
        "Li, Zhou and Levine 2025, arXiv 2507.07969 (QC, where it plans chunks)",
        "offline and online",
        "two updates of the official program, three forms, and its choice of actions",
    ),
    Entry(
        "BC",
        "Pomerleau 1989; its numbers are CORL's BC's",
        "offline, the policy of any agent",
        "the loss and the first step by hand; flows are those of FQL and BFN",
    ),
    Entry(
        "OPT",
        "Shin et al. 2025, arXiv 2507.08387",
        "online, around TD3, SPOT, IQL, CQL or CalQL",
        "four meta steps and two updates of a re-implementation (the official code could not be read)",
    ),
)
AGENTS: dict[str, Entry] = {entry.name: entry for entry in _ROWS}
# Learners that do not act, agents around agents, and what stands inside an agent.
PARTS = ("VAE", "Encoder", "Flow", "Linear", "Networks", "OneOf", "OnlinePretraining")

__all__ = [
    "AGENTS",
    "AWAC",
    "BC",
    "BFN",
    "CQL",
    "FQL",
    "IQL",
    "OPT",
    "PEX",
    "RLPD",
    "SAC",
    "SPOT",
    "TD3",
    "TD3BC",
    "VAE",
    "CalQL",
    "Encoder",
    "Entry",
    "Flow",
    "Linear",
    "Networks",
    "OneOf",
    "OnlinePretraining",
    "ReBRAC",
    "build",
    "describe",
    "title",
]


def title(learner: Learner) -> str:
    """Name of a learner: its class, and the agents inside it."""
    from segue.agents.bc import BC
    from segue.agents.one_of import OneOf
    from segue.agents.online_pretraining import OnlinePretraining
    from segue.agents.opt import OPT

    if isinstance(learner, (BC, OPT, OnlinePretraining)):
        return f"{type(learner).__name__} of {title(learner.base)}"
    if isinstance(learner, OneOf):
        return f"{title(learner.first)} or {title(learner.second)}"
    return type(learner).__name__


def build(description: Mapping[str, Any]) -> Acting:
    """Return the agent that `describe` described; a class outside Segue is imported, as module:name says.

    Raises `SegueError` if the class does not exist or its fields have changed.
    """
    agent: Acting = parts.build(description, class_of, "an agent")
    return agent


def class_of(name: str) -> Any:
    """Return the class of that name: an agent, or one of `PARTS`.  Raises `SegueError`."""
    if name not in AGENTS and name not in PARTS:
        raise SegueError(f"no agent '{name}' in this version of Segue; known: {', '.join(AGENTS)}")
    return getattr(sys.modules[__name__], name)
