"""Minari datasets: HDF5, Arrow or Parquet, on this machine or on Minari's server."""

from __future__ import annotations

import contextlib
from typing import Any

from segue.data.arrays import numbered
from segue.data.minari import action_bounds, episodes, open_log, read_environment
from segue.data.sources.reader import Options, Source
from segue.types import SegueError

OPTIONS = ("keys",)


def read(where: str, options: Options) -> Source:
    """Open a dataset by its id or folder; `keys=a,b` names the parts of a dictionary observation, in order."""
    log = open_log(where)
    low, high = action_bounds(log.action_space, f"minari {where}")
    keys: tuple[str, ...] = options.names("keys")
    facts: dict[str, Any] = {
        "source": options.source,
        "environment": None,
        "action": {"low": low.tolist(), "high": high.tolist()},
        "notes": {
            k: str(v) for k, v in log.storage.metadata.items() if k in ("author", "code_permalink", "dataset_id")
        },
    }
    with contextlib.suppress(SegueError):  # one without an environment is a dataset all the same
        found = read_environment(where)
        keys = keys or found.keys
        facts["environment"] = {
            "env_id": found.env,
            "env_kwargs": found.kwargs,
            "max_episode_steps": found.horizon,
            "keys": list(keys),
        }
    steps = int(log.total_steps)
    return Source(facts, numbered(episodes(log, where, keys), f"minari:{where}"), steps)
