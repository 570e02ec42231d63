"""New logs from policies: who acts, how noisily, and the same rows again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import jax
import numpy as np
import pytest

from segue.agents import SAC
from segue.cli.data import main
from segue.collect import Recipe, collect, facts_of
from segue.core.scaling import Scaling
from segue.core.types import Learned, SegueError, Slot, Spec
from segue.data.recorded import data_of
from segue.data.store import find_stored
from segue.runs.policy import load, save_policy
from segue.tasks import GymTask, find_task


@pytest.fixture(scope="module")
def task() -> GymTask:
    return GymTask.custom("Pendulum-v1", horizon=20)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, task: GymTask) -> Path:
    agent = SAC(actor_hidden=(8,), critic_hidden=(8,))
    state = jax.vmap(lambda key: agent.init(key, task.spec))(jax.random.split(jax.random.key(0), 2))
    facts = {"action": {"low": [-2.0], "high": [2.0]}, "observation": {"keys": []}, "scaling": asdict(Scaling())}
    folder = tmp_path_factory.mktemp("run")
    save_policy(folder / "policy", Slot(agent, Learned(state), Scaling()), task.spec, (3, 5), facts)
    return folder


def test_who_acts(task: GymTask, run: Path) -> None:
    mixed = Recipe(("random", str(run), f"{run}@5"), shares=(1.0, 1.0, 2.0), noise=0.0)
    episodes = list(collect(task, mixed, 600, seed=1))
    again = list(collect(task, mixed, 600, seed=1))
    assert data_of(episodes, "x").sha256() == data_of(again, "x").sha256()
    assert data_of(episodes, "x").sha256() != data_of(collect(task, mixed, 600, seed=2), "x").sha256()
    assert [len(e) for e in episodes] == [20] * 30
    count = {name: sum(e.source == name for e in episodes) for name in mixed.policies}
    assert count[f"{run}@5"] > max(count["random"], count[str(run)]) > 0
    for name, seed in ((str(run), 3), (f"{run}@5", 5)):
        episode = next(e for e in episodes if e.source == name)
        best = load(run, seed).normalised(episode.current)
        np.testing.assert_allclose(episode.action, best, atol=1e-6)
    assert not any(e.terminated for e in episodes)


def test_noise(task: GymTask, run: Path) -> None:
    policy = load(run, 3)
    apart = {}
    for name, recipe in (
        ("noise", Recipe((str(run),), noise=0.1)),
        ("epsilon", Recipe((str(run),), epsilon=0.5)),
        ("explore", Recipe((str(run),), explore="yes")),
    ):
        data = data_of(collect(task, recipe, 400), "x")
        apart[name] = np.abs(data.action - policy.normalised(data.observation))[:, 0]
        assert np.abs(data.action).max() <= 0.99999
    assert 0.06 < apart["noise"].mean() < 0.1  # the mean of a half normal distribution: 0.8 of its spread
    assert 0.35 < np.mean(apart["epsilon"] > 1e-5) < 0.65
    assert apart["explore"].mean() > 0.2


def test_refusals(task: GymTask, run: Path, tmp_path: Path) -> None:
    for wrong in ({"policies": ()}, {"shares": (1.0,)}, {"noise": -1.0}, {"epsilon": 2.0}):
        with pytest.raises(SegueError, match=next(iter(wrong))):
            Recipe(**({"policies": ("random", "x")} | wrong))  # type: ignore[arg-type]
    with pytest.raises(SegueError, match="at least one"):
        collect(task, Recipe(("random",)), 0)
    with pytest.raises(SegueError, match="no readable policy"):
        collect(task, Recipe((str(tmp_path),)), 10)
    with pytest.raises(SegueError, match="no seed 4"):
        collect(task, Recipe((f"{run}@4",)), 10)
    with pytest.raises(SegueError, match="FOLDER@SEED"):
        collect(task, Recipe((f"{run}@best",)), 10)
    other = load(run).spec
    assert other == Spec((3,), 1)
    with pytest.raises(SegueError, match=r"takes observations \(3,\) and 1 actions, MountainCar.* has \(2,\) and 1"):
        collect(GymTask.custom("MountainCarContinuous-v0"), Recipe((str(run),)), 10)
    with pytest.raises(SegueError, match="has no id"):
        facts_of(GymTask.custom(lambda: None, horizon=3), Recipe(("random",)), 1, 0)


def test_from_the_command_line_to_a_task(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGUE_DATASETS", str(tmp_path))
    main(["collect", "mine", "--task", "gym:Pendulum-v1", "--policy", "random", str(run), "--steps", "900"])
    assert "mine: 1,000 transitions in 5 episodes" in capsys.readouterr().out
    assert find_stored("mine").facts["environment"]["env_id"] == "Pendulum-v1"
    found = find_task("data:mine")
    data = found.dataset()
    assert data is not None
    assert (len(data), found.horizon, found.spec) == (1000, 200, Spec((3,), 1))
    with pytest.raises(SegueError, match="dataset mine exists"):
        main(["collect", "mine", "--task", "gym:Pendulum-v1"])
    for command in ("list", "show"):
        main([command, "mine"][: 1 if command == "list" else 2])
        assert "1,000" in capsys.readouterr().out
    main(["card", "mine", "--out", str(tmp_path / "card")])
    page = (tmp_path / "card" / "card.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "Pendulum-v1" in page
    with pytest.raises(SegueError, match="did you mean 'collect'"):
        main(["colect"])
    with pytest.raises(SegueError, match="letters, digits"):
        main(["collect", "../x", "--task", "gym:Pendulum-v1"])
