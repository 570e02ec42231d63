"""What `resume` and `report` say about folders that are no runs, finished, damaged or changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from segue import experiment
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
    assert "not one of Segue's" in mistake("resume", tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["run.json"]


def test_report_of_what_is_no_run(mistake, tmp_path: Path) -> None:
    assert "no run.json here" in mistake("report", tmp_path)
    (tmp_path / "run.json").write_text("{}")
    assert "no run of Segue" in mistake("report", tmp_path)


def test_a_used_folder(mistake, reference: Path, tmp_path: Path) -> None:
    words = ("run", "cal-ql", "pointmaze-umaze", "--out")
    assert f"already holds a run; give another --out, or `segue resume {reference}`" in mistake(*words, reference)
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
    damage(sorted((run_copy / "replay").iterdir())[0])
    assert "log of experience is damaged" in mistake("resume", run_copy)
    for path in checkpoints:
        damage(path / "state.safetensors")
    before = (run_copy / "metrics.jsonl").read_bytes()
    assert "every checkpoint is damaged" in mistake("resume", run_copy)
    assert (run_copy / "metrics.jsonl").read_bytes() == before


def test_a_lost_log(mistake, run_copy: Path) -> None:
    (run_copy / "metrics.jsonl").unlink()
    assert "no row ends at byte" in mistake("resume", run_copy)


def test_another_dataset(mistake, run_copy: Path) -> None:
    described = json.loads((run_copy / "run.json").read_text())
    described["provenance"]["dataset"]["sha256"] = "0" * 64
    edit(run_copy, **described)
    assert "dataset of 'pointmaze-umaze' is not the one" in mistake("resume", run_copy)


def test_another_version(mistake, run_copy: Path) -> None:
    described = json.loads((run_copy / "run.json").read_text())
    described["config"]["online.batch.online"]["value"] = 77
    described["config"]["online.batch.visible"]["source"] = "elsewhere"  # the same number is no change
    edit(run_copy, **(described | {"segue": "0.0.1"}))
    err = mistake("resume", run_copy)
    assert "differs from the run's in online.batch.online; " in err
    assert "resume with segue 0.0.1" in err

    edit(run_copy, **described)
    assert "put the recipe's numbers back, or start a new run" in mistake("resume", run_copy)


def test_a_read_only_folder(mistake, run_copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_copy / ".lock").unlink()
    (run_copy / ".lock").mkdir()  # root may write anywhere, but not here
    assert "cannot write here" in mistake("resume", run_copy)


def test_a_relative_dataset_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert experiment.lasting("hdf5:a/b.hdf5?reward=binary") == f"hdf5:{tmp_path}/a/b.hdf5?reward=binary"
    assert experiment.lasting("pointmaze-umaze") == "pointmaze-umaze"
