"""Pictures and vectors from an environment of one's own, through both phases, a stop, and to a policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import segue
from segue.core.types import SegueError
from segue.data import from_episodes
from segue.engine import loop
from segue.engine.envs import here
from segue.recipes import find_recipe
from segue.runs import checkpoint
from segue.runs.request import resolved
from tests.contract.test_agents import equal

SIZE = 9
KEYS = ("camera", "arm")
NARROW = {
    "agent.encoder.channels": (4, 4),
    "agent.encoder.strides": (2, 1),
    "agent.encoder.latent": 6,
    "offline.image_shift": 1,
    "online.image_shift": 1,
    "agent.actor_hidden": (8,),
    "agent.critic_hidden": (8,),
    "offline.gradient_steps": 5,
    "online.environment_steps": 25,
    "offline.batch.offline": 8,
    "online.batch.batch": 8,
    "evaluation.episodes": 1,
}


class Slide(gymnasium.Env):
    """A white square that one pushes along a row of pixels."""

    observation_space = gymnasium.spaces.Dict(
        {
            "arm": gymnasium.spaces.Box(-1, 1, (2,), np.float64),
            "camera": gymnasium.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8),
        }
    )
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.at = self.np_random.uniform(0, 1)
        return self.seen(), {}

    def step(self, action: Any) -> Any:
        self.at = float(np.clip(self.at + 0.1 * action[0], 0, 1))
        return self.seen(), self.at, False, False, {}

    def seen(self) -> dict[str, np.ndarray]:
        camera = np.zeros((SIZE, SIZE, 3), np.uint8)
        camera[4, round(self.at * (SIZE - 1))] = 255
        return {"camera": camera, "arm": np.array([self.at, -1.0])}


def log() -> Any:
    rng, env, episodes = np.random.default_rng(0), Slide(), []
    for number in range(4):
        seen, actions, rewards = [env.reset(seed=number)[0]], [], []
        for _ in range(6):
            actions.append(rng.uniform(-1, 1, 1))
            observation, reward, *_ = env.step(actions[-1])
            seen.append(observation)
            rewards.append(reward)
        stacked = {key: np.stack([s[key] for s in seen]) for key in KEYS}
        episodes.append({"observation": stacked, "action": np.stack(actions), "reward": np.asarray(rewards)})
    return from_episodes(episodes)


def task(**changes: Any) -> segue.GymTask:
    return segue.GymTask.custom(Slide, log(), horizon=6, keys=KEYS, **changes)


def test_from_a_log_to_a_policy(tmp_path: Path) -> None:
    folder = segue.train("td3-bc", task(), 2, NARROW, folder=tmp_path / "run")
    policy = segue.load(folder, 1)
    env = Slide()
    seen = env.reset(seed=0)[0]
    action = policy.act(seen)
    assert action.shape == (1,)
    assert np.abs(action).max() <= 1
    batch = {key: np.stack([seen[key], env.step(np.ones(1))[0][key]]) for key in KEYS}
    both = policy.act(batch)
    np.testing.assert_allclose(both[0], action, atol=1e-6)
    assert (both[0] != both[1]).any()
    with pytest.raises(SegueError, match="made of"):
        policy.act({"camera": seen["camera"]})


def test_stopped_and_resumed_exactly(tmp_path: Path) -> None:
    plan = resolved(find_recipe("td3-bc"), task(), NARROW)
    end = saved = None
    for record in loop.run(plan.phases, task(), (0, 3), plan.scaling, keep_rows=True):
        end = record.state
        if record.index == 1 and record.phase_step >= 10 and saved is None:
            saved = checkpoint.save(tmp_path, record.state)
    resumed, _ = checkpoint.load(tmp_path, plan.phases, task().spec, 24, here(task().make_env))
    for record in loop.run(plan.phases, task(), (0, 3), plan.scaling, state=resumed):
        resumed = record.state
    assert end is not None
    assert equal(resumed.slots["agent"].state, end.slots["agent"].state)
    assert resumed.experience.replay.observation.dtype == np.uint8


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ("spot", "takes flat observations; the task's have the parts camera, arm"),
        ("opt(td3-bc)", "phase 'meta': OnlinePretraining cannot see"),
        ("iql+sera", "sera takes flat observations"),
        ("iql+rnd", "rnd takes flat observations"),
    ],
)
def test_what_cannot_see_says_so(recipe: str, message: str, tmp_path: Path) -> None:
    """Before anything is written, whichever phase it is."""
    small = {} if recipe == "spot" else {name: NARROW[name] for name in NARROW if "encoder" in name}
    with pytest.raises(SegueError, match=message):
        segue.train(recipe, task(), 1, small, folder=tmp_path / "run")
    assert not (tmp_path / "run").exists()
