"""Numbers that move while a phase goes on: weights in losses."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import jax.numpy as jnp

from segue.core.options import require
from segue.core.types import Array, SegueError


@dataclass(frozen=True)
class Linear:
    """A number that goes along a straight line from `start` to `end` in a phase's first `updates` updates, and stays.

    The update after n others sees the number of n + 1, so that `end` is there in update number `updates`.
    """

    start: float
    """the number before the first update.  The option's own name with a bare number (weight=0.1) sets it and
    multiplies `end` by the same factor: the line keeps its shape."""
    end: float
    """the number from update `updates` on."""
    updates: int
    """updates of the phase until the number stands at `end`."""

    def __post_init__(self) -> None:
        finite = math.isfinite
        require(self, start=finite(self.start), end=finite(self.end), updates=self.updates > 0)

    @classmethod
    def of(cls, number: float, updates: int = 100_000) -> Linear:
        """A line that stays where it begins, for an option whose `end` is set by name (100,000: default of ours)."""
        return cls(number, number, updates)

    def scaled(self, start: float) -> Linear:
        """The line of the same shape from another start.  Raises `SegueError` for a line from 0, which has no shape."""
        if not self.start:
            raise SegueError("its line starts at 0 and cannot be scaled; set its start and end")
        # 12 digits: what a table shows stays what a person would write.
        return replace(self, start=start, end=float(f"{self.end * (start / self.start):.12g}"))

    def at(self, step: Array) -> Array:
        """The number in the update after `step` others, a scalar."""
        share = jnp.minimum((step + 1.0) / self.updates, 1.0)
        return self.start + share * (self.end - self.start)


Schedule = float | Linear
"""A number, or one that moves.  By name: weight=0.1, weight.end=0.05, weight.updates=10000."""
START = jnp.int32(0)
"""Of a phase: no update before."""


def at(number: Schedule, step: Array) -> Array | float:
    """A number in the update after `step` others of its phase."""
    return number.at(step) if isinstance(number, Linear) else number


def ends(number: Schedule) -> tuple[float, float]:
    """The first and the last number; what must hold of it must hold of both."""
    return (number.start, number.end) if isinstance(number, Linear) else (number, number)


def reported(step: Array, **numbers: Schedule) -> dict[str, Array]:
    """Those of the numbers that move, as they stand in the update after `step` others."""
    return {name: number.at(step) for name, number in numbers.items() if isinstance(number, Linear)}
