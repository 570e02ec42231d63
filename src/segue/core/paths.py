"""Parts of a state by their paths: "sac.actor"."""

from __future__ import annotations

from typing import Any

from segue.core.types import State


def part_at(state: State, path: str) -> Any:
    """The part of a state (nested named tuples) at a dotted path."""
    for name in path.split("."):
        state = getattr(state, name)
    return state


def with_part(state: State, path: str, part: Any) -> State:
    """The state with another part at a dotted path."""
    name, _, rest = path.partition(".")
    return state._replace(**{name: with_part(getattr(state, name), rest, part) if rest else part})
