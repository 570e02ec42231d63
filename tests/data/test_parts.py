"""Logs whose observations have several parts, images among them: in, through the store, and out again."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from segue.core.observations import unpacked
from segue.core.types import Part, SegueError
from segue.data import from_episodes, keep
from segue.data.card import numbers, pictures
from segue.data.doctor import examine
from segue.data.export import export_minari, export_npz
from segue.data.recorded import Recorded, recorded
from segue.report.card import card_page
from segue.tasks import GymTask, find_task
from tests.data.formats import found, made, write_lerobot, write_robomimic

LENGTHS = (3, 1, 4)
IMAGE = (5, 4, 3)


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_DATASETS", str(tmp_path / "datasets"))


def given() -> list[dict[str, Any]]:
    """Episodes as a user has them."""
    rng = np.random.default_rng(0)
    out = []
    for n in LENGTHS:
        seen = {"camera": rng.integers(0, 256, (n + 1, *IMAGE), np.uint8), "arm": rng.normal(size=(n + 1, 2))}
        action, reward = rng.uniform(-0.9, 0.9, (n, 2)).astype("f4"), rng.normal(size=n).astype("f4")
        out.append({"observation": seen, "action": action, "reward": reward, "terminated": n == 1})
    return out


def same(got: list[Recorded], final: bool = True) -> None:
    """`final`: whether a log has the observation after a terminal step."""
    assert [len(e) for e in got] == list(LENGTHS)
    for episode, mine in zip(got, given()):
        assert [p.name.removeprefix("observations/") for p in episode.made_of] == ["camera", "arm"]
        last = None if final or not episode.terminated else -1
        for rows, first in ((episode.current, 0), (episode.following, 1)):
            parts = list(unpacked(episode.made_of, rows).values())
            stop = first + len(episode)
            np.testing.assert_array_equal(parts[0][:last], mine["observation"]["camera"][first:stop][:last])
            np.testing.assert_array_equal(parts[1][:last], mine["observation"]["arm"][first:stop][:last].astype("f4"))
        np.testing.assert_array_equal(episode.action, mine["action"])
        assert episode.terminated == mine["terminated"]


def test_a_users_own_and_the_store() -> None:
    stored = keep("own", given())
    same(list(stored.episodes()))
    stored.verify()
    data = from_episodes(given())
    assert data.sha256() == stored.data().sha256()
    assert data.made_of == stored.data().made_of == (Part("camera", IMAGE, "uint8"), Part("arm", (2,), "float32"))


def test_npz_and_minari_there_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = keep("own", given())
    export_npz(stored.episodes(), tmp_path / "a.npz")
    names = "observations/camera,observations/arm"
    follows = names.replace("observations", "next_observations")
    same(found(f"npz:{tmp_path / 'a.npz'}?observation={names}&next_observation={follows}"))
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    folder = export_minari(stored.episodes(), stored.facts, "segue/own-v0")
    same(found(f"minari:{folder}?keys=camera,arm"))


def test_robomimic(tmp_path: Path) -> None:
    write_robomimic(tmp_path, made(0, LENGTHS))
    with h5py.File(tmp_path / "log.hdf5", "r+") as file:
        for number, mine in enumerate(given()):
            demo = file[f"data/demo_{number}"]
            for place, rows in (("obs", slice(None, -1)), ("next_obs", slice(1, None))):
                for key, value in mine["observation"].items():
                    demo[f"{place}/{key}"] = value[rows]
            demo["actions"][...], demo["dones"][...] = mine["action"], 0
            demo["dones"][-1] = mine["terminated"]
    same([replace(e, source="") for e in found(f"robomimic:{tmp_path / 'log.hdf5'}?keys=camera,arm")])


def test_lerobot(tmp_path: Path) -> None:
    pytest.importorskip("av")
    log = made(0, (3, 2), (16, 16, 3))
    text = write_lerobot(tmp_path / "log", log)
    got, alone = found(f"{text}&keys=timestamp,next.reward"), found(text)
    assert [p.name for p in got[0].made_of] == ["observation.images.top", "timestamp", "next.reward"]
    for episode, other in zip(got, alone, strict=True):
        parts = unpacked(episode.made_of, episode.current)
        np.testing.assert_array_equal(parts["observation.images.top"], other.current)
        np.testing.assert_array_equal(parts["next.reward"][:, 0], other.reward)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": np.zeros((2, 2))}, "as many steps each; there are camera 4, arm 2"),
        ({"arm": np.array(["a"] * 4)}, "'observation/arm' is not an array of numbers"),
        ({"arm": np.float32(1)}, "'observation/arm' is one number"),
    ],
)
def test_parts_that_do_not_fit(changes: Mapping[str, Any], message: str) -> None:
    episode = given()[0]
    with pytest.raises(SegueError, match=message):
        recorded({**episode, "observation": episode["observation"] | dict(changes)}, "here")


def test_episodes_with_other_parts() -> None:
    first, second = given()[:2]
    second["observation"] = dict(reversed(second["observation"].items()))
    with pytest.raises(SegueError, match="every step needs the same"):
        keep("own", [first, second])
    with pytest.raises(SegueError, match="episodes of different shapes"):
        from_episodes([first, second])


def test_the_doctor_looks_into_rows_of_bytes() -> None:
    def log() -> Iterator[Recorded]:
        for number, episode in enumerate(given() * 3):
            if number == 4:
                episode["observation"]["arm"][0, 1] = np.nan
            yield from (e for e in [recorded(episode, "here")] if e is not None)

    report = examine(log, {})
    assert "nan" in {f.code for f in report.findings}


def test_its_card_shows_pictures() -> None:
    stored = keep("own", given())
    (name, files), *others = pictures(stored).items()
    assert (name, len(files), others) == ("camera", sum(LENGTHS), [])
    first = given()[0]["observation"]["camera"][0]
    assert files[0].startswith(b"\x89PNG\r\n\x1a\n")
    size, _, packed = files[0].partition(b"IHDR")[2].partition(b"IDAT")
    assert struct.unpack(">II", size[:8]) == (IMAGE[1], IMAGE[0])
    lines = np.frombuffer(zlib.decompressobj().decompress(packed), np.uint8).reshape(IMAGE[0], -1)
    assert not lines[:, 0].any()  # no filter
    np.testing.assert_array_equal(lines[:, 1:].reshape(IMAGE), first)
    card = {**stored.facts, **numbers(stored)}
    assert len(card["observations"]) == 2  # the arm's
    page = card_page(card, pictures(stored))
    assert page.count("data:image/png;base64,") == sum(LENGTHS)
    assert "camera 5 × 4 × 3 uint8, arm 2 float32" in page


def test_a_world_and_its_log_must_agree() -> None:
    pytest.importorskip("gymnasium_robotics")
    task = find_task("pointmaze-umaze-pixels")
    parts = task.spec.parts
    assert [p.name for p in parts] == ["pixels", "velocity"]
    rng = np.random.default_rng(0)
    seen = {p.name: rng.integers(0, 255, (3, *p.shape)).astype(p.dtype) for p in parts}
    log = {"observation": seen, "action": np.zeros((2, 2), "f4"), "reward": np.zeros(2)}
    good = GymTask.custom(task.env, from_episodes([log]), keys=task.keys, horizon=9, options=dict(task.options))
    assert good.dataset() is not None
    other = from_episodes([{**log, "observation": dict(reversed(seen.items()))}])
    bad = GymTask.custom(task.env, other, keys=task.keys, horizon=9, options=dict(task.options))
    with pytest.raises(SegueError, match="name the same keys in the same order"):
        bad.dataset()


def test_a_world_repeats_its_pictures() -> None:
    pytest.importorskip("gymnasium_robotics")
    task = find_task("pointmaze-umaze-pixels")
    seen = []
    for _ in range(2):
        world = task.make_env()
        rows = [world.reset(3), *(world.step(np.array([0.5, -1.0]))[0] for _ in range(20))]
        seen.append(np.stack(rows))
        world.close()
    np.testing.assert_array_equal(*seen)
    pixels = unpacked(task.spec.parts, seen[0])["pixels"].astype(int)
    assert (pixels[0] != pixels[-1]).any()  # it has moved
    red = (pixels[..., 0] > 150) & (pixels[..., 1] < 60)
    np.testing.assert_array_equal(red[0], red[-1])
    assert red[0, :16].any()  # the goal, at the top
    assert not red[0, 16:].any()


def test_its_log_comes_from_the_same_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A logged state and action lead to the logged picture and velocity."""
    pytest.importorskip("gymnasium_robotics")
    from segue.data import make_pointmaze_pixels

    monkeypatch.setenv("SEGUE_CACHE", str(tmp_path))
    data, task = make_pointmaze_pixels("umaze", 60), find_task("pointmaze-umaze-pixels")
    with h5py.File(next(tmp_path.glob("*.hdf5"))) as file:
        states = file["infos/state"][: len(data)]
    world: Any = task.make_env()
    point = world.env.unwrapped.point_env
    for row in (0, 7, 30, 50):
        assert not (data.terminated | data.truncated)[row]
        world.reset(0)
        point.data.qpos[:], point.data.qvel[:] = states[row, :2], states[row, 2:]
        parts = unpacked(task.spec.parts, world.step(data.action[row].astype(np.float64))[0])
        logged = unpacked(task.spec.parts, data.next_observation[row])
        np.testing.assert_allclose(parts["velocity"], logged["velocity"], atol=1e-4)
        assert np.abs(parts["pixels"].astype(int) - logged["pixels"]).max() <= 2


