"""Make datasets of hopper, walker2d and halfcheetah (Gymnasium v5) by D4RL's recipe, from a SAC that is trained here.

    python benchmarks/make_locomotion.py --env hopper walker2d halfcheetah --seed 0 --out FOLDER

A million steps of SAC for each environment, an evaluation and a snapshot of the policy every 10,000 steps; a million
rows each of random, medium and expert, and medium-replay (`KINDS` says of what).  Policies act with their exploration,
as in D4RL; evaluations are without it.  Takes two and a half hours for each environment on one core that does nothing
else (145 steps of training a second, 1,400 of a policy), a night for all three, and 1 GB of disk for each.  Without
`expert` (`--kinds medium medium-replay`) training stops at the medium policy, after a small part of that time.

The same command goes on after a kill: training from its last checkpoint, with the same numbers; what is made already is
left alone.  Hashes are the same where versions, processor and number of threads are.

    FOLDER/hopper-medium.hdf5     D4RL's layout; attributes: env_id, seed, policy_return, ... (a task: hdf5:PATH)
    FOLDER/hopper-medium.json     how it was made, episodes, returns, content hashes; written last
    FOLDER/hopper-medium.html     the data card; hopper-medium.txt: what the data doctor says
    FOLDER/hopper-sac/            training.json (settings, every evaluation), policies/STEP, checkpoints, replay
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import shutil
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

import segue
from segue.agents import SAC, describe
from segue.cli.data_shown import show_report
from segue.collect import RANDOM, Recipe, collect
from segue.core.log import Data
from segue.core.replay import View
from segue.data import write_d4rl
from segue.data.card import numbers
from segue.data.doctor import examine
from segue.data.extras import versions
from segue.data.files import write_atomically
from segue.data.readers import open_source
from segue.data.recorded import Recorded, episodes_of
from segue.data.store import save
from segue.engine.envs import here
from segue.report.card import card_page
from segue.runs import checkpoint
from segue.runs.lock import lock
from segue.tasks import GymTask

ENVIRONMENTS = {"hopper": "Hopper-v5", "walker2d": "Walker2d-v5", "halfcheetah": "HalfCheetah-v5"}
KINDS = {
    "random": "uniform random actions",
    "medium": "the first snapshot whose normalised score is about a third of D4RL's expert's",
    "medium-replay": "all that SAC had seen when the medium policy was taken",
    "expert": "the last policy",
}
LOG = "training.json"
COLUMNS = ("observations", "actions", "rewards", "terminals", "timeouts", "next_observations")
MEDIUM = (25.0, 50.0)  # normalised scores: about a third (default of ours)
SAVE_EVERY, SAY_EVERY = 300.0, 60.0  # seconds


@dataclass(frozen=True)
class Settings:
    """Sizes; `steps` counts the random ones of the warm-up."""

    seed: int = 0
    steps: int = 1_000_000
    rows: int = 1_000_000  # of random, medium and expert
    warm_up: int = 10_000
    every: int = 10_000  # steps between evaluations
    episodes: int = 10  # of an evaluation
    hidden: int = 256

    def phases(self) -> tuple[segue.Phase, segue.Phase]:
        """SAC (Haarnoja et al. 2018, arXiv 1812.05905) with its usual numbers for MuJoCo.

        Other than in the recipe "sac", which is JaxCQL's, entropy counts in the backup, the policy's standard deviation
        starts at 1, and the first steps are random.
        """
        widths = (self.hidden, self.hidden)
        agent = SAC(actor_hidden=widths, critic_hidden=widths, log_std_offset=0.0, backup_entropy=True)
        warm_up = segue.Phase("warm-up", agent, environment_steps=self.warm_up, utd_ratio=0, actor=RANDOM)
        online = segue.Phase("online", agent, environment_steps=self.steps - self.warm_up, batch=segue.Mix(0, 256))
        return warm_up, replace(online, evaluate_every=self.every)


class Speaker:
    """Says where the work stands on stderr, once a minute; news at once."""

    def __init__(self) -> None:
        self.spoke = time.monotonic()

    def __call__(self, line: str, news: bool = False) -> None:
        if news or time.monotonic() - self.spoke > SAY_EVERY:
            print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
            self.spoke = time.monotonic()


def begun_with(task: GymTask, folder: Path, settings: Settings) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What training.json says of the training, and its evaluations so far; refuses that of other settings."""
    about = {"env_id": task.env, "settings": asdict(settings), "agent": describe(settings.phases()[1].learner)}
    about = json.loads(json.dumps(about))  # lists for tuples, as they are read
    before = json.loads((folder / LOG).read_text()) if (folder / LOG).exists() else {**about, "evaluations": []}
    if {key: before[key] for key in about} != about:
        raise segue.SegueError(f"{folder}: was begun with other settings ({before['settings']}); give another --out")
    return about, before["evaluations"]


