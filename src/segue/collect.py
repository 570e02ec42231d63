"""New logs from policies: how D4RL's recipes are made of Segue's own runs.

random        uniform actions
medium        a run that was stopped early, with its exploration
expert        a run's final policy, without exploration
medium-expert, mixed
              several of them, sharing the episodes
replay        what a run has collected itself: segue data import run:FOLDER
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import numpy as np

from segue.data.recorded import Recorded
from segue.data.scaling import CLIP_ACTION
from segue.fleet import COLLECTION, episode_seed
from segue.options import require
from segue.policy import Policy, load
from segue.tasks import GymTask
from segue.types import SegueError

RANDOM = "random"


@dataclass(frozen=True)
class Recipe:
    """How episodes are acted.

    `policies`: "random", or folders of runs, each with its first seed, or FOLDER@SEED.  `shares`: of the episodes,
    one number for each policy; equal unless given.  `noise`: standard deviation of a Gaussian that is added to every
    action.  `epsilon`: share of uniform actions.  `explore`: as the policies explore ("yes"), or their best actions.
    """

    policies: tuple[str, ...]
    shares: tuple[float, ...] = ()
    noise: float = 0.0
    epsilon: float = 0.0
    explore: Literal["yes", "no"] = "no"

    def __post_init__(self) -> None:
        fits = not self.shares or (len(self.shares) == len(self.policies) and min(self.shares) > 0)
        require(
            self,
            policies=bool(self.policies),
            shares=fits,
            noise=0 <= self.noise < np.inf,
            epsilon=0 <= self.epsilon <= 1,
        )


def collect(task: GymTask, recipe: Recipe, steps: int, seed: int = 0) -> Iterator[Recorded]:
    """Episodes of at least `steps` steps in all, in the task's own world and raw rewards.

    A function of the arguments: which policy acts in an episode, its start and all noise come from `seed` and the
    episode's number.  Raises `SegueError` before the first step where a policy is not one of this task.
    """
    if steps < 1:
        raise SegueError(f"steps={steps}: collect at least one")
    actors = [None if name == RANDOM else _policy(name, task) for name in recipe.policies]
    shares = np.asarray(recipe.shares or [1.0] * len(actors))
    return _episodes(task, recipe, actors, shares / shares.sum(), steps, seed)


def _episodes(
    task: GymTask, recipe: Recipe, actors: Sequence[Policy | None], shares: np.ndarray, steps: int, seed: int
) -> Iterator[Recorded]:
    world, taken, number = task.world(), 0, 0
    try:
        while taken < steps:
            start = episode_seed(seed, COLLECTION, number)
            rng = np.random.default_rng(start)
            which = int(rng.choice(len(actors), p=shares))
            observation, over = world.reset(start), False
            seen, actions, rewards, success, terminated = [observation], [], [], np.nan, False
            while not over:
                action = _act(actors[which], recipe, observation, rng, task.spec.action)
                observation, reward, terminated, truncated, success = world.step(action)
                seen.append(observation)
                actions.append(action)
                rewards.append(reward)
                over = terminated or truncated
            taken, number = taken + len(rewards), number + 1
            yield Recorded(
                np.stack(seen),
                np.stack(actions).astype(np.float32),
                np.asarray(rewards, np.float32),
                terminated,
                float(success),
                source=recipe.policies[which],
            )
    finally:
        world.close()


def _act(actor: Policy | None, recipe: Recipe, observation: np.ndarray, rng: np.random.Generator, size: int) -> Any:
    if actor is None or (recipe.epsilon and rng.random() < recipe.epsilon):
        return rng.uniform(-1.0, 1.0, size)
    explore = recipe.explore == "yes"
    key = jax.random.key(int(rng.integers(2**31))) if explore else None
    action = actor.normalised(observation, explore=explore, key=key)
    return np.clip(action + recipe.noise * rng.standard_normal(size), -CLIP_ACTION, CLIP_ACTION)


def _policy(name: str, task: GymTask) -> Policy:
    folder, mark, seed = name.rpartition("@")
    if not mark:
        folder, seed = name, ""
    if seed and not seed.isdigit():
        raise SegueError(f"policy {name}: write FOLDER, or FOLDER@SEED")
    policy = load(folder, int(seed) if seed else None)
    if policy.spec != task.spec:
        wants, has = ((s.observation, s.action) for s in (policy.spec, task.spec))
        raise SegueError(
            f"policy {name}: takes observations {wants[0]} and {wants[1]} actions, {task.name} has {has[0]} and "
            f"{has[1]}; name a run on this task"
        )
    return policy


def facts_of(task: GymTask, recipe: Recipe, steps: int, seed: int) -> dict[str, Any]:
    """What the log's description says of where it is from, as JSON."""
    environment = environment_of(task)
    low, high = task.action_bounds
    made = {
        "policies": list(recipe.policies),
        "shares": list(recipe.shares),
        "noise": recipe.noise,
        "epsilon": recipe.epsilon,
        "explore": recipe.explore,
        "steps": steps,
        "seed": seed,
    }
    source = f"collect:{task.name}"
    bounds = {"low": low.tolist(), "high": high.tolist()}
    return {"source": source, "environment": environment, "action": bounds, "collected": made}


def environment_of(task: GymTask) -> dict[str, Any]:
    """What a log says of its environment, as JSON; `SegueError` for one without an id."""
    if not isinstance(task.env, str):
        raise SegueError(f"{task.name}: the environment has no id, so a log could not name it; register it first")
    return {
        "env_id": task.env,
        "env_kwargs": dict(task.env_kwargs),
        "max_episode_steps": task.horizon,
        "keys": list(task.keys),
        "reward": "binary" if task.reward == "success-1" else "env",
        **{key: value for key, value in task.options if key in ("reset_cell", "goal_cell")},
    }
