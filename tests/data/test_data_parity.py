"""The reader and the returns against numbers that the official Cal-QL code produced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from segue.core.log import Data
from segue.core.scaling import Scaling, returns_to_go
from segue.data import demonstrations, from_episodes, from_stream, read_d4rl

FOLDER = Path(__file__).parent / "fixtures"
FIXTURE = np.load(FOLDER / "mc_returns.npz", allow_pickle=False)
OOO = np.load(FOLDER / "mc_returns_ooo.npz", allow_pickle=False)
FILES = {"official": FIXTURE, "ooo": OOO}
CASES = {  # (program, case) -> (raw reward of failure; None where rewards are dense, truncated episodes go on)
    ("official", "antmaze_scale10_bias-5"): (0.0, False),
    ("official", "antmaze_scale1_bias0"): (0.0, False),
    ("official", "antmaze_scale1_bias-1"): (0.0, False),
    ("official", "antmaze_no_timeouts_field"): (0.0, False),
    ("official", "dense_generic"): (None, False),
    ("ooo", "antmaze_scale10_bias-5"): (0.0, False),
    ("ooo", "antmaze_scale1_bias0"): (0.0, False),
    ("ooo", "antmaze_scale1_bias-1"): (0.0, False),
    ("ooo", "antmaze_no_timeouts_field"): (0.0, False),
    ("ooo", "kitchen_infinite_horizon"): (None, True),
    ("ooo", "hammer_dense"): (None, False),
    ("ooo", "maze2d_sparse"): (0.0, False),
}
RETURNS = {  # (program, case) -> failure and continuing, in the units of the case (rewards there are scaled already)
    **{("official", f"dense_{kind}"): (None, False) for kind in ("truncated", "terminated", "terminal_inside")},
    ("official", "antmaze_fail"): (-1.0, False),
    ("official", "antmaze_fail_terminated"): (-1.0, False),
    ("official", "antmaze_success"): (-1.0, False),
    ("official", "adroit_fail"): (-5.0, False),
    ("official", "adroit_success"): (-5.0, False),
    **{("ooo", f"dense_{kind}"): (None, False) for kind in ("truncated", "terminated", "terminal_inside")},
    ("ooo", "antmaze_fail"): (-1.0, False),
    ("ooo", "antmaze_fail_terminated"): (-1.0, False),
    ("ooo", "antmaze_success"): (-1.0, False),
    ("ooo", "adroit_fail"): (-5.0, False),
    ("ooo", "adroit_success"): (-5.0, False),
    ("ooo", "kitchen_truncated"): (None, True),
    ("ooo", "kitchen_terminated"): (None, True),
    ("ooo", "maze2d_fail"): (-1.0, False),
}
Fixture = Any


def close(ours: np.ndarray, official: np.ndarray) -> None:
    assert ours.shape == official.shape
    np.testing.assert_allclose(ours, official, rtol=2e-6, atol=2e-6)


def scaling(fixture: Fixture, prefix: str, failure: float | None, continuing: bool = False) -> Scaling:
    scale, shift = float(fixture[f"{prefix}.reward_scale"]), float(fixture[f"{prefix}.reward_bias"])
    return Scaling(scale, shift, float(fixture[f"{prefix}.discount"]), failure, continuing)


def compare(data: Data, fixture: Fixture, prefix: str, failure: float | None, continuing: bool = False) -> None:
    worth = scaling(fixture, prefix, failure, continuing)
    close(np.asarray(worth.reward(data.reward)), fixture[f"{prefix}.out.rewards"])
    close(data.terminated.astype(np.float32), fixture[f"{prefix}.out.dones"])
    close(data.mc_returns(worth), fixture[f"{prefix}.out.mc_returns"])
    for name, array in (
        ("observations", data.observation),
        ("actions", data.action),
        ("next_observations", data.next_observation),
    ):
        if f"{prefix}.out.{name}" in fixture.files:
            close(array, fixture[f"{prefix}.out.{name}"])


def stream(fixture: Fixture, case: str) -> dict[str, np.ndarray]:
    """Arrays of a case; most share a stream whose observations are stored once."""
    prefix, first = f"case.{case}.in", "case.antmaze_scale10_bias-5.in"
    names = ("observations", "actions", "rewards", "terminals", "timeouts")
    arrays = {name: fixture[f"{prefix}.{name}"] for name in names if f"{prefix}.{name}" in fixture.files}
    return {"observations": fixture[f"{first}.observations"], "actions": fixture[f"{first}.actions"], **arrays}


def test_every_case_is_tested() -> None:
    for program, fixture in FILES.items():
        assert {case for name, case in CASES if name == program} == set(fixture["meta.cases"])
        assert {case for name, case in RETURNS if name == program} == set(fixture["meta.rtg_cases"])


@pytest.mark.parametrize(("program", "case"), CASES)
@pytest.mark.parametrize("form", ["arrays", "hdf5", "npz"])
def test_streams(program: str, case: str, form: str, tmp_path: Path) -> None:
    fixture = FILES[program]
    prefix, arrays = f"case.{case}", stream(fixture, case)
    options = {
        "max_episode_steps": int(fixture[f"{prefix}.max_episode_steps"]),
        "clip_action": float(fixture[f"{prefix}.clip_action"]),
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
    compare(data, fixture, prefix, *CASES[program, case])
    starts = np.concatenate([[0], data.ends()[:-1]])
    inside = np.setdiff1d(np.arange(1, len(data)), starts)
    np.testing.assert_array_equal(data.next_observation[inside - 1], data.observation[inside])


@pytest.mark.parametrize(("program", "case"), RETURNS)
def test_returns_to_go(program: str, case: str) -> None:
    fixture, prefix = FILES[program], f"rtg.{case}"
    worth = Scaling(1.0, 0.0, float(fixture[f"{prefix}.discount"]), *RETURNS[program, case])
    ours = returns_to_go(fixture[f"{prefix}.in.rewards"], fixture[f"{prefix}.in.terminals"], worth)
    close(ours, fixture[f"{prefix}.out.mc_returns"])


@pytest.mark.parametrize("program", FILES)
def test_demonstrations(program: str) -> None:
    fixture = FILES[program]
    episodes, bound = [], float(fixture["adroit.clip_action"])
    for part in ("expert", "bc"):
        cuts = np.cumsum(fixture[f"adroit.in.{part}.lengths"])[:-1]
        split = {
            key: np.split(fixture[f"adroit.in.{part}.{key}s"], cuts)
            for key in ("observation", "action", "reward", "next_observation")
        }
        episodes += [dict(zip(split, row)) for row in zip(*split.values())]
    for episode in episodes:
        episode["action"] = np.clip(episode["action"], -bound, bound)
    data = demonstrations(from_episodes(episodes)).check()
    assert len(data) < sum(len(episode["reward"]) for episode in episodes)  # something had to be dropped
    compare(data, fixture, "adroit", -1.0)
