"""A run that ends early, by a callback or a condition, is saved and goes on; what listens to it cannot harm it."""

from __future__ import annotations

import contextlib
import io
import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import segue
from segue.core.types import Interrupted, SegueError
from segue.recipes import RECIPES
from segue.runs import drive, manifest, train
from segue.runs.request import Request, resolved
from segue.runs.stopping import parsed, stop_when
from tests.cli.conftest import rows
from tests.cli.test_driver import PHASES, RECIPE, Toy, status, toy, weights

TWO = "return>-1000,for=2"  # always holds: at the second evaluation


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "toy", RECIPE)
    monkeypatch.setenv("SEGUE_SAVE_EVERY", "0")


def begin(folder: Path, condition: str | None = None, told: io.StringIO | None = None, **more: Any) -> Path:
    request = Request("toy", "corridor", (0, 1), {}, stop_when=condition)
    return train.start(RECIPE, Toy(), request, folder, stream=told or io.StringIO(), **more)


def go_on(folder: Path, **more: Any) -> Path:
    return train.resume(folder, lambda name: Toy(), io.StringIO(), **more)


def stops(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "run.json").read_text()).get("stopped", [])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with listeners whose condition holds at its very end, which is no stop."""
    RECIPES["toy"] = RECIPE
    heard, kept = list[dict[str, Any]](), Kept()
    folder = begin(tmp_path_factory.mktemp("whole") / "run", "return>-1000,for=3", on_record=heard.append, sinks=[kept])
    said = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert heard == kept.rows == said
    assert (kept.closed, stops(folder), status(folder)) == (1, [], "finished")
    return folder


class Kept:
    """A sink of one's own, which need not say that it is not essential."""

    def __init__(self, fails_at: int = -1) -> None:
        self.rows: list[dict[str, Any]] = []
        self.fails_at, self.closed = fails_at, 0

    def write(self, row: dict[str, Any]) -> None:
        if len(self.rows) == self.fails_at:
            raise ConnectionError("no\nnetwork")
        self.rows.append(row)

    def close(self) -> None:
        self.closed += 1


def at_step(step: int) -> Callable[[dict[str, Any]], object]:
    def early(row: dict[str, Any]) -> object:
        over = row["phase"] == "online" and row["phase_step"] >= step
        row.clear()  # it has a copy
        return segue.STOP if over else None

    return early


def test_a_callback_stops_a_run_that_goes_on(whole: Path, tmp_path: Path) -> None:
    told = io.StringIO()
    folder = begin(tmp_path / "run", told=told, on_record=at_step(10))
    (stop,) = stops(folder)
    assert (status(folder), stop["phase"], stop["environment_steps"]) == ("stopped", "online", 10)
    assert stop["by"] == "on_record=at_step.<locals>.early"
    assert f"stopped early by {stop['by']}" in told.getvalue()
    assert (folder / "report.html").exists()
    assert rows(folder) == rows(whole)[: len(rows(folder))]
    assert rows(folder)[-1]["kind"] == "evaluation"  # the whole record is there
    assert segue.load(folder).act([0.0, 0.0]).shape == (1,)
    go_on(folder)
    assert (status(folder), len(stops(folder))) == ("finished", 1)
    assert rows(folder) == rows(whole)
    assert weights(folder) == weights(whole)


def test_a_condition_stops_where_it_did_whatever_came_between(whole: Path, tmp_path: Path, monkeypatch) -> None:
    """A signal after the first evaluation; a kill after the stop was saved; going on after it, and a signal there."""
    folder = tmp_path / "run"
    count = lambda: sum(r["kind"] == "evaluation" and r["phase"] == "online" for r in rows(folder))  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(drive, "signals", lambda: contextlib.nullcontext(lambda: signal.SIGINT if count() else None))
        with pytest.raises(Interrupted):
            begin(folder, TWO)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "stop", killed)
        with pytest.raises(KeyboardInterrupt):
            go_on(folder)
    before = rows(folder)
    assert (status(folder), count()) == ("interrupted", 2)
    go_on(folder)
    (stop,) = stops(folder)
    assert (stop["by"], stop["environment_steps"], status(folder)) == (f"--stop-when {TWO}", 20, "stopped")
    assert rows(folder) == before == rows(whole)[: len(before)]
    with monkeypatch.context() as patch:
        late = lambda: any(r["environment_step"] > 20 for r in rows(folder))  # noqa: E731
        patch.setattr(drive, "signals", lambda: contextlib.nullcontext(lambda: signal.SIGINT if late() else None))
        with pytest.raises(Interrupted):
            go_on(folder)
    go_on(folder)
    assert (status(folder), stops(folder)) == ("finished", [stop])
    assert rows(folder) == rows(whole)
    assert weights(folder) == weights(whole)


