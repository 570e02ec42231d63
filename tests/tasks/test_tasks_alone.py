"""A log without an environment: offline learning, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import segue
from segue.cli.main import command
from segue.data import write_d4rl

TINY = ("agent.actor_hidden=(8,)", "agent.critic_hidden=(8,)", "offline.batch.offline=8", "offline.gradient_steps=4")


def episodes() -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    seen, acted = rng.normal(size=(5, 11, 3)), rng.uniform(-1, 1, (5, 10, 2))
    return [{"observation": s, "action": a, "reward": np.ones(10)} for s, a in zip(seen, acted)]


def test_offline_only_from_the_command_line(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEGUE_DATASETS", str(tmp_path / "datasets"))
    segue.data.keep("mine", episodes())
    words = ["run", "td3-bc", "data:mine", "--seeds", "1", "--out", "run", "--set", *TINY]
    assert command(words) == 1
    assert "learn offline only with --set online.environment_steps=0 evaluation=none" in capsys.readouterr().err
    assert command([*words, "online.environment_steps=0", "evaluation=none"]) == 0, capsys.readouterr().err
    action = segue.load("run").act(np.zeros((4, 3)))
    assert action.shape == (4, 2)
    assert np.abs(action).max() <= 1
    assert "there were no evaluations" in Path("run/report.html").read_text()
    rows = [json.loads(line)["kind"] for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert "handover" in rows
    assert "evaluation" not in rows
    with pytest.raises(segue.SegueError, match="there is a log but no environment"):
        segue.find_task("data:mine").make_env()


def test_a_file_and_an_own_log(tmp_path: Path) -> None:
    log = segue.data.from_episodes(episodes())
    own = segue.GymTask.custom(None, log)
    assert own.spec == segue.Spec((3,), 2)
    assert own.horizon == 10
    path = tmp_path / "log.hdf5"
    ends = np.arange(50) % 10 == 9
    columns = {"observations": log.observation, "actions": log.action, "rewards": log.reward}
    write_d4rl(path, {**columns, "terminals": np.zeros(50, bool), "timeouts": ends}, {})
    task = segue.find_task(f"hdf5:{path}?env=none")
    assert task.absent
    assert task.spec == own.spec
    with pytest.raises(segue.SegueError, match=r"env=ID \(none, to learn offline only\)"):
        segue.find_task(f"hdf5:{path}")
    with pytest.raises(
        segue.SegueError,
        match=r"env= of GymTask.custom.*warm-up.environment_steps=0 online.environment_steps=0 evaluation=none",
    ):
        segue.train("wsrl", own, seeds=1)
    with pytest.raises(segue.SegueError, match="there is nothing to do"):
        segue.train("sac", own, seeds=1, settings={"online.environment_steps": 0})
    with pytest.raises(segue.SegueError, match="give data="):
        segue.GymTask.custom(None)
