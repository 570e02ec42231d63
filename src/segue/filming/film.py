"""A policy's episodes as a film."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from segue.core import display
from segue.core.scaling import Scaling
from segue.core.types import SegueError, Slot, Task
from segue.engine.diagnostics import on_fresh
from segue.engine.envs import TEST, Here, Simulator
from segue.engine.evaluate import Evaluator, Trajectory, best, explored
from segue.filming import files
from segue.filming.panel import Curves, Panel
from segue.runs.evaluation import CURE
from segue.runs.policy import Bundle, read_policies
from segue.runs.world import Watched, notes, over, place_for, prepare, task_for
from segue.tasks import GymEnv, GymTask

# Defaults of ours.
RATES = {".mp4": 30.0, ".gif": 15.0}  # pictures a second
NARROW = 320  # pixels: smaller pictures are drawn larger
HOLD = 1.0  # seconds that an episode's last picture stays

Tell = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Film:
    """A film, and the episodes that it shows: arrays (E,)."""

    path: Path
    task: str
    seed: int
    raw_return: np.ndarray
    length: np.ndarray
    success: np.ndarray
    value: np.ndarray
    """What the critic said at the first step."""
    came: np.ndarray
    """The discounted return that followed, in the learner's rewards."""
    pictures: int
    rate: float
    """Pictures a second."""
    notes: tuple[str, ...] = ()


def film(
    run: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    *,
    episodes: int = 1,
    seed: int | None = None,
    task: Task | str | None = None,
    fps: float | None = None,
    stochastic: bool = False,
    real: bool = False,
    tell: Tell = lambda what, done, whole: None,
) -> Film:
    """Film the policy of a run (or RUN@PHASE, or a policy's folder), with its critic's value drawn under it.

    `out`: a file that ends with .mp4 or .gif; by default one in the run's folder, or beside the policy's.  `seed`: the
    first one by default.  `task`: another one of the same shapes than the run's own.  `fps`: pictures a second; a film
    is as fast as the world, so others than each n-th step are left out (a world that does not say how fast it moves is
    shown with a picture for each step).  `stochastic`, `real`: as in `evaluate`, whose first episodes these are.
    `tell` is told what is done, and how many of how many.

    The value is Q of the action that is taken; where a time limit cuts the episode, without what lies beyond the cut
    (`segue.engine.diagnostics`).  The other curve is the discounted return from that step on, in the learner's rewards,
    with the entropy that the critic counts.  A cloned policy has no value, only the return.  Raises `SegueError`.
    """
    if episodes < 1:
        raise SegueError(f"episodes={episodes}: give at least one")
    if fps is not None and not 0 < fps <= 1000:
        raise SegueError(f"fps={fps:g}: give pictures a second, for example 30")
    bundle = read_policies(run)
    path = place_for(run, f"film.{files.ending()}", task) if out is None else Path(out)
    files.form(path)
    seed = bundle.seeds[0] if seed is None else seed
    slot = bundle.slot([seed])
    with display.said():
        world = task_for(run, bundle, task, real)
        if not isinstance(world, GymTask):
            raise SegueError(f"{world.name}: only a task with a Gymnasium environment can be drawn; see GymTask.custom")
        camera = Camera(world, fps or RATES[path.suffix.lower()], episodes, tell)
        evaluator = Evaluator(world, (seed,), episodes, TEST, camera.make, 1, CURE)
        acting = explored if stochastic else best
        prepare(run, world, slot, episodes, acting)
        try:
            found = evaluator(slot, choose=acting)
        except SegueError as error:
            raise (camera.fault or error) from error
        finally:
            evaluator.close()
    shown = curves(bundle, slot, found.trajectories[0], f"seed {seed}")
    pictures = camera.count
    files.write(path, _told(_pictures(camera, shown), pictures, tell), camera.rate)
    return Film(
        path,
        world.name,
        seed,
        found.raw_return[0],
        found.length[0],
        found.success[0],
        np.asarray([c.value[0] for c in shown]),
        np.asarray([c.came[0] for c in shown]),
        pictures,
        camera.rate,
        tuple(notes(bundle, world)),
    )


