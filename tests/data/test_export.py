"""What is written for others comes back equal, and nothing is written over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.core.types import SegueError
from segue.data.export import export_minari, export_npz
from segue.data.readers import open_source
from segue.data.recorded import Recorded
from tests.data.formats import found, made, same, write_minari


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5), image=st.booleans(), seed=st.integers(0, 2**31))
def test_exports_come_back(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], image: bool, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("export")
    log = made(seed, lengths, (40, 40, 3) if image else ())  # so large that Minari would store JPEGs
    log = [replace(e, success=np.nan if i % 3 else [0.0, 0.25, 1.0][i % 2 + (len(e) > 2)]) for i, e in enumerate(log)]
    export_npz(log, folder / "log.npz")
    same(found(f"npz:{folder / 'log.npz'}"), log)
    apart = replace(log[0], observation=log[0].current, next_observation=log[0].following[::-1].copy())
    export_npz([apart], folder / "apart.npz")
    same(found(f"npz:{folder / 'apart.npz'}"), [apart])
    same(found(write_minari(folder, log)), log, exact=False)


def test_exports_refuse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = made(0, [3])

    def broken() -> Iterator[Recorded]:
        yield log[0]
        raise SegueError("the log ends in the middle")

    for episodes, says in ((broken(), "in the middle"), ([], "no episode with at least one step")):
        with pytest.raises(SegueError, match=says):
            export_npz(episodes, tmp_path / "log.npz")
    with pytest.raises(SegueError, match=r"episode 1 has actions of \(3,\) float32, those before it of \(2,\)"):
        export_npz([*log, replace(log[0], action=np.zeros((3, 3), np.float32))], tmp_path / "log.npz")
    assert not list(tmp_path.iterdir())
    export_npz(log, tmp_path / "log.npz")
    with pytest.raises(SegueError, match="exists; remove it"):
        export_npz(log, tmp_path / "log.npz")
    with pytest.raises(SegueError, match="cannot be written"):
        export_npz(log, tmp_path / "log.npz" / "log.npz")

    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    for name in ("../a-v0", "a", "a/b c-v0"):
        with pytest.raises(SegueError, match="not a Minari id"):
            export_minari(log, {}, name)
    with pytest.raises(SegueError, match="in the middle"):
        export_minari(broken(), {}, "segue/made-v0")
    with pytest.raises(SegueError, match="Minari cannot store"):
        export_minari([replace(log[0], observation=log[0].current, next_observation=log[0].current)], {}, "made-v0")
    assert not list(tmp_path.glob("**/made-v0"))
    export_minari(log, {}, "segue/made-v0")
    with pytest.raises(SegueError, match="exists in"):
        export_minari(log, {}, "segue/made-v0")


def test_a_known_environment_goes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    known = {"env_id": "Pendulum-v1", "env_kwargs": {"g": 9.0}, "max_episode_steps": 50}
    export_minari(made(0, [3]), {"environment": known, "authors": ["one"]}, "pendulum/made-v0")
    facts = open_source("minari:pendulum/made-v0").facts
    assert {key: facts["environment"][key] for key in known} == known
    export_minari(made(0, [3]), {"environment": {"env_id": "Unheard-v9"}}, "pendulum/made-v1")
    assert open_source("minari:pendulum/made-v1").facts["environment"] is None


@pytest.mark.parametrize("name", ["hopper-medium", "antmaze-umaze-diverse"])
def test_real_logs(name: str, shared_data: Path, tmp_path: Path) -> None:
    """A real file says the same in every form."""
    path = shared_data / f"{name}.hdf5"
    want = [e for _, e in zip(range(60), open_source(f"d4rl:{path}").episodes)]
    with h5py.File(path, "r") as file:
        columns = {key: file[key][()] for key in ("observations", "actions", "rewards", "terminals", "timeouts")}
    np.savez(tmp_path / "log.npz", **columns)
    got = [e for _, e in zip(want, open_source(f"npz:{tmp_path / 'log.npz'}").episodes)]
    same(got, want, final=False, success=False)
    export_npz(want, tmp_path / "again.npz")
    same(found(f"npz:{tmp_path / 'again.npz'}"), want)
