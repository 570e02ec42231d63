"""A run that was stopped or killed, whenever, ends with the numbers that it would have had."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path

from safetensors.numpy import load_file

from tests.cli.conftest import RUN, rows


def until(process: subprocess.Popen[str], condition, seconds: float = 120.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"the run ended too soon: {process.communicate()}"
        assert time.monotonic() < end
        time.sleep(0.01)


def stands(folder: Path, phase: int, step: int) -> bool:
    """Whether a checkpoint from the middle of a phase is there, and a later row."""
    for path in (folder / "checkpoints").glob("[0-9]*/manifest.json"):
        try:
            manifest = json.loads(path.read_text())
        except (OSError, ValueError):
            continue  # a newer one has just replaced it
        if len(manifest["history"]) == phase and manifest["step"] > 0:
            return any(
                r["phase_index"] == phase and r["phase_step"] >= max(step, manifest["step"]) for r in rows(folder)
            )
    return False


def same_as(reference: Path, folder: Path) -> None:
    ours, theirs = (load_file(f / "policy" / "weights.safetensors") for f in (folder, reference))
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert ours[name].tobytes() == array.tobytes(), name
    assert (folder / "policy/weights.safetensors").read_bytes() == (
        reference / "policy/weights.safetensors"
    ).read_bytes()
    assert rows(folder) == rows(reference)
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
    assert (folder / "report.html").exists()


def status(folder: Path) -> str:
    return json.loads((folder / "run.json").read_text())["status"]


def test_a_run_is_the_same_however_often_it_is_stopped_and_killed(
    launch, segue, reference: Path, tmp_path: Path
) -> None:
    """While it compiles, in both of its phases, by signals that it hears and by one that it does not."""
    folder = tmp_path / "run"

    def ended(process: subprocess.Popen[str], number: signal.Signals) -> tuple[str, str]:
        process.send_signal(number)
        return process.communicate(timeout=120)

    def asked(process: subprocess.Popen[str], number: signal.Signals, code: int) -> None:
        out, err = ended(process, number)
        assert process.returncode == code
        assert f"continue with `segue resume {folder}`" in out
        assert "stopping at the next safe point" in err
        assert "Traceback" not in err
        assert status(folder) == "interrupted"

    def killed(process: subprocess.Popen[str]) -> None:
        ended(process, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL
        assert status(folder) == "running"
        assert 0 < len(rows(folder)) < len(rows(reference))

    process = launch(*RUN, "--out", folder, SEGUE_SAVE_EVERY="1000")
    until(process, lambda: len(rows(folder)) > 1)  # it compiles the offline phase
    asked(process, signal.SIGINT, 130)

    before = len(rows(folder))
    process = launch("resume", folder)
    until(process, lambda: len(rows(folder)) > before and stands(folder, 0, 300))
    killed(process)

    folder = folder.rename(tmp_path / "elsewhere")  # a run's folder may be moved
    process = launch("resume", folder, SEGUE_SAVE_EVERY="1000")
    until(process, lambda: any(r["phase_index"] == 1 and r["phase_step"] >= 100 for r in rows(folder)))
    asked(process, signal.SIGTERM, 143)

    before = len(rows(folder))
    process = launch("resume", folder)
    until(process, lambda: len(rows(folder)) > before and stands(folder, 1, 200))
    killed(process)

    code, out, err = segue("resume", folder)
    assert (code, err) == (0, "")
    assert str(folder) in out
    same_as(reference, folder)


def test_one_process_at_a_time(launch, segue, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = launch(*RUN, "--out", folder)
    until(process, lambda: (folder / "run.json").exists())
    code, _, err = segue("resume", folder)  # while the first process is at work
    assert code == 1
    assert err.count("\n") == 1
    assert "another process is at work" in err
    process.kill()
    process.communicate()


def test_the_log_is_plain(reference: Path) -> None:
    text = (reference.parent / "stdout.txt").read_text()
    assert all(line.isprintable() for line in text.splitlines())
    lines = text.splitlines()
    assert lines[-1] == f"report: {reference / 'report.html'}"
    assert re.search(r"finished in \d+:\d\d:\d\d", lines[-2])
    assert len([line for line in lines if "handover, " in line]) == 2
    assert not [line for line in lines if "| - " in line or "ETA phase ?" in line]


def test_run_json_is_strict(reference: Path) -> None:
    def validate(word: str) -> None:
        raise AssertionError(word)

    described = json.loads((reference / "run.json").read_text(), parse_constant=validate)
    assert described["seeds"] == [0, 1]
    assert described["config"]["online.environment_steps"] == {"value": 400, "source": "settings"}
    assert described["provenance"]["versions"]["jax"]
    assert len(described["provenance"]["dataset"]["sha256"]) == 64
    for line in (reference / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=validate)
