"""A user's own arrays and episodes, Minari, and the card."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from segue.core.types import SegueError
from segue.data import describe, from_arrays, from_episodes, read_minari, without
from segue.data import extras as extras_module
from segue.data.readers import minari as minari_module


def episode(steps: int, start: float = 0.0, **more: object) -> dict[str, object]:
    count = start + np.arange(steps + 1, dtype=np.float64)
    return {"observation": count[:, None], "action": np.zeros((steps, 2)), "reward": np.ones(steps), **more}


def test_episodes() -> None:
    data = from_episodes([episode(3, terminated=True), episode(2, start=10.0)])
    assert data.observation[:, 0].tolist() == [0, 1, 2, 10, 11]
    assert data.next_observation[:, 0].tolist() == [1, 2, 3, 11, 12]
    assert data.terminated.tolist() == [False, False, True, False, False]
    assert data.truncated.tolist() == [False, False, False, False, True]
    assert data.observation.dtype == data.reward.dtype == np.float32


def test_arrays_find_ends_where_the_log_jumps() -> None:
    whole = from_episodes([episode(3), episode(2, start=10.0)])
    data = from_arrays(whole.observation, whole.action, whole.reward, whole.terminated, whole.next_observation)
    assert data.ends().tolist() == [3, 5]
    assert data.truncated.tolist() == [False, False, True, False, False]


def test_rows_near_a_place_are_left_out() -> None:
    rng = np.random.default_rng(0)
    walks = [
        {
            "observation": np.cumsum(rng.normal(size=(steps + 1, 3)), axis=0),
            "action": rng.uniform(-1, 1, (steps, 2)),
            "reward": rng.normal(size=steps),
            "terminated": bool(steps % 2),
        }
        for steps in rng.integers(1, 40, 30).tolist()
    ]
    data = from_episodes(walks)
    for radius in (0.0, 1.0, 3.0):
        kept = without(data, (1.0, -2.0), radius).check()
        far, runs, start = [], [], 0
        for walk, stop in zip(walks, data.ends().tolist()):
            away = np.linalg.norm(np.float32(walk["observation"])[:, :2] - (1.0, -2.0), axis=1) > radius
            rows = start + np.flatnonzero(away[:-1] & away[1:])
            far.extend(rows.tolist())
            runs.extend(row for row in rows.tolist() if row + 1 not in rows)  # each the last of an episode now
            start = stop
        assert kept.observation.tolist() == data.observation[far].tolist()
        assert kept.reward.tolist() == data.reward[far].tolist()
        assert kept.terminated.tolist() == data.terminated[far].tolist()
        assert [far[row - 1] for row in kept.ends()] == runs
        assert not (kept.terminated & kept.truncated).any()
    assert without(data, (1.0, -2.0), 0.0) is data
    assert len(without(data, (1.0, -2.0), np.inf)) == 0


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"action": np.zeros((2, 2))}, "3 rewards, 2 actions"),
        ({"observation": np.zeros((3, 1))}, "3 actions and 3 steps of observations"),
        ({"reward": np.array([0.0, np.nan, 0.0])}, "NaN"),
        ({"action": np.full((3, 2), 1.2)}, "outside the environment's bounds"),
    ],
)
def test_episode_faults(fault: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(SegueError, match=says):
        from_episodes([episode(3, **fault)])


def test_nothing_is_an_error() -> None:
    with pytest.raises(SegueError, match="no episode"):
        from_episodes([])
    with pytest.raises(SegueError, match="no 'reward'"):
        from_episodes([{"observation": np.zeros((2, 1)), "action": np.zeros((1, 1))}])


def test_array_shapes() -> None:
    n = 4
    with pytest.raises(SegueError, match=r"action \(4,\)"):
        from_arrays(np.zeros((n, 1)), np.zeros(n), np.zeros(n), np.zeros(n), np.zeros((n, 1)))
    with pytest.raises(SegueError, match="must agree"):
        from_arrays(np.zeros((n, 1)), np.zeros((n, 1)), np.zeros(n), np.zeros(n), np.zeros((n, 2)))


def test_card_numbers() -> None:
    card = describe(from_episodes([episode(3, terminated=True), episode(2, reward=np.zeros(2))]), failure=0.0)
    assert (card["transitions"], card["episodes"], card["action"]) == (5, 2, 2)
    assert card["success_fraction"] == card["terminated_fraction"] == 0.5
    assert card["episode_return"] == {"min": 0.0, "mean": 1.5, "median": 1.5, "max": 3.0, "std": 1.5}
    assert card["episode_length"]["max"] == 3.0
    json.dumps(card)


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(SegueError, match=r'pip install "segue\[minari\]"'):
        extras_module.need("no_such_package_at_all", "minari", "reading")


def test_minari_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    minari = pytest.importorskip("minari")
    gymnasium = pytest.importorskip("gymnasium")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    spaces, rng = gymnasium.spaces, np.random.default_rng(0)
    space = spaces.Dict({"a": spaces.Box(-9, 9, (2,), np.float64), "b": spaces.Box(-9, 9, (1,), np.float64)})
    log = []
    for steps, end in ((4, True), (3, False)):
        seen = {"a": rng.uniform(-1, 1, (steps + 1, 2)), "b": rng.uniform(-1, 1, (steps + 1, 1))}
        flags = np.append(np.zeros(steps - 1, bool), end)
        log.append(
            minari.data_collector.EpisodeBuffer(
                observations=seen,
                actions=rng.uniform(-2, 2, (steps, 1)).astype(np.float32),
                rewards=np.arange(steps, dtype=np.float64),
                terminations=flags,
                truncations=~flags & (np.arange(steps) == steps - 1),
            )
        )
    with warnings.catch_warnings(action="ignore"):  # Minari's advice to the makers of datasets
        minari.create_dataset_from_buffers(
            dataset_id="segue/test-v0",
            buffer=log,
            observation_space=space,
            action_space=spaces.Box(-2, 2, (1,), np.float32),
            algorithm_name="none",
            author="none",
            author_email="none",
            code_permalink="none",
            description="a test",
            eval_env=None,
        )
    data = read_minari("segue/test-v0", keys=("b", "a"))
    assert data.observation.shape == (7, 3)
    np.testing.assert_allclose(data.observation[:4, 0], log[0].observations["b"][:4, 0], rtol=1e-6)
    np.testing.assert_allclose(data.next_observation[6, 1:], log[1].observations["a"][3], rtol=1e-6)
    np.testing.assert_allclose(data.action[:4], log[0].actions / 2, rtol=1e-5, atol=1e-6)
    assert np.flatnonzero(data.terminated).tolist() == [3]
    assert np.flatnonzero(data.truncated).tolist() == [6]
    same = read_minari(tmp_path / "segue" / "test-v0", keys=("b", "a"))
    np.testing.assert_array_equal(same.observation, data.observation)
    with pytest.raises(SegueError, match="name them"):
        read_minari("segue/test-v0")


def test_minari_spaces() -> None:
    gymnasium = pytest.importorskip("gymnasium")
    with pytest.raises(SegueError, match="finite bounds"):
        minari_module.action_bounds(gymnasium.spaces.Discrete(3), "here")
    with pytest.raises(SegueError, match="no effect"):
        minari_module.flatten(np.zeros((2, 2)), ("a",), "here")
