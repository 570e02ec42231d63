"""D4RL's layout, read block by block; the rules of where episodes end are those of `segue.data.d4rl`."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from segue.core.types import SegueError
from segue.data.d4rl import REQUIRED, attributes, broken, cut, load
from segue.data.recorded import Recorded, recorded
from segue.data.scaling import bounded
from segue.data.sources.reader import Options, Source

OPTIONS = ("max_episode_steps", "reward")
BLOCK = 65_536
"""Rows that are read at a time: a compressed file is read in chunks, and an episode is shorter than one."""
_ENVIRONMENT = ("env_id", "env_kwargs", "max_episode_steps", "reset_cell", "goal_cell")


def read(where: str, options: Options) -> Source:
    """Open a file in D4RL's layout, HDF5 or npz.

    `max_episode_steps` cuts a stream without timeouts.  `reward=binary` makes Adroit's binary task, success - 1, of
    `infos/success`.
    """
    path = Path(where)
    attrs = attributes(path)
    binary = options.choice("reward", ("env", "binary")) == "binary"
    success = "infos/success"
    limit = options.number("max_episode_steps") or attrs.get("max_episode_steps")
    flags = load(path, ("rewards", "terminals", "timeouts", *((success,) if binary else ())))[0]
    if not binary:
        with contextlib.suppress(SegueError):  # most logs do not say
            flags |= load(path, (success,))[0]
    try:
        limit = None if limit is None else int(np.asarray(limit).reshape(()))
    except (TypeError, ValueError) as error:
        raise SegueError(f"{path}: attribute 'max_episode_steps' is not a number; repair it") from error
    reward = flags[success].astype(np.float32) - 1.0 if binary else flags["rewards"]
    n = len(reward)
    for name, column in flags.items():
        if column.shape not in ((n,), (n, 1)):
            raise SegueError(f"{path}: '{name}' is {column.shape} and 'rewards' {reward.shape}; rows must correspond")
    kept, terminated, truncated = cut(flags["terminals"], flags.get("timeouts"), limit, str(path))
    ends = np.flatnonzero(terminated | truncated) + 1
    ends = ends if len(ends) and ends[-1] == len(kept) else np.append(ends, len(kept))
    environment = _environment(attrs)
    if environment is not None and binary:
        environment["reward"] = "binary"
    facts: dict[str, Any] = {"source": options.source, "environment": environment}
    solved = flags.get(success)

    def episodes() -> Iterator[Recorded]:
        first = 0
        for lowest, highest, block in _blocks(path, kept, ends, n):
            while first < len(ends) and kept[ends[first] - 1] + 1 < highest:
                begin, stop = kept[ends[first - 1] if first else 0], kept[ends[first] - 1] + 1
                rows, over = slice(begin - lowest, stop - lowest), bool(terminated[ends[first] - 1])
                one = recorded(
                    {
                        "observation": block["observations"][begin - lowest : stop - lowest + 1],
                        "action": bounded(np.asarray(block["actions"][rows], np.float32)),
                        "reward": reward[begin:stop].reshape(-1),
                        "terminated": over,
                        # The row after a cut is the episode's own, dropped above; after an end it is another's.
                        "success": np.nan if solved is None else float(np.any(solved[begin : stop + (not over)])),
                    },
                    f"{path}, episode {first}",
                )
                first += 1
                if one is not None:
                    yield one

    return Source(facts, episodes(), len(kept))


def _blocks(path: Path, kept: np.ndarray, ends: np.ndarray, n: int) -> Iterator[tuple[int, int, dict[str, np.ndarray]]]:
    """Observations and actions of whole episodes, with the rows that they are: first, last + 1."""
    names = REQUIRED[:2]
    if not h5py.is_hdf5(path):
        yield 0, n, load(path, names)[0]
        return
    try:
        with h5py.File(path, "r") as file:
            for name in names:
                if name not in file or not isinstance(file[name], h5py.Dataset) or file[name].shape[:1] != (n,):
                    raise SegueError(f"{path}: no array '{name}' of {n} rows; rows must correspond")
            first = 0
            while first < len(ends):
                lowest = int(kept[ends[first - 1] if first else 0])
                enough = int(np.searchsorted(kept[ends - 1], lowest + BLOCK))
                last = min(max(enough, first + 1), len(ends))
                highest = int(kept[ends[last - 1] - 1]) + 2
                yield lowest, highest, {name: file[name][lowest:highest] for name in names}
                first = last
    except (OSError, RuntimeError) as error:
        raise broken(path, error) from error


def _environment(attrs: dict[str, Any]) -> dict[str, Any] | None:
    """What the file says of its environment, as JSON; None where it says nothing."""
    found = {name: attrs[name] for name in _ENVIRONMENT if name in attrs}
    if "env_id" not in found:
        return None
    found = {k: v.tolist() if isinstance(v, np.ndarray | np.generic) else v for k, v in found.items()}
    try:
        found["env_kwargs"] = json.loads(str(found.get("env_kwargs", "{}")))
    except json.JSONDecodeError as error:
        raise SegueError(f"the attribute 'env_kwargs' is not JSON ({error}); repair it") from error
    return found | {"env_id": str(found["env_id"])}
