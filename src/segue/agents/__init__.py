"""The table of agents: the one place where an agent is registered."""

from __future__ import annotations

from typing import NamedTuple

from segue.agents.cql import CQL
from segue.agents.sac import SAC
from segue.types import Learner


class Entry(NamedTuple):
    """An agent as `segue list` shows it."""

    learner: type[Learner]
    paper: str
    kind: str


AGENTS: dict[str, Entry] = {
    "sac": Entry(SAC, "Haarnoja et al. 2018, arXiv 1812.05905 (JaxCQL's form)", "online"),
    "cql": Entry(
        CQL, "Kumar et al. 2020, arXiv 2006.04779; Cal-QL: Nakamoto et al. 2023, arXiv 2303.05479", "offline-to-online"
    ),
}

__all__ = ["AGENTS", "CQL", "SAC", "Entry"]