def train(task: GymTask, folder: Path, settings: Settings, say: Speaker, whole: bool) -> list[dict[str, Any]]:
    """Train SAC, or go on with it, to its last step or (not `whole`) to the medium policy; return all evaluations."""
    phases, (about, evaluations) = settings.phases(), begun_with(task, folder, settings)
    state = None
    if checkpoint.latest(folder) is not None:
        state, _ = checkpoint.load(folder, phases, task.spec, 0, here(task.make_env))
        say(f"{folder.name}: going on at step {state.environment_steps:,}", news=True)
    begun = 0 if state is None else state.environment_steps
    # Those after the checkpoint are made again, and come out the same.
    found = [e for e in evaluations if e["environment_step"] <= begun]
    if not whole and is_medium(found).any():
        return found
    low, high = (bound.tolist() for bound in task.action_bounds)
    facts = {"task": task.name, "observation": {"keys": []}, "action": {"low": low, "high": high}}
    saved = since = time.monotonic()
    evaluator = segue.Evaluator(task, (settings.seed,), settings.episodes)
    records = segue.run(phases, task, (settings.seed,), segue.Scaling(), state=state, keep_rows=True)
    with contextlib.closing(evaluator), contextlib.closing(records):
        for record in records:
            step = record.environment_step
            evaluates = record.evaluates and record.update > 0
            if evaluates:
                result, policy = evaluator(record.slot), f"policies/{step:07d}"
                segue.save_policy(folder / policy, record.slot, task.spec, (settings.seed,), facts)
                means = {"return": float(result.raw_return.mean()), "length": float(result.length.mean())}
                means["score"] = float(task.score(result.raw_return, result.success).mean())
                returns = result.raw_return[0].tolist()
                found.append({"environment_step": step, **means, "returns": returns, "policy": policy})
                write_json(folder / LOG, {**about, "versions": versions(), "evaluations": found})
            if evaluates or time.monotonic() - saved > SAVE_EVERY:
                checkpoint.save(folder, record.state)
                saved = time.monotonic()
            rate = (step - begun) / (time.monotonic() - since)
            last = f"; return {found[-1]['return']:.1f} at {found[-1]['environment_step']:,}" if found else ""
            say(f"{folder.name}: step {step:,} of {settings.steps:,}, {rate:.0f} a second{last}")
            if evaluates and not whole and is_medium(found).any():
                break
    return found


def is_medium(evaluations: Sequence[dict[str, Any]]) -> np.ndarray:
    """Which evaluations are within `MEDIUM`."""
    score = np.array([e["score"] for e in evaluations])
    return (score >= MEDIUM[0]) & (score <= MEDIUM[1])


