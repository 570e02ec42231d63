"""The commands that a report gives for a regime are commands that work."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from segue.cli.words import split_settings
from segue.recipes import find_recipe
from segue.report.advice import Advice, advice
from segue.report.read import read_run
from segue.report.regime import Name, Regime
from segue.runs import manifest
from segue.runs.request import Origin, Request, plan_of
from segue.samplers.uniform import Mix
from segue.tasks import find_task

Said = tuple[int, str, str]
TASK = "pointmaze-umaze"
NAMES: tuple[Name, ...] = ("superior", "comparable", "inferior")


def advised(folder: Path, name: Name) -> Advice:
    found = advice(read_run(folder), Regime(name))
    assert found is not None
    return found


def test_of_a_real_run_it_passes_every_check(reference: Path, say: Callable[..., Said]) -> None:
    command = advised(reference, "superior").fork
    code, out, err = say(*shlex.split(command)[1:], "--dry-run")
    assert (code, err) == (0, ""), err
    assert "nothing was run" in out
    assert "retain=0" in command
    assert "'agent.actor_hidden=(16,)'" in command
    assert "has done that" in advised(reference, "inferior").none  # half of its batches are from the dataset


@pytest.mark.parametrize("recipe", ["cal-ql", "iql", "pex", "wsrl", "cal-ql+rnd", "opt(td3-bc)"])
def test_of_recipes_of_every_kind_they_can_be_planned(recipe: str, tmp_path: Path) -> None:
    """And stand for what the advice says; a run of two rules gives them up for the advice's own."""
    task = find_task(TASK)
    for number, rules in enumerate(((), ("retain=0.5", "warm-up=100,policy=random"))):
        if rules and recipe != "cal-ql":
            return
        request = Request(recipe, TASK, (0, 1), {}, rules=rules)
        folder = tmp_path / str(number)
        written(folder, request, task)
        run = read_run(folder)
        if not run.switch:
            return
        asked: dict[str, Any] = json.loads(json.dumps(asdict(request)))
        origin = Origin(str(folder), run.phases[run.switch - 1].name, run.switch, asked, "", False)
        for name in NAMES:
            found = advised(folder, name)
            assert bool(found.fork) != bool(found.none)
            if found.anew:
                words = shlex.split(found.anew)
                anew = Request(words[2], words[3], (0, 1), split_settings(words[words.index("--set") + 1 :]))
                assert plan_of(anew, task, find_recipe).phases[-1].batch == Mix(256, 256)
            if not found.fork:
                continue
            rules_of, settings = asked_of(found.fork)
            forked = Request(recipe, TASK, (0, 1), split_settings(settings), rules=rules_of, origin=origin)
            phases = plan_of(forked, task, find_recipe).phases
            drawn: Any = phases[-1].batch
            if name == "superior":
                assert drawn.offline == 0
                assert (phases[-2].updates, phases[-2].actor) == (0, None)
            else:
                assert getattr(drawn, "offline", 1) >= getattr(drawn, "online", 1)


def written(folder: Path, request: Request, task: Any) -> None:
    """A run's folder as far as a report needs it for a command."""
    (folder / "phases").mkdir(parents=True)
    plan = plan_of(request, task, find_recipe)
    (folder / "run.json").write_text(json.dumps(manifest.describe(plan, task, asdict(request))))
    clocks = {"phase_index": 0, "environment_step": 0, "update": 0}
    row = {"kind": "evaluation", **clocks, "seeds": [0, 1], "values": {"score": [1.0, 2.0]}}
    (folder / "metrics.jsonl").write_text(json.dumps(row) + "\n")
    for index, phase in enumerate(plan.phases):
        (folder / "phases" / f"{index}-{phase.name}").mkdir()


def asked_of(command: str) -> tuple[tuple[str, ...], list[str]]:
    """Rules and settings of a command."""
    lists: dict[str, list[str]] = {"--rules": [], "--set": [], "--from": []}
    flag = "--from"
    for word in shlex.split(command)[4:]:
        flag = word if word in lists else flag
        lists[flag] += [] if word in lists else [word]
    return tuple(lists["--rules"]), lists["--set"]
