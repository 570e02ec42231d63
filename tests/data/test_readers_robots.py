"""OGBench, robomimic and LeRobot: their own rules, and their faults."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.core.types import SegueError
from segue.data.readers import open_source
from tests.data.formats import Log, found, made, rows, same, write_lerobot, write_robomimic, write_video


def official(path: Path, **options: Any) -> dict[str, np.ndarray]:
    with warnings.catch_warnings(action="ignore"):  # of the simulators that it imports, and of the file it leaves open
        utils = pytest.importorskip("ogbench.utils")
        return utils.load_dataset(path, **options)


def joined(episodes: Log) -> dict[str, np.ndarray]:
    ends = np.cumsum([len(e) for e in episodes]) - 1
    cut = np.isin(np.arange(ends[-1] + 1), ends[[not e.terminated for e in episodes]])
    columns = {"observations": "current", "actions": "action", "next_observations": "following", "rewards": "reward"}
    out = {name: np.concatenate([getattr(e, attribute) for e in episodes]) for name, attribute in columns.items()}
    return {**out, "terminals": cut.astype(np.float32)}


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5), seed=st.integers(0, 2**31), visual=st.booleans())
def test_ogbench_reads_what_its_own_loader_reads(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], seed: int, visual: bool
) -> None:
    folder = tmp_path_factory.mktemp("ogbench")
    log = [replace(e, terminated=False) for e in made(seed, lengths, (4, 4, 3) if visual else ())]
    columns = rows(log)
    raw = {name: columns[name] for name in ("observations", "actions")}
    raw |= {"terminals": columns["timeouts"].astype(np.float32), "qpos": np.zeros((len(columns["rewards"]), 5))}
    np.savez_compressed(folder / "a.npz", **raw)
    dtype = {"ob_dtype": np.uint8 if visual else np.float32}
    want = official(folder / "a.npz", **dtype)
    source = open_source(f"ogbench:{folder / 'a.npz'}")
    assert source.facts["notes"]["rewards"].startswith("none")
    got = joined(list(source.episodes))
    assert not got.pop("rewards").any()
    for name, column in got.items():
        np.testing.assert_array_equal(column, want[name], err_msg=name)
        assert column.dtype == want[name].dtype
    for compact in (True, False):  # what its loader has been over reads the same
        np.savez(folder / "b.npz", **official(folder / "a.npz", compact_dataset=compact, **dtype))
        again = joined(found(f"ogbench:{folder / 'b.npz'}"))
        for name, column in got.items():
            np.testing.assert_array_equal(again[name], column)


def test_ogbench_masks_end_episodes(tmp_path: Path) -> None:
    log = [replace(e, terminated=False) for e in made(0, [4, 3])]
    columns = rows(log)
    masks = np.ones(9, np.float32)
    masks[[1, 4, 8]] = 0  # in a step, and in rows that are none
    arrays = {name: columns[name] for name in ("observations", "actions", "rewards")}
    np.savez(tmp_path / "a.npz", **arrays, masks=masks, terminals=columns["timeouts"].astype(np.float32))
    got = found(f"ogbench:{tmp_path / 'a.npz'}")
    assert [(len(e), e.terminated, e.success) for e in got] == [(2, True, 1.0), (2, False, 0.0), (3, False, 0.0)]
    np.testing.assert_array_equal(got[0].observation, log[0].observation[:3])
    for name, value, says in (
        ("terminals", np.full(9, 0.5), "'terminals' is not 0 or 1, once a row, from row 0 on"),
        ("actions", np.zeros(9, np.int32), "actions are int32; Segue needs continuous ones"),
    ):
        np.savez(tmp_path / "b.npz", **{**arrays, "terminals": columns["timeouts"], name: value})
        with pytest.raises(SegueError, match=says):
            found(f"ogbench:{tmp_path / 'b.npz'}")
    np.savez(tmp_path / "b.npz", **arrays, terminals=columns["timeouts"])
    with pytest.raises(SegueError, match=r"b.npz: has other arrays than a.npz \(masks\)"):
        found(f"ogbench:{tmp_path}/*.npz")
    np.savez(tmp_path / "c.npz", **arrays)
    with pytest.raises(SegueError, match="no array 'terminals'"):
        found(f"ogbench:{tmp_path / 'c.npz'}")


def test_robomimic(tmp_path: Path) -> None:
    log = made(0, [3, 1, 2] * 4)
    write_robomimic(tmp_path, log)
    path = tmp_path / "log.hdf5"
    opened = open_source(f"robomimic:{path}")
    assert opened.facts["environment"] == {"env_id": "Lift", "env_kwargs": {"robots": ["Panda"]}, "keys": ["state"]}
    same(list(opened.episodes), log, success=False)  # demo_2 before demo_10
    with h5py.File(path, "r+") as file:
        file["mask/few"] = np.array(["demo_11", "demo_2"], h5py.string_dtype())
        for number, demo in file["data"].items():
            demo["obs/eef"] = np.full(len(demo["actions"]), 4.0)
            if number == "demo_0":
                del demo["next_obs"]
    few = found(f"robomimic:{path}?keys=state&filter=few")
    same(few, [log[2], log[11]], success=False)
    got = found(f"robomimic:{path}")
    assert got[0].observation[0].tolist() == [4.0, *log[0].observation[0].tolist()]
    assert len(got[0]) == len(log[0]) - (not log[0].terminated)  # no final observation: the rule of tables
    for query, says in (
        ("?keys=other", "no array other in /data/demo_0/obs; it has eef, image, state"),
        ("?filter=valid", "no list 'valid' of demonstrations; the file has few, train"),
    ):
        with pytest.raises(SegueError, match=says):
            found(f"robomimic:{path}{query}")


@pytest.mark.parametrize("kind", ["external link", "external storage", "virtual", "objects", "references", "huge"])
def test_hdf5_reaches_for_nothing_else(kind: str, tmp_path: Path) -> None:
    write_robomimic(tmp_path, made(0, [3]))
    path, secret = tmp_path / "log.hdf5", tmp_path / "secret"
    secret.write_bytes(bytes(1_000))
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["state"] = np.zeros((3, 3), np.float32)
    with h5py.File(path, "r+") as file:
        seen = file["data/demo_0/obs"]
        del seen["state"]
        if kind == "external link":
            seen["state"] = h5py.ExternalLink("other.hdf5", "state")
        elif kind == "external storage":
            seen.create_dataset("state", (3, 3), "f4", external=[(str(secret), 0, 100)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((3, 3), "f4")
            layout[:] = h5py.VirtualSource("other.hdf5", "state", (3, 3))
            seen.create_virtual_dataset("state", layout)
        elif kind == "objects":
            seen.create_dataset("state", (3,), h5py.vlen_dtype(np.float32))
        elif kind == "references":
            seen.create_dataset("state", (3,), h5py.ref_dtype)
        else:
            seen.create_dataset("state", (10**9, 10**3), "f4", chunks=True)
    with pytest.raises(SegueError, match=r"log.hdf5: 'state'"):
        found(f"robomimic:{path}?keys=state")


def test_lerobot_rewards_and_ends(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    log = [replace(e, terminated=t) for e, t in zip(made(0, [3, 2, 2]), (True, False, True))]
    source = open_source(write_lerobot(tmp_path / "a", log, without="next.reward"))
    assert source.facts["action"] == {"low": [-2, 0], "high": [2, 5]}
    assert "success" in source.facts["notes"]["reward"]
    assert [e.reward.tolist() for e in source.episodes] == [[0, 0, 1], [0, 0], [0, 1]]
    source = open_source(write_lerobot(tmp_path / "b", log, without="next.reward,next.success"))
    assert source.facts["notes"]["reward"].startswith("none")
    assert [(e.reward.tolist(), e.terminated) for e in source.episodes] == [
        ([0, 0, 0], True),
        ([0, 0, 0], True),  # next.done alone does not tell an end from a cut
        ([0, 0], True),
    ]
    got = found(write_lerobot(tmp_path / "c", log) + "?reward=timestamp&low=-4&high=4&keys=timestamp,observation.state")
    np.testing.assert_allclose(got[0].reward, [0, 0.1, 0.2], rtol=1e-6)
    np.testing.assert_allclose(got[0].action, log[0].action * [2 / 4, 2.5 / 4] + [0, 2.5 / 4], atol=1e-5)
    assert got[0].observation.shape == (4, 4)


@pytest.mark.parametrize(
    ("file", "text", "query", "says"),
    [
        ("info.json", "{", "", "info.json: cannot be read"),
        ("info.json", "[]", "", "not a JSON object"),
        ("info.json", '{"features": 3}', "", "lists no features"),
        ("v3.0", "v1.6", "", "LeRobot's version 'v1.6'"),
        ("data/chunk", "../../x/chunk", "", "names files outside the dataset"),
        ("data/chunk", "/x/chunk", "", "names files outside the dataset"),
        ("file-{file_index:03d}", "part-{file_index}", "", "part-0.parquet: no such file"),
        ("stats.json", "{}", "", "no bounds of the action"),
        ("stats.json", '{"action": {"min": [1], "max": [0]}}', "", "make no sense"),
        ("", "", "?keys=observation.other", "no column of numbers 'observation.other'; its features are action"),
        ("", "", "?images=observation.state", "no video 'observation.state'"),
        ("rows", "", "", "4 rows in data, 6 by meta/episodes"),
    ],
)
def test_lerobot_faults(file: str, text: str, query: str, says: str, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    source = write_lerobot(tmp_path / "a", [replace(e, terminated=True) for e in made(0, [3, 3])])
    meta = tmp_path / "a" / "meta"
    if file.endswith(".json"):
        (meta / file).write_text(text)
    elif file == "rows":
        path = tmp_path / "a" / "data" / "chunk-000" / "file-000.parquet"
        pq.write_table(pq.read_table(path)[:4], path)
    elif file:
        (meta / "info.json").write_text((meta / "info.json").read_text().replace(file, text))
    with pytest.raises(SegueError, match=says) as caught:
        found(source + query)
    assert "\n" not in str(caught.value)


def test_lerobot_frames_are_those_of_their_times(tmp_path: Path) -> None:
    pytest.importorskip("av")
    log = [replace(e, terminated=True) for e in made(1, [4, 5], (16, 32, 3))]
    source = write_lerobot(tmp_path / "a", log)
    path = tmp_path / "a" / "videos" / "observation.images.top" / "chunk-000" / "file-000.mp4"
    write_video(path, rows(log)["observations"][:7])
    with pytest.raises(SegueError, match=r"no frame at 0.700 s; the video and the log do not belong together"):
        found(source)
    path.unlink()
    with pytest.raises(SegueError, match="no such video"):
        found(source)
