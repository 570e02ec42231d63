"""The embedded dataset: equal to the environment, deterministic, cached, repaired."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

pytest.importorskip("gymnasium_robotics")

from segue.core.types import SegueError
from segue.data import describe, make_pointmaze, write_d4rl
from segue.data.files import write_atomically
from segue.data.making.kept import content_hash, verify
from segue.data.making.mazes import MAZES
from segue.data.making.pointmaze import GOAL_RADIUS, PointMass, next_cells
from segue.tasks import find_task


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGUE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("maze", MAZES)
def test_states_and_rewards_are_those_of_the_environment(maze: str) -> None:
    world = find_task(f"pointmaze-{maze}").make_env()
    world.reset(0)
    env, rng = world.env, np.random.default_rng(0)
    ours = PointMass(MAZES[maze])
    point = env.unwrapped.point_env  # type: ignore[attr-defined]
    goal = ours.centre[MAZES[maze].goal_cell]
    np.testing.assert_array_equal(env.unwrapped.goal, goal)  # type: ignore[attr-defined]
    for cell in rng.permutation(sorted(ours.centre))[:6]:
        x, y = np.array(ours.centre[tuple(cell.tolist())]) + rng.uniform(-0.25, 0.25, 2)
        ours.reset(x, y)
        env.reset(seed=1, options={"reset_cell": cell, "goal_cell": np.array(MAZES[maze].goal_cell)})
        point.set_state(np.array([x, y]), np.zeros(2))
        push = rng.uniform(-1, 1, 2)  # a steady push runs into walls, where the solver's warm start matters
        for _ in range(120):
            action = np.clip(push + 0.5 * rng.standard_normal(2), -1, 1).astype(np.float32)
            seen, reward, terminated, _, _ = env.step(action)
            state = ours.step(action)
            np.testing.assert_array_equal(seen["observation"], state)  # every bit
            hit = np.hypot(state[0] - goal[0], state[1] - goal[1]) <= GOAL_RADIUS
            assert (reward, terminated) == (float(hit), hit)
            if terminated:
                break
    world.close()


def test_rows_follow_from_each_other_in_the_environment(cache: Path) -> None:
    data = make_pointmaze("umaze", 2_000)
    ours = PointMass(MAZES["umaze"])
    for row in np.random.default_rng(0).integers(0, len(data), 100):
        x, y, vx, vy = data.observation[row].astype(np.float64)
        ours.reset(x, y)
        ours._data.qvel[:] = vx, vy
        np.testing.assert_allclose(ours.step(data.action[row]), data.next_observation[row], atol=2e-4)


def test_log_is_worth_fine_tuning_on(cache: Path) -> None:
    data = make_pointmaze("umaze", 20_000)
    card = describe(data, failure=0.0)
    assert 0.1 <= card["success_fraction"] <= 0.5
    assert card["episode_length"]["max"] == MAZES["umaze"].horizon - 1  # the timeout row is dropped
    np.testing.assert_array_equal(data.terminated, data.reward == 1.0)
    cells = {(round(2 - float(y)), round(float(x) + 2)) for x, y in data.observation[:, :2]}
    assert len(cells) >= 7  # all of the maze's free cells


def test_same_arguments_same_rows(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_pointmaze("umaze", 1_000, seed=3)
    monkeypatch.setenv("SEGUE_CACHE", str(tmp_path / "other"))
    assert make_pointmaze("umaze", 1_000, seed=3).sha256() == first.sha256()
    assert make_pointmaze("umaze", 1_000, seed=4).sha256() != first.sha256()


def test_cache_is_used_checked_and_repaired(cache: Path) -> None:
    first = make_pointmaze("umaze", 1_000)
    (path,) = cache.glob("*.hdf5")
    stamp = path.stat().st_mtime_ns
    assert make_pointmaze("umaze", 1_000).sha256() == first.sha256()
    assert path.stat().st_mtime_ns == stamp
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["as_read"]["sha256"] == first.sha256()
    assert card["recipe"]["seed"] == 0
    assert card["versions"]["mujoco"]

    with h5py.File(path, "r+") as file:  # a change that HDF5 itself cannot see
        file["rewards"][5] = 1.0
    with pytest.warns(UserWarning, match="does not match its hash"):
        assert make_pointmaze("umaze", 1_000).sha256() == first.sha256()
    path.write_bytes(path.read_bytes()[:1_000])
    with pytest.warns(UserWarning, match="truncated or corrupt"):
        assert make_pointmaze("umaze", 1_000).sha256() == first.sha256()
    verify(path)


def test_unknown_maze_and_sizes() -> None:
    with pytest.raises(SegueError, match="umaze, medium, large"):
        make_pointmaze("giant")
    with pytest.raises(SegueError, match="at least one step"):
        make_pointmaze("umaze", 0)


def test_next_cells_take_the_short_way() -> None:
    grid = [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    toward = next_cells(grid, (3, 2))
    assert [toward[1, 2], toward[1, 1], toward[2, 1], toward[3, 1], toward[3, 2]] == [
        (1, 1),
        (2, 1),
        (3, 1),
        (3, 2),
        (3, 2),
    ]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    write_d4rl(path, {"rewards": np.zeros(3)}, {})

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert os.listdir(tmp_path) == ["a.hdf5"]
    verify(path)


def test_content_hash_sees_values_shapes_types_and_names() -> None:
    base = content_hash({"a": np.zeros(4, np.float32)})
    other = [{"b": np.zeros(4, np.float32)}, {"a": np.zeros((2, 2), np.float32)}, {"a": np.zeros(4, np.int32)}]
    assert len({base, *(content_hash(arrays) for arrays in other)}) == 4
