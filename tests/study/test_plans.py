"""From a file to cells."""

from __future__ import annotations

import json
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from segue.cli.study_words import begun, listed
from segue.core.types import SegueError
from segue.study.asked import Asked
from segue.study.begin import request_of
from segue.study.cells import Cell
from segue.study.file import asked_of, read_asked
from segue.study.folder import Study, change, read
from segue.study.plan import Planner, grown, planned
from tests.study.own import RECIPE, TASK

PLANNER = Planner()
HEAD = f'recipes = ["{RECIPE}"]\ntasks = ["{TASK}"]\n'


def asked(text: str, before: Asked | None = None) -> Asked:
    return asked_of(tomllib.loads(text), "study.toml", before)


def study(text: str) -> Study:
    return planned(asked(HEAD + text), "study.toml", PLANNER)


def described(cells: tuple[Cell, ...]) -> list[tuple[object, ...]]:
    return [(dict(cell.settings), cell.rules, cell.seeds) for cell in cells]


def test_every_combination_is_a_cell_and_nothing_is_twice() -> None:
    found = study(
        "seeds = 3\nseeds_per_cell = 2\nsettings.online.log_every = 20\ngrid.online.utd_ratio = [1, 2]\n"
        'grid.rules = ["", "retain=0.5"]\n[[runs]]\n[[runs]]\ngrid.online.utd_ratio = [2.0, 3]\n'
        "settings.online.log_every = 5\n"
    )
    both = [((), 0), ((), 2), (("retain=0.5",), 0), (("retain=0.5",), 2)]
    shown = [(cell.settings["online.log_every"], cell.settings.get("online.utd_ratio")) for cell in found.cells]
    assert shown == [(20, 1)] * 4 + [(20, 2)] * 4 + [(5, 2.0)] * 2 + [(5, 3)] * 2
    assert [(cell.rules, cell.seeds[0]) for cell in found.cells[:4]] == both
    assert len({cell.name for cell in found.cells}) == len(found.cells)
    # utd_ratio=1 is the recipe's own: the same cell in other words.
    assert (
        len(study("grid.online.utd_ratio = [1, 2]\n[[runs]]\n[[runs]]\ngrid.online.environment_steps=[40]").cells) == 2
    )


def test_equal_first_phases_are_shared_whatever_is_evaluated() -> None:
    found = study(
        "seeds = 2\nseeds_per_cell = 1\n[[runs]]\n[[runs]]\nsettings.evaluation.episodes = 1\n"
        "[[runs]]\nsettings.offline.evaluate_every = 7\n[[runs]]\nsettings.online.utd_ratio = 3\n"
        "[[runs]]\nsettings.offline.gradient_steps = 9\n"
    )
    first = {cell.seeds: cell.name for cell in found.cells[:2]}
    shares = [[name == first[cell.seeds] and phase for name, phase in cell.shares] for cell in found.cells]
    assert shares == [[], []] + [["offline"]] * 6 + [[], []]


