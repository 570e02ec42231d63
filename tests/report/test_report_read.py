"""The reader: clocks, gaps, damage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from segue.core.types import SegueError
from segue.report import read_run, write_report
from segue.report.summary import summarise, verdict


def test_clocks_meet_at_the_switch(dipping: Path) -> None:
    run = read_run(dipping)
    assert (run.switch, run.offline_updates) == (1, 100)
    np.testing.assert_array_equal(run.evaluation.x, [-100, 0, 10, 20, 30, 40])
    np.testing.assert_array_equal(run.evaluation.online, [False, False, True, True, True, True])
    np.testing.assert_allclose(run.evaluation.values["success"][1], [0.1, 0.8, 0.3, 0.5, 0.9, 1.0])
    assert run.config["discount"].source == "default"


def test_summary_is_that_of_the_data(dipping: Path) -> None:
    summary = summarise(read_run(dipping), "success")
    assert summary.dip is not None
    np.testing.assert_allclose([summary.dip.value, summary.dip.depth, summary.dip.length], [0.8, 0.55, 30.0])
    np.testing.assert_allclose([one.depth for one in summary.dips], [0.6, 0.5])
    np.testing.assert_allclose(summary.final, [0.9, 1.0])
    np.testing.assert_allclose(summary.lowest, [0.2, 0.3])
    np.testing.assert_allclose(summary.failure_rate, [0.5, 0.5])  # successes above 0.5: two of four each
    np.testing.assert_allclose(summary.regret[0], 1 - (5 + 3.5 + 6.5 + 8.5) / 40)


def test_a_cut_last_line_is_left_out(dipping: Path) -> None:
    whole = read_run(dipping)
    with (dipping / "metrics.jsonl").open("ab") as file:
        file.write('{"kind": "evaluation", "phase": "é'.encode()[:-1])
    np.testing.assert_array_equal(read_run(dipping).evaluation.x, whole.evaluation.x)


def test_a_damaged_line_in_the_middle_is_named(dipping: Path) -> None:
    lines = (dipping / "metrics.jsonl").read_text().splitlines()
    lines[2] = lines[2][:20]
    (dipping / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(SegueError, match="line 3"):
        read_run(dipping)


def test_seeds_logged_apart_and_repeated_rows_become_one_column(make_run) -> None:
    folder = make_run(offline={10: [0.1, 0.2]})
    about = {"phase_index": 0, "phase_step": 1, "environment_step": 0, "update": 4, "wall_s": 1.0}
    rows = [
        {"kind": "evaluation", **about, "seeds": [5], "values": {"success": [0.7]}},
        {"kind": "evaluation", **about, "seeds": [3], "values": {"success": [None]}},
        {"kind": "evaluation", **about, "seeds": [5], "values": {"success": [0.8]}},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    np.testing.assert_array_equal(read_run(folder).evaluation.values["success"], [[np.nan], [0.8]])


def test_missing_diagnostics_and_points(make_run) -> None:
    missing = {"q_data": [None, 1.0], "return_fresh": [None, None]}
    (handover,) = read_run(make_run(offline={10: [0.5, 0.5]}, handover=missing)).handovers
    np.testing.assert_array_equal(handover.values["q_data"], [np.nan, 1.0])
    np.testing.assert_array_equal(handover.q, [1.0, 2.0])  # the pair with a null is left out


def test_no_online_part(make_run) -> None:
    run = read_run(make_run(offline={0: [0.1, 0.1], 50: [0.5, 0.5]}))
    assert run.switch is None
    np.testing.assert_array_equal(run.evaluation.x, [-50, 0])
    assert summarise(run, "success").dip is None


def test_no_offline_part(make_run) -> None:
    run = read_run(make_run(online={10: [0.1, 0.1], 20: [0.5, 0.5]}))
    assert (run.switch, run.offline_updates) == (0, 0)
    np.testing.assert_array_equal(run.evaluation.x, [10, 20])
    summary = summarise(run, "success")
    assert summary.dip is None
    np.testing.assert_allclose(summary.regret, [0.7, 0.7])


def test_an_unfinished_offline_part_keeps_its_planned_axis(make_run) -> None:
    folder = make_run(offline={0: [0.1, 0.1], 50: [0.5, 0.5]}, online={10: [0.5, 0.5]})
    kept = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if '"update": 0,' in line]
    (folder / "metrics.jsonl").write_text("\n".join(kept) + "\n")
    np.testing.assert_array_equal(read_run(folder).evaluation.x, [-50])


def test_a_warm_up_without_updates_says_nothing_of_the_drop(dipping: Path) -> None:
    about = json.loads((dipping / "run.json").read_text())
    about["phases"][1]["utd_ratio"] = 0
    (dipping / "run.json").write_text(json.dumps(about))
    assert summarise(read_run(dipping), "success").dip is None


@pytest.mark.parametrize("text", [None, "no json", "[]", '{"recipe": "x"}'])
def test_a_folder_that_is_no_run(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(SegueError) as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "", '{"kind": "evalu'])
def test_a_run_without_evaluations(dipping: Path, text: str | None) -> None:
    (dipping / "metrics.jsonl").unlink()
    if text is not None:
        (dipping / "metrics.jsonl").write_text(text)
    with pytest.raises(SegueError, match="evaluation"):
        read_run(dipping)


def test_a_raw_return_is_no_score(dipping: Path) -> None:
    """A regret of one minus a return says nothing."""
    assert read_run(dipping).evaluation.known("score")
    described = json.loads((dipping / "run.json").read_text())
    (dipping / "run.json").write_text(json.dumps(described | {"task_card": {"score": "raw return"}}))
    assert not read_run(dipping).evaluation.known("score")


def test_training_episodes_stand_for_evaluations(dipping: Path) -> None:
    """Where there were no evaluations: means of each seed's last ones, said to be that, and no verdict on a drop."""
    about = json.loads((dipping / "run.json").read_text())
    asked = {"evaluation.episodes": 0, "evaluation.training_episodes": 2}
    about["config"] |= {key: {"value": value, "source": "task"} for key, value in asked.items()}
    (dipping / "run.json").write_text(json.dumps(about))
    log = dipping / "metrics.jsonl"
    log.write_text("".join(f"{line}\n" for line in log.read_text().splitlines() if '"kind": "evaluation"' not in line))
    run = read_run(dipping)
    np.testing.assert_array_equal(run.evaluation.x, [10, 20, 30, 40])
    returns = run.evaluation.values["return"]
    np.testing.assert_allclose(returns, [[0.2, 0.35, 0.65, 0.85], [0.3, 0.4, 0.7, 0.95]])
    headline, _ = verdict(summarise(run, "return"))
    assert "there were no evaluations" in headline
    assert "the last 2 training episodes, with exploration noise" in headline
    write_report([dipping], page := dipping / "report.html")
    assert "in evaluation episodes" not in page.read_text()
