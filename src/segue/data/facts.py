"""What a log says of itself, as JSON: a source's facts, a dataset's dataset.json, the top of a card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NotRequired, TypedDict

RULES = ("domain", "exact_goal", "reward", "success", "terminal_success", "failure", "reference", "options")
"""What a task says beside its environment, under the names of `segue.tasks.GymTask`: what is paid, where episodes end,
how they are scored.  A log that a task has made keeps that task's rules."""


class Cells(TypedDict, total=False):
    """Row and column of a maze's start and of its goal."""

    reset_cell: object
    goal_cell: object


class Environment(Cells, total=False):
    """The environment that a log was made in, as far as it is known."""

    env_id: str
    env_kwargs: Mapping[str, object]
    max_episode_steps: int | None
    keys: list[str]
    reward: str
    """ "binary" or "env", as an older Segue reads it."""
    rules: Mapping[str, object]
    """Of a task of Segue's, see `RULES`."""


class Bounds(TypedDict):
    """The environment's own bounds of the action, (A,) each."""

    low: list[float]
    high: list[float]


class Facts(TypedDict, total=False):
    """What is known of a log.  `source` is its text."""

    source: str
    environment: Environment | None
    action: Bounds
    licence: str
    authors: list[str]
    notes: Mapping[str, object]
    versions: Mapping[str, str]
    imported: str
    collected: Mapping[str, object]
    mended: Mapping[str, object]


class Column(TypedDict):
    """A file of the store: shape and type of a row."""

    row: list[int]
    dtype: str


class Described(Facts):
    """dataset.json."""

    format: int
    name: str
    transitions: int
    episodes: int
    parts: list[str]
    columns: dict[str, Column]
    sha256: str
    files: NotRequired[dict[str, str]]
    """SHA-256 of each one's content; an older Segue has not written it."""
    observation_parts: NotRequired[object]
    """Of rows of bytes (`segue.core.observations.parts_of`)."""


def known_of(facts: Facts) -> Environment:
    """The environment of a log; empty where none is known."""
    return facts.get("environment") or {}


def cells_of(known: Mapping[str, object]) -> Cells:
    """A maze's cells, as far as they are among what is known."""
    cells: Cells = {}
    if "reset_cell" in known:
        cells["reset_cell"] = known["reset_cell"]
    if "goal_cell" in known:
        cells["goal_cell"] = known["goal_cell"]
    return cells
