"""The reader and the returns against numbers that the official Cal-QL code produced."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from segue.data import demonstrations, from_episodes, from_stream, read_d4rl
from segue.replay import Data, Units, returns_to_go

FIXTURE = np.load(Path(__file__).parent / "fixtures" / "mc_returns.npz", allow_pickle=False)
CASES = {  # case -> (raw reward of failure; None where rewards are dense, prefix of its observations)
    "antmaze_scale10_bias-5": 0.0,
    "antmaze_scale1_bias0": 0.0,
    "antmaze_scale1_bias-1": 0.0,
    "antmaze_no_timeouts_field": 0.0,
    "dense_generic": None,
}
RETURNS = {  # case -> failure, in the units of the case (rewards there are scaled already)
    "dense_truncated": None,
    "dense_terminated": None,
    "dense_terminal_inside": None,
    "antmaze_fail": -1.0,
    "antmaze_fail_terminated": -1.0,
    "antmaze_success": -1.0,
    "adroit_fail": -5.0,
    "adroit_success": -5.0,
}


def close(ours: np.ndarray, official: np.ndarray) -> None:
    assert ours.shape == official.shape
    np.testing.assert_allclose(ours, official, rtol=2e-6, atol=2e-6)


def units(prefix: str, failure: float | None) -> Units:
    scale, shift = float(FIXTURE[f"{prefix}.reward_scale"]), float(FIXTURE[f"{prefix}.reward_bias"])
    return Units(scale, shift, float(FIXTURE[f"{prefix}.discount"]), failure)


def compare(data: Data, prefix: str, failure: float | None) -> None:
    worth = units(prefix, failure)
    close(np.asarray(worth.reward(data.reward)), FIXTURE[f"{prefix}.out.rewards"])
    close(data.terminated.astype(np.float32), FIXTURE[f"{prefix}.out.dones"])
    close(data.mc_returns(worth), FIXTURE[f"{prefix}.out.mc_returns"])
    for name, array in (
        ("observations", data.observation),
        ("actions", data.action),
        ("next_observations", data.next_observation),
    ):
        if f"{prefix}.out.{name}" in FIXTURE.files:
            close(array, FIXTURE[f"{prefix}.out.{name}"])


def stream(case: str) -> dict[str, np.ndarray]:
    """Arrays of a case; four of the five share a stream whose observations are stored once."""
    prefix, first = f"case.{case}.in", "case.antmaze_scale10_bias-5.in"
    names = ("observations", "actions", "rewards", "terminals", "timeouts")
    arrays = {name: FIXTURE[f"{prefix}.{name}"] for name in names if f"{prefix}.{name}" in FIXTURE.files}
    return {"observations": FIXTURE[f"{first}.observations"], "actions": FIXTURE[f"{first}.actions"], **arrays}


def test_every_case_is_tested() -> None:
    assert set(CASES) == set(FIXTURE["meta.cases"])
    assert set(RETURNS) == set(FIXTURE["meta.rtg_cases"])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", ["arrays", "hdf5", "npz"])
def test_streams(case: str, form: str, tmp_path: Path) -> None:
    prefix, arrays = f"case.{case}", stream(case)
    options = {
        "max_episode_steps": int(FIXTURE[f"{prefix}.max_episode_steps"]),
        "clip_action": float(FIXTURE[f"{prefix}.clip_action"]),
        "clip_outside": True,  # the fixture plants actions beyond the bounds
    }
    if form == "arrays":
        data = from_stream(**arrays, **options)
    else:
        path = tmp_path / f"stream.{form}"
        if form == "npz":
            np.savez(path, **arrays)
        else:
            with h5py.File(path, "w") as file:
                for name, array in arrays.items():
                    file[name] = array
        data = read_d4rl(path, **options)
    compare(data, prefix, CASES[case])
    starts = np.concatenate([[0], data.ends()[:-1]])
    inside = np.setdiff1d(np.arange(1, len(data)), starts)
    np.testing.assert_array_equal(data.next_observation[inside - 1], data.observation[inside])


@pytest.mark.parametrize("case", RETURNS)
def test_returns_to_go(case: str) -> None:
    prefix = f"rtg.{case}"
    worth = Units(1.0, 0.0, float(FIXTURE[f"{prefix}.discount"]), RETURNS[case])
    ours = returns_to_go(FIXTURE[f"{prefix}.in.rewards"], FIXTURE[f"{prefix}.in.terminals"], worth)
    close(ours, FIXTURE[f"{prefix}.out.mc_returns"])


def test_demonstrations() -> None:
    episodes, bound = [], float(FIXTURE["adroit.clip_action"])
    for part in ("expert", "bc"):
        cuts = np.cumsum(FIXTURE[f"adroit.in.{part}.lengths"])[:-1]
        split = {
            key: np.split(FIXTURE[f"adroit.in.{part}.{key}s"], cuts)
            for key in ("observation", "action", "reward", "next_observation")
        }
        episodes += [dict(zip(split, row)) for row in zip(*split.values())]
    for episode in episodes:
        episode["action"] = np.clip(episode["action"], -bound, bound)
    data = demonstrations(from_episodes(episodes)).check()
    assert len(data) < sum(len(episode["reward"]) for episode in episodes)  # something had to be dropped
    compare(data, "adroit", -1.0)