def without_display(lines: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a program where nothing is said of what to draw with."""
    hidden = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")
    plain = {key: value for key, value in os.environ.items() if key not in hidden}
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], env=plain, capture_output=True, text=True)


def test_who_imports_mujoco_first_is_told_so() -> None:
    """And the process lives on."""
    pytest.importorskip("gymnasium_robotics")
    lines = (
        "import mujoco",
        "from segue import SegueError, find_task",
        "for _ in range(3):",
        "    try:",
        "        find_task('pointmaze-umaze-pixels').make_env()",
        "    except SegueError as error:",
        "        print('import segue first' in str(error))",
    )
    done = without_display(lines)
    assert (done.returncode, done.stdout.split()) == (0, ["True"] * 3), done.stderr


def test_worlds_move_where_no_picture_can_be_drawn() -> None:
    """As on a server with a GPU and no libraries for drawing: physics run, and a picture says what is missing."""
    pytest.importorskip("gymnasium_robotics")
    lines = (
        "import ctypes",
        "load = ctypes.CDLL.__init__",
        "def without(self, name, *args, **options):",
        "    if any(library in str(name) for library in ('EGL', 'OSMesa')):",
        "        raise OSError(name)",
        "    load(self, name, *args, **options)",
        "ctypes.CDLL.__init__ = without",
        "from segue import SegueError, find_task",
        "world = find_task('pointmaze-umaze').make_env()",
        "world.reset(seed=0)",
        "world.step([1.0] * world.action_size)",
        "print('moved')",
        "try:",
        "    find_task('pointmaze-umaze-pixels').make_env()",
        "except SegueError as error:",
        "    print('install EGL' in str(error))",
    )
    done = without_display(lines)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["moved", "True"]), done.stderr
