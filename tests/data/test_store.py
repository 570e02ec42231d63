"""The store: what goes in comes out, whole or not at all, and rows on the disk are the rows in memory."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.core.types import SegueError
from segue.data.arrays import end_at_success
from segue.data.recorded import Recorded, data_of, episodes_of
from segue.data.store import DiskRows, dataset, find_stored, save, stored_names

COLUMNS = ("observation", "action", "reward", "terminated", "truncated", "next_observation")


def made(rng: np.random.Generator, steps: int, apart: bool, image: bool = False) -> Recorded:
    row = (4, 3, 2) if image else (3,)
    draw = lambda n: rng.integers(0, 255, (n, *row), np.uint8) if image else rng.normal(size=(n, *row)).astype("f4")  # noqa: E731
    return Recorded(
        draw(steps if apart else steps + 1),
        rng.uniform(-1, 1, (steps, 2)).astype("f4"),
        rng.normal(size=steps).astype("f4"),
        bool(rng.integers(2)),
        float(rng.choice([0.0, 1.0, np.nan])),
        draw(steps) if apart else None,
        str(rng.choice(["a", "b"])),
    )


def same(one: Any, other: Any) -> None:
    for name in COLUMNS:
        a, b = np.asarray(getattr(one, name)), np.asarray(getattr(other, name))
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b, err_msg=name)


@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=6),
    apart=st.lists(st.booleans(), min_size=6, max_size=6),
    image=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], apart: list[bool], image: bool, seed: int
) -> None:
    """Whether next observations follow or stand apart, in memory or on the disk; the hash is the same in all forms."""
    rng = np.random.default_rng(seed)
    episodes = [made(rng, n, a, image) for n, a in zip(lengths, apart)]
    stored = save(tmp_path_factory.mktemp("store") / "x", episodes, {"source": "made"})
    stored = find_stored(str(stored.folder))
    whole = data_of(episodes, "made")
    for resident in (True, False):
        data = stored.data(resident)
        same(data, whole)
        assert data.sha256() == replace(data, digest=None).sha256() == whole.sha256() == stored.facts["sha256"]
    stored.verify()
    for together in (1, 150, dataset.CHUNK):  # bytes of episodes that are read in one go
        with mock.patch.object(dataset, "CHUNK", together):
            for got, want in zip(stored.episodes(), episodes, strict=True):
                np.testing.assert_array_equal(got.current, want.current)
                np.testing.assert_array_equal(got.following, want.following)
                np.testing.assert_array_equal(got.action, want.action)
                np.testing.assert_array_equal(got.reward, want.reward)
                assert (got.terminated, got.source) == (want.terminated, want.source)
                np.testing.assert_equal(got.success, want.success)
    same(data_of(episodes_of(whole), "again"), whole)
    rows = stored.data(False).observation
    assert isinstance(rows, DiskRows)
    n = len(whole)
    for index in (0, -1, n - 1, slice(None), slice(1, n, 2), rng.integers(-n, n, 7), rng.integers(0, n, (2, 3)), []):
        picked = whole.observation[np.asarray(index, int) if isinstance(index, list) else index]
        np.testing.assert_array_equal(rows[index], picked)
    with pytest.raises(IndexError):
        rows[n]


def test_the_hash_knows_where_episodes_end_and_how() -> None:
    rng = np.random.default_rng(0)
    one, other = replace(made(rng, 3, True), terminated=False), made(rng, 2, True)
    joined = Recorded(
        *(np.concatenate([getattr(one, k), getattr(other, k)]) for k in ("observation", "action", "reward")),
        other.terminated,
        next_observation=np.concatenate([one.following, other.following]),
    )
    hashes = [data_of(x, "x").sha256() for x in ([one, other], [joined], [replace(one, terminated=True), other])]
    assert len(set(hashes)) == 3


def test_success_that_ends_an_episode_is_another_dataset(tmp_path: Path) -> None:
    """What is read from the store knows its hash already, and must not keep it."""
    data = save(tmp_path / "x", [replace(made(np.random.default_rng(0), 5, True), terminated=False)], {}).data()
    hit = end_at_success(data, float(data.reward[2]))
    assert hit.ends().tolist() == [3, 5]
    assert hit.sha256() != data.sha256()


def test_whole_or_absent(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)

    def broken() -> Iterator[Recorded]:
        yield made(rng, 3, False)
        raise SegueError("the log ends in the middle")

    with pytest.raises(SegueError, match="in the middle"):
        save(tmp_path / "x", broken(), {})
    assert not list(tmp_path.iterdir())
    with pytest.raises(SegueError, match="no episode with at least one step"):
        save(tmp_path / "x", [], {})
    first = save(tmp_path / "x", [made(rng, 3, False)], {})
    with pytest.raises(SegueError, match="exists in"):
        save(tmp_path / "x", [made(rng, 4, False)], {})
    with pytest.raises(SegueError, match="in the middle"):
        save(tmp_path / "x", broken(), {}, replace=True)
    assert find_stored(str(tmp_path / "x")).facts == json.loads(json.dumps(first.facts))
    second = save(tmp_path / "x", [made(rng, 4, False)], {}, replace=True)
    assert (len(second), [p.name for p in tmp_path.iterdir()]) == (4, ["x"])
    wrong = replace(made(rng, 2, False), action=np.zeros((2, 5), np.float32))
    with pytest.raises(SegueError, match=r"episode 1: 'action' has rows of \(5,\) float32"):
        save(tmp_path / "y", [made(rng, 2, False), wrong], {})


def test_a_kill_while_a_dataset_is_replaced_leaves_the_old_one_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every step; and what is left can be replaced again."""
    monkeypatch.setenv("SEGUE_DATASETS", str(tmp_path))
    rng, steps = np.random.default_rng(0), 0

    class Killed(BaseException):
        pass

    def dying(function: Any, after: int) -> Any:
        def step(*words: Any, **named: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps > after:
                raise Killed
            return function(*words, **named)

        return step

    save(tmp_path / "x", [made(rng, 1, False)], {})
    length, kills = 1, 0
    while True:
        steps, before = 0, length
        with monkeypatch.context() as patch, contextlib.suppress(Killed):
            for module, name in ((os, "rename"), (os, "replace"), (Path, "unlink"), (shutil, "rmtree")):
                patch.setattr(module, name, dying(getattr(module, name), kills))
            save(tmp_path / "x", [made(rng, before + 1, False)], {}, replace=True)
        assert stored_names() == ["x"]
        found = find_stored("x")
        found.verify()
        length = len(found)
        assert length in (before, before + 1)
        assert find_stored("x").data().observation.shape == (length, 3)
        if steps <= kills:
            break
        kills += 1
    assert kills >= 4
    assert length == before + 1
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".x.") or p.name == ".x-old"] == ["x"]


