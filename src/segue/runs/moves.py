"""Count of the steps that a run has sent to a robot; it survives a kill, unlike the rows since the last checkpoint.

RUN/moves        a number; written before each step is sent
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from segue.core.types import Env
from segue.runs.checkpoint import Extra


class Moves:
    """The count of a run's folder; `counting` makes environments that count."""

    def __init__(self, folder: Path) -> None:
        self.steps = sent(folder) or 0
        (folder / "moves").touch()
        self._file = open(folder / "moves", "r+b", buffering=0)  # noqa: SIM115 - held until close()

    def add(self) -> None:
        """Count one step.  It is with the kernel before it is with the robot."""
        self.steps += 1
        self._file.seek(0)
        self._file.write(f"{self.steps:20d}\n".encode())

    def counting(self, make: Callable[[], Env]) -> Callable[[], Env]:
        """A maker of environments whose steps are counted."""
        return lambda: _Counted(make(), self)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class _Counted:
    def __init__(self, env: Env, moves: Moves) -> None:
        self.reset, self.close, self._step, self._moves = env.reset, env.close, env.step, moves

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, float]:
        self._moves.add()
        return self._step(action)


def sent(folder: Path) -> int | None:
    """Steps that a run has sent; None where it does not say."""
    try:
        return int((folder / "moves").read_text())
    except (OSError, ValueError):
        return None


def lost(folder: Path, stands: Extra) -> int:
    """Steps that were sent after a checkpoint with these `extra` facts; 0 where nothing is known of them."""
    steps = sent(folder)
    return 0 if steps is None else max(steps - int(stands.get("moves", 0)), 0)
