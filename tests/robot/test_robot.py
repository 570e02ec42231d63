"""A robot in another process, with a clock of its own: what each command of Segue's sends it, to the last message."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.monitoring
import numpy as np
import pytest
from safetensors.numpy import load_file

import segue
from segue.cli.main import command
from segue.data.readers import open_source

EXAMPLE = Path(__file__).parents[2] / "examples" / "robot"
PERIOD = 0.004
TINY = ("agent.actor_hidden=(8,)", "agent.critic_hidden=(8,)")
SETTINGS = ("evaluation=none", "offline.gradient_steps=20", "offline.batch.offline=16", "online.log_every=10", *TINY)
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
        (*RUN, "online.environment_steps=0", "--out", "offline"),
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
        ("run", "iql", "data:joint", "--seeds", "2", "--set", "evaluation=none"): "so it takes one seed",
        ("run", "iql", "data:joint", "--seeds", "0,", "--set", "evaluation=none", "n_envs=8"): "leave out envs=8",
        ("run", "iql", "data:joint", "--seeds", "0,", "--set", "evaluation=none", "--env-workers", "1"): (
            "leave out --env-workers"
        ),
        ONLINE: "the untrained policy",
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
    eager = (*RUN, "online.environment_steps=25", "--out", "eager")
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
    compiled: list[float] = []

    def heard(name: str, _: float, **__: Any) -> None:
        if "backend_compile" in name:
            compiled.append(time.monotonic())

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        code, _, err = say(*RUN, "online.environment_steps=45", "--out", "run")
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    assert (code, err) == (0, "")
    page = Path("run/report.html").read_text()
    assert "there were no evaluations (evaluation=none)" in page
    assert "the last 10 training episodes, with exploration noise" in page
    assert robot.account() == Counter(connect=1, reset=3, step=45, disconnect=1)  # 20 + 20 + 5 steps
    moved = [m["time"] for m in robot.received() if m["what"] in ("reset", "step")]
    assert min(compiled) < moved[0]
    assert not [t for t in compiled if moved[0] < t < moved[-1]], "it waited for a compiler"
    sent = [m["action"] for m in robot.received() if m["what"] == "step"]
    np.testing.assert_allclose(logged(Path("run"))["action"][:, 0], sent, atol=1e-6)
    assert sum(e.terminated for e in open_source("run:run").episodes) == 0
    code, _, err = say("data", "collect", "more", "--task", "gym:robot_env:Robot-v0", "--policy", "run", "--steps", "5")
    assert code == 0
    assert "moving robot_env:Robot-v0: at least 5 steps, policy run" in err
    assert robot.moved() == Counter(reset=4, step=65)
    for word in ("eval", "film"):
        code, _, err = say(word, "run")
        assert (code, err.count("\n")) == (1, 1)
        assert "joint is real, and the policy would move it; if that is safe, give --real" in err
    assert robot.moved() == Counter(reset=4, step=65)
    code, _, err = say("eval", "run", "--real", "--episodes", "2")
    assert (code, err) == (0, "moving joint: 2 episodes of up to 20 steps, policy run\n")
    assert robot.moved() == Counter(reset=6, step=105)


def test_interrupted_killed_and_resumed_each_command_is_accounted_for(robot: Server, say, tmp_path: Path) -> None:
    """Nothing is replayed, an open episode counts as cut, and what a kill has lost is told."""
    run = tmp_path / "run"

    def left(words: tuple[str, ...], after: int, how: signal.Signals) -> tuple[int, str]:
        """Run a command of Segue's until the robot has had so many steps; return the rows on the disk then."""
        command, every = [sys.executable, "-m", "segue", *words], {"SEGUE_SAVE_EVERY": "0.05"}
        process = subprocess.Popen(command, env=os.environ | every, stdout=subprocess.PIPE, text=True)
        while Counter(m["what"] for m in robot.received())["step"] < after:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(how)
        said, _ = process.communicate(timeout=60)
        stands = [json.loads(p.read_text()) for p in sorted((run / "checkpoints").glob("0*/manifest.json"))]
        trained = segue.load(run).facts["trained"]
        assert trained["phase"] == "online"
        # A kill may come when a checkpoint is written and its policy is not yet.
        assert (trained["update"], trained["environment_step"]) in [
            (s["updates"], s["environment_steps"]) for s in (stands[-1:] if how == signal.SIGINT else stands)
        ]
        return int(stands[-1]["environment_steps"]), said

    def sent() -> list[float]:
        return [m["action"] for m in robot.received() if m["what"] == "step"]

    first, _ = left((*RUN, "online.environment_steps=120", "--out", "run"), 25, signal.SIGINT)
    assert first == robot.moved()["step"]  # a signal saves first
    code, _, err = say("resume", "run", "--set", "evaluation.episodes=2")
    assert (code, err.count("\n")) == (1, 1)
    assert "evaluations would move it" in err
    assert robot.moved()["step"] == first

    second, said = left(("resume", "run"), 70, signal.SIGKILL)
    assert "were sent" not in said
    assert "stopped and saved" not in said
    killed = robot.moved()["step"]
    assert first < second <= killed
    code, out, _ = say("resume", "run")
    assert code == 0
    lost = [int(n) for n in re.findall(r"(\d+) steps? (?:was|were) sent to data:joint after the last checkpoint", out)]
    assert sum(lost) - (killed - second) in (0, 1)  # one that was counted may not have been sent

    again = robot.received()
    starts = [i for i, m in enumerate(again) if m["what"] == "connect"]
    assert len(starts) == 3
    for i in starts:
        assert [m["what"] for m in again[i : i + 3]] == ["connect", "reset", "step"]
    actions, table = sent(), logged(run)["action"][:, 0]
    assert (len(table), len(actions)) == (120, 120 + killed - second)
    np.testing.assert_allclose(table[:second], actions[:second], atol=1e-6)
    np.testing.assert_allclose(table[second:], actions[killed:], atol=1e-6)
    ends = np.cumsum([len(e) for e in open_source("run:run").episodes])
    assert ends[-1] == 120
    assert {first, second} <= set(ends.tolist())  # an episode ends where the run was left


def test_a_robot_that_goes_away_is_named_and_loses_nothing(robot: Server, say, tmp_path: Path) -> None:
    words = [sys.executable, "-m", "segue", *RUN, "online.environment_steps=60", "--out", "run"]
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
    assert "is saved: fix it, then `segue resume run`" in said
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
            "segue: Robot-v0: reset() raised ConnectionRefusedError: [Errno 111] Connection refused; fix the "
            "environment"
        ]
    back = Server(tmp_path, robot.port)
    try:
        assert say("resume", "run")[0] == 0
        assert len(logged(tmp_path / "run")["reward"]) == 60
    finally:
        back.stop()
