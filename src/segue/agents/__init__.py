"""The table of agents: the one place where an agent is registered, and how agents become JSON and come back."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from segue.agents.around import Bounded, Decay, FreezeActor, Greedy, OneOf
from segue.agents.awac import AWAC
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
from segue.core.encoders import Encoder
from segue.core.types import Agent, SegueError


class Entry(NamedTuple):
    """An agent as `segue list` shows it."""

    agent: type[Any]
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
        "Kumar et al. 2020, arXiv 2006.04779; Cal-QL: Nakamoto et al. 2023, arXiv 2303.05479",
        "offline and online",
        "losses, gradients and two updates of the official Cal-QL program",
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
        "online, around TD3, SPOT, IQL or CQL",
        "four meta steps and two updates of a re-implementation (the official code could not be read)",
    ),
}
# Learners that do not act, and agents around agents.
PARTS: dict[str, type[Any]] = {
    "VAE": VAE,
    "Bounded": Bounded,
    "Decay": Decay,
    "Encoder": Encoder,
    "FreezeActor": FreezeActor,
    "Greedy": Greedy,
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
    "Bounded",
    "Decay",
    "Encoder",
    "Entry",
    "FreezeActor",
    "Greedy",
    "OneOf",
    "OnlinePretraining",
    "ReBRAC",
    "Seeing",
    "build",
    "describe",
    "seeing",
    "title",
]


def describe(agent: Any) -> dict[str, Any]:
    """Hyper-parameters as JSON: {"type": name, field: value, ...}."""
    out: dict[str, Any] = {"type": type(agent).__name__}
    for f in fields(agent):
        value = getattr(agent, f.name)
        # Strict JSON has no infinities; `build` turns the word back into the number.
        infinite = isinstance(value, float) and math.isinf(value)
        out[f.name] = describe(value) if is_dataclass(value) else str(value) if infinite else value
    return out


def title(learner: Any) -> str:
    """What to call a learner: its class, and what is around it, "IQL (FreezeActor)"."""
    around = []
    while isinstance(learner, (Bounded, Decay, FreezeActor, Greedy, Seeing)):
        around.append(type(learner).__name__)
        learner = learner.agent
    name = type(learner).__name__
    if isinstance(learner, (OPT, OnlinePretraining)):
        name = f"{name} of {title(learner.base)}"
    elif isinstance(learner, OneOf):
        name = f"{title(learner.first)} or {title(learner.second)}"
    return f"{name} ({', '.join(around)})" if around else name


def build(description: dict[str, Any]) -> Agent:
    """Return the agent that `describe` described; `SegueError` when this version does not know it."""
    values = dict(description)
    name = values.pop("type")
    classes = {n: entry.agent for n, entry in AGENTS.items()} | PARTS
    if name not in classes:
        raise SegueError(f"no agent '{name}' in this version of Segue; known: {', '.join(AGENTS)}")
    known = {f.name for f in fields(classes[name])}
    if strange := sorted(set(values) - known):
        raise SegueError(
            f"agent {name} has no {', '.join(strange)} in this version of Segue; use the version that wrote it"
        )
    for key, value in values.items():
        if isinstance(value, dict):
            values[key] = build(value)
        elif isinstance(value, list):
            values[key] = tuple(value)
        elif value in ("inf", "-inf"):
            values[key] = float(value)
    agent: Agent = classes[name](**values)
    return agent
