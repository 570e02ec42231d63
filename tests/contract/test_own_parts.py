"""Agents, samplers, bonuses and tasks of one's own, those that docs/combining.md shows: named, run, resumed, loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import segue
from segue import agents
from segue.bonuses import BONUSES, bonus_of
from segue.cli.main import command
from segue.core.named import is_named, named
from segue.core.parts import describe
from segue.recipes import find_recipe
from segue.runs.request import resolved, settings_of

WORDS = ("online.batch.rows=16", "online.batch=my_sampler:Recent", "online.bonus=my_bonus:Movement")
RUN = ("run", "sac", "my_task:task", "--seeds", "2", "--out", "run", "--set", "online.learner=my_ddpg:DDPG", *WORDS)
SMALL = ("online.environment_steps=120", "online.log_every=20", "evaluation.episodes=1", "agent.hidden=8")
ODD = """
from dataclasses import dataclass, field
import numpy as np
import segue
from segue.core.encoders import Encoder

@dataclass(frozen=True)
class Eyes(Encoder):
    width: int = 1

@dataclass(frozen=True)
class Outer(segue.SAC):
    convolutions: Encoder = field(default_factory=lambda: Eyes(width=3))
    limit: float = float("inf")
    pair: tuple[Eyes, ...] = (Eyes(), Eyes(width=2))

@dataclass(frozen=True)
class Needs(segue.Mix):
    more: int = field(kw_only=True)

@dataclass(frozen=True)
class Holds(segue.Mix):
    table: np.ndarray = field(default_factory=lambda: np.zeros(2))

@dataclass
class Soft:
    rows: int = 1
    init = validate = sample = None

class Bare(segue.Mix):
    more: int = 1

class Lab:
    few = segue.Mix(0, 8)

def many() -> segue.Mix:
    return segue.Mix(0, 512)
"""
HELPER = """
from dataclasses import dataclass
import segue
@dataclass(frozen=True)
class Helped(segue.TD3):
    def update(self, state, batch, key, step, **more):
        raise ValueError("not like this")
"""
WRONG = """
import helper
from segue.recipes import find_recipe
def recipe(task):
    return {}["nowhere"]
def late(task):
    return find_recipe("sac")(task).set({"online.learner": helper.Helped()}, "mine")
"""
MISTAKES = (
    ("online.batch=my_sampler:Recnt", "should be a sampler, but my_sampler has no 'Recnt'; did you mean Recent?"),
    ("online.batch=my_samplr:Recent", "there is no module 'my_samplr' in"),
    ("online.batch=my_broken:Recent", "importing my_broken failed: ZeroDivisionError: division by zero (my_broken.py"),
    ("online.batch=my_lost:Recent", "importing my_lost failed: ModuleNotFoundError: No module named 'nowhere'"),
    ("online.batch=my_bonus:Movement", "my_bonus:Movement is not a sampler: it has no sample"),
    ("online.batch=my_odd:Soft", "my_odd:Soft is not a frozen dataclass; write @dataclass(frozen=True)"),
    ("online.batch=my_odd:Bare", "my_odd:Bare is not a frozen dataclass; write @dataclass(frozen=True)"),
    ("online.batch=my_odd:Needs", "my_odd:Needs cannot be made without arguments (missing a required"),
    ("online.batch=my_odd:Holds", "my_odd:Holds: 'table' holds a ndarray"),
    ("online.batch=Unoin", "segue has no 'Unoin'; did you mean Union?"),
    ("online.batch=32", "'batch' has fields; set one of"),
    ("online.learner=SERA", "SERA is not a learner: it has no update"),
)


@pytest.fixture
def odd(lab: Path) -> Path:
    """The folder of the page's modules, with some more."""
    (lab / "my_odd.py").write_text(ODD)
    (lab / "my_broken.py").write_text("1 / 0\n")
    (lab / "my_lost.py").write_text("import nowhere\n")
    return lab


