"""A file and a run are sources of the words of `segue run`; the command line wins."""

from __future__ import annotations

import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from segue.cli import given
from segue.cli.given import filled
from segue.core.types import SegueError
from segue.recipes import find_recipe
from segue.runs import manifest, train
from segue.runs.request import Request, plan_of, settings_of
from segue.runs.stopping import stop_when
from segue.samplers import Mix
from segue.tasks import find_task

FILE = """
recipe = "cal-ql"
task = "pointmaze-umaze"
seeds = [3, 5]
rules = ["freeze_actor=20", "retain=0.5"]
track = "tensorboard"
keep = 1
untrained = true
env-workers = 2
stop_when = "success>=0.9,for=2"

[settings]
"evaluation.episodes" = 2
online.batch = { type = "Mix", offline = 3 }
offline.validation.keep = "best"
[settings.agent]
actor_hidden = [16, 16]
target_rate = 1e-3
lagrange = false
"""
SETTINGS = (
    "evaluation.episodes=2 online.batch.type=Mix online.batch.offline=3 offline.validation.keep=best "
    "'agent.actor_hidden=[16, 16]' agent.target_rate=0.001 agent.lagrange=false"
)
FLAGS = {
    "seeds": "--seeds 3,5",
    "rules": "--rules freeze_actor=20 retain=0.5",
    "track": "--track tensorboard",
    "keep": "--keep 1",
    "untrained": "--untrained",
    "env": "--env-workers 2",
    "stop": "--stop-when success>=0.9,for=2",
    "set": f"--set {SETTINGS}",
}
NEW = {
    "seeds": "--seeds 8",
    "rules": "--rules warm_up=5",
    "keep": "--keep=2",
    "untrained": "--no-untrained",
    "env": "--env_workers 3",
    "out": "--out there",
}


def words(*parts: str) -> list[str]:
    return shlex.split(" ".join(parts))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "run.toml").write_text(FILE)
    return tmp_path / "run.toml"


def test_a_file_is_its_words(file: Path) -> None:
    asked = ["--config", str(file)]
    places = "cal-ql pointmaze-umaze"
    assert filled(asked) == words(places, *FLAGS.values())
    assert filled(["iql", "pointmaze-medium", *asked])[:2] == ["iql", "pointmaze-medium"]
    for name, word in NEW.items():
        given = word.replace("keep=", "keep ").replace("env_workers", "env-workers")
        assert filled([*asked, *words(word)]) == words(places, *(FLAGS | {name: given}).values())
    changed = filled([*asked, "--set", "agent.target_rate=1", "x=2"])
    settings = changed[changed.index("--set") + 1 :]
    assert settings == [w for w in words(SETTINGS) if "target_rate" not in w] + ["agent.target_rate=1", "x=2"]


@pytest.mark.parametrize(
    ("text", "places", "out"),
    [
        ('recipe = "iql"', "maze", "iql maze"),
        ('task = "maze"', "iql", "iql maze"),
        ('task = "maze"', "iql other", "iql other"),
        ("keep = 1", "iql maze", "iql maze --keep 1"),
        ('recipe = "iql"\ntask = "maze"', "other", "'other' beside --config"),
        ('task = "maze"', "", "no RECIPE; name RECIPE and TASK"),
        ("", "iql", "'iql' beside --config"),
        ("keeep = 1", "", "there is no 'keeep'; did you mean 'keep'?"),
        ("set = 1", "", "did you mean 'settings'?"),
        ("like = 'RUN'", "", "there is no 'like'"),
        ("keep = 'two'", "", "keep: 'two' is not a whole number or None"),
        ("keep = true", "", "keep: True is not a whole number"),
        ("seeds = 1.5", "", "seeds: 1.5 is not a whole number"),
        ("untrained = 1", "", "untrained: write true or false, not 1"),
        ("rules = [3]", "", "rules: write a list of words"),
        ("settings = 3", "", "settings: write a table"),
        ("env-workers = 1\nenv_workers = 1", "", "env-workers is given twice"),
        ('[settings]\n"a.b" = 1\na.b = 1', "", "a.b is given twice"),
        ("keep = ", "", "is not TOML"),
    ],
)
def test_what_a_file_lacks_and_what_is_wrong_in_it(text: str, places: str, out: str, tmp_path: Path) -> None:
    (tmp_path / "run.toml").write_text(text)
    asked = [*words(places), "--config", str(tmp_path / "run.toml")]
    try:
        said = shlex.join(filled(asked))
    except SegueError as error:
        said = str(error)
        assert "\n" not in said
    assert out in said


