"""A run that begins at the end of another one's phase."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segue
from segue.agents import IQL, TD3, TD3BC, CalQL
from segue.core.types import Interrupted, SegueError
from segue.engine.phase import Phase
from segue.engine.running import Running
from segue.recipes import RECIPES, Recipe
from segue.runs import drive, train
from segue.runs.fork import find_end
from segue.runs.request import Request
from segue.samplers.uniform import Mix
from tests.cli.conftest import rows
from tests.cli.test_driver import PHASES, Toy, status, toy, weights
from tests.toys import small_cql

SMALL = {"actor_hidden": (8,), "critic_hidden": (8, 8)}
LATER = {"environment_steps": 20, "batch": Mix(8, 8), "log_every": 10, "evaluate_every": 10}
IQL_PHASES = (
    Phase("offline", IQL(**SMALL), gradient_steps=6, batch=Mix(16), log_every=4),  # type: ignore[arg-type]
    Phase("online", IQL(**SMALL), **LATER),  # type: ignore[arg-type]
)
TD3_PHASES = (
    Phase("offline", TD3BC(TD3(**SMALL)), gradient_steps=6, batch=Mix(16), log_every=4),  # type: ignore[arg-type]
    Phase("gather", TD3BC(TD3(**SMALL)), environment_steps=15, utd_ratio=0),  # type: ignore[arg-type]
    Phase("online", TD3BC(TD3(**SMALL)), **LATER),  # type: ignore[arg-type]
)
CAL_PHASES = tuple(replace(phase, learner=CalQL(small_cql())) for phase in PHASES)
METHODS = {"cal-toy": toy(*CAL_PHASES), "iql-toy": toy(*IQL_PHASES), "td3-toy": toy(*TD3_PHASES)}


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, recipe in METHODS.items():
        monkeypatch.setitem(RECIPES, name, recipe)
    monkeypatch.setenv("SEGUE_SAVE_EVERY", "0")


def begin(folder: Path, name: str, end: str = "", experience: bool = False, **more: Any) -> Path:
    recipe: Recipe = more.pop("recipe", METHODS.get(name))
    origin = find_end(end).origin(experience) if end else None
    request = Request(name, "corridor", more.pop("seeds", (0, 1)), more.pop("settings", {}), origin=origin, **more)
    return train.start(recipe, Toy(), request, folder, stream=io.StringIO())


def same(one: Path, other: Path) -> None:
    assert rows(one) == rows(other)
    assert weights(one) == weights(other)
    assert status(one) == status(other) == "finished"


@pytest.mark.parametrize("name", METHODS)
def test_it_is_the_run_that_was_never_parted(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, without an offline update; from a later phase with its open episode; and from what began so."""
    whole = begin(tmp_path / "whole", name)
    monkeypatch.setattr(Running, "updates", None)
    same(begin(tmp_path / "fork", name, f"{whole}"), whole)
    policies = [segue.load(f"{run}@offline").act(np.zeros(2)) for run in (whole, tmp_path / "fork")]
    np.testing.assert_array_equal(*policies)
    if name == "td3-toy":
        same(begin(tmp_path / "later", name, f"{whole}@gather", experience=True), whole)
        alone = begin(tmp_path / "alone", name, f"{whole}@gather", settings={"online.batch.online": 0})
        assert rows(alone) != rows(whole)
        again = begin(tmp_path / "again", name, f"{tmp_path / 'fork'}@offline")
        same(again, whole)


def test_it_resumes_when_the_other_run_has_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, folder = begin(tmp_path / "whole", "cal-toy"), tmp_path / "run"
    seen = lambda: any(r["phase"] == "online" and r["kind"] == "training" for r in rows(folder))  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(drive, "signals", lambda: contextlib.nullcontext(lambda: signal.SIGINT if seen() else None))
        with pytest.raises(Interrupted):
            begin(folder, "cal-toy", str(whole))
    moved = whole.rename(tmp_path / "kept")
    train.resume(folder, lambda name: Toy(), io.StringIO())
    same(folder, moved)
    origin = json.loads((folder / "run.json").read_text())["request"]["origin"]
    assert (origin["run"], origin["phase"], origin["count"]) == (str(whole), "offline", 1)


@pytest.mark.parametrize(
    "where", ["segue.runs.fork.shutil.copyfile", "segue.runs.fork.keep_end", "segue.runs.drive.keep_end"]
)
def test_killed_between_its_files_it_is_the_same(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is given what it begins with, and when a phase's end is saved and not yet kept."""
    whole, folder = begin(tmp_path / "whole", "cal-toy"), tmp_path / "run"

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, killed)
        with pytest.raises(KeyboardInterrupt):
            begin(folder, "cal-toy", str(whole))
    train.resume(folder, lambda name: Toy(), io.StringIO())
    same(folder, whole)
    assert {p.name for p in folder.glob("phases/*")} == {"0-offline", "1-online"}


def test_another_recipe_takes_over(tmp_path: Path) -> None:
    """Inherited phases stand in the place of its own first ones; their numbers are the other run's."""
    whole = begin(tmp_path / "whole", "cal-toy")
    other = toy(
        Phase("before", IQL(), gradient_steps=3, batch=Mix(16)),
        replace(
            CAL_PHASES[1],
            name="offline",
            learner=CalQL(small_cql(conservative_weight=1.0)),
            environment_steps=10,
        ),
    )
    folder = begin(tmp_path / "run", "other", str(whole), recipe=other)
    described = json.loads((folder / "run.json").read_text())
    assert [p["name"] for p in described["phases"]] == ["offline-before", "offline"]
    assert described["config"]["offline-before.gradient_steps"] == {"value": 6, "source": "inherited"}
    first = [r for r in rows(whole) if r["phase_index"] == 0]
    assert rows(folder)[: len(first)] == first
    assert status(folder) == "finished"


def test_what_does_not_fit_is_refused_with_both_sides(tmp_path: Path) -> None:
    whole = begin(tmp_path / "whole", "td3-toy")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"seeds": (0, 2)}, r"has the seeds 0, 1, and this run is to have 0, 2; leave out --seeds"),
        ({"end": f"{whole}@warm_up"}, r"the end of phase 'warm_up' is not there; it has the ends of: offline, gather"),
        ({"name": "iql-toy"}, r"IQL cannot continue from the state of TD3BC"),
        (
            {"name": "cal-toy", "settings": {"offline.gradient_steps": 7}},
            r"stand in the place of offline; leave it out",
        ),
        ({"end": f"{whole}@online"}, r"no phase after 'online'"),
        ({"end": f"{tmp_path / 'nowhere'}"}, r"is not a run"),
    ]
    for more, says in wrong:
        given = {"name": "td3-toy", "end": str(whole), **more}
        with pytest.raises(SegueError, match=says):
            begin(tmp_path / "run", given.pop("name"), given.pop("end"), **given)
        assert not (tmp_path / "run" / "run.json").exists()
    state = whole / "phases" / "0-offline" / "state.safetensors"
    shutil.copyfile(state, tmp_path / "copy")
    state.unlink()
    state.write_bytes((tmp_path / "copy").read_bytes()[:-3] + b"xyz")
    with pytest.raises(SegueError, match=r"state.safetensors is damaged; restore it"):
        begin(tmp_path / "run", "td3-toy", str(whole))


def test_as_many_ends_as_asked(tmp_path: Path) -> None:
    for keep, left in ((0, set()), (1, {"2-online"}), (2, {"1-gather", "2-online"})):
        folder = begin(tmp_path / str(keep), "td3-toy", keep=keep)
        assert {p.name for p in folder.glob("phases/*")} == left
