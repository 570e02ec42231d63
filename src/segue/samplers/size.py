"""How many rows a sampler draws, and the same sampler with another number of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from segue.core.options import assign
from segue.core.parts import is_part
from segue.core.types import SegueError


def counts(sampler: Any, prefix: str = "") -> dict[str, tuple[int, int]]:
    """Fields that count rows of a batch (see `options.tunable`), by path: (their number, rows drawn for each of it)."""
    out: dict[str, tuple[int, int]] = {}
    for f in fields(sampler):
        inner = getattr(sampler, f.name)
        if is_part(inner):
            out |= counts(inner, f"{prefix}{f.name}.")
        elif f.metadata.get("rows"):
            out[f"{prefix}{f.name}"] = inner, f.metadata["rows"]
    return out


def size(counted: Mapping[str, tuple[int, int]]) -> int:
    """Rows of a batch, from what counts them."""
    return sum(number * rows for number, rows in counted.values())


def resized(sampler: Any, wanted: int, shown: str) -> tuple[Any, list[str]]:
    """Return a sampler of `wanted` rows, each of its shares as large as it was, and the paths of what counts them.

    Raises `SegueError` where a share would not be a whole number of rows, or where a sampler does not say how many rows
    it draws; `shown` is the setting that asks for it.
    """
    counted, kind = counts(sampler), type(sampler).__name__
    if not (drawn := size(counted)):
        raise SegueError(f"{shown}: {kind} does not say how many rows it draws; set its own options")
    for path, (number, _) in counted.items():
        now, rest = divmod(number * wanted, drawn)
        if rest or wanted < 1:
            raise SegueError(f"{shown}: {wanted} rows cannot be shared as {kind} shares {drawn} ({path}={number})")
        sampler, _ = assign(sampler, path.split("."), now, shown)
    return sampler, list(counted)
