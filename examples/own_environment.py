"""Bring your own environment and your own log: a Gymnasium class and numpy arrays in, a policy out.

Run it as a script.  It writes into a temporary folder unless one is given, and needs nothing but `pip install segue`.
The sizes are for a look at the mechanics, not for a good policy.
"""

import tempfile
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

import segue

HORIZON = 40


class Valve(gymnasium.Env):
    """Keep the level of a tank at a wanted height by turning a valve; the reward is minus the distance."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(0.0, 5.0, (1,), np.float32)  # any bounds: Segue's agents see [-1, 1]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Draw a level and a wanted height from the environment's own generator, so that a seed repeats them."""
        super().reset(seed=seed)
        self.level, self.wanted = self.np_random.uniform(-0.5, 0.5, 2)
        return self._see(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Let water in through the valve and out through the drain."""
        self.level = float(np.clip(self.level + 0.1 * float(action[0]) / 5.0 - 0.05, -1.0, 1.0))
        distance = abs(self.level - self.wanted)
        return self._see(), -distance, False, False, {"success": distance < 0.02}  # "success" is reported where given

    def _see(self) -> np.ndarray:
        return np.asarray([self.level, self.wanted], np.float32)


def log(episodes: int, seed: int = 0) -> segue.Data:
    """Log a clumsy controller, the way you would log yours."""
    env, rng, kept = Valve(), np.random.default_rng(seed), []
    for number in range(episodes):
        observation, _ = env.reset(seed=number)
        seen, acted, earned = [observation], [], []
        for _ in range(HORIZON):
            action = float(np.clip(2.5 + 2.5 * np.sign(observation[1] - observation[0]) + rng.normal(0, 2.0), 0.0, 5.0))
            observation, reward, *_ = env.step(np.asarray([action]))
            seen.append(observation)
            acted.append([2.0 * action / 5.0 - 1.0])  # a dataset holds actions in [-1, 1]
            earned.append(reward)
        # One more observation than actions; an episode that is not `terminated` counts as cut by its time limit.
        kept.append({"observation": np.asarray(seen), "action": np.asarray(acted), "reward": np.asarray(earned)})
    return segue.data.from_episodes(kept, source="a clumsy controller")


def main(steps: int = 600, episodes: int = 50, folder: str | Path | None = None) -> segue.Policy:
    """Train Cal-QL on the log, fine-tune it in the environment, and return the policy of the first seed."""
    task = segue.GymTask.custom(Valve, log(episodes), name="valve", horizon=HORIZON)
    settings = {
        "agent.actor_hidden": (32, 32),
        "agent.critic_hidden": (32, 32),
        "agent.samples": 4,
        "agent.target_samples": 4,
        "offline.gradient_steps": steps,
        "offline.evaluate_every": steps,
        "offline.batch.offline": 64,
        "online.environment_steps": steps,
        "online.evaluate_every": steps,
        "online.batch.offline": 32,
        "online.batch.online": 32,
        "evaluation.episodes": 4,
    }
    where = Path(folder or tempfile.mkdtemp()) / "valve"
    run = segue.train("cal-ql", task, seeds=2, settings=settings, folder=where)
    print(f"report: {run / 'report.html'}")

    policy = segue.load(run)
    env = Valve()
    observation, _ = env.reset(seed=1)
    total = 0.0
    for _ in range(HORIZON):
        action = policy.act(observation)  # within the environment's own bounds, here [0, 5]
        observation, reward, *_ = env.step(action)
        total += reward
    print(f"return of one episode: {total:.2f}")
    return policy


if __name__ == "__main__":
    main()
