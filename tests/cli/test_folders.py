"""What `resume` and `report` say about folders that are no runs, finished, damaged or changed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from segue.core.types import SegueError
from segue.runs import request
from segue.runs.policy import load
from tests.cli.conftest import edit, rows


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"xyz")


def test_resume_of_what_is_no_run(mistake, tmp_path: Path) -> None:
    assert "is not a run" in mistake("resume", tmp_path / "nowhere")
    assert "is not a run" in mistake("resume", tmp_path)
    (tmp_path / "run.json").write_text('{"status": "runn')
    assert "is not a run" in mistake("resume", tmp_path)
    (tmp_path / "run.json").write_text('{"status": "running"}')
    assert "not written by Segue" in mistake("resume", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_report_of_what_is_no_run(mistake, tmp_path: Path) -> None:
    assert "no run.json here" in mistake("report", tmp_path)
    (tmp_path / "run.json").write_text("{}")
    assert "not a run of Segue" in mistake("report", tmp_path)


def test_a_used_folder(mistake, reference: Path, tmp_path: Path) -> None:
    words = ("run", "cal-ql", "pointmaze-umaze", "--out")
    assert f"already holds a run; give another --out, or `segue resume {reference}`" in mistake(*words, reference)
    spaced = tmp_path / "my run"  # a command that is suggested can be pasted
    spaced.mkdir()
    (spaced / "run.json").touch()
    assert f"`segue resume '{spaced}'`" in mistake(*words, spaced)
    shutil.rmtree(spaced)
    (tmp_path / "notes.txt").touch()
    assert "is not empty" in mistake(*words, tmp_path)
    assert "cannot make this folder" in mistake(*words, tmp_path / "notes.txt")
    assert "cannot make this folder" in mistake(*words, tmp_path / "notes.txt" / "run")


def test_a_finished_run_and_its_report(mistake, say, run_copy: Path) -> None:
    edit(run_copy, status="finished")
    (run_copy / "report.html").unlink()
    assert f"`segue report {run_copy}` writes its report again" in mistake("resume", run_copy)
    code, out, _ = say("report", run_copy / ".." / run_copy.name, run_copy)  # one run, and no comparison
    assert (code, out) == (0, f"report: {run_copy / 'report.html'}\n")
    assert (run_copy / "report.html").exists()


def test_a_crash_between_the_last_checkpoint_and_the_report(say, run_copy: Path, reference: Path) -> None:
    (run_copy / "report.html").unlink()
    code, out, _ = say("resume", run_copy)
    assert code == 0
    assert "report: " in out
    assert rows(run_copy) == rows(reference)
    assert json.loads((run_copy / "run.json").read_text())["status"] == "finished"


def test_damage(mistake, run_copy: Path) -> None:
    checkpoints = sorted((run_copy / "checkpoints").iterdir())
    log = sorted((run_copy / "replay").iterdir())[0]
    damage(log)
    assert f"{log} is damaged, and every older checkpoint is damaged or needs it" in mistake("resume", run_copy)
    for path in checkpoints:
        damage(path / "state.safetensors")
    before = (run_copy / "metrics.jsonl").read_bytes()
    assert f"{checkpoints[-1] / 'state.safetensors'} is damaged" in mistake("resume", run_copy)
    assert (run_copy / "metrics.jsonl").read_bytes() == before


def test_a_damaged_policy(run_copy: Path) -> None:
    for name in ("policy.json", "weights.safetensors"):
        path = run_copy / "policy" / name
        content = path.read_bytes()
        flipped = (
            content.replace(b'"reward_scale": 10.0', b'"reward_scale": 18.0')
            if name == "policy.json"
            else content[:-1] + b"x"
        )
        assert flipped != content
        path.write_bytes(flipped)
        with pytest.raises(SegueError, match=f"{name}: is damaged"):
            load(run_copy)
        path.write_bytes(content)
    load(run_copy)


def test_a_policy_is_there_when_its_replacement_was_killed(run_copy: Path) -> None:
    (run_copy / "policy").rename(run_copy / ".policy-old")  # between the two renames
    load(run_copy)


def test_files_have_the_mode_of_the_umask(run_copy: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    files = [p for p in run_copy.rglob("*") if p.is_file() and p.name != ".lock"]
    assert {p.name: oct(p.stat().st_mode & 0o777) for p in files} == {p.name: oct(0o666 & ~mask) for p in files}


def test_settings_that_change_in_the_middle(mistake, say, run_copy: Path) -> None:
    """The reference run stands at its end here, so that nothing of it is still to come; one stopped before goes on."""
    assert "changes nothing in phases that are not finished (finished: offline, online)" in mistake(
        "resume", run_copy, "--set", "agent.actor_learning_rate=1e-5"
    )
    newest, older = sorted((run_copy / "checkpoints").iterdir(), reverse=True)
    shutil.rmtree(newest)
    standing = json.loads((older / "manifest.json").read_text())
    assert "a run's length cannot change" in mistake("resume", run_copy, "--set", "online.environment_steps=500")
    assert "scaling.reward_scale: cannot change in a run that has begun" in mistake(
        "resume", run_copy, "--set", "scaling.reward_scale=2"
    )
    code, out, err = say("resume", run_copy, "--set", "agent.actor_learning_rate=1e-5")
    assert (code, err) == (0, "")
    described = json.loads((run_copy / "run.json").read_text())
    (change,) = described["provenance"]["changes"]
    assert change["phase"] == "online"
    assert change["step"] == standing["step"]
    path = "online.learner.actor_learning_rate"
    assert change["settings"] == {path: [3e-4, 1e-5]}
    assert described["config"][path]["value"] == 1e-5
    assert described["config"]["offline.learner.base.actor_learning_rate"]["value"] == 3e-4
    assert "provenance.changes" not in out
    assert path in (run_copy / "report.html").read_text()
    edit(run_copy, status="interrupted")
    assert say("resume", run_copy)[0] == 0  # and the run has these numbers from now on


def test_a_lost_log(mistake, run_copy: Path) -> None:
    (run_copy / "metrics.jsonl").unlink()
    assert "metrics.jsonl was changed after the checkpoint, and every older checkpoint" in mistake("resume", run_copy)


def test_another_dataset(mistake, run_copy: Path) -> None:
    described = json.loads((run_copy / "run.json").read_text())
    described["provenance"]["dataset"]["sha256"] = "0" * 64
    edit(run_copy, **described)
    assert "dataset of 'pointmaze-umaze' is not the one" in mistake("resume", run_copy)


def test_another_version(mistake, run_copy: Path) -> None:
    described = json.loads((run_copy / "run.json").read_text())
    described["config"]["online.batch.batch"]["value"] = 77
    described["config"]["online.batch.visible"]["source"] = "elsewhere"  # the same number is no change
    edit(run_copy, **(described | {"segue": "0.0.1"}))
    err = mistake("resume", run_copy)
    assert "differs from the run's in online.batch.batch; " in err
    assert "resume with segue 0.0.1" in err

    edit(run_copy, **described)
    assert "put the recipe's numbers back, or start a new run" in mistake("resume", run_copy)


def test_a_read_only_folder(mistake, run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_copy / ".lock").unlink()
    (run_copy / ".lock").mkdir()  # root may write anywhere, but not here
    assert "cannot write here" in mistake("resume", run_copy)


def test_a_relative_dataset_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert request.lasting("hdf5:a/b.hdf5?reward=binary") == f"hdf5:{tmp_path}/a/b.hdf5?reward=binary"
    assert request.lasting("pointmaze-umaze") == "pointmaze-umaze"