def a_run(folder: Path, request: Request) -> Path:
    """A folder with the request of a run that was not run."""
    folder.mkdir()
    rest: Any = {"segue": "0", "status": "finished", "config": {}, "phases": [], "provenance": {}}
    manifest.write(folder, rest | {"request": manifest.plain(asdict(request))})
    return folder


@pytest.fixture
def asked(say, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The request that a command line makes, and what it prints."""
    seen: list[Request] = []

    def start(recipe: Any, task: Any, request: Request, *more: Any, **named: Any) -> Path:
        seen.append(request)
        return Path("nowhere")

    monkeypatch.setattr(train, "start", start)

    def run(*words: str | Path) -> tuple[Request, str]:
        code, out, err = say("run", *words)
        assert (code, err) == (0, "")
        return seen.pop(), out

    return run


def test_like_a_run_is_its_request(asked, tmp_path: Path) -> None:
    """Whatever Python has put into it; and what is other is told in one line."""
    settings = settings_of(
        {
            "offline.batch": Mix(64, 0),
            "agent.actor_hidden": (16, 8),
            "agent.critic_learning_rate": 1e-4,
            "agent.clip_maximum": float("inf"),
            "agent.lagrange": False,
            "experience.capacity": None,
        }
    )
    more: dict[str, Any] = {"rules": ("freeze_actor=20",), "trackers": ("tensorboard",), "keep": 2}
    request = Request("cal-ql", "pointmaze-umaze", (3,), settings, stop_when="success>=0.9", untrained=True, **more)
    run = a_run(tmp_path / "a run", request)
    task = find_task(request.task)
    same, said = asked("--like", run)
    assert plan_of(same, task, find_recipe) == plan_of(request, task, find_recipe)
    # Consent to move a robot is given anew.
    assert replace(same, settings={}) == replace(request, settings={}, untrained=False)
    assert said == f"like '{run}', with nothing changed\n"
    other, said = asked("iql", request.task, "--like", run, "--seeds", "2", "--set", "offline.batch=Mix", "a.b=3")
    assert (other.recipe, other.seeds, other.settings["a.b"], other.keep) == ("iql", (0, 1), "3", 2)
    assert "recipe iql (was cal-ql); --seeds 2 (was 3,); --set offline.batch=Mix (was {" in said
    assert said.endswith("--set a.b=3\n")
    assert said.count("\n") == 1


def test_a_file_stands_above_a_run(asked, file: Path, tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", Request("iql", "pointmaze-medium", (0,), {"agent.target_rate": 2, "b": 1}, keep=7))
    request, said = asked("--config", file, "--like", run, "--seeds", "3,5", "--no-untrained", "--set", "agent.x=1")
    assert (request.recipe, request.seeds, request.keep, request.untrained) == ("cal-ql", (3, 5), 1, False)
    assert request.settings["agent.target_rate"] == "0.001"
    assert (request.settings["b"], request.settings["agent.x"]) == ("1", "1")
    assert "recipe cal-ql (was iql)" in said


def test_a_part_in_json_must_be_one(mistake) -> None:
    for text in ('{"type": "Mix"', '{"offline": 3}', '{"type": "Mix", "rows": 3}', '{"type": "Retained"}', "{}"):
        assert "offline.batch" in mistake("run", "cal-ql", "pointmaze-umaze", "--set", f"offline.batch={text}")
    for source in ("--like", "--config"):
        assert source in mistake("run", source)
    assert "is not a run" in mistake("run", "--like", "nowhere")
    assert "cannot be read" in mistake("run", "--config", "nowhere.toml")


def test_every_word_of_a_run_may_stand_in_a_file(asked, tmp_path: Path) -> None:
    known = set(given._known())
    assert {"recipe", "task", "seeds", "settings", "from", "with-experience", "stop-when", "env-workers"} <= known
    assert not known & {"config", "like"}
    page = (Path(__file__).parents[2] / "docs" / "running.md").read_text()
    (tmp_path / "run.toml").write_text(page.partition("```toml")[2].partition("```")[0])
    request, _ = asked("--config", tmp_path / "run.toml")
    plan = plan_of(request, find_task(request.task), find_recipe)
    assert (plan.evaluation.episodes, plan.phases[-1].utd_ratio) == (10, 2)
    assert stop_when(plan, request) is not None