def test_a_study_grows_and_what_is_there_stays(tmp_path: Path) -> None:
    before = change(tmp_path / "s", lambda none: study("seeds = 3\nseeds_per_cell = 2\n"))
    assert read(tmp_path / "s") == before
    more = asked("seeds = 5", before.asked)
    after = grown(before, more, "study.toml", PLANNER)
    assert after.cells[:2] == before.cells
    assert described(after.cells) == [({}, (), block) for block in ((0, 1), (2,), (3, 4))]
    wider = grown(after, asked("grid.online.utd_ratio = [2]", before.asked), "study.toml", PLANNER)
    assert wider.cells[:3] == after.cells
    assert [cell.seeds for cell in wider.cells[3:]] == [(0, 1), (2,), (3, 4)]
    assert [cell.shares for cell in wider.cells[3:]] == [((cell.name, "offline"),) for cell in after.cells]
    assert grown(wider, asked("", before.asked), "study.toml", PLANNER) == wider
    change(tmp_path / "s", lambda known: wider)
    assert json.loads((tmp_path / "s" / "study.json").read_text())["cells"][3]["shares"]
    assert read(tmp_path / "s").cells[3].shares == wider.cells[3].shares


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("recipe = ['iql']", "study.toml: there is no 'recipe'; did you mean 'recipes'?"),
        (
            "[[runs]]\nrecipes = ['iql']\ntask = ['a']",
            "study.toml: [[runs]] 1: there is no 'task'; did you mean 'tasks'?",
        ),
        ("tasks = ['a']", "study.toml: names no recipes; give recipes = [...]"),
        (HEAD + "grid.online.utd_ratio = []", "grid.online.utd_ratio is empty; give at least one value"),
        (HEAD + "grid.online.utd_ratio = 3", "grid.online.utd_ratio = 3: give a list of values"),
        (HEAD + "grid.online.utd_ratio = [3, 3]", "grid.online.utd_ratio has a value twice"),
        (HEAD + "seeds = 0", "give at least one seed"),
        (HEAD + "seeds_per_cell = 1.5", "seeds_per_cell = 1.5: give a whole number of at least 1"),
        (HEAD + "runs = 3", "write each part of runs as [[runs]]"),
        (HEAD + "rules = ['freez=3']", "rule freez=3: there is no 'freez'; did you mean"),
        (HEAD + "settings = 3", "settings = 3: give a table of options"),
    ],
)
def test_a_bad_file_says_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(SegueError, match=r"^study\.toml") as error:
        asked(text)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('recipes = ["iqll"]\ntasks = ["pointmaze-umaze"]', "iqll on pointmaze-umaze: "),
        (
            'recipes = ["iql"]\ntasks = ["pointmaze-humaze"]',
            "no task 'pointmaze-humaze'; did you mean",
        ),
        ('recipes = ["iql"]\ntasks = ["nomaze-*"]', "no task's name fits 'nomaze-*'"),
        (HEAD + "settings.online.utd = 3", "online.utd: there is no 'utd'"),
        ('recipes = ["iql"]\ntasks = ["hdf5:/nowhere.hdf5"]', "iql on hdf5:/nowhere.hdf5: "),
    ],
)
def test_a_cell_that_cannot_be_planned_is_named(text: str, said: str) -> None:
    with pytest.raises(SegueError) as error:
        planned(asked(text), "study.toml", PLANNER)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_holds_one_study(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SegueError, match=r"is not empty, and no study \(notes.txt\)"):
        change(tmp_path, lambda none: study(""))
    with pytest.raises(SegueError, match="is not a study"):
        read(tmp_path)
    change(tmp_path / "s", lambda none: study(""))
    text = (tmp_path / "s" / "study.json").read_text()
    (tmp_path / "s" / "study.json").write_text(text.replace('"patience": 60', '"patience": 61'))
    with pytest.raises(SegueError, match="is damaged"):
        read(tmp_path / "s")
    with pytest.raises(SegueError, match=r"cannot be read \(No such file"):
        read_asked(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("recipes = [")
    with pytest.raises(SegueError, match="is not TOML"):
        read_asked(tmp_path / "bad.toml")


def test_words_between_commas() -> None:
    assert listed("cal-ql, iql,recommend(sac,iql),opt(spot)") == ["cal-ql", "iql", "recommend(sac,iql)", "opt(spot)"]


def test_a_folder_is_not_another_studys(tmp_path: Path) -> None:
    first, other = asked(HEAD), asked(HEAD + "seeds = 2")
    assert begun(first, None, tmp_path / "s") == begun(first, Path("study.toml"), tmp_path / "s")
    with pytest.raises(SegueError, match=r"holds another study; widen it with `segue study add .*/s study.toml`"):
        begun(other, Path("study.toml"), tmp_path / "s")
    known = json.loads((tmp_path / "s" / "study.json").read_text())
    del known["asked"]["patience"], known["seal"]
    (tmp_path / "s" / "study.json").write_text(json.dumps({**known, "asked": {"runs": [], "seeds": []}}))
    with pytest.raises(SegueError, match="cannot read it; use that version, or make the study again"):
        read(tmp_path / "s")


def test_what_a_study_says_of_its_runs() -> None:
    found = asked(HEAD + "stop_when = 'success >= 0.5, for=2'\ntrack = 'tensorboard'\nkeep = 1\nbudget = 30")
    (cell,) = planned(replace(found, runs=(replace(found.runs[0], rules=()),)), "x", PLANNER).cells
    request = request_of(cell, found)
    assert (request.stop_when, request.trackers, request.keep) == ("success>=0.5,for=2", ("tensorboard",), 1)
    assert found.runs[0].rules == ("budget=30",)
    for text, said in (
        ("stop_when = 3", "give a condition in quotes"),
        ("stop_when = 'success'", "write it as VALUE>="),
    ):
        with pytest.raises(SegueError, match=said):
            asked(HEAD + text)