def table(**settings: Any) -> dict[str, Any]:
    """What `segue explain sac my_task:task` would show, by path."""
    asked = settings_of({path.replace("__", "."): value for path, value in settings.items()})
    asked = json.loads(json.dumps(asked))  # as a resume finds them
    decided = resolved(find_recipe("sac"), segue.find_task("my_task:task"), asked)
    return {path: row["value"] for path, row in decided.table().items()}


def start(*words: str) -> subprocess.Popen[str]:
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = {**os.environ, "SEGUE_SAVE_EVERY": "0.2"}
    return subprocess.Popen([sys.executable, "-m", "segue", *words], env=environment, **pipes)


def test_killed_resumed_loaded_and_reported(lab: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process, log = start(*RUN, *SMALL), lab / "run" / "metrics.jsonl"
    while process.poll() is None and not (log.exists() and '"training"' in log.read_text()):
        time.sleep(0.05)
    process.kill()
    said = process.communicate()[0]
    described = json.loads((lab / "run" / "run.json").read_text())
    assert described["status"] == "running", said
    assert described["config"]["online.learner.type"] == {"value": "my_ddpg:DDPG", "source": "settings"}
    assert described["config"]["online.batch.rows"] == {"value": 16, "source": "settings"}
    assert set(described["provenance"]["own"]) == {"my_bonus", "my_ddpg", "my_sampler", "my_task"}

    assert command(["resume", "run", "--set", "online.batch=Union"]) == 1
    assert "online.batch: once a run has begun, only the options of a part can change" in capsys.readouterr().err
    sampler = (lab / "my_sampler.py").read_text()
    (lab / "my_sampler.py").write_text(sampler.replace("newest: int = 1_000", "newest: int = 500"))
    del sys.modules["my_sampler"]
    assert command(["resume", "run"]) == 1
    assert "differs from the run's in online.batch.newest" in capsys.readouterr().err
    (lab / "my_sampler.py").write_text(f"{sampler}\n# changed\n")
    process = start("resume", "run")
    said = process.communicate()[0]
    assert process.returncode == 0, said
    assert "since the run began: my_sampler " in said
    assert "movement_bonus" in log.read_text()

    policy = segue.load("run", 1)
    assert type(policy.agent) is named("my_ddpg:DDPG", "an agent")
    action = policy.act(np.zeros((3, 2), np.float32))
    assert action.shape == (3, 1)
    assert ((action >= 0.0) & (action <= 5.0)).all()
    assert command(["report", "run"]) == 0

    (lab / "my_ddpg.py").unlink()
    del sys.modules["my_ddpg"]
    with pytest.raises(segue.SegueError, match=r"^run: my_ddpg:DDPG should be an agent, but there is no module 'my_dd"):
        segue.load("run")


def test_networks_of_ones_own_from_a_run_to_a_policy(lab: Path) -> None:
    own = ("agent.actor=my_networks:wide", "agent.activation=gelu", "agent.optimiser=my_networks:clipped")
    small = ("agent.critic_hidden=8", *SMALL[:3], "online.batch.online=16")
    assert command(["run", "sac", "my_task:task", "--out", "run", "--set", *own, *small]) == 0
    described = json.loads((lab / "run" / "run.json").read_text())
    assert described["config"]["online.learner.networks.actor"] == {"value": "my_networks:wide", "source": "settings"}
    assert set(described["provenance"]["own"]) == {"my_networks", "my_task"}
    policy = segue.load("run")
    assert policy.agent.networks == segue.Networks("gelu", "my_networks:clipped", "my_networks:wide")
    assert policy.act(np.zeros((3, 2), np.float32)).shape == (3, 1)


def test_described_and_built_again(odd: Path) -> None:
    for word in ("my_cautious:Cautious", "my_odd:Outer"):
        agent = named(word, "an agent")(actor_hidden=(4, 4))
        told = json.loads(json.dumps(describe(agent), allow_nan=False))
        assert told["type"] == word
        assert agents.build(told) == agent


@pytest.mark.parametrize("value", ["my_odd:Lab.few", "my_odd:many", "Mix", segue.Mix, segue.Mix(0, 8)])
def test_a_whole_part_is_set_before_its_options(odd: Path, value: Any) -> None:
    found = table(online__batch__visible="closed", online__batch__online=4, online__batch=value)
    assert (found["online.batch.type"], found["online.batch.online"], found["online.batch.visible"]) == (
        "Mix",
        4,
        "closed",
    )
    assert table(online__batch__type=value, online__batch__online=4)["online.batch.online"] == 4


def test_an_outer_part_is_set_before_an_inner_one(odd: Path) -> None:
    own = {
        "online__learner__convolutions__width": 7,
        "online__learner__convolutions": "my_odd:Eyes",
        "online__learner": "my_odd:Outer",
    }
    found = table(**own)
    assert (found["online.learner.type"], found["online.learner.convolutions.type"]) == ("my_odd:Outer", "my_odd:Eyes")
    assert found["online.learner.convolutions.width"] == 7


MAZE = segue.GymTask.custom("Pendulum-v1", domain="pointmaze")


def test_presets_of_the_part_before_are_not_said_of_another(lab: Path) -> None:
    """One that is no relative of it; nor of an object that is made already."""
    for learner, option, value in (
        ("my_ddpg:DDPG", "hidden", [64, 64]),
        (describe(segue.SAC(temperature=1.0)), "temperature", 1.0),
    ):
        decided = resolved(find_recipe("sac"), MAZE, {"online.learner": learner}).table()
        assert decided[f"online.learner.{option}"] == {"value": value, "source": "default"}
        assert decided["online.batch.online"] == {"value": 128, "source": "preset pointmaze"}


@pytest.mark.parametrize(("recipe", "inside"), [("sac", ""), ("cal-ql", "base.base.")])
def test_a_class_that_extends_takes_over_what_the_recipe_says(recipe: str, inside: str, lab: Path) -> None:
    """Of the agent whose place it takes, or of the one inside it; settings stand."""
    (lab / "my_bold.py").write_text(
        "from dataclasses import dataclass\nimport my_cautious\n"
        "@dataclass(frozen=True)\nclass Bold(my_cautious.Cautious):\n"
        "    caution: float = -0.5\n"
    )
    usual = resolved(find_recipe(recipe), MAZE, {}).table()
    settings = {"online.learner": "my_bold:Bold", "agent.critic_learning_rate": 0.5}
    found = resolved(find_recipe(recipe), MAZE, settings).table()
    before = {path.replace(f"learner.{inside}", "learner."): row for path, row in usual.items() if inside in path}
    own = {"type", "caution", "critic_learning_rate"}
    for path, row in found.items():
        if path.startswith("online.learner.") and path.rpartition(".")[2] not in own:
            assert row == before[path], path
    assert "preset pointmaze" in {row["source"] for path, row in found.items() if path.startswith("online.learner.")}
    assert found["online.learner.caution"] == {"value": -0.5, "source": "default"}
    assert found["online.learner.critic_learning_rate"] == {"value": 0.5, "source": "settings"}


@pytest.mark.parametrize(
    ("recipe", "types"),
    [
        ("wsrl", {"offline.learner": "M", "warm-up.learner": "M", "online.learner": "M"}),
        ("opt(td3-bc)", {"gather.learner": "M", "meta.learner": "OnlinePretraining", "online.learner.base": "M"}),
        ("alternate(sac,iql)", {"online.learner": "M", "fine-tune-1.learner": "IQL"}),
        ("recommend-better(sac,iql)", {"online.learner": "M", "recommended.learner.first": "M"}),
    ],
)
def test_an_agent_is_set_as_a_whole_in_all_its_phases(recipe: str, types: dict[str, str], lab: Path) -> None:
    (lab / "my_all.py").write_text(
        "from dataclasses import dataclass\nimport segue\n"
        "@dataclass(frozen=True)\nclass M(segue.TD3BC):\n    own: float = 0.5\n"
    )
    settings = {"agent.own": 0.75, "agent": "my_all:M"}
    found = resolved(find_recipe(recipe), MAZE, settings).table()
    mine = {path: "my_all:M" if kind == "M" else kind for path, kind in types.items()}
    assert {path: found[f"{path}.type"]["value"] for path in mine} == mine
    for path, kind in types.items():
        if kind == "M":
            assert found[f"{path}.own"] == {"value": 0.75, "source": "settings"}
            assert found[f"{path}.type"]["source"] == "settings"


@pytest.mark.parametrize(("setting", "part"), MISTAKES, ids=lambda x: x)
def test_what_is_no_part_is_said(setting: str, part: str, odd: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["explain", "sac", "my_task:task", "--set", setting]) == 1
    said = capsys.readouterr().err
    assert part in said
    assert said.startswith(f"segue: {setting.partition('=')[0]}: ")
    assert said.count("\n") == 1
    assert len(said) < 500


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("my_wrong:recipe my_task:task", "recipe of your own (my_wrong.py, line 5) raised KeyError: 'nowhere'"),
        (
            "my_wrong:late my_task:task",
            "Helped.update of your own (helper.py, line 7) raised ValueError: not like this",
        ),
        ("sac my_task:task --set online.learner=helper:Helped", "Helped.update of your own (helper.py, line 7) raised"),
    ],
)
def test_what_raises_in_code_of_ones_own_is_shown(words: str, part: str, lab: Path, capsys) -> None:
    """The user's own lines, without Segue's above them, and the function's name; also where nobody named its module."""
    (lab / "helper.py").write_text(HELPER)
    (lab / "my_wrong.py").write_text(WRONG)
    assert command(["run", *words.split(), "--dry-run"]) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith(f"segue: {part}")
    assert said.startswith("Traceback")
    assert "segue/runs" not in said


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("my_task:Valve", "my_task:Valve is an environment; name a task made of it"),
        ("my_sampler:Recent", "my_sampler:Recent is not a task: it has no absent, action_bounds, card"),
        ("my_task:tsk", "did you mean task?"),
        ("gym:Nowhere-v0", "Nowhere"),
    ],
)
def test_what_is_no_task_is_said(word: str, part: str, lab: Path) -> None:
    with pytest.raises(segue.SegueError, match=part):
        segue.find_task(word)


