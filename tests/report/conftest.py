"""Small run folders with known numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Folder = Callable[..., Path]


def row(kind: str, phase: int, step: int, update: int, values: dict[str, Any], seeds: list[int], **more: Any) -> str:
    name = ["first", "second"][phase]
    clock = {
        "phase": name,
        "phase_index": phase,
        "phase_step": step + update,
        "environment_step": step,
        "update": update,
    }
    return json.dumps({"kind": kind, **clock, "wall_s": 60.0 * phase, "seeds": seeds, "values": values, **more})


@pytest.fixture
def make_run(tmp_path: Path) -> Folder:
    """Return a writer of run folders: `offline` and `online` map clock to success per seed."""

    def write(
        name: str = "run",
        recipe: str = "calql",
        task: str = "maze",
        seeds: tuple[int, ...] = (3, 5),
        offline: dict[int, list[float]] | None = None,
        online: dict[int, list[float]] | None = None,
        handover: dict[str, Any] | None = None,
        success: bool = True,
        tail: str = "",
        config: dict[str, Any] | None = None,
        status: str = "finished",
    ) -> Path:
        numbers = list(seeds)
        phases, rows = [], []
        if offline is not None:
            done = max(offline)
            phases.append(
                {
                    "name": "first",
                    "slot": "agent",
                    "learner": "CalQL",
                    "gradient_steps": done,
                    "environment_steps": None,
                }
            )
            for update, values in offline.items():
                rows.append(row("evaluation", 0, 0, update, evaluation(values, success), numbers))
                rows.append(row("training", 0, 0, update, {"critic_loss": [1.5 for _ in seeds]}, numbers))
            diagnostics, sums = fresh(2.0, 8.0, seeds)
            more: dict[str, Any] = {"points": {"q": [1.0, 2.0, None], "mc_return": [2.0, 1.0, 0.0]}}
            if handover is None:
                more["episodes"] = sums
            rows.append(row("handover", 0, 0, done, diagnostics if handover is None else handover, numbers, **more))
        if online is not None:
            done, phase = max(offline or {0: []}), len(phases)
            steps = max(online)
            phases.append(
                {"name": "second", "slot": "agent", "learner": "SAC", "environment_steps": steps, "utd_ratio": 1}
            )
            for step, values in online.items():
                rows.append(row("evaluation", phase, step, done + step, evaluation(values, success), numbers))
                bound = {"critic_loss": [0.5 for _ in seeds], "bound_rate_current": [0.25 for _ in seeds]}
                rows.append(row("training", phase, step, done + step, bound, numbers))
                for seed, value in zip(seeds, values):
                    episode = {"return": [value], "length": [9], "success": [float(value > 0.5)]}
                    rows.append(row("episode", phase, step, done + step, episode, [seed]))
            after, sums = fresh(9.0, 9.5, seeds)
            rows.append(row("handover", phase, steps, done + steps, after, numbers, episodes=sums))
        about = {
            "segue": "0.1.0",
            "status": status,
            "recipe": recipe,
            "task": task,
            "seeds": numbers,
            "command": ["segue", "run", recipe],
            "created": "2026-11-21T07:00:00",
            "config": {
                "discount": {"value": 0.99, "source": "default"},
                "note": {"value": "<script>alert('x')</script>", "source": "settings"},
                **{name: {"value": value, "source": "settings"} for name, value in (config or {}).items()},
            },
            "phases": phases,
            "provenance": {"versions": {"numpy": "2.0"}, "platform": "Linux", "dataset": None},
        }
        folder = tmp_path / name
        folder.mkdir()
        (folder / "run.json").write_text(json.dumps(about), "utf-8")
        (folder / "metrics.jsonl").write_text("\n".join(rows) + "\n" + tail, "utf-8")
        return folder

    return write


def fresh(q: float, came: float, seeds: tuple[int, ...]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values and sums of three fresh episodes of ten rows for each seed."""
    values = {"q_fresh": [q for _ in seeds], "return_fresh": [came for _ in seeds], "fresh_share": [1.0 for _ in seeds]}
    sums = {"error": 10 * (q - came), "came": 10 * came, "weight": 10.0, "rows": 10}
    return values, {name: [[value] * 3 for _ in seeds] for name, value in sums.items()}


def evaluation(values: list[float], success: bool) -> dict[str, Any]:
    return {
        "return": [1000.0 * value for value in values],
        "length": [10.0 for _ in values],
        "success": values if success else [None for _ in values],
        "score": [100.0 * value for value in values],
    }


@pytest.fixture
def dipping(make_run: Folder) -> Path:
    """Return a run that falls from 0.8 to 0.2 and 0.3, is back after 30 steps and ends at 0.9 and 1.0."""
    return make_run(
        offline={0: [0.0, 0.1], 100: [0.8, 0.8]},
        online={10: [0.2, 0.3], 20: [0.5, 0.5], 30: [0.8, 0.9], 40: [0.9, 1.0]},
    )
