"""Plausible mistakes of a newcomer: each is told in one line, true, with the cure; docs/mistakes.md shows them.

`SEGUE_WRITE_DOCS=1 pytest tests/cli/test_mistakes.py` writes the page anew.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import segue

PAGE = Path(__file__).parents[2] / "docs" / "mistakes.md"
HEAD = """# Mistakes and their messages

A test runs each of these and compares this page with the printed message.  Each message is one line.

"""
COMMANDS = (  # command, a part of what is said
    ("segue rnu cal-ql pointmaze-umaze", "did you mean 'run'?"),
    ("segue run calql pointmaze-umaze", "did you mean 'cal-ql'?"),
    ("segue run cal-ql+ser pointmaze-umaze", "did you mean 'sera'?"),
    ("segue run cal-ql pointmase-umaze", "did you mean pointmaze-umaze"),
    ("segue run sac Pendulum-v1", "did you mean gym:Pendulum-v1?"),
    ("segue run sac gym:Pendulm-v1", "check the id"),
    ("segue run sac gym:CartPole-v1", "Segue needs a flat Box"),
    ("segue run cal-ql gym:Pendulum-v1", "a recipe that needs none (sac, td3)"),
    ("segue run cal-ql log.hdf5", "did you mean hdf5:log.hdf5?"),
    ("segue run cal-ql hdf5:nowhere.hdf5", "no such file"),
    ("segue run cal-ql hopper-medium", "SEGUE_DATA"),
    ("segue run cal-ql data:mine", "import it with segue data import"),
    ("segue run cal-ql pointmaze-umaze --set agent.actor_lerning_rate=1e-3", "did you mean 'actor_learning_rate'?"),
    (
        "segue run cal-ql pointmaze-umaze --set online.n_envs=2",
        "did you mean experience.envs, which is the whole run's?",
    ),
    ("segue run cal-ql pointmaze-umaze --set n_envs=7", "no multiple of train_every=7 (envs=7)"),
    ("segue run cal-ql pointmaze-umaze --env-workers -1", "or 0 for none"),
    ("segue run cal-ql pointmaze-umaze --set online.utd_ratio=1.5", "not a whole number of updates"),
    ("segue run cal-ql pointmaze-umaze --set agent.gap=0.4", "has no effect here"),
    ("segue run cal-ql pointmaze-umaze --set online.environment_steps=-5", "must not be negative"),
    ("segue run cal-ql pointmaze-umaze --set agent.actor_hidden=big", "a tuple of whole numbers"),
    ("segue run cal-ql pointmaze-umaze --set scaling.discount=1", "at least 0 and below 1"),
    ("segue run cal-ql pointmaze-umaze --set evaluation.episodes=-1", "out of range"),
    ("segue run cal-ql pointmaze-umaze --set offline.batch.offline=0", "its batch is empty"),
    ("segue run cal-ql pointmaze-umaze --set online.batch=Unoin", "did you mean Union?"),
    ("segue run cal-ql pointmaze-umaze --set online.learner=SERA", "is not a learner"),
    ("segue run cal-ql pointmaze-umaze --set", "at least one name=value"),
    ("segue run cal-ql pointmaze-umaze --seeds -1", "none negative"),
    ("segue run cal-ql pointmaze-umaze --seeds 1,1", "none twice"),
    ("segue run cal-ql pointmaze-umaze --seeds 123456", "the one seed 123456 is '123456,'"),
    ("segue run cal-ql pointmaze-umaze --rules freeze_acto=3", "did you mean 'freeze_actor'?"),
    ("segue run cal-ql pointmaze-umaze --out used", "is not empty; give another --out"),
    ("segue run cal-ql pointmaze-umaze --out file.txt", "cannot make this folder"),
    ("segue run cal-ql pointmaze-umaze --stop-when 'success>=95'", "a share, from 0 to 1"),
    ("segue run cal-ql pointmaze-umaze --stop-when 'success>=0.9,phase=onlin'", "did you mean 'online'?"),
    (
        "segue run cal-ql pointmaze-umaze --stop-when 'success>=0.9' --set evaluation=none",
        "there are no evaluations to stop at",
    ),
    ("segue run --config file.txt", "is not TOML"),
    ("segue run --config run.toml", "did you mean 'seeds'?"),
    ("segue run cal-ql --like nowhere", "is not a run"),
    ("segue resume nowhere", "is not a run"),
    ("segue report used", "no run.json here"),
    ("segue report", "name at least one run's folder"),
    ("segue data chek mine", "did you mean 'check'?"),
    ("segue data check mine", "no dataset 'mine'"),
    ("segue data check text.npz", "'action' has type <U4, not numbers"),
    ("segue data check d4rl:d4rl.npz", "'actions' has type <U4, not numbers"),
    ("segue data import text.npz", "give the dataset a name"),
    ("segue data import 'npz:my log.npz'", "segue data import 'npz:my log.npz' NAME"),
    ("segue data import csv:file.txt mine", "file.txt"),
    ("segue data import broken.hdf5 mine", "broken.hdf5"),
    ("segue data import npz:nowhere.npz mine", "nowhere.npz"),
    ("segue data export mine out.npz", "no dataset 'mine'"),
    ("segue data collect new --task gym:Pendulum-v1 --policy nowhere", "no readable policy"),
    ("segue explain cal-ql pointmaze-umase", "did you mean pointmaze-umaze"),
)
PYTHON = (  # snippet, a part of what is said
    ('segue.train("cal-ql", "pointmaze-umaze", seeds="3")', "give how many (8), or which ones"),
    ('segue.train("cal-ql", "pointmaze-umaze", seeds=[0.5])', "seeds are whole numbers"),
    ('segue.train("cal-ql", "pointmaze-umaze", seeds=np.int64(-1))', "none negative"),
    ('segue.train("cal-ql", "pointmaze-umaze", settings=["online.environment_steps=3"])', "give a mapping"),
    ('segue.train("cal-ql", "pointmaze-umaze", track="paper")', "there is no tracker 'paper'"),
    ('segue.train("cal-ql", "pointmaze-umaze", stop_when="sucess>=0.9")', "did you mean 'success'?"),
    ('segue.train("cal-ql", "pointmaze-umaze", sinks=[print])', "has no close and no write"),
    ('segue.train("cal-ql", gymnasium.make("Pendulum-v1"))', "each seed needs an environment of its own"),
    ("segue.find_task(3)", "a task's name is a str, not int"),
    ('segue.load("nowhere")', "no readable policy"),
    (
        'segue.data.from_episodes([{"observation": np.zeros((3, 2)), "action": np.zeros((3, 1)), '
        '"reward": np.zeros(3)}])',
        "give one more observation than actions",
    ),
    (
        'segue.GymTask.custom("Pendulum-v1", segue.data.from_episodes([{"observation": np.zeros((4, 3)), '
        '"action": np.full((3, 1), 2.0), "reward": np.zeros(3)}])).dataset()',
        "rescale or clip the actions",
    ),
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a few wrong things in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGUE_DATASETS", str(tmp_path / "datasets"))
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").touch()
    (tmp_path / "file.txt").write_text("no table\n")
    (tmp_path / "run.toml").write_text("sedes = 3\n")
    (tmp_path / "broken.hdf5").write_bytes(b"no such thing")
    text, rows = np.full((4, 1), "left"), np.zeros(4)
    np.savez("text.npz", observation=np.zeros((4, 2)), action=text, reward=rows, done=rows + 1)
    d4rl = {"observations": np.zeros((4, 2)), "actions": text, "rewards": rows, "terminals": rows == 1}
    np.savez("d4rl.npz", **d4rl, timeouts=np.arange(4) == 3)
    return tmp_path


def said_by(words: str, say: Callable[..., Any]) -> str:
    code, _, err = say(*shlex.split(words)[1:])
    assert code == 1, (words, code, err)
    return err


@pytest.mark.parametrize(("words", "part"), COMMANDS, ids=[c[0] for c in COMMANDS])
def test_a_command(words: str, part: str, say: Callable[..., Any], place: Path) -> None:
    line = said_by(words, say)
    assert line.count("\n") == 1, line
    assert line.startswith("segue: ")
    assert part in line
    assert "bug in Segue" not in line
    assert len(line) < 500


@pytest.mark.parametrize(("snippet", "part"), PYTHON, ids=[str(n) for n in range(len(PYTHON))])
def test_a_line_of_python(snippet: str, part: str, place: Path) -> None:
    with pytest.raises(segue.SegueError) as caught:
        eval(snippet, {"segue": segue, "np": np, "gymnasium": gymnasium})
    assert "\n" not in str(caught.value)
    assert part in str(caught.value)


def test_the_page_says_the_same(say: Callable[..., Any], place: Path) -> None:
    rows = []
    for words, _ in COMMANDS:
        rows.append((words, said_by(words, say).strip()))
    for snippet, _ in PYTHON:
        with pytest.raises(segue.SegueError) as caught:
            eval(snippet, {"segue": segue, "np": np, "gymnasium": gymnasium})
        rows.append((snippet, f"SegueError: {caught.value}"))
    clean = lambda text: text.replace(f"{place}{os.sep}", "").replace("|", "\\|")  # noqa: E731
    table = "".join(f"| `{clean(words)}` | {clean(line)} |\n" for words, line in rows)
    page = f"{HEAD}| tried | said |\n|---|---|\n{table}"
    if os.environ.get("SEGUE_WRITE_DOCS"):
        PAGE.write_text(page)
    assert len(rows) >= 40
    assert page == PAGE.read_text()
