"""D4RL's AntMaze: its coordinates, walls, starts and goals, and physics that are those of an independent copy."""

from __future__ import annotations

import pickle
from typing import Any

import gymnasium
import numpy as np
import pytest

from segue.tasks import find_task

pytest.importorskip("mujoco")

MAZES = {  # D4RL's maps, 0 free, 1 wall; start and goal (row, column)
    "umaze": ("11111 10001 11101 10001 11111", (1, 1), (3, 1), (0.0, 8.0)),
    "medium": (
        "11111111 10011001 10010001 11000111 10010001 10100101 10001001 11111111",
        (1, 1),
        (6, 6),
        (20.0, 20.0),
    ),
    "large": (
        "111111111111 100001000001 101101010101 100000010001 101111011101 100101000001 110101010111 100100010001 "
        "111111111111",
        (1, 1),
        (7, 9),
        (32.0, 24.0),
    ),
}
TASKS = {"umaze": "antmaze-umaze-v2", "medium": "antmaze-medium-play-v2", "large": "antmaze-large-diverse-v2"}


@pytest.mark.parametrize("maze", MAZES)
def test_coordinates_are_d4rls(maze: str) -> None:
    text, (row, column), goal_cell, goal = MAZES[maze]
    world = find_task(f"gym:{TASKS[maze]}").make_env()
    env: Any = world.env.unwrapped
    starts, goals = [], []
    for seed in range(20):
        starts.append(world.reset(seed))
        goals.append(env.goal)
        np.testing.assert_array_equal(starts[-1], np.concatenate([env.data.qpos, env.data.qvel]).astype(np.float32))
    assert np.abs(np.array(starts)[:, :2]).max() <= 0.1  # (0, 0) but for D4RL's noise
    assert np.abs(np.array(starts)[:, 2] - 0.75).max() <= 0.1
    assert 0.0 < np.array(starts)[:, 15:].std() < 0.2
    assert goal == (4.0 * (goal_cell[1] - column), 4.0 * (goal_cell[0] - row))
    noise = np.array(goals) - goal
    assert noise.min() >= 0.0
    assert 1.0 < noise.max() <= 1.5
    walls = {}
    for i in range(env.model.ngeom):
        geom = env.model.geom(i)
        if geom.name.startswith("wall"):
            walls[tuple(geom.pos.tolist())] = geom.size.tolist()
    wanted = {
        (4.0 * (j - column), 4.0 * (i - row), 1.0): [2.0, 2.0, 1.0]
        for i, line in enumerate(text.split())
        for j, kind in enumerate(line)
        if kind == "1"
    }
    assert walls == wanted
    world.close()


def test_an_episode_ends_half_a_metre_from_the_goal() -> None:
    world = find_task("gym:antmaze-umaze-v2").make_env()
    world.reset(0)
    env: Any = world.env.unwrapped
    for far, ends in ((0.7, False), (0.4, True)):
        place = env.init_qpos.copy()
        place[:2] = env.goal + np.array([far, 0.0])
        env.set_state(place, np.zeros(14))
        row = world.step(np.zeros(8))
        assert row[1:] == (float(ends), ends, False, float(ends))
    world.close()


def test_the_ant_is_d4rls() -> None:
    env: Any = gymnasium.make("segue/AntMazeUMaze-v2").unwrapped
    assert env.dt == pytest.approx(0.1)  # ten actions a second
    np.testing.assert_array_equal(env.model.actuator_gear[:, 0], 30.0)
    np.testing.assert_array_equal(env.model.geom_solimp[:, :3], [[0.8, 0.8, 0.01]] * env.model.ngeom)
    again = pickle.loads(pickle.dumps(env))
    np.testing.assert_array_equal(again.reset(seed=3)[0], env.reset(seed=3)[0])
    np.testing.assert_array_equal(again.goal, env.goal)
    env.close()


@pytest.mark.parametrize("maze", ["medium", "large"])
def test_physics_are_those_of_ogbench(maze: str) -> None:
    """OGBench's AntMaze has D4RL's ant and coordinates, and the same maps: every bit of every step agrees."""
    pytest.importorskip("ogbench")
    import mujoco

    ours: Any = gymnasium.make(f"segue/AntMaze{maze.title()}-v2").unwrapped
    theirs: Any = gymnasium.make(f"antmaze-{maze}-v0").unwrapped
    text, (row, column), _, _ = MAZES[maze]
    free = [(i, j) for i, line in enumerate(text.split()) for j, kind in enumerate(line) if kind == "0"]
    rng = np.random.default_rng(0)
    ours.reset(seed=0)
    theirs.reset(seed=0)
    for _ in range(20):
        i, j = free[rng.integers(len(free))]
        place, speed = ours.init_qpos.copy(), 0.5 * rng.normal(size=14)
        place[:2] = np.array([4.0 * (j - column), 4.0 * (i - row)]) + rng.uniform(-1.9, 1.9, 2)  # some at a wall
        place[7:] += rng.uniform(-0.3, 0.3, 8)
        for env in (ours, theirs):
            mujoco.mj_resetData(env.model, env.data)
            env.set_state(place, speed)
        for _ in range(30):
            action = rng.uniform(-1.0, 1.0, 8)
            np.testing.assert_array_equal(ours.step(action)[0], theirs.step(action)[0])
    ours.close()
    theirs.close()
