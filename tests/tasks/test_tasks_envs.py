"""Worlds: exact replay, one meaning for an end, the learner's coordinates, and errors that say what does not fit."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest

from segue.core.types import Env, SegueError
from segue.tasks import GymEnv, GymTask, find_task, make_env

pytest.importorskip("gymnasium_robotics")

MAZE = {"reset_cell": (3, 1), "goal_cell": (1, 1)}
ANT = {"continuing_task": False, "include_cfrc_ext_in_observation": False}
TASKS = {
    "pointmaze": GymTask.custom(
        "PointMaze_UMaze-v3",
        keys=("observation",),
        options=MAZE,
        exact_goal=True,
        env_kwargs={"continuing_task": False},
    ),
    "antmaze": GymTask.custom(
        "AntMaze_UMaze-v5", keys=("achieved_goal", "observation"), options=MAZE, exact_goal=True, env_kwargs=ANT
    ),
    "door": GymTask.custom("AdroitHandDoor-v1", reward="success-1"),
    "pen": GymTask.custom("AdroitHandPen-v1"),
    "hopper": GymTask.custom("Hopper-v5"),
    "kitchen": GymTask.custom("FrankaKitchen-v1", keys=("observation",)),
}
SIZES = {
    "pointmaze": (4, 2),
    "antmaze": (29, 8),
    "door": (39, 28),
    "pen": (45, 24),
    "hopper": (11, 3),
    "kitchen": (59, 9),
}


class Fake(gymnasium.Env):
    """An environment that counts: one shared observation array, bounds that are not +-1, success at step 3."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)

    def __init__(self, limit: int = 10**9, low: float = -2.0, high: float = 6.0, success: bool = True) -> None:
        self.action_space = gymnasium.spaces.Box(low, high, (2,), np.float32)
        self.limit, self.success, self.seen = limit, success, np.zeros(2)
        self.taken: list[np.ndarray] = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.seen[:] = 0.0, np.random.uniform()  # noqa: NPY002  as OGBench's mazes do
        return self.seen, {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.taken.append(action)
        self.seen[0] += 1.0
        info = {"success": self.seen[0] == 3.0} if self.success else {}
        return self.seen, 7.0, bool(self.seen[0] == 5.0), bool(self.seen[0] >= self.limit), info


def roll(world: Env, seed: int, steps: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    seen, rewards = [world.reset(seed)], []
    for _ in range(steps):
        observation, reward, terminated, truncated, _ = world.step(rng.uniform(-1, 1, size).astype(np.float32))
        seen.append(observation)
        rewards.append(reward)
        if terminated or truncated:
            break
    return np.array(seen), np.array(rewards)


@pytest.mark.parametrize("name", TASKS)
def test_exact_replay(name: str) -> None:
    task, size = TASKS[name], SIZES[name][1]
    world, other = task.make_env(), task.make_env()
    seen, rewards = roll(world, 3, 60, size)
    assert seen.dtype == np.float32
    assert seen.shape[1] == SIZES[name][0] == task.spec.observation[0]
    roll(other, 4, 17, size)  # an unrelated history, left in the middle of an episode
    for again in (world, other):
        seen_again, rewards_again = roll(again, 3, 60, size)
        np.testing.assert_array_equal(seen, seen_again)  # every bit
        np.testing.assert_array_equal(rewards, rewards_again)
    assert not np.array_equal(seen, roll(other, 4, 60, size)[0])  # the seed or the actions matter
    world.close()
    other.close()


def test_ends_and_success() -> None:
    world = GymEnv(Fake(), horizon=100)
    world.reset(0)
    steps = [world.step(np.zeros(2)) for _ in range(5)]
    assert [step[2] for step in steps] == [False, False, False, False, True]
    assert [step[3] for step in steps] == [False] * 5
    assert [step[4] for step in steps] == [False, False, True, True, True]  # success so far in this episode
    with pytest.raises(SegueError, match="after the end"):
        world.step(np.zeros(2))
    world.reset(0)
    assert world.step(np.zeros(2))[4] == 0.0


@pytest.mark.parametrize(("limit", "horizon", "length"), [(10**9, 4, 4), (2, 4, 2), (10**9, 5, 5)])
def test_truncation(limit: int, horizon: int, length: int) -> None:
    world = GymEnv(Fake(limit), horizon)
    world.reset(0)
    ends = [world.step(np.zeros(2))[2:4] for _ in range(length)]
    assert not any(map(any, ends[:-1]))
    assert ends[-1] == ((True, False) if length == 5 else (False, True))  # terminated at the horizon: not truncated


def test_horizon_of_an_id_beats_its_time_limit() -> None:
    world = GymTask.custom("HalfCheetah-v5", horizon=1_003).make_env()
    world.reset(0)
    flags = [world.step(np.zeros(6))[3] for _ in range(1_003)]
    assert flags.index(True) == 1_002
    world.close()


def test_rewards_and_terminal_success() -> None:
    world = GymEnv(Fake(), 100, reward="success-1", terminal_success=True)
    world.reset(0)
    steps = [world.step(np.zeros(2)) for _ in range(3)]
    assert [step[1] for step in steps] == [-1.0, -1.0, 0.0]
    assert [step[2] for step in steps] == [False, False, True]
    plain = GymEnv(Fake(success=False), 100, success="terminated")
    plain.reset(0)
    assert [plain.step(np.zeros(2))[4] for _ in range(5)] == [False] * 4 + [True]
    with pytest.raises(SegueError, match="no rule 'sparse'"):
        GymEnv(Fake(), 100, reward="sparse")


def test_actions_are_scaled_to_the_bounds() -> None:
    env = Fake()
    world = GymEnv(env, 100)
    world.reset(0)
    for action in ([-1, 1], [0, 0], [1.5, -9]):
        world.step(np.array(action))
    assert [taken.tolist() for taken in env.taken] == [[-2, 6], [2, 2], [6, -2]]
    assert env.taken[0].dtype == np.float32
    same = Fake(low=-1.0, high=1.0)
    unit = GymEnv(same, 100)
    unit.reset(0)
    sent = np.random.default_rng(0).uniform(-1, 1, 2).astype(np.float32)
    unit.step(sent)
    np.testing.assert_array_equal(same.taken[0], sent)


@pytest.mark.parametrize("action", [[np.nan, 0.0], [0.0], [0.0, 0.0, 0.0]])
def test_bad_actions(action: list[float]) -> None:
    world = GymEnv(Fake(), 100)
    world.reset(0)
    with pytest.raises(SegueError, match="not 2 finite numbers"):
        world.step(np.array(action))


def test_observations_are_copies() -> None:
    world = GymEnv(Fake(), 100)
    first = world.reset(0)
    world.step(np.zeros(2))
    assert first[0] == 0.0


def test_global_generator_is_seeded_for_the_reset_and_put_back() -> None:
    world = GymEnv(Fake(), 100)
    before = np.random.get_state()[1].copy()  # type: ignore[index]  # noqa: NPY002
    first = world.reset(5)
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002
    assert world.reset(6)[1] != first[1]
    assert world.reset(5)[1] == first[1]


class Renewing(Fake):
    """Its resets take random steps, and its action space is another one whenever it is looked at: OGBench's arms."""

    action_space = property(lambda self: gymnasium.spaces.Box(-np.ones(2), np.ones(2), dtype=np.float32))  # type: ignore[assignment]

    def __init__(self) -> None:
        self.limit, self.success, self.seen = 10**9, True, np.zeros(2)
        self.taken = []

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.seen[1] = self.action_space.sample()[0]
        return self.seen, {}


def test_random_steps_of_a_reset_are_seeded(recwarn: pytest.WarningsRecorder) -> None:
    world, other = GymEnv(Renewing(), 100), GymEnv(gymnasium.wrappers.OrderEnforcing(Renewing()), 100)
    first = world.reset(5)
    assert world.reset(6)[1] != first[1]
    assert world.reset(5)[1] == other.reset(5)[1] == first[1]
    assert isinstance(world.env, Renewing)
    assert not recwarn.list


def test_layouts_that_do_not_fit() -> None:
    with pytest.raises(SegueError, match=r"dictionary of \['achieved_goal', 'desired_goal', 'observation'\]"):
        GymTask.custom("PointMaze_UMaze-v3").make_env()
    with pytest.raises(SegueError, match="no effect"):
        GymTask.custom("Hopper-v5", keys=("observation",)).make_env()
    with pytest.raises(SegueError, match="finite bounds"):
        GymEnv(Fake(high=np.inf), 100)
    with pytest.raises(SegueError, match="finite bounds"):
        GymTask.custom("CartPole-v1").make_env()
    with pytest.raises(SegueError, match="cannot be made"):
        make_env("NoSuchThing-v0")
    with pytest.raises(SegueError, match="cannot be made"):
        make_env("Hopper-v5", {"no_such_keyword": 1})


@pytest.mark.parametrize("maze", ["PointMaze_UMaze-v3", "AntMaze_UMaze-v5"])
def test_goal_is_the_centre_of_its_cell(maze: str) -> None:
    env = make_env(maze, exact_goal=True)
    goals, starts = [], []
    for seed in range(3):
        observation, _ = env.reset(seed=seed, options={key: np.array(cell) for key, cell in MAZE.items()})
        goals.append(observation["desired_goal"])
        starts.append(observation["achieved_goal"])
    centre = env.unwrapped.maze.cell_rowcol_to_xy(np.array(MAZE["goal_cell"]))  # type: ignore[attr-defined]
    np.testing.assert_array_equal(goals, [centre] * 3)
    assert len({tuple(start) for start in starts}) == 3  # starts keep their noise
    env.close()


def test_pointmaze_ends_at_the_goal() -> None:
    world = TASKS["pointmaze"].make_env()
    world.reset(0)
    point: Any = world.env.unwrapped
    point.point_env.set_state(point.goal + np.array([0.5, 0.0]), np.zeros(2))
    steps = [world.step(np.array([-1.0, 0.0]))]
    while not steps[-1][2]:
        steps.append(world.step(np.array([-1.0, 0.0])))
    assert [step[1] for step in steps] == [0.0] * (len(steps) - 1) + [1.0]
    assert steps[-1][2:] == (True, False, True)
    assert len(steps) < 50
    world.close()


def test_late_rewards_are_sums() -> None:
    task = find_task("hopper-sparse")
    late, dense = task.make_env(), gymnasium.make("Hopper-v5", disable_env_checker=True)
    rng = np.random.default_rng(0)
    for seed in range(3):
        late.reset(seed)
        dense.reset(seed=seed)
        paid, earned, over = [], [], False
        while not over:
            action = rng.uniform(-1.0, 1.0, 3)
            _, reward, over, _, _ = late.step(action)
            paid.append(reward)
            earned.append(float(dense.step(action)[1]))
        ends = [*range(19, len(paid) - 1, 20), len(paid) - 1]
        assert np.flatnonzero(paid).tolist() == ends
        np.testing.assert_allclose(np.cumsum(paid)[ends], np.cumsum(earned)[ends])
    late.close()
