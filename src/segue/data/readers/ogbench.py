"""OGBench's layout: one or more npz files of trajectories, whose last row is a state and no step.

      row          t-2   t-1    t   | t+1            `terminals` is 1 in row t, which ends a trajectory, cut
      kept         yes   yes    no                   its action leads nowhere: OGBench's own loader drops it too

Files that OGBench's loader has changed are read too: compact ones, with `valids` (0 in row t, and `terminals` 1 in t-1
too), and those with `next_observations`, in which every row is a step.  `rewards` and `masks` are those of a single
task: a mask of 0 terminates, and the rest of the trajectory is an episode of its own.
"""

from __future__ import annotations

import glob
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segue.core.types import SegueError
from segue.data.facts import Environment, Facts
from segue.data.readers import npy
from segue.data.readers.columns import Roles, listed
from segue.data.readers.reader import Options, Source
from segue.data.readers.relabel import relabelled
from segue.data.readers.rows import BLOCK, Block, episodes

OPTIONS = ("task",)
_REQUIRED = ("observations", "actions", "terminals")
_OPTIONAL = ("next_observations", "valids", "rewards", "masks")


def source(where: str, options: Options) -> Source:
    """Open an npz file in OGBench's layout, a folder of such shards, or a pattern (NAME-*.npz), in the order of names.

    Shards for validation (NAME-val.npz) are left out unless the path names them.  A file without `rewards` gets rewards
    of 0, and the facts say so.  A mask of 0 is a success.  `task=ENV`, a single-task environment of OGBench's, gives
    the log that task's rewards and ends, by OGBench's own rules; it needs the extra `ogbench`.
    """
    files, task = _shards(where), options.text("task")
    if task:
        files = [relabelled(file, task) for file in files]
    headers = [_headers(file) for file in files]
    known = set(headers[0])
    for file, found in zip(files, headers):
        if strange := sorted(known ^ set(found)):
            raise SegueError(f"{file}: has other arrays than {files[0].name} ({strange[0]}); shards must agree")
    masks = "masks" if "masks" in known else ""
    roles = Roles(
        observation=("observations",),
        action=("actions",),
        reward="rewards" if "rewards" in known else "",
        next_observation=("next_observations",),
        terminated=masks and "terminated",
        truncated="terminals",
        episode="shard",
        success=masks and "terminated",
    )

    def blocks() -> Iterator[Block]:
        for number, (file, found) in enumerate(zip(files, headers)):
            for block in _steps(file, found):
                yield {**block, "shard": np.full(len(block["actions"]), number)}

    notes = {} if roles.reward else {"rewards": "none in the log: every reward is 0"}
    environment: Environment | None = {"env_id": f"ogbench:{task}"} if task else None
    facts: Facts = {"source": options.source, "environment": environment, "notes": {**notes, "shards": len(files)}}
    return Source(facts, episodes(blocks(), roles, where), sum(npy.count(found) for found in headers))


def _shards(where: str) -> list[Path]:
    path = Path(where)
    if path.is_file():
        return [path]
    found = path.glob("*.npz") if path.is_dir() else map(Path, glob.glob(where))
    files = [file for file in found if file.is_file() and ("-val" in path.name or not file.stem.endswith("-val"))]
    if not files:
        raise SegueError(f"{where}: no such file, and no .npz file in it or like it; check the path")
    return sorted(files, key=npy.natural)


def _headers(path: Path) -> dict[str, npy.Array]:
    """Headers of the arrays that are read; `SegueError` if one is missing, or actions are discrete."""
    if path.is_dir():
        raise SegueError(f"{path}: a folder; give .npz files")
    there = npy.names(path)
    if missing := [name for name in _REQUIRED if name not in there]:
        raise SegueError(f"{path}: no array '{missing[0]}'; it has {listed(there)}, and is not in OGBench's layout")
    found = npy.headers(path, [*_REQUIRED, *(name for name in _OPTIONAL if name in there)])
    if found["actions"].dtype.kind != "f":
        raise SegueError(f"{path}: actions are {found['actions'].dtype}; Segue needs continuous ones")
    return found


def _steps(path: Path, found: dict[str, npy.Array]) -> Iterator[Block]:
    """The steps of one shard, by blocks, each with its next observation."""
    first, before = 0, None
    for raw in npy.blocks(found, BLOCK):
        block = {**raw, "terminals": _binary(raw, "terminals", first, path)}
        if "masks" in block:
            block["terminated"] = 1 - _binary(raw, "masks", first, path)
        if "valids" in block:
            block["valids"] = _binary(raw, "valids", first, path)
        first += len(block["terminals"])
        if "next_observations" in found:
            yield block
            continue
        if before is not None:
            block = {name: np.concatenate([before[name], column]) for name, column in block.items()}
        steps = block["valids"] == 1 if "valids" in block else block["terminals"] == 0
        taken = np.flatnonzero(steps[:-1])
        yield {
            **{name: column[taken] for name, column in block.items()},
            "next_observations": block["observations"][taken + 1],
            "terminals": ~steps[taken + 1],
        }
        before = {name: column[-1:] for name, column in block.items()}


def _binary(block: Block, name: str, first: int, path: Path) -> np.ndarray:
    """An array of 0 and 1 (rows,)."""
    values = block[name].reshape(-1)
    wrong = ~np.isin(values, (0, 1)) if values.dtype.kind in "fiub" else np.ones(len(values), bool)
    if len(values) != len(block["actions"]) or wrong.any():
        row = first + int(np.argmax(wrong))
        raise SegueError(f"{path}: '{name}' is not 0 or 1, once a row, from row {row} on; repair the file")
    return values.astype(np.int8)