def test_what_fails_in_a_listener_is_one_line_and_the_run_is_saved(whole: Path, tmp_path: Path, monkeypatch) -> None:
    essential, told = Kept(fails_at=3), io.StringIO()
    monkeypatch.setattr(Kept, "essential", True, raising=False)
    said = r"the sink Kept raised ConnectionError: no network; .*`segue resume"
    with pytest.raises(SegueError, match=said) as caught:
        begin(tmp_path / "run", sinks=[essential])
    monkeypatch.undo()
    monkeypatch.setitem(RECIPES, "toy", RECIPE)
    assert "\n" not in str(caught.value)
    assert (essential.closed, status(tmp_path / "run")) == (1, "failed")
    folder, dropped = tmp_path / "run", Kept(fails_at=1)
    wrongs = {"<lambda> raised ZeroDivisionError": lambda row: 1 / 0, "returned False": lambda row: False}
    for says, wrong in wrongs.items():
        done = len(rows(folder))
        with pytest.raises(SegueError, match=says):
            go_on(folder, on_record=wrong)
        assert len(rows(folder)) > done
    train.resume(folder, lambda name: Toy(), told, sinks=[dropped])
    assert told.getvalue().count("warning: Kept is switched off, the run goes on (ConnectionError: no network)") == 1
    assert (len(dropped.rows), status(folder)) == (1, "finished")
    assert rows(folder) == rows(whole)
    assert weights(folder) == weights(whole)


def test_what_cannot_listen_is_refused_at_the_door(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match="on_record='row'"):
        begin(tmp_path / "run", on_record="row")
    with pytest.raises(SegueError, match=r"sinks: list has no close and no write"):
        begin(tmp_path / "run", sinks=[[]])
    with pytest.raises(SegueError, match="sinks=Kept: give a list"):
        begin(tmp_path / "run", sinks=Kept())
    with pytest.raises(SegueError, match="asks for 4 evaluations, and there are 3 in online"):
        begin(tmp_path / "run", "return>0,for=4")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("success", "write it as VALUE>=NUMBER"),
        ("success=0.9", "write it as VALUE>=NUMBER"),
        ("sucess>=0.9", "did you mean 'success'?"),
        ("success>=95", "a share, from 0 to 1"),
        ("score>=high", "could not convert"),
        ("score>=nan", "a finite number"),
        ("score>=1,for=0", "for=1 or more"),
        ("score>=1,for=2,for=3", "give for= once"),
        ("score>=1,fro=2", "did you mean 'for'?"),
        ("score>=1,phase=onlin", "did you mean 'online'?"),
        ("score>=1,phase=offline,for=3", "there are 2 in offline"),
    ],
)
def test_a_condition_that_cannot_hold_is_one_line(condition: str, says: str) -> None:
    plan = resolved(RECIPE, Toy(), {})
    with pytest.raises(SegueError) as caught:
        stop_when(plan, Request("toy", "corridor", (0,), {}, stop_when=condition))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    quiet = replace(plan, evaluation=replace(plan.evaluation, episodes=0))
    with pytest.raises(SegueError, match="there are no evaluations"):
        stop_when(quiet, Request("toy", "corridor", (0,), {}, stop_when="score>=1"))


def test_a_condition_is_of_means_and_of_phases_that_move_the_world() -> None:
    rule = parsed("success >= 0.5, for = 2")
    assert (rule.word, rule.times) == ("success>=0.5,for=2", 2)
    for values, holds in (([0.0, 1.0], True), ([0.0, 0.9], False), ([1.0, None], False), ([], False)):
        assert rule.holds({"values": {"success": values}}) is holds
    request = Request("toy", "corridor", (0,), {}, stop_when="score>1")
    for phases, places in ((PHASES, {1}), (PHASES[:1], {0})):
        found = stop_when(resolved(toy(*phases), Toy(), {}), request)
        assert found is not None
        assert found[1] == places