def about_a_third(evaluations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The first evaluation within `MEDIUM`, else the nearest to a third.

    SAC may come from nothing to near its best between two evaluations: the first above a third could be an expert.
    """
    within, score = is_medium(evaluations), np.array([e["score"] for e in evaluations])
    return evaluations[np.argmax(within) if within.any() else np.argmin(np.abs(score - 100.0 / 3.0))]


def experience(task: GymTask, folder: Path, settings: Settings, until: int) -> Iterator[Recorded]:
    """Episodes of the first `until` steps of training; the last one may be cut."""
    own = checkpoint.load(folder, settings.phases(), task.spec, 0, None)[0].experience.replay
    rows = View(own, jnp.int32(0), 1.0).take(jnp.arange(until))
    columns = (rows.observation, rows.action, rows.reward, rows.terminated, own.ended[0, :until], rows.next_observation)
    seen, action, reward, terminated, ended, then = map(np.asarray, columns)
    return episodes_of(Data(seen, action, reward, terminated > 0, ended & (terminated == 0), then))


def stream(episodes: Iterable[Recorded], rows: int, name: str, say: Speaker) -> dict[str, np.ndarray]:
    """D4RL's columns of the first `rows` rows; an episode that this cuts is marked as a timeout there."""
    parts, count = [], 0
    for episode in episodes:
        length = min(len(episode), rows - count)
        last = np.arange(length) == length - 1
        over = last & (episode.terminated and length == len(episode))
        columns = (episode.current, episode.action, episode.reward, over, last & ~over, episode.following)
        parts.append([column[:length] for column in columns])
        count += length
        say(f"{name}: {count:,} of {rows:,} rows")
    return {column: np.concatenate(values) for column, values in zip(COLUMNS, zip(*parts))}


def write(path: Path, task: GymTask, arrays: dict[str, np.ndarray], made: dict[str, Any]) -> dict[str, Any]:
    """Write a dataset, its card, the doctor's words, and last its manifest, which is returned."""
    ends = np.flatnonzero(arrays["terminals"] | arrays["timeouts"]) + 1
    returns = np.add.reduceat(arrays["rewards"].astype(np.float64), np.concatenate([[0], ends[:-1]]))
    of = {"return_mean": float(returns.mean()), "return_std": float(returns.std())}
    of["policy_return"] = made["policy"]["return"] if made["policy"] else of["return_mean"]
    attributes: dict[str, Any] = {"env_id": task.env, "env_kwargs": "{}", "max_episode_steps": task.horizon, **of}
    attributes |= {"seed": made["settings"]["seed"], "made": json.dumps(made), "versions": json.dumps(versions())}
    digest = write_d4rl(path, arrays, attributes)
    source, room = open_source(f"d4rl:{path}"), path.with_name(f".{path.stem}")
    about = {**source.facts, "source": made["by"], "collected": made, "versions": versions()}
    stored = save(room / path.stem, source.episodes, about)
    report = examine(stored.episodes, stored.facts, task=task, simulate=True)
    with contextlib.redirect_stdout(io.StringIO()) as words:
        show_report(path.stem, report)
    findings = {"findings": report.table(), "left_out": dict(report.left_out)}
    write_atomically(path.with_suffix(".txt"), words.getvalue())
    write_atomically(path.with_suffix(".html"), card_page({**stored.facts, **numbers(stored), **findings}))
    manifest = {"name": path.stem, "env_id": task.env, "rows": len(arrays["rewards"]), "episodes": len(ends), **of}
    manifest |= {"sha256": stored.facts["sha256"], "transitions": len(stored), "file_sha256": digest}
    manifest |= {"doctor": list(report.codes("error", "warning")), "made": made, "versions": versions()}
    write_json(path.with_suffix(".json"), manifest)
    shutil.rmtree(room)
    return manifest


def make(body: str, kinds: Collection[str], out: Path, settings: Settings, say: Speaker) -> None:
    """Make those datasets of one environment that are not there yet."""
    task, folder = segue.find_task(f"gym:{ENVIRONMENTS[body]}"), out / f"{body}-sac"
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        begun_with(task, folder, settings)
        for left in out.glob(f".{body}-*"):  # by a kill
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        for number, (kind, how) in enumerate(KINDS.items()):
            path, rows, policy = out / f"{body}-{kind}.hdf5", settings.rows, None
            if kind not in kinds or path.with_suffix(".json").exists():
                continue
            if kind != "random":
                evaluations = train(task, folder, settings, say, whole=kind == "expert")
                policy = evaluations[-1] if kind == "expert" else about_a_third(evaluations)
            if kind == "medium-replay":
                assert policy is not None
                rows = policy["environment_step"]
                episodes = experience(task, folder, settings, rows)
            else:
                acts = RANDOM if policy is None else f"{folder / policy['policy']}@{settings.seed}"
                seed = len(KINDS) * settings.seed + number  # each has starts and noise of its own
                episodes = collect(task, Recipe((acts,), explore="yes"), rows, seed)
            made: dict[str, Any] = {"by": "benchmarks/make_locomotion.py", "kind": kind, "how": how}
            made |= {"settings": asdict(settings), "policy": policy}
            found = write(path, task, stream(episodes, rows, path.stem, say), made)
            say(f"{path.stem}: {found['episodes']:,} episodes, return {found['return_mean']:.1f}", news=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON, whole or not at all."""
    write_atomically(path, json.dumps(value, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--env", nargs="+", choices=ENVIRONMENTS, default=list(ENVIRONMENTS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--out", type=Path, required=True)
    for name, value in asdict(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)
    args = vars(parser.parse_args(arguments))
    bodies, kinds, out, say = args.pop("env"), args.pop("kinds"), args.pop("out"), Speaker()
    try:
        for body in bodies:
            make(body, kinds, out, Settings(**args), say)
    except segue.SegueError as error:
        sys.exit(f"make_locomotion.py: {error}")


if __name__ == "__main__":
    main()
