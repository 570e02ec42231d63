"""New logs from policies, after D4RL's recipes:

random        uniform actions
scripted      from goal to goal in a maze, with a fixed controller (for an ant: a trained walker)
medium        a run that was stopped early, with its exploration
expert        a run's final policy, without exploration
FILE.onnx, module:name
              a policy that Segue did not train (`segue.core.foreign`)
medium-expert, mixed
              several of them, sharing the episodes
replay        the rows that a run collected: segue data import run:FOLDER
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import jax
import numpy as np

from segue.collect.ground import DOMAINS, Ground, StartAnywhere, ground_of
from segue.collect.navigate import Act, scripted
from segue.collect.recipe import RANDOM, SCRIPTED, Recipe
from segue.collect.walker import Walker, find_walker, read_walker
from segue.core.foreign import Foreign, is_foreign
from segue.core.types import SegueError
from segue.data.facts import Environment, Facts, cells_of
from segue.data.recorded import CLIP_ACTION, Recorded
from segue.engine.envs import COLLECTION, episode_seed
from segue.runs.policy import Policy, load
from segue.tasks import GymEnv, GymTask

Begin = Callable[[np.random.Generator], Act]  # an episode's beginning: after the reset, with all chance it will need


def collect(task: GymTask, recipe: Recipe, steps: int, seed: int = 0) -> Iterator[Recorded]:
    """Episodes of at least `steps` steps in all, in the task's own world and raw rewards.

    Deterministic: the policy of an episode, its start, its goals and all noise come from `seed` and the episode's
    number.  Raises `SegueError` before the first step if a policy does not fit the task.
    """
    if steps < 1:
        raise SegueError(f"steps={steps}: collect at least one")
    world = task.make_env()
    try:
        ground = ground_of(task, world) if recipe.anywhere or SCRIPTED in recipe.policies else None
        actors = [_actor(name, task, recipe, ground) for name in recipe.policies]
    except SegueError:
        world.close()
        raise
    if ground is not None and recipe.anywhere:
        world.env = StartAnywhere(world.env, ground)
    shares = np.asarray(recipe.shares or [1.0] * len(actors))
    found = _episodes(world, recipe, actors, shares / shares.sum(), steps, seed)
    return (replace(episode, made_of=task.spec.parts) for episode in found)


def _episodes(
    world: GymEnv, recipe: Recipe, actors: Sequence[Begin], shares: np.ndarray, steps: int, seed: int
) -> Iterator[Recorded]:
    taken, number = 0, 0
    try:
        while taken < steps:
            start = episode_seed(seed, COLLECTION, number)
            rng = np.random.default_rng(start)
            which = int(rng.choice(len(actors), p=shares))
            observation, over = world.reset(start), False
            act = actors[which](rng)
            seen, actions, rewards, success, terminated = [observation], [], [], np.nan, False
            while not over:
                action = act(observation)
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


def _actor(name: str, task: GymTask, recipe: Recipe, ground: Ground | None) -> Begin:
    size = task.spec.action
    if name == RANDOM:
        return lambda rng: lambda observation: rng.uniform(-1.0, 1.0, size)
    if name == SCRIPTED and ground is not None:
        return _noisy(scripted(ground, recipe.goals, _walker(task, recipe)), recipe, size)
    if is_foreign(name):
        return _noisy(_foreign(name, task), recipe, size)
    policy, explore = _policy(name, task), recipe.explore == "yes"
    # Compiled here: a robot must not wait for it between its reset and its first step.
    nothing = np.zeros(task.spec.observation, task.spec.dtype)
    policy.normalised(nothing, explore=explore, key=jax.random.key(0) if explore else None)

    def begin(rng: np.random.Generator) -> Act:
        planned: list[np.ndarray] = []

        def act(observation: np.ndarray) -> np.ndarray:
            if not planned:
                key = jax.random.key(int(rng.integers(2**31))) if explore else None
                planned.extend(policy.plan(observation, explore=explore, key=key, bounds=False))
            return planned.pop(0)

        return act

    return _noisy(begin, recipe, size)


def _foreign(name: str, task: GymTask) -> Begin:
    policy = Foreign(name, task.spec, task.action_bounds)

    def begin(rng: np.random.Generator) -> Act:
        policy.reset(0)
        return lambda observation: policy.act(0, observation)

    return begin


def _noisy(begin: Begin, recipe: Recipe, size: int) -> Begin:
    """The same policy, with the recipe's noise and uniform actions."""

    def begin_noisy(rng: np.random.Generator) -> Act:
        chosen = begin(rng)

        def act(observation: np.ndarray) -> np.ndarray:
            if recipe.epsilon and rng.random() < recipe.epsilon:
                return rng.uniform(-1.0, 1.0, size)
            noisy = chosen(observation) + recipe.noise * rng.standard_normal(size)
            return np.clip(noisy, -CLIP_ACTION, CLIP_ACTION)

        return act

    return begin_noisy


def _walker(task: GymTask, recipe: Recipe) -> Walker | None:
    """The walker for a body with legs; None for one without."""
    if task.domain in DOMAINS and DOMAINS[task.domain].stride:
        return read_walker(find_walker(recipe.walker))
    if recipe.walker:
        raise SegueError(f"walker={recipe.walker}: has no effect here; {task.name} has no ant; leave it out")
    return None


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


def facts_of(task: GymTask, recipe: Recipe, steps: int, seed: int) -> Facts:
    """What the log's description says of where it is from, as JSON."""
    environment = environment_of(task)
    low, high = task.action_bounds
    made: dict[str, object] = {
        "policies": list(recipe.policies),
        "shares": list(recipe.shares),
        "noise": recipe.noise,
        "epsilon": recipe.epsilon,
        "explore": recipe.explore,
        "steps": steps,
        "seed": seed,
        "starts": "anywhere" if recipe.anywhere else "task",
    }
    if SCRIPTED in recipe.policies:
        walker = _walker(task, recipe)
        made |= {"goals": recipe.goals, "walker": walker and {"sha256": walker.sha256}}
    return {
        "source": f"collect:{task.name}",
        "environment": environment,
        "action": {"low": low.tolist(), "high": high.tolist()},
        "collected": made,
    }


def environment_of(task: GymTask) -> Environment:
    """What a log says of its environment, as JSON; `SegueError` for one without an id."""
    if not isinstance(task.env, str):
        raise SegueError(f"{task.name}: the environment has no id, so a log could not name it; register it first")
    return {
        "env_id": task.env,
        "env_kwargs": dict(task.env_kwargs),
        "max_episode_steps": task.horizon,
        "keys": list(task.keys),
        "reward": "binary" if task.reward == "success-1" else "env",  # as an older Segue reads it
        "rules": task.rules(),
        **cells_of(dict(task.options)),
    }
