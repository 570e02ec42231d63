"""A stored dataset in numbers, from its small columns alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from segue.data.stored import Stored


def summarise(stored: Stored) -> dict[str, Any]:
    """Raw episode returns, lengths, ends and successes of a dataset, JSON-ready; reads no observation."""
    ends = np.array(stored.column("end"))
    reward, success = stored.column("reward"), np.array(stored.column("success"), np.float64)
    returns = np.add.reduceat(np.asarray(reward, np.float64), np.concatenate([[0], ends[:-1]]))
    known = success[~np.isnan(success)]
    return {
        "terminated_fraction": float(np.mean(stored.column("terminated"))),
        "success_fraction": float(known.mean()) if len(known) else None,
        "episode_length": spread(np.diff(ends, prepend=0)),
        "episode_return": spread(returns),
    }


def spread(values: np.ndarray) -> dict[str, float]:
    """Least, mean, median and largest value."""
    return {
        "min": float(values.min()),
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "max": float(values.max()),
    }
