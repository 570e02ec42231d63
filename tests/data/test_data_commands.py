"""`segue data` from a user's file to a mended copy and out again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segue.cli.main import command
from segue.core.types import SegueError
from segue.data import keep
from segue.data.store import find_stored
from segue.tasks import find_task


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGUE_DATASETS", str(tmp_path / "store"))
    monkeypatch.setenv("SEGUE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SEGUE_OFFLINE", "1")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "jax"))
    monkeypatch.delenv("SEGUE_DATA", raising=False)
    return tmp_path


def log(path: Path, episodes: int = 30, steps: int = 40) -> Path:
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(episodes * steps, 3)).cumsum(axis=0)
    seen[55] = np.nan
    ends = np.arange(len(seen)) % steps == steps - 1
    columns = {"obs": seen, "action": rng.uniform(-2, 2, (len(seen), 1)), "reward": rng.normal(size=len(seen))}
    np.savez(path, **columns, truncated=ends, next_obs=seen + rng.normal(size=seen.shape) * 0.1)
    return path


def test_a_file_from_the_doctor_to_a_copy_and_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = log(folder / "log.npz")
    assert command(["data", "import", f"npz:{path}?low=-2&high=2", "mine", "--env", "Pendulum-v1"]) == 0
    assert "mine: 1,200 transitions in 30 episodes" in capsys.readouterr().out
    assert command(["data", "check", "mine"]) == 1
    said = capsys.readouterr().out
    assert "error" in said
    assert "NaN" in said
    assert command(["data", "check", "mine", "--json", "--fix", "mended"]) == 1  # not all of it can be fixed
    out, _, tail = capsys.readouterr().out.partition("\nmended:")
    assert "remain and cannot be fixed safely" in tail
    assert "train on it" not in tail
    found = json.loads(out)
    assert "nan" in {f["code"] for f in found["findings"]}
    assert found["against"] == "data:mine?env=Pendulum-v1" or found["against"] == "data:mine"
    mended = find_stored("mended")
    assert mended.facts["mended"]["from"] == "mine"
    assert mended.facts["mended"]["sha256"] == find_stored("mine").facts["sha256"]
    assert len(mended) < 1200
    data = find_task("data:mended").dataset()
    assert data is not None
    with pytest.raises(SegueError, match="NaN or infinity"):
        find_task("data:mine").dataset()
    assert command(["data", "card", "mine"]) == 0
    page = (folder / "store" / "mine" / "card.html").read_text()
    assert "<h2>Findings</h2>" in page
    assert "NaN" in page
    out = folder / "out.npz"
    assert command(["data", "export", "mended", str(out)]) == 0
    assert command(["data", "import", f"npz:{out}", "again"]) == 0
    assert find_stored("again").facts["sha256"] == mended.facts["sha256"]
    capsys.readouterr()
    # A log may be looked at before it is imported.
    assert command(["data", "check", f"npz:{path}?low=-2&high=2"]) == 1
    assert "not checked" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["import", "npz:none.npz"], "give the dataset a name"),
        (["import", "hopper-medium-v3", "x"], "did you mean 'hopper-medium-v2'"),
        (["import", "hopper-medium-v2"], "SEGUE_OFFLINE is set"),
        (["import", "pen-binary-v0"], "is not published"),
        (["import", "npy:x", "x"], "there is no 'npy'; did you mean 'npz'"),
        (["import", "npz:x?colour=red", "x"], "there is no 'colour'"),
        (["check", "nothing"], "no dataset 'nothing'"),
        (["show", "nothing"], "import it with segue data import"),
        (["export", "mine", "mine.zip"], "is not a format"),
        (["chekc", "mine"], "did you mean 'check'"),
    ],
)
def test_mistakes(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    keep("mine", [{"observation": np.zeros((3, 1)), "action": np.zeros((2, 1)), "reward": np.zeros(2)}])
    assert command(["data", *words]) == 1
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


def test_a_users_own_episodes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)

    def episodes() -> object:
        for n in range(5):
            state = rng.normal(size=(n + 2, 3))
            yield {"observation": state, "action": np.tanh(state[:-1, :1]), "reward": state[1:, 0], "source": "arm"}

    stored = keep("arm", episodes(), env="Pendulum-v1")  # type: ignore[arg-type]
    assert len(stored) == 15
    assert stored.facts["parts"] == ["arm"]
    assert command(["data", "list"]) == 0
    assert "Pendulum-v1" in capsys.readouterr().out
    with pytest.raises(SegueError, match="episodes, episode 0: no 'reward'"):
        keep("other", [{"observation": np.zeros((2, 1)), "action": np.zeros((1, 1))}])
    with pytest.raises(SegueError, match="exists in"):
        keep("arm", [])
