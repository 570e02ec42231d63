"""A policy goes to a hub and comes back, against a server of the tests' own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import segue
from segue.agents import TD3
from segue.cli.main import command
from segue.core import files
from segue.core.scaling import Scaling
from segue.deploy.hub import own_parts
from tests.deploy.hub_server import Hub, serving
from tests.deploy.test_export import SCALING, SPEC, bundle

TOKEN = "hf_tests"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub")
    with serving(TOKEN) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        yield server


def test_a_policy_goes_and_comes_back(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, back = bundle(tmp_path, TD3(actor_hidden=(8,), critic_hidden=(8,)), SPEC, SCALING), tmp_path / "back"
    assert command(["push", str(folder), "me/reach"]) == 0
    assert hub.repos["me/reach"]["private"] is True
    assert {*hub.repos["me/reach"]["files"]} == {"policy.json", "weights.safetensors", "README.md"}
    assert "sent: http" in capsys.readouterr().out
    assert command(["pull", "me/reach", "--out", str(back)]) == 0
    assert {x.name for x in back.iterdir()} == {"policy.json", "weights.safetensors", "README.md"}
    given = np.ones((2, 5), np.float32)
    np.testing.assert_array_equal(segue.load(back, 7).act(given), segue.load(folder, 7).act(given))
    assert command(["push", str(back), "me/shown", "--public"]) == 0
    assert hub.repos["me/shown"]["private"] is False
    capsys.readouterr()
    assert command(["pull", "me/reach", "--out", str(back)]) == 1
    assert "exists; remove it" in capsys.readouterr().err


def test_what_goes_wrong_is_one_line(
    hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = bundle(tmp_path, TD3(actor_hidden=(8,), critic_hidden=(8,)), SPEC, Scaling())

    def said(*words: str) -> str:
        assert command(list(words)) == 1
        lines = capsys.readouterr().err.replace("\r", "\n").splitlines()  # the Hub's package may show its progress
        (line,) = [line for line in lines if line.startswith("segue:")]
        return line

    out = str(tmp_path / "out")
    assert "RepositoryNotFoundError" in said("pull", "me/none", "--out", out)
    assert command(["push", str(folder), "me/reach"]) == 0
    hub.repos["me/reach"]["files"]["weights.safetensors"] += b"\0"
    capsys.readouterr()
    assert "segue: me/reach: no readable policy (SafetensorError)" in said("pull", "me/reach", "--out", out)
    assert not Path(out).exists()
    assert "no readable policy" in said("push", str(tmp_path / "none"), "me/reach")
    monkeypatch.setenv("HF_TOKEN", "another")
    assert "HF_TOKEN" in said("push", str(folder), "me/reach")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert "segue push me/reach: " in said("push", str(folder), "me/reach")


def test_own_parts_are_named(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Loading would import them, so that whoever pulls hears of them first."""
    folder = bundle(tmp_path, TD3(actor_hidden=(8,), critic_hidden=(8,)), SPEC, Scaling())
    described = json.loads((folder / "policy.json").read_text())
    described["agent"]["networks"]["actor"] = "elsewhere:make"
    del described[files.SEAL]
    (folder / "policy.json").write_text(json.dumps(files.sealed(described)))
    assert [*own_parts(described["agent"])] == ["elsewhere:make"]
    assert command(["push", str(folder), "me/reach"]) == 0
    assert command(["pull", "me/reach", "--out", str(tmp_path / "back")]) == 0
    assert "loading it imports elsewhere:make" in capsys.readouterr().out