def test_files_are_looked_at_again_when_they_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorded hash is trusted while sizes and times of change say that nothing has happened."""
    rng, verified = np.random.default_rng(0), []
    stored = save(tmp_path / "x", [made(rng, 30, False)], {})
    hashed = type(stored).verify
    monkeypatch.setattr(type(stored), "verify", lambda self: (verified.append(1), hashed(self))[1])
    for _ in range(2):
        find_stored(str(stored.folder)).data()
    assert not verified
    for path in sorted(stored.folder.glob("*.npy")):
        sound, was = path.read_bytes(), path.stat()
        path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
        for _ in range(2):
            with pytest.raises(SegueError, match=f"{path.name}: is damaged .*; restore it from a backup, or import"):
                find_stored(str(stored.folder)).data()
        path.write_bytes(sound)
        find_stored(str(stored.folder)).data()
        count = len(verified)
        find_stored(str(stored.folder)).data()
        assert len(verified) == count
        os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns + 5))
    (stored.folder / "verified.json").unlink()  # as an older Segue left it
    data = find_stored(str(stored.folder)).data()
    assert (stored.folder / "verified.json").exists()
    # Damage that no time of change gives away is found by whom it must not deceive: a resumed run.
    assert replace(data, reward=-data.reward).sha256() == data.sha256() == data.sha256(anew=True)
    assert replace(data, reward=-data.reward).sha256(anew=True) != data.sha256()
    described = stored.folder / "dataset.json"
    described.write_text(described.read_text().replace(data.sha256(), "0" * 64))
    with pytest.raises(SegueError, match=r"does not match the hash in dataset.json; restore"):
        find_stored(str(stored.folder)).data()


def test_damage_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_DATASETS", str(tmp_path))
    rng = np.random.default_rng(0)
    stored = save(tmp_path / "x", [made(rng, 30, False)], {})
    assert stored_names() == ["x"]
    path = stored.folder / "reward.npy"
    sound = path.read_bytes()
    path.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))
    with pytest.raises(SegueError, match=r"reward.npy: is damaged \(its SHA-256 differs\); restore it from a backup"):
        find_stored("x").verify()
    path.write_bytes(sound[:-8])
    with pytest.raises(SegueError, match="missing or broken"):
        find_stored("x").data()
    np.save(path, np.zeros(29, np.float32))
    with pytest.raises(SegueError, match=r"holds \(29,\) float32 instead of \(30,\)"):
        find_stored("x").data()
    lazy = find_stored("x")
    path.write_bytes(sound)
    rows = lazy.data(resident=False).observation
    (stored.folder / "observation.npy").write_bytes(b"short")
    with pytest.raises(SegueError, match="ends before its rows do"):
        rows[29]
    (stored.folder / "dataset.json").write_text("{}")
    with pytest.raises(SegueError, match="cannot be read"):
        find_stored("x")
    (stored.folder / "dataset.json").write_text('{"format": 1, "columns": {}}')
    with pytest.raises(SegueError, match="no 'episodes'"):
        find_stored("x")
    (stored.folder / "dataset.json").write_text('{"format": 99}')
    with pytest.raises(SegueError, match="newer Segue"):
        find_stored("x")
    with pytest.raises(SegueError, match=r"no dataset 'y' in .* \(there: x\)"):
        find_stored("y")
