"""Datasets that do not fit or are damaged are refused in one line, before anything is compiled or written."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

HOPPER = {"env_id": "Hopper-v5", "max_episode_steps": 20}
MAZE = {
    "env_id": "PointMaze_UMaze-v3",
    "max_episode_steps": 20,
    "env_kwargs": '{"continuing_task": false}',
    "reset_cell": [3, 1],
    "goal_cell": [1, 1],
}
WIDTH = {"Hopper-v5": (11, 3), "PointMaze_UMaze-v3": (4, 2)}


def write(path: Path, attributes: dict, rows: int = 100, observation: int | None = None, action: int | None = None):
    rng = np.random.default_rng(0)
    width = WIDTH[attributes["env_id"]]
    arrays = {
        "observations": rng.normal(size=(rows, observation or width[0])).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, action or width[1])).astype(np.float32),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminals": np.zeros(rows, bool),
        "timeouts": np.arange(rows) % 20 == 19,
    }
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
        file.attrs.update(attributes)


def change(path: Path, name: str, row: int, value: float) -> None:
    with h5py.File(path, "r+") as file:
        array = file[name][()]
        array[row] = value
        file[name][...] = array


@pytest.mark.parametrize("attributes", [HOPPER, MAZE], ids=["hopper", "maze"])
def test_good_files_pass(attributes, say, tmp_path: Path) -> None:
    write(tmp_path / "good.hdf5", attributes)
    code, _, err = say("run", "cal-ql", f"hdf5:{tmp_path / 'good.hdf5'}", "--dry-run")
    assert (code, err) == (0, "")


def wide(path: Path) -> None:
    write(path, HOPPER, observation=12)


def maze_wide(path: Path) -> None:
    write(path, MAZE, observation=6)


def many_actions(path: Path) -> None:
    write(path, HOPPER, action=4)


def nan(path: Path) -> None:
    write(path, HOPPER)
    change(path, "observations", 7, np.nan)


def infinite_reward(path: Path) -> None:
    write(path, HOPPER)
    change(path, "rewards", 7, np.inf)


def beyond(path: Path) -> None:
    write(path, HOPPER)
    change(path, "actions", 7, 1.5)


def no_rows(path: Path) -> None:
    write(path, HOPPER, rows=0)


def empty(path: Path) -> None:
    path.touch()


def text(path: Path) -> None:
    path.write_text("observations, actions\n")


def torn(path: Path) -> None:
    write(path, HOPPER, rows=2000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def bare(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs.update(HOPPER)


def nameless(path: Path) -> None:
    write(path, HOPPER)
    with h5py.File(path, "r+") as file:
        del file.attrs["env_id"]


def stranger(path: Path) -> None:
    write(path, HOPPER)
    with h5py.File(path, "r+") as file:
        file.attrs["env_id"] = "Pong-v5"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (wide, "observations of shape (12,) and 3 actions, but the environment Hopper-v5 has (11,) and 3"),
        (maze_wide, "(6,)"),
        (many_actions, "4 actions"),
        (nan, "has NaN or infinity"),
        (infinite_reward, "has NaN or infinity"),
        (beyond, "actions outside [-1, 1]"),
        (no_rows, "no rows"),
        (empty, "neither an HDF5 nor an npz file"),
        (text, "neither an HDF5 nor an npz file"),
        (torn, "truncated or corrupt"),
        (bare, "no array"),
        (nameless, "no attribute 'env_id'"),
        (stranger, "Pong-v5: cannot be made"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_files_are_refused(make, says, mistake, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "bad.hdf5")
    assert says in mistake("run", "cal-ql", "hdf5:bad.hdf5", "--out", tmp_path / "run")
    assert [p.name for p in tmp_path.iterdir()] == ["bad.hdf5"]


def test_a_folder_without_the_file(mistake, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path))
    assert "no hopper-medium.hdf5 in" in mistake("run", "cal-ql", "hopper-medium")
