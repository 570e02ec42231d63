"""A robot in another process, with a clock of its own: what each command of Segue's sends it, to the last message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import segue
from segue.cli.main import command
from segue.data.readers import open_source

EXAMPLE = Path(__file__).parents[2] / "examples" / "robot"
PERIOD = 0.004
TINY = ("agent.actor_hidden=(8,)", "agent.critic_hidden=(8,)")
SETTINGS = ("evaluation=none", "offline.ticks=20", "offline.batch.offline=16", "online.log_every=10", *TINY)
RUN = ("run", "iql", "data:joint", "--seeds", "0,", "--set", *SETTINGS)


ONLINE = ("run", "sac", "gym:robot_env:Robot-v0", "--seeds", "0,", "--set", "evaluation=none")


class Server:
    """The robot's process, and what it was sent."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.log = folder / "received.jsonl"
        self.log.touch()
        words = [sys.executable, EXAMPLE / "server.py", "--log", self.log, "--period", str(PERIOD), "--port", str(port)]
        self.process = subprocess.Popen([str(w) for w in words], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def received(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def account(self) -> Counter[str]:
        """How often it was sent what; a client's going is seen a moment later."""
        for _ in range(100):
            found = Counter(message["what"] for message in self.received())
            if found["connect"] == found["disconnect"]:
                break
            time.sleep(0.02)
        return found

    def moved(self) -> Counter[str]:
        found = self.account()
        return Counter({k: found[k] for k in ("reset", "step", "refused") if found[k]})

    def stop(self) -> None:
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def robot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A robot, its environment's module, and a log of it in the store as `joint`."""
    server = Server(tmp_path)
    monkeypatch.setenv("ROBOT", f"127.0.0.1:{server.port}")
    monkeypatch.setenv("SEGUE_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLE), *sys.path]))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    episodes = []
    for _ in range(8):
        seen = np.cumsum(rng.normal(0, 0.05, (21, 2)), axis=0).astype(np.float32).clip(-1, 1)
        action = rng.uniform(-1, 1, (20, 1)).astype(np.float32)
        episodes.append({"observation": seen, "action": action, "reward": -np.abs(seen[1:, 0])})
    segue.data.keep("joint", episodes, env="robot_env:Robot-v0")
    yield server
    server.stop()


@pytest.fixture
def say(robot: Server, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def run(*words: str | Path) -> tuple[int, str, str]:
        code = command([str(w) for w in words])
        return code, *capsys.readouterr()

    return run


def logged(folder: Path) -> dict[str, np.ndarray]:
    """The run's own experience, as it is on the disk."""
    parts = [load_file(path) for path in sorted((folder / "replay").glob("*.safetensors"))]
    return {name: np.concatenate([p[name] for p in parts])[:, 0] for name in parts[0]}


def test_what_does_not_ask_to_move_does_not_reach_it(robot: Server, say) -> None:
    """Refusals too: each in one line, before anything is connected."""
    for words in (
        ("list",),
        ("explain", "iql", "data:joint"),
        (*RUN, "--dry-run"),
        (*RUN, "online.ticks=0", "--out", "offline"),
        ("report", "offline"),
        ("data", "list"),
        ("data", "show", "joint"),
        ("data", "check", "joint"),
        ("data", "card", "joint"),
    ):
        code, _, err = say(*words)
        assert (code, err) == (0, ""), (words, err)
    segue.load("offline").act(np.zeros(2))
    for ragged in ("x", [[0.0, 0.0], [0.0]]):
        with pytest.raises(segue.SegueError, match="no such array"):
            segue.load("offline").act(ragged)
    with pytest.raises(segue.SegueError, match="finite numbers"):
        segue.load("offline").act(np.asarray([np.nan, 0.0]))

    refused = {
        ("run", "iql", "data:joint", "--seeds", "0,"): "--set evaluation=none",
        ("run", "iql", "data:joint", "--seeds", "2", "--set", "evaluation=none"): "2 seeds want to move it",
        ONLINE: "which is not trained",
        (*RUN, "--rules", "warm_up=10,policy=random"): "uniformly random actions",
        ("run", "recommend(sac,iql)", *ONLINE[2:], "--untrained"): "to choose among its checkpoints",
    }
    for wrong, reason in refused.items():
        code, _, err = say(*wrong)
        assert code == 1
        assert err.count("\n") == 1, err
        assert reason in err
    assert robot.account() == Counter()


EAGER = """
import gymnasium, robot_env

class Eager(robot_env.Robot):
    def __init__(self):
        super().__init__()
        self.connect()

gymnasium.register("Eager-v0", entry_point="eager_env:Eager", max_episode_steps=robot_env.HORIZON)
"""


def test_one_that_connects_when_it_is_made_is_asked_for_its_spaces_once(
    robot: Server, say, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never two connections at a time, and none for a time limit that is registered."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "eager_env.py").write_text(EAGER)
    eager = (*RUN, "online.ticks=25", "--out", "eager")
    eager = tuple("data:joint?env=eager_env:Eager-v0" if word == "data:joint" else word for word in eager)
    before = Counter[str]()
    for words, connections in (
        (("list",), 0),
        (("explain", "iql", eager[2]), 1),
        ((*eager, "--dry-run"), 1),
        (("data", "check", "joint", "--env", "eager_env:Eager-v0"), 1),
        (eager, 2),
        (("report", "eager"), 0),
    ):
        assert say(*words)[0] == 0, words
        expected = Counter({"connect": connections, "disconnect": connections} if connections else {})
        expected += Counter({"reset": 2, "step": 25}) if words == eager else Counter()
        for _ in range(100):  # the server notes a client that comes or goes a moment later
            if robot.account() - before == expected:
                break
            time.sleep(0.02)
        time.sleep(0.05)
        found = robot.account()
        assert found - before == expected, words
        before = found


def test_check_simulates_when_told_to_and_says_what_first(robot: Server, say) -> None:
    _, out, _ = say("data", "check", "joint", "--json")
    assert "it moves the environment, which --simulate allows" in out
    assert robot.account() == Counter()
    _, _, err = say("data", "check", "joint", "--simulate", "--json")
    assert "64 resets, 10 episodes of up to 100 uniformly random actions" in err
    moved = robot.moved()
    assert 64 <= moved["reset"] <= 64 + 10 + 10
    assert 0 < moved["step"] <= 10 * 20 + 21 + 20


def test_a_run_moves_it_in_its_online_phase_and_nowhere_else(robot: Server, say) -> None:
    code, _, err = say(*RUN, "online.ticks=45", "--out", "run")
    assert (code, err) == (0, "")
    assert "nothing was evaluated (evaluation=none)" in Path("run/report.html").read_text()
    assert robot.account() == Counter(connect=1, reset=3, step=45, disconnect=1)  # 20 + 20 + 5 steps
    sent = [m["action"] for m in robot.received() if m["what"] == "step"]
    np.testing.assert_allclose(logged(Path("run"))["action"][:, 0], sent, atol=1e-6)
    assert sum(e.terminated for e in open_source("run:run").episodes) == 0
    code, _, err = say("data", "collect", "more", "--task", "gym:robot_env:Robot-v0", "--policy", "run", "--steps", "5")
    assert code == 0
    assert "moving robot_env:Robot-v0: at least 5 steps, policy run" in err
    assert robot.moved() == Counter(reset=4, step=65)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["int", "kill"])
def test_resuming_replays_nothing(how: signal.Signals, robot: Server, say, tmp_path: Path) -> None:
    """The open episode counts as cut; the run goes on with a new one, and every command is accounted for."""
    words = [sys.executable, "-m", "segue", *RUN, "online.ticks=60", "--out", "run"]
    process = subprocess.Popen(words, env={**os.environ, "SEGUE_SAVE_EVERY": "0.05"})
    while Counter(m["what"] for m in robot.received())["step"] < 25:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(how)
    process.wait(timeout=60)
    before = robot.moved()
    rows = len(logged(tmp_path / "run")["reward"])
    assert rows <= before["step"]
    assert how == signal.SIGKILL or rows == before["step"]  # a signal saves first
    open_rows = rows % 20
    code, _, err = say("resume", "run", "--set", "evaluation.episodes=2")
    assert (code, err.count("\n")) == (1, 1)
    assert "evaluations would move it" in err
    assert robot.moved() == before
    assert say("resume", "run")[0] == 0
    again = robot.received()
    start = max(i for i, m in enumerate(again) if m["what"] == "connect")
    assert [m["what"] for m in again[start : start + 3]] == ["connect", "reset", "step"]
    assert robot.moved()["step"] - before["step"] == 60 - rows
    table = logged(tmp_path / "run")
    assert len(table["reward"]) == 60
    lengths = [len(e) for e in open_source("run:run").episodes]
    assert sum(lengths) == 60
    if open_rows:
        assert sum(lengths[: -(-rows // 20)]) == rows  # an episode ends where the run was left
    sent = [m["action"] for m in again if m["what"] == "step"]
    np.testing.assert_allclose(table["action"][:rows, 0], sent[:rows], atol=1e-6)
    np.testing.assert_allclose(table["action"][rows:, 0], sent[before["step"] :], atol=1e-6)


def test_a_robot_that_goes_away_is_named_and_loses_nothing(robot: Server, say, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "segue", *RUN, "online.ticks=60", "--out", "run"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    while Counter(m["what"] for m in robot.received())["step"] < 25:
        assert process.poll() is None
        time.sleep(0.01)
    robot.stop()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    (said,) = [line for line in err.splitlines() if line.startswith("segue: ")]
    assert "the environment failed (seed 0, step" in said
    assert "ConnectionError: the robot has gone" in said or "Error" in said
    assert "is saved: mend it, then `segue resume run`" in said
    assert "bug" not in err
    rows = len(logged(tmp_path / "run")["reward"])
    assert rows in (
        len([m for m in robot.received() if m["what"] == "step"]) - k for k in (0, 1)
    )  # the last unanswered
    for words in (
        ("data", "collect", "more", "--task", "gym:robot_env:Robot-v0", "--steps", "5"),
        ("data", "check", "joint", "--simulate"),
    ):
        code, _, err = say(*words)
        assert code == 1
        assert [line for line in err.splitlines() if not line.startswith("moving ")] == [
            "segue: Robot-v0: reset() raised ConnectionRefusedError: [Errno 111] Connection refused; mend the "
            "environment"
        ]
    back = Server(tmp_path, robot.port)
    try:
        assert say("resume", "run")[0] == 0
        assert len(logged(tmp_path / "run")["reward"]) == 60
    finally:
        back.stop()
