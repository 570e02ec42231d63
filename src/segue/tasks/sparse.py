"""Rewards that come late: the sum of several steps' at once."""

from __future__ import annotations

from typing import Any, SupportsFloat

import gymnasium

EVERY = 20  # steps; as in the delayed tasks of self-imitation learning (Oh et al. 2018, arXiv 1806.05635)


class LateReward(gymnasium.Wrapper):
    """Pays at every `every`-th step of an episode, and at its end, what the steps since the last payment have earned.

    Returns of whole episodes are those of the environment.  An episode that is cut between two payments loses the rest,
    so let `every` divide the horizon.  As the tasks of offline RL as a subroutine are made sparse (Su, Luo and Zhang
    2025, arXiv 2512.00383, by the first author's earlier code; their number of steps could not be read).
    """

    def __init__(self, env: gymnasium.Env, every: int = EVERY) -> None:
        super().__init__(env)
        self.every, self._steps, self._earned = every, 0, 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with nothing earned."""
        self._steps, self._earned = 0, 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, SupportsFloat, bool, bool, dict[str, Any]]:
        """Act; the reward is 0 between payments."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._steps, self._earned = self._steps + 1, self._earned + float(reward)
        paid = 0.0
        if terminated or truncated or self._steps % self.every == 0:
            paid, self._earned = self._earned, 0.0
        return observation, paid, terminated, truncated, info


def make(env: str, every: int = EVERY, render_mode: str | None = None) -> gymnasium.Env:
    """Make an environment of Gymnasium's that pays late."""
    return LateReward(gymnasium.make(env, render_mode=render_mode, disable_env_checker=True), every)
