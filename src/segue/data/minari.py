"""Minari datasets, local or remote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from segue.core.replay import Data
from segue.core.types import SegueError
from segue.data.arrays import numbered
from segue.data.extras import need
from segue.data.recorded import data_of
from segue.data.scaling import CLIP_ACTION, bounded, scaled


def read_minari(
    dataset: str | Path,
    keys: tuple[str, ...] = (),
    *,
    clip_action: float | None = CLIP_ACTION,
) -> Data:
    """Read a Minari dataset as checked `Data` in raw rewards; nothing is dropped, final observations are logged.

    `dataset` is a path to a dataset's folder (or its `data` folder) or an id, which is downloaded if it is not here.
    Dictionary observations are flattened and concatenated in the order of `keys` (needed for them, an error else).
    Actions are scaled from the dataset's bounds to [-1, 1] and kept within +-`clip_action`.
    Raises `SegueError` if Minari is absent, the dataset cannot be had, or its spaces are not continuous.
    """
    log = open_log(dataset)
    return data_of(numbered(episodes(log, dataset, keys, clip_action), f"minari:{dataset}"), f"minari:{dataset}")


def episodes(
    log: Any, dataset: str | Path, keys: tuple[str, ...], clip_action: float | None = CLIP_ACTION
) -> Iterator[Mapping[str, Any]]:
    """Episodes of an opened dataset as mappings, one at a time."""
    low, high = action_bounds(log.action_space, f"minari {dataset}")
    bound = 1.0 if clip_action is None else clip_action
    for episode in log.iterate_episodes():
        solved = np.asarray((episode.infos or {}).get("success", np.nan), np.float64)
        yield {
            "observation": flatten(episode.observations, keys, f"minari {dataset}"),
            "action": bounded(scaled(episode.actions, low, high), bound),
            "reward": episode.rewards,
            "terminated": bool(np.asarray(episode.terminations)[-1]) if len(episode.rewards) else False,
            "success": float(np.max(solved)) if solved.size else np.nan,
        }


class Environment(NamedTuple):
    """What a Minari dataset says about its environment."""

    env: str
    kwargs: dict[str, Any]
    horizon: int
    keys: tuple[str, ...]


def read_environment(dataset: str | Path) -> Environment:
    """Return the environment that a Minari dataset was logged in; `keys` are those of a dictionary observation.

    Raises `SegueError` if the dataset cannot be had, or does not name its environment and its time limit.
    """
    log = open_log(dataset)
    spec = log.spec.env_spec
    if spec is None or spec.max_episode_steps is None:
        raise SegueError(
            f"minari {dataset}: does not name its environment with a time limit; use GymTask.custom with read_minari"
        )
    spaces = getattr(log.observation_space, "spaces", {})
    keys = tuple(spaces) if isinstance(spaces, Mapping) else ()
    return Environment(spec.id, dict(spec.kwargs), int(spec.max_episode_steps), keys)


def open_log(dataset: str | Path) -> Any:
    """Open a dataset, downloaded if it is not here; `SegueError` where it cannot be had."""
    minari = need("minari", "minari", "reading a Minari dataset")
    try:
        folder = Path(dataset)
        if folder.is_dir():
            return minari.MinariDataset(folder if (folder / "metadata.json").exists() else folder / "data")
        return minari.load_dataset(str(dataset), download=True)
    except Exception as error:  # Minari raises what its storage and its network raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SegueError(f"minari {dataset}: cannot be read or downloaded ({reason}); check the id or path") from error


def flatten(observation: Any, keys: tuple[str, ...], where: str) -> Any:
    """Observations (T, ...): one array, or of a dictionary the arrays of `keys`, in order."""
    if isinstance(observation, Mapping):
        if not keys or any(key not in observation for key in keys):
            raise SegueError(
                f"{where}: observations are a dictionary of {sorted(observation)} and keys={keys!r}; name them"
            )
        return {key: np.asarray(observation[key]) for key in keys}
    if keys:
        raise SegueError(f"{where}: observations are one array, so keys={keys!r} has no effect; leave it out")
    return np.asarray(observation)


def action_bounds(space: Any, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Bounds (A,) of a flat, bounded Box; `SegueError` for any other space."""
    low, high = np.asarray(getattr(space, "low", np.nan)), np.asarray(getattr(space, "high", np.nan))
    if low.ndim != 1 or not np.isfinite(low).all() or not np.isfinite(high).all() or low.dtype.kind != "f":
        raise SegueError(f"{where}: actions are {space}; Segue needs a flat Box with finite bounds")
    return low.astype(np.float64), high.astype(np.float64)
