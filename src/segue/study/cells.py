"""The cells of a study: a recipe on a task with settings and a block of seeds, each a run.

A cell whose first phases another cell does too begins from that one's end of them (`segue.runs.fork`), so that they are
computed once.  Names depend on nothing but what a cell is, so that a study that grows renames none.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

Block = tuple[int, ...]
"""Seeds of one cell."""


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    recipe: str
    task: str
    settings: Mapping[str, Any]
    rules: tuple[str, ...]
    seeds: Block
    stop_when: str | None = None
    shares: tuple[tuple[str, str], ...] = field(default=(), compare=False)
    """Cells that do the same first phases, and the last of these, longest first: it may begin from any of them."""

    @cached_property
    def name(self) -> str:
        """Its folder's name: what it is, readable, and a digest of the whole."""
        known = [self.recipe, self.task, dict(self.settings), self.rules, self.seeds]
        known += [self.stop_when] if self.stop_when else []
        digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:8]
        dense = len(self.seeds) > 1 and self.seeds == tuple(range(self.seeds[0], self.seeds[-1] + 1))
        seeds = f"{self.seeds[0]}to{self.seeds[-1]}" if dense else f"{self.seeds[0]}"
        words = f"{self.recipe}-{self.task.rpartition('/')[2]}-s{seeds}"
        return f"{''.join(c if c.isalnum() or c in '-_.' else '-' for c in words)[:80]}-{digest}"


def cell_of(known: Mapping[str, Any]) -> Cell:
    """The cell that JSON describes."""
    shares = tuple((name, phase) for name, phase in known["shares"])
    return Cell(**{**known, "rules": tuple(known["rules"]), "seeds": tuple(known["seeds"]), "shares": shares})


def described(cell: Cell) -> dict[str, Any]:
    """A cell as JSON has it."""
    return asdict(cell)
