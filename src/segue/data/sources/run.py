"""What a run of Segue has collected: the rows of all its seeds, each seed a part of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from segue.data.recorded import Recorded
from segue.data.sources.reader import Options, Source
from segue.observations import parts_of
from segue.types import SegueError

OPTIONS = ("seeds", "last")
_COLUMNS = ("observation", "action", "reward", "terminated", "truncated", "next_observation")


def read(where: str, options: Options) -> Source:
    """Open a run's folder; `seeds=0,2` takes these alone, `last=N` each seed's last N rows (in whole episodes).

    An episode that was open when the run last saved counts as cut there.
    """
    folder = Path(where)
    try:
        card = json.loads((folder / "run.json").read_text())
        seeds, task = [int(s) for s in card["seeds"]], card["task_card"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SegueError(f"{folder}: not a run's folder ({error}); name one that holds run.json") from error
    files = sorted((folder / "replay").glob("*.safetensors"))
    if not files:
        raise SegueError(f"{folder}: the run has saved no experience; give one that has begun to collect")
    wanted = options.names("seeds") or tuple(map(str, seeds))
    if strange := [s for s in wanted if s not in map(str, seeds)]:
        raise SegueError(f"{folder}: no seed {strange[0]} in this run; it has {', '.join(map(str, seeds))}")
    environment = {
        "env_id": task["env"],
        "env_kwargs": task["env_kwargs"],
        "max_episode_steps": task["horizon"],
        "keys": task["observation"]["keys"],
        **{key: value for key, value in task["options"].items() if key in ("reset_cell", "goal_cell")},
    }
    facts: dict[str, Any] = {
        "source": options.source,
        "environment": environment,
        "notes": {"recipe": card.get("recipe"), "task": task["name"], "rows before": options.text("last", "all")},
    }
    last = options.number("last")
    parts = parts_of(task["observation"].get("parts", ()), str(folder / "run.json"))

    def episodes() -> Iterator[Recorded]:
        for seed in wanted:
            found = (replace(e, made_of=parts) for e in _episodes(files, seeds.index(int(seed)), f"seed {seed}"))
            if last is None:
                yield from found
            else:
                kept = list(found)
                to_the_end = np.cumsum([len(e) for e in kept][::-1])[::-1]
                yield from kept[min(int(np.sum(to_the_end > last)), len(kept) - 1) :]

    return Source(facts, episodes())


def _episodes(files: list[Path], world: int, source: str) -> Iterator[Recorded]:
    """Episodes of one world; a file's rows may end within one."""
    waiting: list[dict[str, np.ndarray]] = []
    for path in files:
        try:
            rows = {name: column[:, world] for name, column in load_file(path).items() if name in _COLUMNS}
            ends = np.flatnonzero(rows["terminated"] | rows["truncated"]) + 1
        except (OSError, SafetensorError, KeyError, IndexError) as error:
            raise SegueError(f"{path}: the log of experience is damaged ({error}); restore the run") from error
        start = 0
        for stop in ends.tolist():
            waiting.append({k: v[start:stop] for k, v in rows.items()})
            yield _joined(waiting, source)
            waiting, start = [], stop
        if start < len(rows["reward"]):
            waiting.append({k: v[start:] for k, v in rows.items()})
    if waiting:
        yield _joined(waiting, source)


def _joined(pieces: list[dict[str, np.ndarray]], source: str) -> Recorded:
    rows = {name: np.concatenate([p[name] for p in pieces]) for name in _COLUMNS}
    seen = np.concatenate([rows["observation"], rows["next_observation"][-1:]])
    action, reward = np.asarray(rows["action"], np.float32), np.asarray(rows["reward"], np.float32)
    return Recorded(seen, action, reward, bool(rows["terminated"][-1]), source=source)
