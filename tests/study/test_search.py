"""A search that two workers share finds what was planted."""

from __future__ import annotations

import subprocess
import threading
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from segue.cli.main import command
from segue.core.types import SegueError
from segue.report.pages import write_study
from segue.study import begin, leash, work
from segue.study.file import asked_of
from segue.study.folder import change, place, read
from segue.study.journal import journal
from segue.study.lease import NOBODY, claim
from segue.study.plan import Planner, grown, planned
from segue.study.search import best, check, choose, importance, was_pruned
from segue.study.searched import searched_of
from segue.study.status import counted, runs, standing
from segue.study.trials import trials, turn, write
from segue.study.work import Worker
from tests.study.own import AIM, AIMED, DIAL

HEAD = f'recipes = ["{AIMED}"]\ntasks = ["{DIAL}"]\nseeds = 1\n'


class InThread:
    """A command of Segue in a thread of this process, as far as a worker looks at it."""

    def __init__(self, words: Sequence[str], output: object, env: Mapping[str, str]) -> None:
        self.stdin = open("/dev/null", "rb")  # noqa: SIM115
        self.code: int | None = None
        self.thread = threading.Thread(target=self._run, args=(list(words),))
        self.thread.start()

    def _run(self, words: list[str]) -> None:
        self.code = command(words)

    def poll(self) -> int | None:
        return self.code

    def wait(self, seconds: float | None = None) -> int:
        self.thread.join(seconds)
        if self.code is None:
            raise subprocess.TimeoutExpired("run", seconds or 0)
        return self.code

    def terminate(self) -> None:
        """Short as these are, they end by themselves."""

    kill = terminate


def test_two_workers_find_what_was_planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("optuna", reason='needs pip install "segue[search]"')
    monkeypatch.setattr(leash, "start", InThread)
    monkeypatch.setattr(work, "PAUSE", 0.05)
    folder = tmp_path / "s"
    text = (
        HEAD + "[search]\ntrials = 16\nspace.agent.aim = [-1.0, 1.0]\nspace.online.log_every = { choices = [2, 4] }\n"
    )
    asked = asked_of(tomllib.loads(text), "study.toml")
    change(folder, lambda none: planned(asked, "study.toml", Planner()))
    workers = [threading.Thread(target=Worker(folder, lambda line: None).work) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    done = trials(folder)
    assert [trial.number for trial in done] == list(range(16))
    assert counted(standing(folder, read(folder)))["done"] == len({c.name for t in done for c in t.cells})
    assert asked.search is not None
    known = journal(folder, asked.search)
    assert [trial.state.name for trial in known.trials] == ["COMPLETE"] * 16
    found = best(folder, asked)
    assert found is not None
    trial, value = found
    assert value == pytest.approx(known.best_value)
    assert value == pytest.approx(-abs(trial.settings["agent.aim"] - AIM), abs=2e-4)
    assert abs(trial.settings["agent.aim"] - AIM) < 0.15
    matters = importance(folder, asked)
    assert matters["agent.aim"] > 0.8
    more = asked_of(tomllib.loads(text.replace("16", "17")), "study.toml")
    assert grown(read(folder), more, "x", Planner()).asked.search == more.search


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trials = 3", "give trials = 40, and for each option a range"),
        ("space.agent.aim = [0, 1]", "give trials = 40, and for each option a range"),
        ("trials = 3\nspace.agent.aim = [1, 0]", "agent.aim = {'low': 1, 'high': 0}: give low below high"),
        ("trials = 3\nspace.agent.aim = { low = 0, high = 1, log = true }", "above 0 with log = true"),
        ("trials = 3\nspace.agent.aim = 3", "agent.aim = 3: give [low, high]"),
        ("trials = 3\nspace.agent.aim = { choices = [3] }", "or several choices"),
        (
            "trials = 3\nsampler = 'tp'\nspace.agent.aim = [0, 1]",
            "[search]: sampler: there is no 'tp'; did you mean 'tpe'?",
        ),
        ("trial = 3", "[search]: there is no 'trial'; did you mean 'trials'?"),
    ],
)
def test_a_bad_search_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(SegueError) as error:
        asked_of(tomllib.loads(f"{HEAD}[search]\n{text}"), "study.toml")
    assert said in str(error.value)


def test_a_search_has_one_recipe_and_no_grid() -> None:
    table: dict[str, Any] = tomllib.loads(f"{HEAD}[search]\ntrials = 3\nspace.agent.aim = [0, 1]\n")
    for more in ({"recipes": ["iql", "td3-bc"]}, {"grid": {"online": {"utd_ratio": [1, 2]}}}):
        with pytest.raises(SegueError, match="a search has one recipe and no grid"):
            asked_of({**table, **more}, "study.toml")


@pytest.mark.filterwarnings("error")
def test_a_trial_that_is_behind_is_ended(tmp_path: Path) -> None:
    """By the evaluations of its run alone; it counts neither as the best nor as whole."""
    pytest.importorskip("optuna", reason='needs pip install "segue[search]"')
    text = (
        f"{HEAD}settings.online.environment_steps = 12\nsettings.online.evaluate_every = 2\n"
        "[search]\ntrials = 6\nprune = true\nsampler = 'random'\nspace.agent.aim = [-1.0, 1.0]\n"
    )
    asked = asked_of(tomllib.loads(text), "study.toml")
    folder = tmp_path / "s"
    change(folder, lambda none: planned(asked, "study.toml", Planner()))
    for number, aim in enumerate([0.25, 0.2, 0.35, 0.4, -0.9, 0.3]):
        assert claim(turn(folder, number), "w", NOBODY)
        choose(folder, number)
        chosen = trials(folder)[number]
        cell = replace(chosen.cells[0], settings={**chosen.cells[0].settings, "agent.aim": aim})
        write(folder, replace(chosen, settings={"agent.aim": aim}, cells=(cell,)))
        lease = claim(place(folder, cell.name), "w", NOBODY)
        assert lease is not None
        begin.run(folder, read(folder), cell, 1)
        lease.end("done")
    choose(folder, 6)
    assert asked.search is not None
    states = [trial.state.name for trial in journal(folder, asked.search).trials]
    assert states == ["COMPLETE", "COMPLETE", "COMPLETE", "COMPLETE", "PRUNED", "COMPLETE"]
    assert [was_pruned(folder, trial) for trial in trials(folder)] == [False, False, False, False, True, False]
    found = best(folder, asked)
    assert found is not None
    assert found[0].settings["agent.aim"] == 0.3
    shown = searched_of(folder, read(folder))
    assert len(shown.best.rows) == 5
    done, others = runs(folder, read(folder))
    page = write_study(done, tmp_path / "study.html", others, shown).read_text()
    assert "segue study rerun" in page
    assert "it was ended early" in page


def test_two_reasons_to_end_are_refused(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason='needs pip install "segue[search]"')
    text = f"{HEAD}seeds_per_cell = 1\n[search]\ntrials = 6\nprune = true\nspace.agent.aim = [-1.0, 1.0]\n"
    for more, said in (("stop_when = 'return>3'\n", "two reasons"), ("seeds = 2\n", "a trial has 2 of them")):
        asked = asked_of(tomllib.loads(more + text.replace("seeds = 1\n", "") if "seeds" in more else more + text), "x")
        with pytest.raises(SegueError, match=said):
            check(planned(asked, "x", Planner()))
