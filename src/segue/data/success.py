"""Binary tasks (Adroit: reward = success - 1): where a trajectory ends when success is a state and not an event."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from segue.core.replay import Data

SUCCESS_REWARD = 0.0  # raw reward of a step at which a binary task is achieved


def end_at_success(data: Data, success_reward: float = SUCCESS_REWARD) -> Data:
    """Mark every row of reward `success_reward` terminal and drop nothing: Cal-QL's `done` on Adroit.

    Monte-Carlo returns then restart at each success, and no value lies above that of succeeding once.
    """
    hit = data.reward == success_reward
    return replace(data, terminated=data.terminated | hit, truncated=data.truncated & ~hit, digest=None)


def demonstrations(data: Data, success_reward: float = SUCCESS_REWARD) -> Data:
    """Cal-QL's rule for Adroit's demonstrations (parity fixture `mc_returns`, `adroit.*`).

    Trajectories (as `data` cuts them) without a success are dropped, the others are cut after their last success,
    and every success step is terminal.  The result may be empty: `check()` says so.
    """
    keep = np.zeros(len(data), bool)
    starts = np.concatenate([[0], data.ends()[:-1]])
    for start, stop in zip(starts, data.ends()):
        hits = np.flatnonzero(data.reward[start:stop] == success_reward)
        if len(hits):
            keep[start : start + hits[-1] + 1] = True
    cut = Data(
        data.observation[keep],
        data.action[keep],
        data.reward[keep],
        data.terminated[keep],
        data.truncated[keep],
        data.next_observation[keep],
        data.source,
    )
    return end_at_success(cut, success_reward)
