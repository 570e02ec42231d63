"""Recipes of one's own, named module:name wherever a recipe's name stands."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

import segue
from segue.core.types import SegueError
from segue.recipes import TaskFacts, find_recipe, resolve
from segue.runs import manifest, train
from tests.cli.test_driver import Toy

LAB = """
from segue.agents import SAC
from segue.core.scaling import Scaling
from segue.engine.phase import Phase
from segue.recipes import Evaluation, Plan, TaskFacts, find_recipe, published
from segue.samplers.uniform import Mix

PHASE = Phase("online", SAC(actor_hidden=(8,), critic_hidden=(8,)), environment_steps=5, batch=Mix(0, 8))
short = published("short", "no paper", "a test", (PHASE,), Scaling(), Evaluation(0))
number = 3


def curious(task: TaskFacts) -> Plan:
    return find_recipe("iql")(task).set({"online.environment_steps": 77}, "curious")


def wrong(task: TaskFacts) -> int:
    return 3
"""


@pytest.fixture(autouse=True)
def _lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_lab.py").write_text(LAB)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("name", "steps"), [("own_lab:curious", 77), ("own_lab:curious+rnd", 77), ("opt(own_lab:curious)", 2_500)]
)
def test_a_function_of_the_task_is_a_recipe(name: str, steps: int) -> None:
    recipe = find_recipe(name)
    plan = resolve(recipe, TaskFacts(("pointmaze",)), {})
    assert recipe.name == name
    assert {p.name: p.steps for p in plan.phases}["online"] == steps
    assert plan.table()["offline.gradient_steps"] == {"value": 4_000, "source": "preset pointmaze"}
    assert find_recipe("own_lab:curious")().source("online.environment_steps") == "curious"


def test_a_run_of_an_own_recipe_finds_it_again(tmp_path: Path) -> None:
    task: Any = Toy()
    folder = segue.train("own_lab:short", task, 1, {"online.environment_steps": 3}, folder=tmp_path / "run")
    assert manifest.read(folder)["recipe"] == "own_lab:short"
    manifest.set_status(folder, "interrupted")
    train.resume(folder, lambda name: task, io.StringIO())
    assert manifest.read(folder)["status"] == "finished"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("own_lab:curius", "did you mean curious"),
        ("own_lib:curious", "there is no module 'own_lib'"),
        ("own_lab:number", "is of type int; name a Recipe, or a function"),
        ("opt(own_lab:wrong)", "returned int for a task; return a Plan"),
        ("iql+own_lab:short", "own_lab:short is not a bonus"),
    ],
)
def test_a_wrong_name_is_one_line(name: str, says: str) -> None:
    with pytest.raises(SegueError, match=says) as error:
        find_recipe(name)
    assert "\n" not in str(error.value)
