"""LeRobot's datasets, of versions 3 and 2: a folder of tables, videos and JSON.

    meta/info.json            version, fps, features, and where the files below are
    meta/episodes/...         where each episode's rows and frames are (version 2: meta/episodes.jsonl)
    meta/stats.json           least and largest action           (version 2: meta/episodes_stats.jsonl)
    data/... .parquet         a row a step: observation.state, action, timestamp, episode_index, next.reward, ...
    videos/... .mp4           frames, for the features that are videos

An episode is terminated if its last row sets `next.success`, or `next.done` in a log without that.  Rows become
episodes by `segue.data.readers.rows`: the last row of an episode that was cut is dropped.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from segue.core.types import Part, SegueError
from segue.data.facts import Facts
from segue.data.readers import table
from segue.data.readers.columns import Roles, bounds, listed
from segue.data.readers.npy import natural
from segue.data.readers.reader import Options, Source
from segue.data.readers.rows import Block, episodes
from segue.data.readers.video import frames
from segue.data.recorded import Recorded, together

OPTIONS = ("keys", "images", "reward", "low", "high")
_VERSION_2 = {
    "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
    "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
}
_VERSION_3 = {
    "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
    "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
}


class _Episode(NamedTuple):
    """Where an episode is: its rows, and its frames from second `begin` of a video on."""

    length: int
    data: Path
    video: Path
    begin: float


def source(where: str, options: Options) -> Source:
    """Open a dataset's folder.

    `keys=a,b` names observations in order (observation.state unless given).  `images=KEY` names a video: its frames
    (uint8) are the observation, or its first part if `keys` is given too.  `reward=` names a column (next.reward unless
    given); without one the reward is 1 at an end with success, else 0.  Actions are scaled from the least and largest
    in the log, or from `low=` and `high=`.
    """
    folder = Path(where)
    info = _json(folder / "meta" / "info.json")
    features = info.get("features")
    if not isinstance(features, dict) or not all(isinstance(f, dict) for f in features.values()):
        raise SegueError(f"{folder}: meta/info.json lists no features; repair it")
    images = options.text("images")
    keys = options.names("keys", () if images else ("observation.state",))
    reward = options.text("reward") or ("next.reward" if "next.reward" in features else "")
    for key in (*((images,) if images else ()), *keys, "action", *((reward,) if reward else ())):
        dtype = features.get(key, {}).get("dtype")
        if key not in features or (dtype != "video" if key == images else dtype in ("video", "image")):
            kind = "video" if key == images else "column of numbers"
            raise SegueError(f"{folder}: no {kind} '{key}'; its features are {listed(features)}")
    known = _episodes(folder, info, images)
    success = "next.success" if "next.success" in features else ""
    low, high = bounds(options, where)
    low, high = (low, high) if low is not None and high is not None else _limits(folder)
    roles = Roles(
        (*(("episode_index", "timestamp") if images else ()), *keys),
        ("action",),
        reward,
        terminated=success or ("next.done" if "next.done" in features else ""),
        episode="episode_index",
        success=success,
        low=low,
        high=high,
        inside=False,
    )
    notes = {
        "robot": str(info.get("robot_type")),
        "action": "scaled by the options" if options.text("low") else "scaled by the least and largest in the log",
    }
    if not reward:
        notes["reward"] = "1 at an end with success, else 0" if success else "none in the log: every reward is 0"
    facts: Facts = {**roles.facts(options.source), "notes": notes}
    total = sum(episode.length for episode in known.values())

    def finished() -> Iterator[Recorded]:
        for one in episodes(_blocks(folder, known, roles), roles, where):
            if not reward and one.terminated and success:
                one = replace(one, reward=np.append(one.reward[:-1], np.float32(1)))
            if images:
                number, times = int(one.observation[0, 0]), one.observation[:, 1].astype(np.float64)
                vectors = dict(zip(keys, np.split(one.observation[:, 2:], _cuts(features, keys, one, folder), axis=1)))
                if number not in known:
                    raise SegueError(f"{folder}: episode {number} has rows and is not in meta/episodes; repair the log")
                own = known[number]
                seen = frames(own.video, own.begin + times, _fps(info, folder))
                made_of: tuple[Part, ...] = ()
                if keys:
                    seen, made_of = together({images: seen, **vectors}, f"{folder}, episode {number}")
                one = replace(one, observation=seen, made_of=made_of)
            yield one

    return Source(facts, finished(), total)


def _cuts(features: Mapping[str, dict[str, Any]], keys: tuple[str, ...], one: Recorded, folder: Path) -> list[int]:
    """Where the columns of each key but the first begin among those of all keys."""
    try:
        widths = [math.prod(int(n) for n in features[key].get("shape") or (1,)) for key in keys]
    except (TypeError, ValueError, OverflowError) as error:
        raise SegueError(f"{folder}: meta/info.json gives no shapes of {listed(keys)}; repair it") from error
    if keys and sum(widths) != one.observation.shape[1] - 2:
        raise SegueError(
            f"{folder}: meta/info.json says {widths} numbers of {listed(keys)}, the rows hold "
            f"{one.observation.shape[1] - 2}; repair one of them"
        )
    return np.cumsum(widths)[:-1].tolist()


def _blocks(folder: Path, known: dict[int, _Episode], roles: Roles) -> Iterator[Block]:
    """All rows, file by file; `SegueError` unless they are as many as the episodes have together."""
    rows = 0
    for file in dict.fromkeys(episode.data for episode in known.values()):
        if not file.is_file():
            raise SegueError(f"{file}: no such file, and the dataset names it; fetch the dataset again")
        there = table.column_names(file)
        if missing := [name for name in roles.columns if there.count(name) != 1]:
            raise SegueError(f"{file}: no column '{missing[0]}'; it has {listed(there)}")
        for block in table.file_blocks(file, roles.columns):
            rows += len(block["action"])
            yield block
    if rows != (total := sum(episode.length for episode in known.values())):
        raise SegueError(f"{folder}: {rows:,} rows in data, {total:,} by meta/episodes; fetch the dataset again")


def _episodes(folder: Path, info: Mapping[str, object], images: str) -> dict[int, _Episode]:
    """Episodes by number."""
    version = str(info.get("codebase_version"))
    if version.startswith("v3."):
        found = dict(_version_3(folder, info, images))
    elif version.startswith("v2."):
        found = dict(_version_2(folder, info, images))
    else:
        raise SegueError(
            f"{folder}: LeRobot's version {version!r}; 3 and 2 are read, so convert it with LeRobot's tools"
        )
    if not found:
        raise SegueError(f"{folder}: no episode in meta/episodes; record one")
    if wrong := [number for number, episode in found.items() if episode.length < 1]:
        raise SegueError(f"{folder}: episode {wrong[0]} has {found[wrong[0]].length} rows by meta/episodes; repair it")
    return dict(sorted(found.items()))


def _version_3(folder: Path, info: Mapping[str, object], images: str) -> Iterator[tuple[int, _Episode]]:
    paths = {name: info.get(name) or usual for name, usual in _VERSION_3.items()}
    files = sorted(folder.glob("meta/episodes/*/*.parquet"), key=lambda f: (natural(f.parent), natural(f)))
    wanted = ["episode_index", "length", "data/chunk_index", "data/file_index"]
    if images:
        wanted += [f"videos/{images}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    for file in files:
        there = table.column_names(file)
        if missing := [name for name in wanted if there.count(name) != 1]:
            raise SegueError(f"{file}: no column '{missing[0]}'; it has {listed(there)}")
        for block in table.file_blocks(file, tuple(wanted)):
            kinds = {name: "iuf" if name.endswith("_timestamp") else "iu" for name in wanted}
            if wrong := [n for n in wanted if block[n].ndim != 1 or block[n].dtype.kind not in kinds[n]]:
                raise SegueError(f"{file}: '{wrong[0]}' is empty somewhere, or no whole number; repair it")
            for number, length, *rest in zip(*(block[name].tolist() for name in wanted)):
                data = _filled(folder, paths["data_path"], chunk_index=rest[0], file_index=rest[1])
                video, begin = Path(), 0.0
                if images:
                    where = {"chunk_index": rest[2], "file_index": rest[3], "video_key": images}
                    video, begin = _filled(folder, paths["video_path"], **where), float(rest[4])
                yield number, _Episode(length, data, video, begin)


def _version_2(folder: Path, info: Mapping[str, Any], images: str) -> Iterator[tuple[int, _Episode]]:
    paths = {name: info.get(name) or usual for name, usual in _VERSION_2.items()}
    for line in _lines(folder / "meta" / "episodes.jsonl"):
        try:
            number, length, size = (int(x) for x in (line["episode_index"], line["length"], info["chunks_size"]))
            where = {"episode_chunk": number // size, "episode_index": number, "video_key": images}
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise SegueError(
                f"{folder}: an episode in meta/episodes.jsonl has no index or length; repair it"
            ) from error
        video = _filled(folder, paths["video_path"], **where) if images else Path()
        yield number, _Episode(length, _filled(folder, paths["data_path"], **where), video, 0.0)


def _filled(folder: Path, template: object, **values: object) -> Path:
    """A path in the folder by its template; `SegueError` if it leads elsewhere."""

    def value(match: re.Match[str]) -> str:
        found = values.get(match[1], match[0])
        return f"{found:0{int(match[2])}d}" if match[2] and isinstance(found, int) else str(found)

    path = PurePosixPath(re.sub(r"\{(\w+)(?::0?([0-9])d)?\}", value, str(template)))
    if path.is_absolute() or ".." in path.parts or not str(path).isprintable() or len(str(path)) > 1_000:
        raise SegueError(f"{folder}: meta/info.json names files outside the dataset, {str(template)[:99]!r}; repair it")
    return folder / path


def _limits(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Least and largest value (A,) of each part of the action in the log; a constant one becomes the middle."""
    whole, parts = folder / "meta" / "stats.json", folder / "meta" / "episodes_stats.jsonl"
    try:
        stats = [_json(whole)] if whole.is_file() else [line["stats"] for line in _lines(parts)]
        low = np.min([np.asarray(s["action"]["min"], np.float64).reshape(-1) for s in stats], axis=0)
        high = np.max([np.asarray(s["action"]["max"], np.float64).reshape(-1) for s in stats], axis=0)
        fits = bool(low.size and low.shape == high.shape and np.isfinite([low, high]).all() and (low <= high).all())
    except (SegueError, KeyError, TypeError, ValueError) as error:
        raise SegueError(f"{folder}: no bounds of the action in meta/stats.json; write low= and high=") from error
    if not fits:
        raise SegueError(f"{folder}: the bounds of the action in meta/stats.json make no sense; write low= and high=")
    same = np.where(low == high, 1.0, 0.0)
    return low - same, high + same


def _fps(info: Mapping[str, object], folder: Path) -> float:
    fps = info.get("fps")
    if not isinstance(fps, int | float) or not 0 < fps < 1e6:
        raise SegueError(f"{folder}: meta/info.json gives fps={fps!r}; repair it")
    return float(fps)


def _json(path: Path) -> dict[str, Any]:
    found = next(iter(_lines(path, whole=True)), None)
    if not isinstance(found, dict):
        raise SegueError(f"{path}: not a JSON object; repair it, or fetch the dataset again")
    return found


def _lines(path: Path, *, whole: bool = False) -> list[Any]:
    """JSON of each line of a file, or of the whole; `SegueError` if it cannot be read."""
    try:
        text = path.read_text(encoding="utf-8")
        return [json.loads(part) for part in ([text] if whole else text.splitlines()) if part.strip()]
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise SegueError(f"{path}: cannot be read ({reason}); name a LeRobot dataset's folder") from error
