"""A run's policies rolled out again, in episodes that its own evaluations have not had."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segue.core import files
from segue.core.types import SegueError, Task
from segue.engine.envs import TEST, episode_seed
from segue.engine.evaluate import ENVS, Evaluation, Evaluator, best, explored
from segue.report.statistics import Interval, interval, resampling
from segue.runs import manifest
from segue.runs.policy import Bundle, read_policies
from segue.runs.request import seeds_of
from segue.runs.world import notes, only_one, over, prepare, task_for, watched

FORMAT = 1
CURE = "mend the environment, and try the policy again"


@dataclass(frozen=True)
class Evaluated:
    """What the policies of S seeds did in E episodes each: arrays (S, E).

    `score` is None where the task has no normalised score, and `success` where it does not say what success is.
    """

    run: str
    task: str
    seeds: tuple[int, ...]
    raw_return: np.ndarray
    length: np.ndarray
    score: np.ndarray | None
    success: np.ndarray | None
    starts: np.ndarray = field(repr=False)
    """What each episode's reset was given as its seed, (S, E)."""
    stochastic: bool = False
    policy: dict[str, Any] = field(default_factory=dict, repr=False)
    """Hash of the weights, agent, what it was trained on and how long."""
    notes: tuple[str, ...] = ()

    @property
    def measures(self) -> dict[str, np.ndarray]:
        """The arrays that there are, under the names that reports use."""
        named = {"return": self.raw_return, "score": self.score, "success": self.success, "length": self.length}
        return {name: values for name, values in named.items() if values is not None}

    def means(self, measure: str) -> np.ndarray:
        """Mean over episodes, (S,)."""
        return np.asarray(self.measures[measure].mean(axis=1))

    def over_seeds(self, measure: str) -> Interval:
        """Interquartile mean over seeds and its 95 % bootstrap interval, as in reports; NaN ends for a single seed."""
        return interval(self.means(measure), resampling())

    def plain(self) -> dict[str, Any]:
        """Everything as JSON."""
        return {
            "format": FORMAT,
            "run": self.run,
            "policy": self.policy,
            "task": self.task,
            "seeds": list(self.seeds),
            "episodes": self.raw_return.shape[1],
            "stochastic": self.stochastic,
            "starts": self.starts.tolist(),
            **{name: manifest.plain(values) for name, values in self.measures.items()},
            "over_seeds": {name: _ends(self.over_seeds(name)) for name in self.measures},
            "notes": list(self.notes),
            "versions": manifest.versions(),
        }

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write `plain` as a file; raises `SegueError` where that is not possible."""
        place = Path(path)
        try:
            files.write(place, json.dumps(self.plain(), indent=1, allow_nan=False))
        except OSError as error:
            raise SegueError(f"{place}: cannot be written ({error.strerror}); give another --out") from error
        return place


def evaluate(
    run: str | os.PathLike[str],
    episodes: int = 100,
    task: Task | str | None = None,
    *,
    seeds: int | Sequence[int] | None = None,
    stochastic: bool = False,
    real: bool = False,
    tell: Callable[[int, int], None] = lambda done, whole: None,
) -> Evaluated:
    """Roll out the policies of a run (or RUN@PHASE, or a policy's folder), each seed its own, `episodes` times.

    `task`: another one of the same shapes than the run's own.  `seeds`: the first so many seeds or which ones; all by
    default.  Greedy, unless `stochastic` samples actions as a phase that collects does.  `real` lets the policy move a
    real robot.  `tell` is told how many episodes of how many are done.

    The start states are those of no evaluation of any run: they have a stream of random numbers of their own, and are
    the same in each call.  Raises `SegueError`.
    """
    if episodes < 1:
        raise SegueError(f"episodes={episodes}: give at least one")
    bundle = read_policies(run)
    chosen = choose(bundle, seeds)
    world = task_for(run, bundle, task, real)
    only_one(world, chosen)
    done, whole = 0, episodes * len(chosen)

    def count(method: str, answer: Any) -> None:
        nonlocal done
        if over(method, answer):
            done += 1
            tell(done, whole)

    each = 1 if world.real else ENVS
    make = watched(world.make_env, count)
    evaluator = Evaluator(world, chosen, episodes, TEST, make, each, CURE)
    acting, slot = explored if stochastic else best, bundle.slot(chosen)
    prepare(run, world, slot, episodes, acting)
    try:
        found = evaluator(slot, choose=acting)
    finally:
        evaluator.close()
    return _evaluated(run, bundle, world, chosen, found, stochastic)


def choose(bundle: Bundle, seeds: int | Sequence[int] | None) -> tuple[int, ...]:
    """The seeds of a bundle that are asked for; `SegueError` where one is not there."""
    if seeds is None:
        return bundle.seeds
    if isinstance(seeds, int):
        if not 1 <= seeds <= len(bundle.seeds):
            raise SegueError(f"seeds={seeds}: the policy has {len(bundle.seeds)}, {list(bundle.seeds)}; give fewer")
        return bundle.seeds[:seeds]
    chosen = seeds_of(seeds, f"seeds={seeds}")
    bundle.rows(chosen)
    return chosen


def _evaluated(
    run: str | os.PathLike[str],
    bundle: Bundle,
    task: Task,
    seeds: tuple[int, ...],
    found: Evaluation,
    stochastic: bool,
) -> Evaluated:
    tried = np.asarray([-1.0, 0.0, 2.0])
    scored = not np.array_equal(task.score(tried, np.zeros(3)), tried)  # without a reference it is the return
    numbers = range(found.raw_return.shape[1])
    return Evaluated(
        os.fspath(run),
        task.name,
        seeds,
        found.raw_return,
        found.length,
        found.score if scored else None,
        None if np.isnan(found.success).any() else found.success,
        np.asarray([[episode_seed(seed, TEST, n) for n in numbers] for seed in seeds]),
        stochastic,
        {
            "weights": bundle.facts["weights"],
            "agent": bundle.facts["agent"],
            "task": bundle.facts["task"],
            "trained": bundle.facts.get("trained"),
        },
        tuple(notes(bundle, task)),
    )


def _ends(found: Interval) -> dict[str, float | None]:
    return {name: float(x) if np.isfinite(x) else None for name, x in found._asdict().items()}
