"""Small logs, and what writes them in every format by its own library; shared by the tests of readers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np
from safetensors.numpy import save_file

from segue.data.export import export_minari
from segue.data.readers import open_source
from segue.data.recorded import Recorded

FPS = 10
Log = Sequence[Recorded]


def made(seed: int, lengths: Sequence[int], image: tuple[int, ...] = ()) -> list[Recorded]:
    """Episodes whose final observations are known, some of them cut."""
    rng = np.random.default_rng(seed)
    out = []
    for n in lengths:
        seen = rng.integers(0, 256, (n + 1, *image), np.uint8) if image else rng.normal(size=(n + 1, 3)).astype("f4")
        action, reward = rng.uniform(-0.99, 0.99, (n, 2)).astype("f4"), rng.normal(size=n).astype("f4")
        out.append(Recorded(seen, action, reward, bool(rng.integers(2)), float(rng.integers(2))))
    return out


def found(text: str) -> list[Recorded]:
    return list(open_source(text).episodes)


def same(got: Log, want: Log, *, final: bool = True, success: bool = True, exact: bool = True) -> None:
    """`final`: whether the log has the observation after a terminal step; `exact`: to the last bit."""
    assert [len(e) for e in got] == [len(e) for e in want]
    close = np.testing.assert_array_equal if exact else lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6)
    for ours, theirs in zip(got, want):
        last = len(ours) if final or not theirs.terminated else -1
        assert (ours.observation.dtype, ours.terminated) == (theirs.observation.dtype, theirs.terminated)
        assert ours.action.dtype == ours.reward.dtype == np.float32
        np.testing.assert_array_equal(ours.current, theirs.current)
        np.testing.assert_array_equal(ours.following[:last], theirs.following[:last])
        close(ours.action, theirs.action)
        np.testing.assert_array_equal(ours.reward, theirs.reward)
        np.testing.assert_equal(ours.success, theirs.success if success else np.nan)


def rows(log: Log) -> dict[str, np.ndarray]:
    """A row a step, and one more for the final observation of an episode that was cut: a log without a next one."""
    parts = []
    for number, e in enumerate(log):
        extra = 0 if e.terminated else 1
        last = np.arange(len(e) + extra) == len(e) + extra - 1
        parts.append(
            {
                "observations": e.observation[: len(e) + extra],
                "actions": np.concatenate([e.action, np.full((extra, 2), 0.5, np.float32)]),
                "rewards": np.concatenate([e.reward, np.full(extra, 9, np.float32)]),
                "terminals": last & e.terminated,
                "timeouts": last & (not e.terminated),
                "episode": np.full(len(last), number),
                "success": np.full(len(last), e.success),
            }
        )
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def write_npz(folder: Path, log: Log) -> str:
    np.savez(folder / "log.npz", **rows(log))
    return f"npz:{folder / 'log.npz'}?terminated=terminals&truncated=timeouts"


def write_compressed(folder: Path, log: Log) -> str:
    columns = rows(log)
    del columns["timeouts"]
    columns["actions"] = np.asfortranarray(columns["actions"])
    np.savez_compressed(folder / "log.npz", **columns)
    return f"npz:{folder / 'log.npz'}"


def write_npy(folder: Path, log: Log) -> str:
    for name, column in rows(log).items():
        np.save(folder / f"{name}.npy", column)
    return f"npz:{folder}?low=-1&high=1"


def padded(log: Log) -> dict[str, np.ndarray]:
    """A row an episode, with final observations and lengths; what is behind the end is 7."""
    limit = max(len(e) for e in log)
    fill = lambda x, n: np.concatenate([x, np.full((n - len(x), *x.shape[1:]), 7, x.dtype)])  # noqa: E731
    return {
        "obs": np.stack([fill(e.observation, limit + 1) for e in log]),
        "actions": np.stack([fill(e.action, limit) for e in log]),
        "rewards": np.stack([fill(e.reward, limit) for e in log]),
        "terminated": np.array([e.terminated for e in log]),
        "success": np.array([e.success for e in log]),
        "length": np.array([len(e) for e in log]),
    }


def write_padded(folder: Path, log: Log) -> str:
    np.savez(folder / "log.npz", **padded(log))
    return f"npz:{folder / 'log.npz'}"


def arrow_table(columns: dict[str, np.ndarray]) -> Any:
    """Vectors as lists, of fixed size and not, and images as tensors."""
    import pyarrow as pa

    out = {}
    for name, column in columns.items():
        if column.ndim == 1:
            out[name] = pa.array(column)
        elif column.ndim == 2:
            kind = pa.list_(pa.from_numpy_dtype(column.dtype), column.shape[1] if name == "actions" else -1)
            out[name] = pa.array(list(column), kind)
        else:
            out[name] = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(column))
    return pa.table(out)


def write_parquet(folder: Path, log: Log) -> str:
    """Two shards that part an episode, in row groups of two rows, told apart by words."""
    import pyarrow.parquet as pq

    columns = rows(log)
    columns["trial"] = np.array([f"trial {n % 2}" for n in columns["episode"]])
    whole, half = arrow_table(columns), len(columns["rewards"]) // 2
    for name, part in (("log-2.parquet", whole[:half]), ("log-10.parquet", whole[half:])):
        if part.num_rows:
            pq.write_table(part, folder / name, row_group_size=2)
    return f"table:{folder}?episode=trial"


def write_arrow(folder: Path, log: Log) -> str:
    import pyarrow as pa

    whole = arrow_table(rows(log))
    with pa.OSFile(str(folder / "log.arrow"), "wb") as file, pa.ipc.new_file(file, whole.schema) as out:
        out.write_table(whole, max_chunksize=3)
    return f"table:{folder / 'log.arrow'}"


def write_stream(folder: Path, log: Log) -> str:
    import pyarrow as pa

    whole = arrow_table(rows(log))
    with pa.OSFile(str(folder / "log.arrow"), "wb") as file, pa.ipc.new_stream(file, whole.schema) as out:
        out.write_table(whole, max_chunksize=3)
    return f"table:{folder}"


def write_feather(folder: Path, log: Log) -> str:
    import pyarrow.feather as feather

    feather.write_feather(arrow_table(rows(log)), folder / "log.feather", compression="lz4")
    return f"table:{folder / 'log.feather'}"


def write_csv(folder: Path, log: Log) -> str:
    import pyarrow as pa
    import pyarrow.csv as csv

    columns: dict[str, Any] = {}
    for name, column in rows(log).items():
        short = {"observations": "obs", "actions": "act"}.get(name, name)
        parts = {f"{short}_{i}": column[:, i] for i in range(column.shape[1])} if column.ndim > 1 else {short: column}
        columns |= dict(sorted(parts.items(), reverse=True))  # columns in the wrong order
    csv.write_csv(pa.table(columns), folder / "log.csv")
    return f"csv:{folder / 'log.csv'}?action=act_*"


def write_ogbench(folder: Path, log: Log) -> str:
    """The release's layout in two shards: all episodes are cut."""
    for number, part in enumerate((log[:1], log[1:])):
        if part:
            columns = rows(part)
            arrays = {name: columns[name] for name in ("observations", "actions", "rewards")}
            terminals = columns["timeouts"].astype(np.float32)
            np.savez_compressed(folder / f"made-{number:03d}.npz", **arrays, terminals=terminals)
    np.savez(folder / "made-000-val.npz", observations=np.zeros(3))
    return f"ogbench:{folder}"


