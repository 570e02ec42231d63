"""A logged dataset without meaning, for both sides of a comparison; NumPy only, because the peer has no JAX."""

from __future__ import annotations

import numpy as np


def logged(observation: int, action: int, rows: int, episode: int) -> dict[str, np.ndarray]:
    """Rows of episodes of `episode` steps each, every second one terminated and the others truncated."""
    count = max(rows // episode, 1)
    rng = np.random.default_rng(0)
    seen = rng.standard_normal((count, episode + 1, observation)).astype(np.float32)
    last = np.zeros((count, episode), np.bool_)
    last[:, -1] = True
    terminated = last & (np.arange(count) % 2 == 0)[:, None]
    return {
        "observation": seen[:, :-1].reshape(-1, observation),
        "action": np.tanh(rng.standard_normal((count * episode, action))).astype(np.float32),
        "reward": rng.standard_normal(count * episode).astype(np.float32),
        "terminated": terminated.reshape(-1),
        "truncated": (last & ~terminated).reshape(-1),
        "next_observation": seen[:, 1:].reshape(-1, observation),
    }
