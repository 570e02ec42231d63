"""The table of agents: the one place where an agent is registered, and how agents become JSON and come back."""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

from segue.agents.cql import CQL
from segue.agents.sac import SAC
from segue.types import Agent, SegueError


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
}

__all__ = ["AGENTS", "CQL", "SAC", "Entry", "build", "describe"]


def describe(agent: Any) -> dict[str, Any]:
    """Hyper-parameters as JSON: {"type": name, field: value, ...}."""
    out: dict[str, Any] = {"type": type(agent).__name__}
    for f in fields(agent):
        value = getattr(agent, f.name)
        # Strict JSON has no infinities; `build` turns the word back into the number.
        infinite = isinstance(value, float) and math.isinf(value)
        out[f.name] = describe(value) if is_dataclass(value) else str(value) if infinite else value
    return out


def build(description: dict[str, Any]) -> Agent:
    """Return the agent that `describe` described; `SegueError` when this version does not know it."""
    values = dict(description)
    name = values.pop("type")
    if name not in AGENTS:
        raise SegueError(f"no agent '{name}' in this version of Segue; known: {', '.join(AGENTS)}")
    known = {f.name for f in fields(AGENTS[name].agent)}
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
    agent: Agent = AGENTS[name].agent(**values)
    return agent
