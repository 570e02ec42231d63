"""Minari datasets: HDF5, Arrow or Parquet, on this machine or on Minari's server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from gymnasium import spaces

from segue.core.log import Data
from segue.core.types import SegueError
from segue.data.extras import need
from segue.data.facts import Environment, Facts
from segue.data.readers.damage import reading
from segue.data.readers.reader import Options, Source
from segue.data.recorded import CLIP_ACTION, Recorded, bounded, data_of, numbered, scaled

if TYPE_CHECKING:
    from minari import MinariDataset

OPTIONS = ("keys",)
_NOTES = ("author", "code_permalink", "dataset_id")


def source(where: str, options: Options) -> Source:
    """Open a dataset by its id or folder; `keys=a,b` names the parts of a dictionary observation, in order."""
    with reading(Path(where)):
        log = open_log(where)
        low, high = action_bounds(log.action_space, f"minari {where}")
        written = {k: str(v) for k, v in log.storage.metadata.items() if k in _NOTES}
        steps = int(log.total_steps)
    keys: tuple[str, ...] = options.names("keys")
    facts: Facts = {"source": options.source, "environment": None, "notes": written}
    facts["action"] = {"low": low.tolist(), "high": high.tolist()}
    with contextlib.suppress(SegueError):  # one without an environment is a dataset all the same
        with reading(Path(where)):
            found = _environment(log, where)
        keys = keys or tuple(found["keys"])
        facts["environment"] = {**found, "keys": list(keys)}
    return Source(facts, episodes(log, where, keys), steps)


def read_minari(dataset: str | Path, keys: tuple[str, ...] = (), *, clip_action: float | None = CLIP_ACTION) -> Data:
    """Read a Minari dataset as checked `Data` in raw rewards; nothing is dropped, final observations are logged.

    `dataset` is a path to a dataset's folder (or its `data` folder) or an id, which is downloaded if it is not here.
    A dictionary observation needs `keys`: its parts are flattened and concatenated in that order.
    Actions are scaled from the dataset's bounds to [-1, 1] and kept within +-`clip_action`.
    Raises `SegueError` if Minari is absent, the dataset cannot be had, or its spaces are not continuous.
    """
    with reading(Path(dataset)):
        log = open_log(dataset)
    return data_of(episodes(log, dataset, keys, 1.0 if clip_action is None else clip_action), f"minari:{dataset}")


def episodes(
    log: MinariDataset, dataset: str | Path, keys: tuple[str, ...], clip: float = CLIP_ACTION
) -> Iterator[Recorded]:
    """Yield the episodes of an opened dataset; errors of a damaged file become one line."""
    with reading(Path(dataset)):
        yield from numbered(_steps(log, f"minari {dataset}", keys, clip), f"minari:{dataset}")


def _steps(log: MinariDataset, where: str, keys: tuple[str, ...], clip: float) -> Iterator[Mapping[str, object]]:
    low, high = action_bounds(log.action_space, where)
    for episode in log.iterate_episodes():
        solved = np.asarray((episode.infos or {}).get("success", np.nan), np.float64)
        yield {
            "observation": flatten(episode.observations, keys, where),
            "action": bounded(scaled(episode.actions, low, high), clip),
            "reward": episode.rewards,
            "terminated": bool(np.asarray(episode.terminations)[-1]) if len(episode.rewards) else False,
            "success": float(np.max(solved)) if solved.size else np.nan,
        }


def read_environment(dataset: str | Path) -> Environment:
    """Return the environment that a Minari dataset was logged in; `keys` are those of a dictionary observation.

    Raises `SegueError` if the dataset cannot be had, or does not name its environment and its time limit.
    """
    return _environment(open_log(dataset), dataset)


def _environment(log: MinariDataset, dataset: str | Path) -> Environment:
    spec = log.spec.env_spec
    if spec is None or spec.max_episode_steps is None:
        raise SegueError(
            f"minari {dataset}: does not name an environment with a time limit; use GymTask.custom with read_minari"
        )
    limit = int(spec.max_episode_steps)
    keys = list(log.observation_space.spaces) if isinstance(log.observation_space, spaces.Dict) else []
    return {"env_id": spec.id, "env_kwargs": dict(spec.kwargs), "max_episode_steps": limit, "keys": keys}


def open_log(dataset: str | Path) -> MinariDataset:
    """Open a dataset, downloaded if it is not here; `SegueError` if it cannot be had."""
    minari = need("minari", "minari", "reading a Minari dataset")
    try:
        folder = Path(dataset)
        if folder.is_dir():
            return minari.MinariDataset(folder if (folder / "metadata.json").exists() else folder / "data")
        return minari.load_dataset(str(dataset), download=True)
    except Exception as error:  # Minari raises what its storage and its network raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SegueError(f"minari {dataset}: cannot be read or downloaded ({reason}); check the id or path") from error


def flatten(observation: object, keys: tuple[str, ...], where: str) -> np.ndarray | dict[str, np.ndarray]:
    """Observations (T, ...): one array, or the arrays of a dictionary in the order of `keys`."""
    if isinstance(observation, Mapping):
        if not keys or any(key not in observation for key in keys):
            raise SegueError(
                f"{where}: observations are a dictionary of {sorted(observation)} and keys={keys!r}; name them"
            )
        return {key: np.asarray(observation[key]) for key in keys}
    if keys:
        raise SegueError(f"{where}: observations are one array, so keys={keys!r} has no effect; leave it out")
    return np.asarray(observation)


def action_bounds(space: spaces.Space, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (A,) of a flat, bounded Box; `SegueError` for any other space."""
    if not (
        isinstance(space, spaces.Box) and len(space.shape) == 1 and space.low.dtype.kind == "f" and space.is_bounded()
    ):
        raise SegueError(f"{where}: actions are {space}; Segue needs a flat Box with finite bounds")
    return space.low.astype(np.float64), space.high.astype(np.float64)
