"""A tiny simulator, which other processes import without JAX."""

from __future__ import annotations

import numpy as np

HORIZON = 12


class Corridor:
    """A point on a line starts near 0 and must pass 1: reward 1 and the end there, else 0; 12 steps at most."""

    def reset(self, seed: int) -> np.ndarray:
        self.x = float(np.random.default_rng(seed).uniform(-0.2, 0.2))
        self.t = 0
        self.won = False
        return self._see()

    def _see(self) -> np.ndarray:
        return np.asarray([self.x, self.t / HORIZON], np.float32)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, bool]:
        self.x = float(np.clip(self.x + 0.25 * float(action[0]), -1.0, 1.0))
        self.t += 1
        self.won = self.x >= 0.95
        return self._see(), float(self.won), self.won, self.t >= HORIZON and not self.won, self.won

    def close(self) -> None:
        pass
