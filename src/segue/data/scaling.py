"""Actions as agents know them: in [-1, 1], and not quite at the bounds."""

from __future__ import annotations

import numpy as np

from segue.core.replay import TOLERANCE

CLIP_ACTION = 0.99999  # Cal-QL's and WSRL's; keeps the log-density of a tanh policy finite


def bounded(action: np.ndarray, clip: float = CLIP_ACTION) -> np.ndarray:
    """Actions kept within +-`clip`, except where they lie outside [-1, 1]: those are for the doctor to find."""
    return np.where(np.abs(action) <= 1.0 + TOLERANCE, np.clip(action, np.float32(-clip), np.float32(clip)), action)


def scaled(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Actions (T, A) of an environment with bounds (A,) as float32 in [-1, 1]."""
    return np.asarray(2.0 * (np.asarray(action, np.float64) - low) / (high - low) - 1.0, np.float32)
