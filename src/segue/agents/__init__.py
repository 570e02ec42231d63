"""The table of agents: the one place where an agent is registered, and how agents become JSON and come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from segue.agents.around import Decay, OneOf
from segue.agents.awac import AWAC
from segue.agents.cal_ql import CalQL
from segue.agents.cql import CQL
from segue.agents.iql import IQL
from segue.agents.opt import OPT, OnlinePretraining
from segue.agents.pex import PEX
from segue.agents.rebrac import ReBRAC
from segue.agents.rlpd import RLPD
from segue.agents.sac import SAC
from segue.agents.seeing import Seeing, seeing
from segue.agents.spot import SPOT, VAE
from segue.agents.td3 import TD3, TD3BC
from segue.core import parts
from segue.core.encoders import Encoder
from segue.core.parts import describe
from segue.core.types import Agent, Learner, SegueError


class Entry(NamedTuple):
    """An agent as `segue list` shows it."""

    agent: type[Agent]
    paper: str
    kind: str
    parity: str
    """What its numbers are tested against."""


AGENTS: dict[str, Entry] = {
    "SAC": Entry(
        SAC, "Haarnoja et al. 2018, arXiv 1812.05905", "online", "two updates of the official Cal-QL program's SAC"
    ),
    "CQL": Entry(
        CQL,
        "Kumar et al. 2020, arXiv 2006.04779",
        "offline and online",
        "losses, gradients and two updates of the official Cal-QL program, not calibrated",
    ),
    "CalQL": Entry(
        CalQL,
        "Nakamoto et al. 2023, arXiv 2303.05479",
        "offline and online",
        "losses, gradients and two updates of the official program",
    ),
    "IQL": Entry(
        IQL,
        "Kostrikov et al. 2021, arXiv 2110.06169",
        "offline and online",
        "updates of the official program, and of CORL's (both actors)",
    ),
    "PEX": Entry(PEX, "Zhang, Xu and Yu 2023, arXiv 2302.00935", "online", "unit checks by hand"),
    "AWAC": Entry(AWAC, "Nair et al. 2020, arXiv 2006.09359", "offline and online", "two updates of CORL's program"),
    "TD3": Entry(TD3, "Fujimoto et al. 2018, arXiv 1802.09477", "online", "four updates of OEMA's TD3"),
    "TD3BC": Entry(
        TD3BC, "Fujimoto and Gu 2021, arXiv 2106.06860", "offline", "four updates of CORL's and the authors' program"
    ),
    "ReBRAC": Entry(
        ReBRAC, "Tarasov et al. 2023, arXiv 2305.09836", "offline and online", "three updates of CORL's program"
    ),
    "SPOT": Entry(
        SPOT,
        "Wu et al. 2022, arXiv 2202.06239",
        "offline and online",
        "two updates of the official program, three forms",
    ),
    "RLPD": Entry(
        RLPD,
        "Ball et al. 2023, arXiv 2302.02948; WSRL's online agent: Zhou et al. 2024, arXiv 2412.07762",
        "online",
        "two updates of the official RLPD program, three forms; WSRL's options by hand",
    ),
    "OPT": Entry(
        OPT,
        "Shin et al. 2025, arXiv 2507.08387",
        "online, around TD3, SPOT, IQL, CQL or CalQL",
        "four meta steps and two updates of a re-implementation (the official code could not be read)",
    ),
}
# Learners that do not act, and agents around agents.
PARTS: dict[str, type] = {
    "VAE": VAE,
    "Decay": Decay,
    "Encoder": Encoder,
    "OneOf": OneOf,
    "OnlinePretraining": OnlinePretraining,
    "Seeing": Seeing,
}

__all__ = [
    "AGENTS",
    "AWAC",
    "CQL",
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
    "Decay",
    "Encoder",
    "Entry",
    "OneOf",
    "OnlinePretraining",
    "ReBRAC",
    "Seeing",
    "build",
    "describe",
    "seeing",
    "title",
]


def title(learner: Learner) -> str:
    """What to call a learner: its class, and what is around it, "IQL (Decay)"."""
    around = []
    while isinstance(learner, (Decay, Seeing)):
        around.append(type(learner).__name__)
        learner = learner.agent
    name = type(learner).__name__
    if isinstance(learner, (OPT, OnlinePretraining)):
        name = f"{name} of {title(learner.base)}"
    elif isinstance(learner, OneOf):
        name = f"{title(learner.first)} or {title(learner.second)}"
    return f"{name} ({', '.join(around)})" if around else name


def build(description: Mapping[str, Any]) -> Agent:
    """Return the agent that `describe` described; a class outside Segue is imported, as module:name says.

    Raises `SegueError` where there is no such class, or it has other fields than it had.
    """
    agent: Agent = parts.build(description, _of_tables, "an agent")
    return agent


def _of_tables(name: str) -> type:
    classes: dict[str, type] = {n: entry.agent for n, entry in AGENTS.items()} | PARTS
    if name not in classes:
        raise SegueError(f"no agent '{name}' in this version of Segue; known: {', '.join(AGENTS)}")
    return classes[name]
