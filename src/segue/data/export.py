"""Episodes written for others to read: as an npz file of plain arrays, or as a Minari dataset."""

from __future__ import annotations

import contextlib
import copy
import inspect
import itertools
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING

import numpy as np

from segue.core.observations import unpacked
from segue.core.types import SegueError
from segue.data.extras import need, robotics
from segue.data.facts import Facts, known_of
from segue.data.files import write_atomically
from segue.data.recorded import Recorded

if TYPE_CHECKING:
    from gymnasium.spaces import Space
    from minari import MinariDataset
    from minari.data_collector import EpisodeBuffer


def export_npz(episodes: Iterable[Recorded], path: str | Path) -> None:
    """Write episodes as an uncompressed .npz file of N rows, with memory for one episode.

    `observations`, `next_observations` (N, ...), or each part of them ("observations/pixels"), `actions` (N, A),
    `rewards`, `success` (N,) float32, NaN where it is not known, and `terminals`, `truncations` (N,) bool, one of which
    is set in each episode's last row.  The reader `npz` gives the same episodes back, but for `Recorded.source`.
    Raises `SegueError` if the file exists or cannot be written, if there is no step, or if steps differ in shape.
    """
    path = Path(path)
    if path.exists():
        raise SegueError(f"{path} exists; remove it, or write to another file")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_npz(episodes, path)
    except OSError as error:
        raise SegueError(f"{path}: cannot be written ({error.strerror or error}); choose another place") from error


def _write_npz(episodes: Iterable[Recorded], path: Path) -> None:
    with contextlib.ExitStack() as stack:
        written: dict[str, tuple[IO[bytes], np.dtype, tuple[int, ...]]] = {}
        rows = 0
        for number, episode in enumerate(episodes):
            for name, column in _columns(episode).items():
                if name not in written:
                    file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile(dir=path.parent))
                    written[name] = file, column.dtype, column.shape[1:]
                file, dtype, row = written[name]
                if column.shape[1:] != row or column.dtype != dtype:
                    raise SegueError(
                        f"{path}: episode {number} has {name} of {column.shape[1:]} {column.dtype}, those before it of "
                        f"{row} {dtype}; every step needs the same"
                    )
                file.write(np.ascontiguousarray(column).tobytes())
            rows += len(episode)
        if not rows:
            raise SegueError(f"{path}: no episode with at least one step; give some")

        def pack(place: Path) -> None:
            with zipfile.ZipFile(place, "w") as packed:
                for name, (file, dtype, row) in written.items():
                    facts = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
                    with packed.open(f"{name}.npy", "w", force_zip64=True) as entry:
                        np.lib.format.write_array_header_1_0(entry, facts | {"shape": (rows, *row)})
                        file.seek(0)
                        shutil.copyfileobj(file, entry, 2**22)

        write_atomically(path, pack)


def _columns(episode: Recorded) -> dict[str, np.ndarray]:
    last = np.arange(len(episode)) == len(episode) - 1
    return {
        **_parts(episode, "observations", episode.current),
        "actions": episode.action,
        "rewards": episode.reward,
        **_parts(episode, "next_observations", episode.following),
        "terminals": last & episode.terminated,
        "truncations": last & (not episode.terminated),
        "success": np.full(len(episode), episode.success, np.float32),
    }


