"""ONNX files as policies that act here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import segue
from segue.collect import Recipe, collect
from segue.core.foreign import Foreign
from segue.core.types import SegueError


def test_an_exported_policy_guides_as_it_acts(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    settings = {"agent.actor_hidden": (8,), "agent.critic_hidden": (8,), "evaluation.episodes": 1}
    settings |= {"online.environment_steps": 20, "online.batch.online": 8}
    run = segue.train("sac", "gym:Pendulum-v1", 1, settings, folder=tmp_path / "run")
    file = segue.export(run, "onnx", tmp_path).file
    task: Any = segue.find_task("gym:Pendulum-v1")
    foreign, policy = Foreign(str(file), task.spec, task.action_bounds), segue.load(run)
    for seen in np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32):
        np.testing.assert_allclose(foreign.act(0, seen), policy.normalised(seen), atol=1e-5)
    (episode,) = collect(task, Recipe((str(file),)), 1)
    np.testing.assert_allclose(episode.action, policy.normalised(episode.current), atol=1e-5)
    again = {**settings, "online.actor.policy": str(file)}
    folder = segue.train("jump-start(sac)", "gym:Pendulum-v1", 1, again, folder=tmp_path / "again")
    assert str(file) in json.loads((folder / "run.json").read_text())["provenance"]["own"]
    file.write_bytes(b"no model")
    with pytest.raises(SegueError, match="cannot be read"):
        Foreign(str(file), task.spec, task.action_bounds)
