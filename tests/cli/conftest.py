"""Runs of `segue` as its users start it, and one small run that many tests look at."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from segue.cli.main import command
from segue.runs import manifest

Said = tuple[int, str, str]
# Small networks: what is tested is the bookkeeping.  Phases last seconds, so that they can be killed.
TINY = (
    *("--seeds", "2", "--set", "offline.gradient_steps=4000", "online.environment_steps=400", "offline.log_every=100"),
    *("online.log_every=100", "offline.evaluate_every=0", "online.evaluate_every=200", "evaluation.episodes=1"),
    *("agent.actor_hidden=(16,)", "agent.critic_hidden=(16,)"),
)
RUN = ("run", "td3-bc", "pointmaze-umaze", *TINY)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What subprocesses see: one compilation cache and one dataset for all of them, and XLA's ordinary compiler."""
    folder = tmp_path_factory.mktemp("cache")
    return {
        **{k: v for k, v in os.environ.items() if k not in ("SEGUE_DATA", "XLA_FLAGS")},
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "SEGUE_CACHE": os.environ.get("SEGUE_CACHE", str(folder)),
        "SEGUE_SAVE_EVERY": "0.3",
    }


@pytest.fixture(scope="session")
def launch(environment: dict[str, str]) -> Callable[..., subprocess.Popen[str]]:
    """Start `segue` as a process of its own."""

    def start(*words: str | Path, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "segue", *map(str, words)],
            env=environment | more,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="session")
def segue(launch: Callable[..., subprocess.Popen[str]]) -> Callable[..., Said]:
    """Run `segue` as a process of its own; (exit code, stdout, stderr)."""

    def run(*words: str | Path, **more: str) -> Said:
        process = launch(*words, **more)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err

    return run


@pytest.fixture(scope="session")
def reference(segue: Callable[..., Said], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run that nothing has disturbed; look, do not touch."""
    folder = tmp_path_factory.mktemp("reference") / "run"
    code, out, err = segue(*RUN, "--out", folder)
    assert (code, err) == (0, ""), err
    (folder.parent / "stdout.txt").write_text(out)
    return folder


@pytest.fixture
def run_copy(reference: Path, tmp_path: Path) -> Path:
    """A copy of the reference run that was interrupted at its very end."""
    folder = tmp_path / "copy"
    shutil.copytree(reference, folder)
    edit(folder, status="interrupted")
    return folder


@pytest.fixture
def say(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `segue` in this process; (exit code, stdout, stderr)."""
    for name in ("SEGUE_CACHE", "JAX_COMPILATION_CACHE_DIR"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.delenv("SEGUE_DATA", raising=False)

    def run(*words: str | Path) -> Said:
        code = command([str(w) for w in words])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def mistake(say: Callable[..., Said]) -> Callable[..., str]:
    """Run words that are a mistake; the one line that says so."""

    def run(*words: str | Path) -> str:
        code, out, err = say(*words)
        assert code == 1
        assert not out
        assert err.startswith("segue: ")
        assert err.count("\n") == 1, err
        assert len(err) < 500
        return err

    return run


def edit(folder: Path, **changes: Any) -> None:
    """Change entries of a run's run.json, under a seal that fits."""
    manifest.write(folder, json.loads((folder / "run.json").read_text()) | changes)


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run but for the time they were written at; a torn last line is left out."""
    text = (folder / "metrics.jsonl").read_text() if (folder / "metrics.jsonl").exists() else ""
    return [
        {k: v for k, v in json.loads(line).items() if k != "wall_s"}
        for line in text.splitlines(keepends=True)
        if line.endswith("\n")
    ]
