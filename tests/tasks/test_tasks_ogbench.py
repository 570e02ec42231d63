"""OGBench's single tasks: they are the library's own, with its rewards for the logs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from segue.core.types import SegueError
from segue.data.readers import open_source
from segue.data.readers.relabel import relabel
from segue.tasks import find_task
from segue.tasks.catalogue import records

ogbench = pytest.importorskip("ogbench", reason="the extra ogbench is not installed")

RECORDS = [record for record in records().values() if record.domain == "ogbench"]


def test_environments_and_horizons_are_the_librarys() -> None:
    for record in RECORDS:
        assert gymnasium.registry[record.env.removeprefix("ogbench:")].max_episode_steps == record.horizon
        log, _, env = record.data[0].removeprefix("ogbench:").partition("?task=")
        words = record.name.split("-")  # as `make_env_and_datasets` takes names apart
        at = words.index("singletask")
        assert "-".join(words[: at - 1] + words[at:]) == env == record.env.removeprefix("ogbench:")
        assert log == f"{ogbench.utils.DATASET_URL}/{'-'.join(words[:at] + words[-1:])}.npz"
    states = {
        i for i, s in gymnasium.registry.items() if "singletask" in i and str(s.entry_point).startswith("ogbench.")
    }
    unused = states - {record.env.removeprefix("ogbench:") for record in RECORDS}
    assert {i.partition("-singletask")[0] for i in unused} == {  # registered, but without a dataset of the release
        "humanoidmaze-teleport",
        "visual-humanoidmaze-teleport",
        "cube-octuple",
    }


def test_default_tasks() -> None:
    for kind, number in {"antmaze-large-navigate": 1, "antsoccer-arena-stitch": 4, "cube-double-play": 2}.items():
        default, named = (find_task(f"gym:{kind}-singletask{n}-v0").make_env() for n in ("", f"-task{number}"))
        np.testing.assert_array_equal(default.reset(3), named.reset(3))
        default.close()
        named.close()


def test_success_before_or_after_the_step() -> None:
    name = "cube-single-play-singletask-v0"
    judged: dict[str, list[bool]] = {}
    for when in ("", "?success_timing=pre", "?success_timing=post"):
        task = find_task(f"{name}{when}")
        assert (task.name, task.presets[0]) == (f"{name}{when}", "ogbench-cube-single")
        world = task.make_env()
        world.reset(0)
        inner: Any = world.env.unwrapped
        cube = inner._data.joint("object_joint_0").qpos
        cube[:3] = inner._data.mocap_pos[inner._cube_target_mocap_ids[0]]  # there before the first step
        judged[when] = []
        while not any(judged[when]):
            judged[when].append(bool(world.step(np.zeros(5))[2]))
        world.close()
    assert judged == {"": [False, True], "?success_timing=pre": [False, True], "?success_timing=post": [True]}
    with pytest.raises(SegueError, match=r"nothing is known of '\?success_timing=now'; .* success_timing=pre\|post"):
        find_task(f"{name}?success_timing=now")
    with pytest.raises(SegueError, match="pointmaze-umaze has a choice of nothing"):
        find_task("pointmaze-umaze?speed=2")


def release(path: Path, size: int, qpos: np.ndarray, **more: np.ndarray) -> Path:
    """A log in the release's layout: two trajectories whose last rows are states."""
    n = len(qpos)
    rng = np.random.default_rng(0)
    arrays = {
        "observations": rng.normal(size=(n, size)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (n, 5)).astype(np.float32),
        "terminals": np.isin(np.arange(n), (n // 2, n - 1)),
        "qpos": qpos,
    }
    np.savez_compressed(path, **arrays, **more)
    np.savez_compressed(path.with_name(f"{path.stem}-val.npz"), **arrays, **more)
    return path


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("pointmaze-medium-navigate-singletask-task2-v0", 2),
        ("cube-double-play-singletask-v0", 37),
        ("puzzle-3x3-play-singletask-task1-v0", 55),
    ],
)
def test_relabelled_logs_are_the_librarys(name: str, size: int, tmp_path: Path) -> None:
    record = records()[name]
    env = record.env.removeprefix("ogbench:")
    task = find_task(f"gym:{name}")
    world = task.make_env()
    world.reset(0)
    inner = world.env.unwrapped
    rng = np.random.default_rng(1)
    if "maze" in name:
        qpos = inner.cur_goal_xy + rng.uniform(-1.5, 1.5, (40, 2))  # type: ignore[attr-defined]
        more = {}
    else:
        qpos = rng.normal(size=(40, inner.model.nq))  # type: ignore[attr-defined]
        more = {"button_states": rng.integers(0, 2, (40, 9))} if "puzzle" in name else {}
        for i in range(len(inner._data.mocap_pos)):  # type: ignore[attr-defined]
            near = inner._data.mocap_pos[i] + rng.uniform(-0.03, 0.03, (40, 3))  # type: ignore[attr-defined]
            qpos[:, 14 + 7 * i : 17 + 7 * i] = near
        if "puzzle" in name:
            more["button_states"][::4] = inner._target_button_states  # type: ignore[attr-defined]
    world.close()
    path = release(tmp_path / "log.npz", size, qpos, **more)
    relabel(path, env, tmp_path / "out.npz")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*precision lowered", UserWarning)
        _, wanted, _ = ogbench.make_env_and_datasets(name, dataset_path=str(path))
    assert 0.0 < wanted["masks"].mean() < 1.0
    rows = [row for episode in open_source(f"ogbench:{tmp_path / 'out.npz'}").episodes for row in episode.reward]
    np.testing.assert_array_equal(rows, wanted["rewards"])
    ended = sum(episode.terminated for episode in open_source(f"ogbench:{tmp_path / 'out.npz'}").episodes)
    assert ended == (wanted["masks"] == 0).sum()
    with pytest.raises(SegueError, match="has rewards already"):
        relabel(tmp_path / "out.npz", env, tmp_path / "twice.npz")
    np.savez(tmp_path / "bare.npz", observations=np.zeros((2, 2)))
    with pytest.raises(SegueError, match="no qpos"):
        relabel(tmp_path / "bare.npz", env, tmp_path / "never.npz")
    assert not (tmp_path / "never.npz").exists()


def test_pixels() -> None:
    try:
        world = find_task("gym:visual-cube-single-play-singletask-v0").make_env()
    except SegueError as error:
        pytest.skip(f"no picture can be drawn here ({error})")
    seen = world.reset(0)
    assert (seen.shape, seen.dtype) == ((64, 64, 3), np.uint8)
    world.close()
