"""The reader's rules on streams small enough to read, and every planted fault with its one line."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from segue.core.types import SegueError
from segue.data import end_at_success, from_stream, read_d4rl
from segue.data.readers.d4rl import CLIP_ACTION


def stream(n: int = 8, **ends: list[int]) -> dict[str, np.ndarray]:
    """Rows whose observation and reward are the row's number; `terminals` and `timeouts` list the flagged rows."""
    flags = {name: np.isin(np.arange(n), ends.get(name, [])) for name in ("terminals", "timeouts")}
    count = np.arange(n, dtype=np.float32)
    return {"observations": count[:, None], "actions": np.full((n, 2), 0.5, np.float32), "rewards": count, **flags}


def write(path: Path, arrays: dict[str, np.ndarray], **attributes: object) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file.create_dataset(name, data=array, compression="gzip" if np.size(array) else None)
        file.attrs.update(attributes)
    return path


def rows(data: object) -> list[int]:
    return data.reward.astype(int).tolist()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("ends", "kept", "terminated", "truncated"),
    [
        ({"timeouts": [3, 7]}, [0, 1, 2, 4, 5, 6], [], [2, 6]),  # timeout rows go, the row before ends the episode
        ({"terminals": [3], "timeouts": [7]}, [0, 1, 2, 3, 4, 5, 6], [3], [6]),  # a terminal inside stays
        ({"terminals": [2, 7]}, [0, 1, 2, 3, 4, 5, 6], [2], [6]),  # the very last row goes even if terminal
        ({"timeouts": [3], "terminals": [3, 6]}, [0, 1, 2, 4, 5, 6], [6], [2]),  # both flags: a timeout
        ({"timeouts": [4]}, [0, 1, 2, 3], [], [3]),  # a tail without an end goes
        ({"timeouts": [0, 4, 7]}, [1, 2, 3, 5, 6], [], [3, 6]),  # an episode of one row has no transition
    ],
)
def test_rules(ends: dict[str, list[int]], kept: list[int], terminated: list[int], truncated: list[int]) -> None:
    data = from_stream(**stream(**ends))
    assert rows(data) == kept
    assert data.reward[data.terminated].astype(int).tolist() == terminated
    assert data.reward[data.truncated].astype(int).tolist() == truncated
    assert data.next_observation[:, 0].tolist() == [row + 1 for row in kept]


def test_limit_comes_from_the_file_unless_given(tmp_path: Path) -> None:
    arrays = stream(9, terminals=[1])
    del arrays["timeouts"]
    path = write(tmp_path / "a.hdf5", arrays, max_episode_steps=4)
    assert rows(read_d4rl(path)) == [0, 1, 2, 3, 4]  # rows 2..5 are one episode, rows 6..8 a tail
    assert rows(read_d4rl(path, max_episode_steps=3)) == [0, 1, 2, 3, 5, 6]


def test_actions_are_kept_off_the_bounds() -> None:
    arrays = stream(timeouts=[7])
    arrays["actions"] = np.ones((8, 2), np.float32)
    assert np.all(from_stream(**arrays).action == np.float32(CLIP_ACTION))
    assert np.all(from_stream(**arrays, clip_action=None).action == 1.0)


def test_binary_rewards(tmp_path: Path) -> None:
    success = np.isin(np.arange(8), [2, 3])
    path = write(tmp_path / "a.hdf5", {**stream(timeouts=[7]), "infos/success": success})
    data = read_d4rl(path, rewards_from="infos/success")
    assert data.reward.tolist() == [-1, -1, 0, 0, -1, -1, -1]
    assert not data.terminated.any()
    marked = end_at_success(data)
    assert np.flatnonzero(marked.terminated).tolist() == [2, 3]
    assert np.flatnonzero(marked.truncated).tolist() == [6]


def test_images_keep_their_bytes() -> None:
    arrays = stream(timeouts=[7])
    arrays["observations"] = np.zeros((8, 4, 4, 3), np.uint8)
    data = from_stream(**arrays)
    assert data.observation.dtype == data.next_observation.dtype == np.uint8
    assert data.observation.shape == (7, 4, 4, 3)


def fault(path: Path, name: str) -> Path:
    """Plant one fault in a file."""
    arrays = stream(300, timeouts=[99, 199, 299])
    arrays["observations"] = np.random.default_rng(0).standard_normal((300, 50)).astype(np.float32)
    if name == "nan":
        arrays["observations"][17, 1] = np.nan
    elif name == "actions outside":
        arrays["actions"][17, 1] = 1.5
    elif name == "integer actions":
        arrays["actions"] = np.zeros(300, np.int64)
    elif name == "lengths":
        arrays["actions"] = arrays["actions"][:-1]
    elif name == "missing key":
        del arrays["rewards"]
    elif name == "empty":
        arrays = {key: array[:0] for key, array in arrays.items()}
    elif name == "no end":
        arrays["timeouts"][:] = False
    elif name == "no end, no flags":
        del arrays["timeouts"]
    elif name == "one row each":
        arrays["timeouts"][:] = True
    if name == "absent":
        return path
    if name == "text":
        path.write_text("observations,actions\n")
        return path
    write(path, arrays)
    content = path.read_bytes()
    if name == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif name == "flipped":  # inside the compressed observations, past the header
        middle = len(content) // 2
        path.write_bytes(
            content[:middle] + bytes(255 - b for b in content[middle : middle + 64]) + content[middle + 64 :]
        )
    return path


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("absent", "no such file"),
        ("text", "neither an HDF5 nor an npz file"),
        ("truncated", "truncated or corrupt"),
        ("flipped", "truncated or corrupt"),
        ("missing key", "no array 'rewards'"),
        ("lengths", "'actions' has 299 rows and 'rewards' has 300"),
        ("empty", "no rows"),
        ("no end", "none is complete"),
        ("no end, no flags", "give max_episode_steps"),
        ("one row each", "one row long"),
        ("nan", "NaN or infinity in 1 rows, the first is row 17"),
        ("actions outside", "1 rows have actions outside"),
        ("integer actions", "continuous actions"),
    ],
)
def test_faults_are_named_in_one_line(name: str, says: str, tmp_path: Path) -> None:
    path = fault(tmp_path / "planted.hdf5", name)
    with pytest.raises(SegueError, match=says) as caught:
        read_d4rl(path)
    assert "planted.hdf5" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unfaulted_file_reads(tmp_path: Path) -> None:
    assert len(read_d4rl(fault(tmp_path / "sound.hdf5", "none"))) == 297


def test_truncated_npz(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **stream(300, timeouts=[299]))
    content = bytearray(path.read_bytes())
    content[400:600] = bytes(200)  # zip's end record is whole, a member is not
    path.write_bytes(content)
    with pytest.raises(SegueError, match="truncated or corrupt"):
        read_d4rl(path)


def test_real_files_reproduce_their_description(shared_data: Path) -> None:
    data = read_d4rl(shared_data / "antmaze-umaze-diverse.hdf5")
    ends = data.ends()
    assert (len(ends), int(data.terminated.sum()), data.observation.shape[1]) == (255, 113, 29)
    assert np.all(data.terminated[ends - 1] | data.truncated[ends - 1])