def _parts(episode: Recorded, name: str, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Observations, by part where they have several."""
    if not episode.made_of:
        return {name: rows}
    return {f"{name}/{part}": value for part, value in unpacked(episode.made_of, rows).items()}


def export_minari(episodes: Iterable[Recorded], facts: Facts, dataset_id: str) -> Path:
    """Write episodes as a local Minari dataset and return its folder, with memory for one episode.

    `facts` are those of a source or a stored dataset.  Actions are scaled back to the environment's own bounds, if
    `facts["action"]` has them.  The dataset names the environment, if Gymnasium knows it.  Raises `SegueError` if the
    dataset exists, if its id is not of the form NAME-v0, if there is no step, or if next observations are not the
    following rows, which Minari cannot express.
    """
    minari = need("minari", "minari", "writing a Minari dataset")
    given = iter(episodes)
    first = next((episode for episode in given if len(episode)), None)
    if first is None:
        raise SegueError(f"minari {dataset_id}: no episode with at least one step; give some")
    try:
        minari.dataset.minari_dataset.parse_dataset_id(dataset_id)
        folder = Path(minari.storage.datasets_root_dir.get_dataset_path(dataset_id))
    except (ValueError, TypeError) as error:
        raise SegueError(f"minari {dataset_id}: not a Minari id; write NAME-v0 or NAMESPACE/NAME-v0") from error
    if folder.exists():
        raise SegueError(f"minari {dataset_id}: exists in {folder}; choose another id, or remove it")
    low, high = _bounds(facts, first, dataset_id)
    described = {
        **_spaces(first, low, high),
        "description": f"Exported by Segue from {facts.get('source', 'a log')}.",
        "author": ", ".join(map(str, facts.get("authors") or ())) or None,
    }
    buffers = _buffers(minari, itertools.chain([first], given), low, high, dataset_id)
    try:
        with warnings.catch_warnings(action="ignore"):  # advice to the makers of datasets
            log = _create(minari, buffers, dataset_id, described)
            if (spec := _spec(facts)) is not None:
                log.storage.update_metadata({"env_spec": spec})
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def _create(
    minari: ModuleType, buffers: Iterator[EpisodeBuffer], dataset_id: str, more: Mapping[str, object]
) -> MinariDataset:
    create = minari.create_dataset_from_buffers
    # what it takes for an image it would store as JPEG, which loses some of it
    exact = {"jpeg_encoding": False} if "jpeg_encoding" in inspect.signature(create).parameters else {}
    try:
        return create(dataset_id=dataset_id, buffer=buffers, **more, **exact)
    except (OSError, ValueError, TypeError, AssertionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SegueError(
            f"minari {dataset_id}: could not be written ({reason}); remove this cause and export again"
        ) from error


def _buffers(
    minari: ModuleType, episodes: Iterable[Recorded], low: np.ndarray, high: np.ndarray, dataset_id: str
) -> Iterator[EpisodeBuffer]:
    for number, episode in enumerate(e for e in episodes if len(e)):
        if episode.next_observation is not None:
            raise SegueError(
                f"minari {dataset_id}: episode {number} has next observations that differ from the following rows, "
                "which Minari cannot store; write an npz file"
            )
        flags = _columns(episode)
        solved = np.full(len(episode) + 1, episode.success)
        yield minari.data_collector.EpisodeBuffer(
            observations=unpacked(episode.made_of, episode.observation) if episode.made_of else episode.observation,
            actions=np.asarray(low + (episode.action.astype(np.float64) + 1.0) / 2.0 * (high - low), np.float32),
            rewards=episode.reward,
            terminations=flags["terminals"],
            truncations=flags["truncations"],
            infos=None if np.isnan(episode.success) else {"success": solved},
        )


def _bounds(facts: Facts, first: Recorded, dataset_id: str) -> tuple[np.ndarray, np.ndarray]:
    """The environment's bounds (A,) of the action; -1 and 1 if they are not known."""
    size = first.action.shape[1]
    known = facts.get("action") or {"low": [-1.0], "high": [1.0]}
    try:
        low, high = (np.broadcast_to(np.asarray(known[name], np.float64), size) for name in ("low", "high"))
    except (KeyError, TypeError, ValueError) as error:
        raise SegueError(
            f"minari {dataset_id}: bounds {known} for actions of {size}; import the dataset again"
        ) from error
    return low, high


def _spaces(first: Recorded, low: np.ndarray, high: np.ndarray) -> dict[str, Space]:
    from gymnasium.spaces import Box, Dict

    def box(row: tuple[int, ...], octets: bool) -> Space:
        return Box(0, 255, row, np.uint8) if octets else Box(-np.inf, np.inf, row, np.float32)

    seen = box(first.observation.shape[1:], first.observation.dtype == np.uint8)
    if first.made_of:
        seen = Dict({part.name: box(part.shape, part.dtype == "uint8") for part in first.made_of})
    action = Box(low.astype(np.float32), high.astype(np.float32), dtype=np.float32)
    return {"observation_space": seen, "action_space": action}


def _spec(facts: Facts) -> str | None:
    """The environment as Minari writes it; None if Gymnasium does not know it."""
    import gymnasium

    known = known_of(facts)
    if "env_id" not in known:
        return None
    with contextlib.suppress(SegueError):  # without them, only Gymnasium's own environments are known
        robotics()
    try:
        spec = copy.deepcopy(gymnasium.spec(known["env_id"]))
        spec.kwargs.update(known.get("env_kwargs") or {})
        spec.max_episode_steps = known.get("max_episode_steps") or spec.max_episode_steps
        return str(spec.to_json())
    except (gymnasium.error.Error, ImportError, ValueError, TypeError):
        return None
