"""What a dataset holds, in numbers that a reader can judge it by."""

from __future__ import annotations

from typing import Any

import numpy as np

from segue.core.replay import Data
from segue.data.summary import spread


def describe(data: Data, failure: float | None = None) -> dict[str, Any]:
    """Sizes, raw episode returns, lengths (rows), ends and content hash of a dataset, as JSON-ready values.

    `failure` is the raw reward of a step that has not succeeded; with it an episode counts as a success if any of
    its rows has another reward (None: success is not known).  Episodes are those of `Data.ends()`.
    """
    ends = data.ends()
    starts = np.concatenate([[0], ends[:-1]])
    returns = np.add.reduceat(data.reward.astype(np.float64), starts)
    success = None
    if failure is not None:
        success = float(np.mean(np.logical_or.reduceat(data.reward != np.float32(failure), starts)))
    return {
        "transitions": len(data),
        "episodes": len(ends),
        "observation": list(data.observation.shape[1:]),
        "action": int(data.action.shape[1]),
        "terminated_fraction": float(np.mean(data.terminated[ends - 1])),
        "success_fraction": success,
        "episode_length": spread(ends - starts),
        "episode_return": spread(returns),
        "sha256": data.sha256(),
    }
