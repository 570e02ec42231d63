"""Minari datasets: HDF5, Arrow or Parquet, on this machine or on Minari's server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from segue.core.types import SegueError
from segue.data.arrays import numbered
from segue.data.damage import reading
from segue.data.minari import action_bounds, episodes, open_log, read_environment
from segue.data.recorded import Recorded
from segue.data.sources.reader import Options, Source

OPTIONS = ("keys",)
_NOTES = ("author", "code_permalink", "dataset_id")


def read(where: str, options: Options) -> Source:
    """Open a dataset by its id or folder; `keys=a,b` names the parts of a dictionary observation, in order."""
    with reading(Path(where)):
        log = open_log(where)
        low, high = action_bounds(log.action_space, f"minari {where}")
        written = {k: str(v) for k, v in log.storage.metadata.items() if k in _NOTES}
        steps = int(log.total_steps)
    keys: tuple[str, ...] = options.names("keys")
    bounds = {"low": low.tolist(), "high": high.tolist()}
    facts: dict[str, Any] = {"source": options.source, "environment": None, "action": bounds, "notes": written}
    with contextlib.suppress(SegueError):  # one without an environment is a dataset all the same
        with reading(Path(where)):
            found = read_environment(where)
        keys = keys or found.keys
        facts["environment"] = {
            "env_id": found.env,
            "env_kwargs": found.kwargs,
            "max_episode_steps": found.horizon,
            "keys": list(keys),
        }
    return Source(facts, _guarded(where, numbered(episodes(log, where, keys), f"minari:{where}")), steps)


def _guarded(where: str, found: Iterator[Recorded]) -> Iterator[Recorded]:
    """The same episodes; what Minari says of a damaged file becomes one line."""
    with reading(Path(where)):
        yield from found
