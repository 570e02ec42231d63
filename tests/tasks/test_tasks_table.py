"""Tasks by name and by file, their logs against their environments, their scores and cards."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from segue.collect import environment_of
from segue.core.types import SegueError, Task
from segue.data import from_episodes, write_d4rl
from segue.data.readers import open_source
from segue.data.recorded import Recorded
from segue.data.store import save
from segue.tasks import GymTask, find_task, reference_score, reference_scores, task_from_file
from segue.tasks.catalogue import records, task_of
from segue.tasks.layouts import BINARY, LAYOUTS
from segue.tasks.own import GROUPS

pytest.importorskip("gymnasium_robotics")

SHAPES = {  # environment -> observation size, actions
    "PointMaze_UMaze-v3": (4, 2),
    "PointMaze_Medium-v3": (4, 2),
    "PointMaze_Large-v3": (4, 2),
    "AntMaze_UMaze-v5": (29, 8),
    "AntMaze_Medium-v5": (29, 8),
    "Hopper-v5": (11, 3),
    "Walker2d-v5": (17, 6),
    "HalfCheetah-v5": (17, 6),
    "AdroitHandDoor-v1": (39, 28),
    "AdroitHandPen-v1": (45, 24),
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SEGUE_DATASETS", str(tmp_path / "datasets"))


def hopper_file(path: Path, size: int = 11, actions: int = 3, **attributes: object) -> Path:
    n, rng = 50, np.random.default_rng(0)
    arrays = {
        "observations": rng.standard_normal((n, size)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (n, actions)).astype(np.float32),
        "rewards": np.ones(n, np.float32),
        "terminals": np.zeros(n, bool),
        "timeouts": np.arange(n) % 10 == 9,
    }
    write_d4rl(path, arrays, {"env_id": "Hopper-v5", "max_episode_steps": 1000, **attributes})
    return path


@pytest.mark.parametrize("name", [record.name for group in GROUPS for record in group.records if record.file])
def test_file_backed_tasks(name: str, shared_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_DATA", str(shared_data))
    task = find_task(name)
    if task.source.startswith("absent:"):
        pytest.skip(f"the file of {name} is not in {shared_data}")
    check(task, name)


@pytest.mark.parametrize("maze", ["umaze", "medium", "large", "goal-missing-medium"])
def test_pointmaze_tasks(maze: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGUE_DATA", raising=False)  # these need nothing
    check(find_task(f"pointmaze-{maze}"), f"pointmaze-{maze}")


def check(task: GymTask, name: str) -> None:
    data = task.dataset()
    assert data is not None
    assert data is task.dataset()  # read once
    assert isinstance(task.env, str)
    assert task.name == name
    assert (task.spec.observation, task.spec.action) == ((SHAPES[task.env][0],), SHAPES[task.env][1])
    assert task.spec.dtype == "float32"
    world = task.make_env()
    seen = world.reset(0)
    assert seen.shape == data.observation.shape[1:]
    # a first observation of the world looks like a logged one: same layout, same order, same scaling
    if task.away is not None:
        *_, radius = task.away
        goal = np.asarray(world.env.unwrapped.goal)  # type: ignore[attr-defined]
        assert goal == pytest.approx(task.away[:2])
        for rows in (data.observation, data.next_observation):
            assert np.linalg.norm(rows[:, :2] - goal, axis=1).min() > radius
    low, high = data.observation.min(axis=0), data.observation.max(axis=0)
    slack = 0.25 * (high - low) + 0.3
    assert np.all((low - slack <= seen) & (seen <= high + slack))
    reward = world.step(np.zeros(task.spec.action, np.float32))[1]
    if task.failure is not None:
        assert reward == task.failure
        assert set(np.unique(data.reward)) == {task.failure, *([] if task.away else [task.failure + 1.0])}
        assert task.score(np.zeros(2), np.array([True, False])).tolist() == [100.0, 0.0]
    world.close()


def test_binary_and_dense_adroit_differ(shared_data: Path) -> None:
    path = shared_data / "adroit-door-expert25.hdf5"
    dense, binary = find_task(f"hdf5:{path}"), find_task(f"hdf5:{path}?reward=binary")
    assert (dense.domain, dense.failure, dense.reward) == ("adroit", None, "env")
    assert (binary.domain, binary.failure, binary.reward) == ("adroit-binary", -1.0, "success-1")
    card = binary.card()
    assert card["dataset"]["episodes"] == 300  # trajectories as logged, though every success ends an episode
    assert 0.3 < card["dataset"]["success_fraction"] < 0.5
    data = binary.dataset()
    assert data is not None
    np.testing.assert_array_equal(data.terminated, data.reward == 0.0)
    json.dumps(card)


def test_antmaze_facts(shared_data: Path) -> None:
    task = find_task(f"hdf5:{shared_data / 'antmaze-medium-diverse.hdf5'}")
    assert (task.domain, task.horizon, task.failure, task.exact_goal) == ("antmaze", 1000, 0.0, True)
    assert dict(task.options) == {"reset_cell": (1, 1), "goal_cell": (6, 6)}
    assert dict(task.env_kwargs) == {"continuing_task": False, "include_cfrc_ext_in_observation": False}
    data, world = task.dataset(), task.make_env()
    assert data is not None
    seen = world.reset(0)
    torso = world.env.unwrapped.data.qpos  # type: ignore[attr-defined]
    np.testing.assert_array_equal(seen[:3], torso[:3].astype(np.float32))  # x, y, then the Ant's height first
    starts = data.observation[np.concatenate([[0], data.ends()[:-1]])]
    np.testing.assert_array_equal(starts[:, 2:], np.tile(seen[2:], (len(starts), 1)))  # every episode starts standing
    world.close()
    assert hash(task) == hash(find_task(f"hdf5:{shared_data / 'antmaze-medium-diverse.hdf5'}"))


def test_names_and_suggestions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(SegueError, match="did you mean pointmaze-umaze"):
        find_task("pointmaze-umase")
    with pytest.raises(SegueError, match=r"there are pointmaze-\{umaze,medium,large\}, .*, hdf5:PATH, .*gym:ID"):
        find_task("zzz")
    monkeypatch.delenv("SEGUE_DATA", raising=False)
    with pytest.raises(SegueError, match=r"set SEGUE_DATA .* hdf5:PATH"):
        find_task("hopper-medium").dataset()
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path))
    with pytest.raises(SegueError, match=r"no hopper-medium.hdf5 in"):
        find_task("hopper-medium").dataset()
    with pytest.raises(SegueError, match="no such file"):
        find_task(f"hdf5:{tmp_path / 'absent.hdf5'}")


def test_files_that_do_not_describe_a_task(tmp_path: Path) -> None:
    path = hopper_file(tmp_path / "a.hdf5")
    assert find_task(f"hdf5:{path}").card()["dataset"]["transitions"] == 45
    with pytest.raises(SegueError, match=r"nothing is known of '\?rewards=binary'"):
        find_task(f"hdf5:{path}?rewards=binary")
    with pytest.raises(SegueError, match="no reward=sparse; there are env, binary"):
        find_task(f"hdf5:{path}?reward=sparse")
    with pytest.raises(SegueError, match="no binary task"):
        find_task(f"hdf5:{path}?reward=binary")
    with pytest.raises(SegueError, match="Hopper-v99: cannot be made"):
        task_from_file(hopper_file(tmp_path / "b.hdf5", env_id="Hopper-v99")).dataset()
    with pytest.raises(SegueError, match="is not JSON"):
        task_from_file(hopper_file(tmp_path / "c.hdf5", env_kwargs="{"))
    with pytest.raises(SegueError, match="'goal_cell'"):
        task_from_file(hopper_file(tmp_path / "d.hdf5", env_id="AntMaze_UMaze-v5"))
    np.savez(tmp_path / "e.npz", rewards=np.zeros(3))
    with pytest.raises(SegueError, match="no attribute 'env_id'"):
        task_from_file(tmp_path / "e.npz")


def test_any_environment_with_or_without_a_file(tmp_path: Path) -> None:
    path = hopper_file(tmp_path / "a.hdf5", 3, 1)
    task = find_task(f"hdf5:{path}?env=Pendulum-v1")
    assert (task.env, task.domain, task.horizon, task.reference) == ("Pendulum-v1", "custom", 1000, None)
    assert task.card()["dataset"]["transitions"] == 45
    bare = find_task("gym:Pendulum-v1")  # no log; the registered time limit
    assert (bare.horizon, bare.dataset(), bare.source) == (200, None, "none")
    known = find_task("gym:Hopper-v5")
    assert (known.domain, known.reference) == (LAYOUTS["Hopper-v5"].domain, LAYOUTS["Hopper-v5"].reference)
    maze = find_task("gym:PointMaze_UMaze-v3")  # its goal moves, so it is observed
    assert (maze.spec.observation, maze.exact_goal) == ((8,), False)
    assert find_task("gym:PointMaze_UMaze-v3?keys=observation,desired_goal").spec.observation == (6,)
    with pytest.raises(SegueError, match="names its environment twice"):
        find_task("gym:Pendulum-v1?env=Hopper-v5")
    with pytest.raises(SegueError, match="Nowhere-v1: cannot be made"):
        find_task("gym:Nowhere-v1")


@pytest.mark.parametrize(("size", "actions"), [(12, 3), (11, 2)])
def test_wrong_sizes_show_both_sides(size: int, actions: int, tmp_path: Path) -> None:
    task = task_from_file(hopper_file(tmp_path / "a.hdf5", size, actions))
    says = rf"shape \({size},\) and {actions} actions, but the environment Hopper-v5 has \(11,\) and 3"
    with pytest.raises(SegueError, match=says):
        task.dataset()


def test_a_log_that_a_task_made_is_a_task_with_the_same_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a run has collected it or `segue data collect`: what is paid, what ends an episode, how it is scored."""
    monkeypatch.setenv("SEGUE_DATASETS", str(tmp_path / "store"))
    log = [Recorded(np.zeros((4, 3), "f4"), np.zeros((3, 1), "f4"), np.asarray([-1, -1, 0], "f4"), True, 1.0)]
    own = GymTask.custom("Pendulum-v1", horizon=9, reward="success-1", failure=-1.0, success="terminated")
    stored = save(tmp_path / "store" / "mine", log, {})
    for task in [own, *(task_of(record, log=False) for record in records().values())]:
        described = {**stored.facts, "environment": environment_of(task)}
        (stored.folder / "dataset.json").write_text(json.dumps(described))
        assert find_task("data:mine") == replace(task, name="mine", source="stored:mine", presets=())
    rows = {"observation": np.zeros((3, 1, 3), "f4"), "action": np.zeros((3, 1, 1), "f4")}
    rows |= {"next_observation": rows["observation"], "reward": np.asarray([[-1], [-1], [0]], "f4")}
    rows |= {"terminated": np.asarray([[0], [0], [1]], bool), "truncated": np.zeros((3, 1), bool)}
    (tmp_path / "run" / "replay").mkdir(parents=True)
    save_file(rows, tmp_path / "run" / "replay" / "000000.safetensors")
    maze = task_of(records()["pointmaze-umaze"], log=False)
    for task in (own, GymTask.custom("Pendulum-v1", reference=(-3.0, 2.0)), maze):
        (tmp_path / "run" / "run.json").write_text(json.dumps({"seeds": [0], "task_card": task.card()}))
        opened = open_source(f"run:{tmp_path / 'run'}")
        save(tmp_path / "store" / "mine", opened.episodes, opened.facts, replace=True)
        found = find_task("data:mine")
        assert found == replace(task, name="mine", source="stored:mine", presets=())
        if task is own:
            data = found.dataset()
            assert data is not None
            assert data.reward.tolist() == [-1.0, -1.0, 0.0]
    spoiled = {**environment_of(own), "rules": {"rewards": "env"}}
    save(tmp_path / "store" / "mine", log, {"environment": spoiled}, replace=True)
    with pytest.raises(SegueError, match=r"are no task's .*import it again"):
        find_task("data:mine")


