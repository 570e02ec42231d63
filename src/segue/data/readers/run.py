"""The experience of a run of Segue: the rows of all its seeds, each seed a part of its own."""

from __future__ import annotations

import contextlib
import heapq
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from segue.core.observations import parts_of, width
from segue.core.types import Part, SegueError
from segue.data.facts import RULES, Environment, Facts, cells_of
from segue.data.readers.reader import Options, Source
from segue.data.recorded import Recorded, recorded

OPTIONS = ("seeds", "last")
_COLUMNS = ("observation", "action", "reward", "terminated", "truncated", "next_observation")


def source(where: str, options: Options) -> Source:
    """Open a run's folder; `seeds=0,2` takes these alone, `last=N` each seed's last N rows (in whole episodes).

    An episode that was open when the run last saved counts as cut there.
    """
    folder = Path(where)
    described = folder / "run.json"
    try:
        card = json.loads(described.read_text())
        seeds, task, recipe = [int(s) for s in card["seeds"]], card["task_card"], card.get("recipe")
        environment: Environment = {
            "env_id": str(task["env"]),
            "env_kwargs": dict(task["env_kwargs"]),
            "max_episode_steps": int(task["horizon"]),
            "keys": [str(key) for key in task["observation"]["keys"]],
            "reward": "binary" if task.get("reward") == "success-1" else "env",  # as an older Segue reads it
            **cells_of(dict(task["options"])),
        }
        if "domain" in task:
            score = task["score"]
            reference = None if score == "raw return" else [float(x) for x in score]
            environment["rules"] = {k: {**task, "reference": reference}[k] for k in RULES if k in (*task, "reference")}
        parts = parts_of(task["observation"].get("parts", ()), str(described))
        name, envs = str(task["name"]), _envs(card)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise SegueError(f"{folder}: not a run's folder ({reason!a}); name one that holds run.json") from error
    files = sorted((folder / "replay").glob("*.safetensors"))
    if not files:
        raise SegueError(f"{folder}: the run has saved no experience; give one that has begun to collect")
    cuts = _cuts(folder)
    wanted = options.names("seeds") or tuple(map(str, seeds))
    if strange := [s for s in wanted if s not in map(str, seeds)]:
        raise SegueError(f"{folder}: no seed {strange[0]} in this run; it has {', '.join(map(str, seeds))}")
    facts: Facts = {
        "source": options.source,
        "environment": environment,
        "notes": {"recipe": recipe, "task": name, "rows before": options.text("last", "all")},
    }
    last = options.number("last")

    def episodes() -> Iterator[Recorded]:
        for seed in wanted:
            first = seeds.index(int(seed)) * envs
            worlds = [_episodes(files, first + n, f"seed {seed}", parts, cuts) for n in range(envs)]
            found = (episode for _, episode in heapq.merge(*worlds, key=lambda pair: pair[0]))
            if last is None:
                yield from found
            else:
                kept = list(found)
                to_the_end = np.cumsum([len(e) for e in kept][::-1])[::-1]
                yield from kept[min(int(np.sum(to_the_end > last)), len(kept) - 1) :]

    return Source(facts, episodes())


def _envs(card: dict[str, Any]) -> int:
    """Simulators of each seed; a run that does not say has one."""
    return int(card.get("config", {}).get("experience.envs", {"value": 1})["value"])


def _cuts(folder: Path) -> set[int]:
    """Rows after which a resumed run of a real world cut an open episode, from its checkpoints."""
    cuts: set[int] = set()
    for path in (folder / "checkpoints").glob("*/manifest.json"):
        with contextlib.suppress(OSError, ValueError, AttributeError, TypeError):
            cuts.update(int(cut) for cut in json.loads(path.read_text()).get("cuts", ()))
    return cuts


def _episodes(
    files: list[Path], world: int, source: str, parts: tuple[Part, ...], cuts: set[int]
) -> Iterator[tuple[int, Recorded]]:
    """Episodes of one world, each with the number of rows up to its end; a file's rows may end within one."""
    waiting: list[dict[str, np.ndarray]] = []
    before = 0
    for path in files:
        try:
            found = load_file(path)
            rows = {name: found[name][:, world] for name in _COLUMNS}
            ends = np.flatnonzero(rows["terminated"].astype(bool) | rows["truncated"].astype(bool)) + 1
            inside = [cut - before for cut in cuts if before < cut <= before + len(rows["reward"])]
            ends, before = np.union1d(ends, inside).astype(np.int64), before + len(rows["reward"])
            if len({len(column) for column in rows.values()}) > 1 or ends.ndim != 1:
                raise ValueError("columns of different lengths")
        except (OSError, SafetensorError, KeyError, IndexError, ValueError, TypeError) as error:
            raise SegueError(f"{path}: the log of experience is damaged ({str(error)!a}); restore the run") from error
        start = 0
        for stop in ends.tolist():
            waiting.append({k: v[start:stop] for k, v in rows.items()})
            done = before - len(rows["reward"]) + stop
            yield from ((done, episode) for episode in _joined(waiting, source, parts, path))
            waiting, start = [], stop
        if start < len(rows["reward"]):
            waiting.append({k: v[start:] for k, v in rows.items()})
    if waiting:
        yield from ((before, episode) for episode in _joined(waiting, source, parts, files[-1]))


def _joined(
    pieces: list[dict[str, np.ndarray]], source: str, parts: tuple[Part, ...], path: Path
) -> Iterator[Recorded]:
    """One episode of its pieces, or none if it has no step."""
    try:
        rows = {name: np.concatenate([p[name] for p in pieces]) for name in _COLUMNS}
        seen = np.concatenate([rows["observation"], rows["next_observation"][-1:]])
    except ValueError as error:
        raise SegueError(f"{path}: the log of experience changes its shape; restore the run") from error
    if parts and (seen.dtype != np.uint8 or seen.shape[1:] != (width(parts),)):
        raise SegueError(
            f"{path}: observations {seen.shape[1:]} are not made of the parts in run.json; restore the run"
        )
    given = {"observation": seen, "action": rows["action"], "reward": rows["reward"], "source": source}
    episode = recorded({**given, "terminated": bool(rows["terminated"][-1])}, str(path), parts)
    if episode is not None:
        yield episode
