"""Logs of OGBench's manipulation suite that are made here: each kind, the same for any history, found by its tasks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from segue.collect.oracles import PLACES, OracleLog, Table
from segue.collect.walks import Maze
from segue.core.types import SegueError
from segue.tasks import find_task

pytest.importorskip("ogbench")

SIZES = {"cube-single": 28, "cube-double": 37, "scene": 40, "puzzle-3x3": 55}


@pytest.mark.parametrize(
    ("place", "kind"), [("cube-single", "play"), ("cube-double", "noisy"), ("scene", "play"), ("puzzle-3x3", "noisy")]
)
def test_an_episode_is_a_function_of_its_number(place: str, kind: str) -> None:
    table = Table(OracleLog(place, kind, seed=3, steps=60))  # type: ignore[arg-type]
    first, second = table.episode(0), table.episode(1)
    table.episode(2)
    again = table.episode(1)
    assert first.keys() == again.keys()
    for name, values in second.items():
        np.testing.assert_array_equal(values, again[name], err_msg=name)
    assert not np.array_equal(first["observations"], second["observations"])
    assert second["observations"].shape == (61, SIZES[place])
    assert second["actions"].shape == (61, 5)
    assert np.abs(second["actions"]).max() <= 1.0
    assert np.flatnonzero(second["terminals"]).tolist() == [60]
    assert ("button_states" in second) == (not place.startswith("cube"))


def test_made_by_the_command_and_found_by_its_tasks(say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path))
    monkeypatch.setenv("SEGUE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SEGUE_DATASETS", str(tmp_path / "store"))
    name = "cube-single-play-singletask-task2-v0"
    with pytest.raises(SegueError, match=f"{name}, or make one like it: segue data make ogbench:cube-single-play"):
        find_task(name).dataset()
    words = ("data", "make", "ogbench:cube-single-play", "--rows", "1", "--workers", "2")
    code, out, err = say(*words)
    assert code == 0, err
    assert "cube-single-play-v0.npz: 1,000 transitions in 1 episodes" in out
    assert "2 of 2 episodes, 0 minutes to go" in err
    data = find_task(name).dataset()
    assert data is not None
    assert (len(data), set(np.unique(data.reward)) <= {-1.0, 0.0}) == (1000, True)
    assert data.terminated.sum() == (data.reward == 0).sum()
    (tmp_path / "pointmaze-giant-stitch-v0.npz").touch()  # a release's own file, which is not made here
    giant = "pointmaze-giant-stitch-singletask"
    place = tmp_path / f"{giant.removesuffix('-singletask')}-v0.npz"
    assert find_task(f"{giant}-task1-v0").source == f"ogbench:{place}?task=pointmaze-giant-singletask-task1-v0"  # type: ignore[attr-defined]
    with np.load(tmp_path / "cube-single-play-v0.npz") as log:
        alone = Table(OracleLog("cube-single")).episode(0)
        np.testing.assert_array_equal(log["observations"], alone["observations"])
    with np.load(tmp_path / "cube-single-play-v0-val.npz") as log:
        assert len(log["terminals"]) == 1001
    for again, says in (
        (words, "cube-single-play-v0.npz exists; give another --out, or --replace"),
        (("data", "make", "ogbench:cube-single"), "there is no 'cube-single'; did you mean 'cube-single-play'?"),
        (("data", "make", "d4rl:hopper"), "write ogbench:PLACE-play, -noisy, -navigate or -stitch"),
        ((*words[:3], "--rows", "0"), "makes no episode"),
    ):
        code, _, err = say(*again)
        assert (code, err.count("\n")) == (1, 1)
        assert says in err


def test_published_sizes() -> None:
    assert {place.episodes for place in PLACES.values()} == {1000, 3000, 5000}
    assert OracleLog.named("puzzle-4x6-noisy-v0").file == "puzzle-4x6-noisy-v0.npz"


@pytest.mark.parametrize("kind", ["navigate", "stitch"])
def test_a_walk_through_a_point_maze(kind: str) -> None:
    """Each episode is a function of its number; it goes from goal to goal, or to one four cells away and stays."""
    maze = Maze("pointmaze-medium-v0", kind, 3, 200)  # type: ignore[arg-type]
    first, second = maze.episode(0), maze.episode(1)
    maze.episode(2)
    again = maze.episode(1)
    for name, values in second.items():
        np.testing.assert_array_equal(values, again[name], err_msg=name)
    assert not np.array_equal(first["observations"], second["observations"])
    assert (second["observations"].shape, second["actions"].shape) == ((201, 2), (201, 2))
    assert np.flatnonzero(second["terminals"]).tolist() == [200]
    np.testing.assert_array_equal(second["qpos"], second["observations"])  # of s, before the action
    assert 0.5 < np.linalg.norm(second["actions"], axis=1).mean() < 1.4
    visited = {maze.inner.xy_to_ij(xy) for episode in (first, second) for xy in episode["observations"]}
    assert visited <= set(maze.free)
    ends = [maze.inner.xy_to_ij(e["observations"][-1]) for e in (first, second)]
    if kind == "stitch":
        starts = [maze.inner.xy_to_ij(e["observations"][0]) for e in (first, second)]
        for start, end in zip(starts, ends):
            near = {end, *maze._neighbours(end)}
            assert near & set(maze._away(start))
        stays = first["observations"][-20:]
        assert np.ptp(stays, axis=0).max() < 4.0
    else:
        assert len(visited) > 5