def test_bring_your_own() -> None:
    rng = np.random.default_rng(0)
    episode = {"observation": rng.normal(size=(6, 3)), "action": rng.uniform(-1, 1, (5, 1)), "reward": np.zeros(5)}
    data = from_episodes([episode])
    task: Task = GymTask.custom("Pendulum-v1", data)
    assert (task.name, task.horizon) == ("Pendulum-v1", 200)
    assert task.dataset() is data
    sparse = GymTask.custom("Pendulum-v1", data, terminal_success=True).dataset()
    assert sparse is not None
    assert not sparse.terminated.any()  # 0 is what these steps pay, and no success
    assert task.score(np.array([-3.0]), np.array([False])).tolist() == [-3.0]  # no reference: the raw return
    made = GymTask.custom(lambda: __import__("gymnasium").make("Pendulum-v1"), name="mine", reference=(-1000.0, 0.0))
    assert (made.horizon, made.dataset(), made.spec.action) == (200, None, 1)
    assert made.score(np.array([-500.0]), np.array([False])).tolist() == [50.0]
    json.dumps(made.card())
    with pytest.raises(SegueError, match="no source 'ftp:x'"):
        GymTask("a", "Pendulum-v1", 200, source="ftp:x").dataset()


def test_reference_scores() -> None:
    assert reference_score("hopper-medium-v2") == (-20.272305, 3234.3)
    assert len(reference_scores()) == 115
    with pytest.raises(SegueError, match="no reference score for 'hopper'"):
        reference_score("hopper")
    assert LAYOUTS["HalfCheetah-v5"].reference == (-280.178953, 12135.0)
    assert set(BINARY) <= set(LAYOUTS)
    task = GymTask("a", "Hopper-v5", 1000, reference=reference_score("hopper-medium-v2"))
    np.testing.assert_allclose(task.score(np.array([-20.272305, 3234.3]), np.zeros(2)), [0.0, 100.0], atol=1e-9)