def write_robomimic(folder: Path, log: Log) -> str:
    with h5py.File(folder / "log.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {"robots": ["Panda"]}})
        for number, e in enumerate(log):
            demo = data.create_group(f"demo_{number}")
            key = "image" if e.observation.ndim > 2 else "state"
            demo[f"obs/{key}"], demo[f"next_obs/{key}"] = e.current, e.following
            if key == "state":
                demo["obs/image"] = np.zeros((len(e), 2, 2, 3), np.uint8)
            demo["actions"], demo["rewards"] = e.action.astype(np.float64), e.reward
            demo["dones"] = (np.arange(len(e)) >= len(e) - 2).astype(np.int64) * e.terminated
        names = [f"demo_{n}".encode() for n in range(len(log))]
        file["mask/train"] = np.array(names[::-1])
    keys = "keys=image&" if log[0].observation.ndim > 2 else ""
    return f"robomimic:{folder / 'log.hdf5'}?{keys}filter=train"


def write_lerobot(folder: Path, log: Log, version: str = "v3.0", **options: str) -> str:
    """Two episodes a file; where observations are images, they are frames of videos without loss."""
    import pyarrow.parquet as pq

    columns = rows(log)
    image, video = columns["observations"].ndim > 2, "observation.images.top"
    low, high = np.array([-2.0, 0.0]), np.array([2.0, 5.0])
    numbers = columns["episode"]
    first = np.searchsorted(numbers, numbers)
    index = np.arange(len(numbers))
    table_columns = {
        "action": (low + (columns["actions"].astype(np.float64) + 1) / 2 * (high - low)).astype(np.float32),
        "timestamp": ((index - first) / FPS).astype(np.float32),
        "frame_index": index - first,
        "episode_index": numbers,
        "index": index,
        "next.reward": columns["rewards"],
        "next.done": columns["terminals"] | columns["timeouts"],
        "next.success": columns["terminals"],
    }
    if not image:
        table_columns["observation.state"] = columns["observations"]
    for name in [name for name in table_columns if name in options.get("without", "").split(",")]:
        del table_columns[name]
    features: dict[str, Any] = {
        name: {"dtype": str(c.dtype), "shape": list(c.shape[1:]) or [1], "names": None}
        for name, c in table_columns.items()
    }
    if image:
        features[video] = {"dtype": "video", "shape": list(columns["observations"].shape[1:])}
    info = {"codebase_version": version, "fps": FPS, "features": features, "chunks_size": 1000}
    (folder / "meta").mkdir(parents=True)
    stats = {"action": {"min": low.tolist(), "max": high.tolist()}}
    meta: list[dict[str, Any]] = []
    size = 2 if version.startswith("v3") else 1
    for number in range(len(log)):
        at = np.flatnonzero(numbers == number)
        file = number // size
        begin = int(np.sum(numbers < number) - np.sum(numbers < file * size)) / FPS
        meta.append(
            {
                "episode_index": number,
                "length": len(at),
                "data/chunk_index": 0,
                "data/file_index": file,
                **({f"videos/{video}/chunk_index": 0, f"videos/{video}/file_index": file} if image else {}),
                **({f"videos/{video}/from_timestamp": begin} if image else {}),
            }
        )
    for file in range((len(log) + size - 1) // size):
        at = np.flatnonzero(numbers // size == file)
        name = f"file-{file:03d}" if size == 2 else f"episode_{file:06d}"
        (folder / "data" / "chunk-000").mkdir(parents=True, exist_ok=True)
        part = arrow_table({name: column[at] for name, column in table_columns.items()})
        pq.write_table(part, folder / "data" / "chunk-000" / f"{name}.parquet")
        if image:
            place = Path(video, "chunk-000") if size == 2 else Path("chunk-000", video)
            write_video(folder / "videos" / place / f"{name}.mp4", columns["observations"][at])
    if size == 2:
        info["data_path"] = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
        (folder / "meta" / "episodes" / "chunk-000").mkdir(parents=True)
        described = arrow_table({name: np.array([m[name] for m in meta]) for name in meta[0]})
        pq.write_table(described, folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet")
        (folder / "meta" / "stats.json").write_text(json.dumps(stats))
    else:
        (folder / "meta" / "episodes.jsonl").write_text("".join(json.dumps(m) + "\n" for m in meta))
        line = json.dumps({"episode_index": 0, "stats": stats}) + "\n"
        (folder / "meta" / "episodes_stats.jsonl").write_text(line * len(log))
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    return f"lerobot:{folder}?images={video}" if image else f"lerobot:{folder}"


def write_video(path: Path, images: np.ndarray) -> None:
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264rgb", rate=FPS, options={"qp": "0", "g": "3"})
        stream.height, stream.width, stream.pix_fmt = images.shape[1], images.shape[2], "rgb24"
        for image in images:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        file.mux(stream.encode(None))


def write_minari(folder: Path, log: Log) -> str:
    with mock.patch.dict("os.environ", {"MINARI_DATASETS_PATH": str(folder)}):
        return f"minari:{export_minari(log, {'action': {'low': [-2, 0], 'high': [2, 5]}}, 'segue/made-v0')}"


def write_d4rl(folder: Path, log: Log) -> str:
    """D4RL's own reader never keeps a file's last row, so a row stands behind the last episode."""
    with h5py.File(folder / "log.hdf5", "w") as file:
        for name, column in rows(log).items():
            if name != "success":
                file.create_dataset(name, data=np.concatenate([column, column[-1:]]), compression="gzip")
    return f"d4rl:{folder / 'log.hdf5'}"


def write_run(folder: Path, log: Log) -> str:
    """What a run of one seed has collected, in two files."""
    columns = {
        "observation": np.concatenate([e.current for e in log]),
        "next_observation": np.concatenate([e.following for e in log]),
        "action": np.concatenate([e.action for e in log]),
        "reward": np.concatenate([e.reward for e in log]),
        "terminated": np.concatenate([(np.arange(len(e)) == len(e) - 1) & e.terminated for e in log]),
        "truncated": np.concatenate([(np.arange(len(e)) == len(e) - 1) & (not e.terminated) for e in log]),
    }
    (folder / "replay").mkdir(parents=True, exist_ok=True)
    half = len(columns["reward"]) // 2
    for number, rows_of in enumerate((slice(0, half), slice(half, None))):
        part = {name: np.ascontiguousarray(column[rows_of, None]) for name, column in columns.items()}
        save_file(part, folder / "replay" / f"{number:06d}.safetensors")
    task = {"name": "made", "env": "Made-v0", "env_kwargs": {}, "horizon": 9, "options": {}}
    card = {"seeds": [0], "recipe": "sac", "task_card": {**task, "observation": {"keys": [], "parts": []}}}
    (folder / "run.json").write_text(json.dumps(card))
    return f"run:{folder}"


Write = Callable[[Path, Log], str]
FORMATS: dict[str, tuple[Write, set[str]]] = {  # what a format cannot say: a final observation, images, success, ...
    "npz": (write_npz, {"final"}),
    "npz compressed": (write_compressed, {"final"}),
    "npz folder": (write_npy, {"final"}),
    "npz padded": (write_padded, set()),
    "parquet": (write_parquet, {"final"}),
    "arrow": (write_arrow, {"final"}),
    "arrow stream": (write_stream, {"final"}),
    "feather": (write_feather, {"final"}),
    "csv": (write_csv, {"final", "image"}),
    "ogbench": (write_ogbench, {"final", "success", "terminated"}),
    "robomimic": (write_robomimic, {"success"}),
    "lerobot": (write_lerobot, {"final", "terminal success", "exact"}),
    "lerobot 2": (lambda folder, log: write_lerobot(folder, log, "v2.1"), {"final", "terminal success", "exact"}),
    "minari": (write_minari, {"exact"}),
    "d4rl": (write_d4rl, {"final", "success"}),
    "run": (write_run, {"success"}),
}
NEEDS = {"parquet": "pyarrow", "arrow": "pyarrow", "arrow stream": "pyarrow", "feather": "pyarrow", "csv": "pyarrow"}
NEEDS |= {"lerobot": "av", "lerobot 2": "av", "minari": "minari"}


def limited(log: Log, form: str) -> list[Recorded]:
    """What a format can say of a log."""
    lacks = FORMATS[form][1]
    if "terminated" in lacks:
        log = [replace(e, terminated=False) for e in log]
    if "terminal success" in lacks:
        log = [replace(e, success=float(e.terminated)) for e in log]
    return list(log)