def test_bonuses_by_name(odd: Path) -> None:
    assert bonus_of("sera") is BONUSES["sera"]
    assert describe(bonus_of("my_bonus:Movement").bonus) == {"type": "my_bonus:Movement", "weight": 0.1}
    for word, part in (("seera", "did you mean 'sera'?"), ("my_sampler:Recent", "is not a bonus: it has no reward")):
        with pytest.raises(segue.SegueError, match=part):
            bonus_of(word)


def test_what_cannot_be_imported_again_is_refused_before_the_run(lab: Path) -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Here(segue.SAC):
        pass

    with pytest.raises(segue.SegueError, match="Here: cannot be imported again, so its run"):
        segue.train("sac", "my_task:task", settings={"online.learner": Here()})


def test_names() -> None:
    assert [is_named(word) for word in ("a:b", "a.b:C.d", "hdf5:/x", "a:", "a b:c", "cal-ql", "a:b-v1")] == [
        *(True, True),
        *(False,) * 5,
    ]


def test_a_command_is_not_the_module_of_its_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started = ModuleType("__main__")  # as Python sees bin/segue
    started.__file__, started.__spec__ = str(tmp_path / "segue"), None
    monkeypatch.setitem(sys.modules, "__main__", started)
    assert named("segue:TD3BC", "a learner") is segue.TD3BC
