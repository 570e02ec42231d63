"""SBX's TD3 and SAC, measured as `online.py` measures Segue's; runs in the environment of `online.py --setup-peer`."""

from __future__ import annotations

import time
from typing import Any

import sbx
from stable_baselines3.common.callbacks import BaseCallback


class Clock(BaseCallback):
    """Times the steps after the first `begin`."""

    def __init__(self, begin: int) -> None:
        super().__init__()
        self.begin, self.began = begin, 0.0

    def _on_step(self) -> bool:
        if self.num_timesteps == self.begin:
            self.began = time.perf_counter()
        return True


def rate(agent: str, env: str, seed: int, before: int, steps: int) -> float:
    """Environment steps a second, each with an update of networks of 256 x 2 on batches of 256."""
    made: Any = {"TD3": sbx.TD3, "SAC": sbx.SAC}[agent]
    learner = made(
        "MlpPolicy",
        env,
        learning_starts=before,
        batch_size=256,
        train_freq=1,
        gradient_steps=1,
        seed=seed,
        policy_kwargs={"net_arch": [256, 256]},
    )
    clock = Clock(before + 1_000)
    learner.learn(before + 1_000 + steps, callback=clock)
    return steps / (time.perf_counter() - clock.began)