@dataclass
class Camera:
    """Draws the episodes of one simulator, each `stride`-th step and the last, and keeps the pictures compressed."""

    task: GymTask
    fps: float
    episodes: int
    tell: Tell
    taken: list[list[tuple[int, bytes]]] = field(default_factory=list)
    """For each episode, its pictures and the steps after which they were taken."""
    shape: tuple[int, ...] = ()
    stride: int = 1
    rate: float = 0.0
    fault: SegueError | None = None
    _step: int = 0

    def make(self) -> Simulator:
        """A simulator whose answers are drawn."""
        env = self.task.drawn().make_env()
        speed = env.steps_per_second
        self.stride = 1 if speed is None else max(1, round(speed / self.fps))
        self.rate = self.fps if speed is None else speed / self.stride
        return Watched(Here(env), lambda method, answer: self._saw(env, method, answer))

    @property
    def count(self) -> int:
        """Pictures of the film: those that were taken, and each episode's last for a while."""
        return sum(len(pictures) + self.held for pictures in self.taken)

    @property
    def held(self) -> int:
        """Pictures that show the end of an episode."""
        return round(HOLD * self.rate)

    def _saw(self, env: GymEnv, method: str, answer: Any) -> None:
        if method == "reset":
            self.taken.append([])
            self._step = 0
        else:
            self._step += 1
        if self._step % self.stride == 0 or over(method, answer):
            try:
                picture = display.drawing(env.draw)
            except SegueError as error:
                self.fault = error
                raise
            self.shape = picture.shape
            self.taken[-1].append((self._step, zlib.compress(picture.tobytes(), 1)))
            most = self.episodes * self.task.horizon
            self.tell("film", (len(self.taken) - 1) * self.task.horizon + self._step, most)


def curves(bundle: Bundle, slot: Slot, episodes: tuple[Trajectory, ...], title: str) -> list[Curves]:
    """What is drawn under the pictures of each episode."""
    out = []
    for number, (episode, fresh) in enumerate(zip(episodes, on_fresh(slot, 0, episodes))):
        named = f"{title} · episode {number + 1}" if len(episodes) > 1 else title
        steps, cut = len(episode.reward), not episode.terminated[-1]
        value, came = (_each_step(x, slot.taken, steps) for x in (fresh.value, fresh.came))
        out.append(Curves(value, came, episode.reward, episode.success, cut, named, caption(bundle, slot.scaling)))
    return out


def caption(bundle: Bundle, scaling: Scaling) -> str:
    """In what units values and returns are."""
    shift = f" {'+' if scaling.reward_shift > 0 else '−'} {abs(scaling.reward_shift):.3g}"
    rewards = f"{scaling.reward_scale:.3g} r{shift if scaling.reward_shift else ''}"
    said = "" if rewards == "1 r" else f", rewards {rewards}"
    bonus = ", value with bonus" if bundle.facts.get("bonus") else ""
    return f"discount {scaling.discount:g}{said}{bonus}"


def _each_step(decisions: np.ndarray, taken: int, steps: int) -> np.ndarray:
    """Numbers of decisions as (T,): known where a plan is made, NaN within it and after the last that is valued."""
    out = np.full(steps, np.nan)
    out[: len(decisions) * taken : taken] = decisions
    return out


def _pictures(camera: Camera, shown: list[Curves]) -> Iterator[np.ndarray]:
    high, wide = camera.shape[:2]
    larger = -(-NARROW // wide) if wide < NARROW else 1
    high, wide = (n * larger // 2 * 2 for n in (high, wide))
    for taken, curve in zip(camera.taken, shown):
        panel = Panel(curve, wide, wide * 35 // 100 // 2 * 2)
        for number, (step, packed) in enumerate(taken):
            picture = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(camera.shape)
            picture = picture.repeat(larger, axis=0).repeat(larger, axis=1)[:high, :wide]
            whole = np.concatenate([picture, panel.draw(step)])
            for _ in range(1 + camera.held * (number == len(taken) - 1)):
                yield whole


def _told(pictures: Iterator[np.ndarray], count: int, tell: Tell) -> Iterator[np.ndarray]:
    for number, picture in enumerate(pictures):
        yield picture
        tell("write", number + 1, count)
