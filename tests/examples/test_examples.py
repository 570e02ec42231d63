"""The examples run, small."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_own_environment(tmp_path: Path) -> None:
    main = runpy.run_path(str(EXAMPLES / "own_environment.py"))["main"]
    policy = main(steps=4, episodes=4, folder=tmp_path)
    action = policy.act(np.zeros((3, 2)))
    assert action.shape == (3, 1)
    assert (action >= 0).all()
    assert (action <= 5).all()
    assert (tmp_path / "valve" / "report.html").exists()


def test_compose_phases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gymnasium_robotics")
    monkeypatch.setenv("SEGUE_EXAMPLE_SCALE", "0.01")
    from segue.data.making import pointmaze

    monkeypatch.setenv("SEGUE_CACHE", str(tmp_path))
    small = pointmaze.Maze("PointMaze_UMaze-v3", 300, (3, 1), (1, 1), 600)
    monkeypatch.setitem(pointmaze.MAZES, "umaze", small)
    names = runpy.run_path(str(EXAMPLES / "compose_phases.py"))
    assert list(names["ends"]) == ["offline", "online"]  # a phase that only collects leaves its policy alone
    assert "environment steps" in capsys.readouterr().out
