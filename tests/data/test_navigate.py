"""The scripted policy: steering is right by symmetry, ways stay off the walls, and logs cover their mazes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gymnasium.envs.mujoco.ant_v5 import AntEnv

from segue.cli.data import main
from segue.collect import Recipe, collect, facts_of
from segue.collect.ground import Ground, ground_of
from segue.collect.navigate import HANDFUL, Way, handful
from segue.collect.walker import Steered, Walker, read_walker, renumbered, turned, yaw_of
from segue.core.types import SegueError
from segue.data.recorded import Recorded, data_of
from segue.data.store import find_stored
from segue.tasks import GymTask, find_task

SCRIPTED = ("scripted",)
ANTS = ("gym:antmaze-umaze-diverse", "gym:antmaze-umaze-v2")  # Gymnasium-Robotics' and D4RL's


def random_body(rng: np.random.Generator) -> np.ndarray:
    orientation = rng.normal([1.0, 0.0, 0.0, 0.0], [0.3, 0.2, 0.2, 0.5])
    orientation *= np.sign(orientation[0]) / np.linalg.norm(orientation)
    joints = np.stack([rng.uniform(-0.5, 0.5, 4), np.array([1, -1, -1, 1]) * rng.uniform(0.6, 1.1, 4)], 1)
    return np.concatenate([[0.6], orientation, joints.ravel(), 0.5 * rng.standard_normal(14)])


def random_walker(rng: np.random.Generator, std: float = 1.0) -> Walker:
    sizes = ((16, 27), (16, 16), (8, 16))
    layers = tuple((0.3 * rng.standard_normal(size), 0.1 * rng.standard_normal(size[0])) for size in sizes)
    return Walker(rng.standard_normal(27), np.full(27, std), layers, "")


def of_legs(action: np.ndarray, quarters: int) -> np.ndarray:
    """An action whose legs are renumbered; its motors begin with the last leg."""
    return np.roll(renumbered(np.roll(action.reshape(4, 2), -1, 0), quarters), 1, 0).ravel()


def write_walker(path: Path, **other: np.ndarray | None) -> Path:
    made = random_walker(np.random.default_rng(0))
    arrays: dict[str, np.ndarray | None] = {"mean": made.mean, "std": made.std}
    for layer, (weight, bias) in enumerate(made.layers):
        arrays |= {f"w{layer}": weight, f"b{layer}": bias}
    np.savez(path, **{k: v for k, v in (arrays | other).items() if v is not None})  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def walker(shared_data: Path) -> str:
    path = shared_data / "ant_runner.npz"
    if not path.is_file():
        pytest.skip(f"no walker at {path}")
    return str(path)


def test_a_turned_ant_with_renumbered_legs_is_the_same_ant() -> None:
    """MuJoCo's own judgement: what it does with the same action on the same legs is the same, turned."""
    env = AntEnv(
        exclude_current_positions_from_observation=False,
        include_cfrc_ext_in_observation=False,
        reset_noise_scale=0.0,
    )
    rng = np.random.default_rng(0)

    def after(body: np.ndarray, action: np.ndarray) -> np.ndarray:
        env.reset(seed=0)
        env.set_state(np.concatenate([[0.0, 0.0], body[:13]]), body[13:])
        for _ in range(3):
            observation = env.step(action)[0]
        return np.asarray(observation[2:])

    for quarters, heading in ((1, 0.0), (2, 0.4), (3, -2.0), (0, 1.0)):
        body, action = random_body(rng), rng.uniform(-1.0, 1.0, 8)
        same = after(turned(body, heading, quarters), of_legs(action, quarters))
        np.testing.assert_allclose(same, turned(after(body, action), heading, quarters), atol=1e-5)
        assert np.abs(after(turned(body, heading, quarters), action) - same).max() > 0.1 or quarters == 0
    env.close()


def test_steering_turns_with_the_world() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        steered, body = random_walker(rng), random_body(rng)
        # Away from headings at which two numberings are equally good.
        heading = yaw_of(body) + rng.integers(4) * np.pi / 2 + rng.uniform(-0.6, 0.6)
        offset = np.array([np.cos(heading), np.sin(heading)])
        action = Steered(steered, 0.7)(body, 5.0 * offset)
        assert np.abs(action).max() <= 0.7
        right = np.array([offset[1], -offset[0]])
        np.testing.assert_allclose(Steered(steered, 0.7)(turned(body, np.pi / 2, 0), right), action, atol=1e-9)
        # A heading that is a quarter further, and legs that are numbered a quarter further: the same on other names.
        left = np.array([-offset[1], offset[0]])
        further = Steered(steered, 0.7)(turned(body, -np.pi / 2, 1), left)
        np.testing.assert_allclose(further, of_legs(action, 1), atol=1e-9)


def ground(name: str) -> Ground:
    task = find_task(name)
    return ground_of(task, task.make_env())


@pytest.mark.parametrize("name", ["gym:antmaze-large-play-v2", "antmaze-medium-diverse", "pointmaze-large"])
def test_ways_stay_off_the_walls_and_arrive(name: str) -> None:
    maze, rng = ground(name), np.random.default_rng(0)
    cells = sorted(maze.centre)
    for _ in range(15):
        way = Way(maze, cells, 0.1 * maze.width, rng)
        goal, place = way.goal, maze.centre[cells[rng.integers(len(cells))]] + rng.uniform(-0.4, 0.4, 2) * maze.width
        commanded = way.cell
        for _ in range(100 * maze.steps(maze.cell(place), commanded) + 200):
            to_go = way.point(place) - place
            if way.goal is not goal:
                break
            place = place + 0.04 * maze.width * to_go / max(np.linalg.norm(to_go), 1e-9)
            assert np.abs(place - maze.centre[maze.cell(place)]).max() <= 0.5 * maze.width
        assert np.linalg.norm(goal - place) < 0.1 * maze.width
        assert way.cell != commanded


def test_a_handful_lies_far_apart() -> None:
    maze = ground("antmaze-medium-diverse")
    chosen = handful(maze)
    assert chosen[0] == (1, 1)
    assert len(set(chosen)) == HANDFUL
    assert min(maze.steps(a, b) for a in chosen for b in chosen if a != b) >= 4
    commanded = {Way(maze, chosen, 0.4, np.random.default_rng(k)).cell for k in range(40)}
    assert commanded == set(chosen)


def reached(episodes: list[Recorded]) -> float:
    return float(np.mean([e.success for e in episodes]))


def test_points_reach_goals() -> None:
    task = find_task("pointmaze-umaze")
    random = list(collect(task, Recipe(("random",)), 6000))
    scripted = list(collect(task, Recipe(SCRIPTED, noise=0.5), 6000))
    straight = list(collect(task, Recipe(SCRIPTED, goals="task", starts="task"), 3000))
    assert reached(scripted) >= 0.2
    assert reached(scripted) > 3 * reached(random)
    assert reached(straight) > 0.7
    for episode in scripted:
        assert episode.reward.sum() == episode.success == float(episode.terminated)
    maze = ground("pointmaze-umaze")
    starts = {maze.cell(e.observation[0, :2]) for e in scripted}
    assert len(starts) > 4
    assert (1, 1) not in starts
    assert {maze.cell(e.observation[0, :2]) for e in straight} == {(3, 1)}
    assert {maze.cell(p) for e in scripted for p in e.observation[:, :2]} == set(maze.centre)


def test_the_same_arguments_make_the_same_rows() -> None:
    task = find_task("pointmaze-umaze")
    recipe = Recipe(("scripted", "random"), shares=(3.0, 1.0), noise=0.3, epsilon=0.1, goals="play")
    hashes = [data_of(collect(task, recipe, 2000, seed), "x").sha256() for seed in (4, 4, 5)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert {e.source for e in collect(task, recipe, 2000, 4)} == {"scripted", "random"}


@pytest.mark.parametrize("name", ANTS)
def test_ants_go_from_goal_to_goal(name: str, walker: str) -> None:
    task, maze = find_task(name), ground(name)
    (episode,) = collect(task, Recipe(SCRIPTED, noise=0.2, walker=walker), 1, seed=1)
    assert len({maze.cell(p) for p in episode.observation[:, :2]}) >= 4
    (straight,) = collect(task, Recipe(SCRIPTED, noise=0.2, goals="task", starts="task", walker=walker), 1)
    assert straight.terminated
    assert straight.reward.tolist() == [0.0] * (len(straight) - 1) + [1.0]


def test_an_ant_goes_to_the_cell_beside_it(walker: str) -> None:
    task = replace(find_task(ANTS[0]), horizon=400, options=(("goal_cell", (3, 2)), ("reset_cell", (3, 1))))
    episodes = list(collect(task, Recipe(SCRIPTED, noise=0.2, goals="task", starts="task", walker=walker), 1000))
    assert len(episodes) > 5
    assert reached(episodes) >= 0.8


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SEGUE_DATASETS", str(tmp_path))
    words = ("--task", "pointmaze-umaze", "--policy", "scripted", "random", "--shares", "3", "1", "--goals", "play")
    main(["collect", "nav", *words, "--steps", "900", "--noise", "0.5"])
    assert "nav: " in capsys.readouterr().out
    facts = find_stored("nav").facts
    assert facts["collected"] | {"goals": "play", "starts": "anywhere", "walker": None} == facts["collected"]
    found = find_task("data:nav")
    assert found.dataset() is not None
    assert dict(found.options) == {"goal_cell": (1, 1), "reset_cell": (3, 1)}
    # A log says which walker walked, and not where its file was.
    ant, made = find_task(ANTS[0]), write_walker(tmp_path / "w.npz")
    said = facts_of(ant, Recipe(SCRIPTED, walker=str(made)), 1, 0)["collected"]
    assert said["walker"] == {"sha256": read_walker(made).sha256}
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path))
    (tmp_path / "ant_runner.npz").write_bytes(made.read_bytes())
    assert facts_of(ant, Recipe(SCRIPTED), 1, 0)["collected"] == said


def test_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point, ant = find_task("pointmaze-umaze"), find_task(ANTS[0])
    for wrong, says in (
        ({"goals": "play"}, "goals=play: has no effect"),
        ({"walker": "x.npz"}, r"walker=x.npz: has no effect"),
        ({"goals": "best"}, "goals"),
        ({"starts": "here"}, "starts"),
    ):
        with pytest.raises(SegueError, match=says):
            Recipe(("random",), **wrong)  # type: ignore[arg-type]
    for recipe in (Recipe(SCRIPTED), Recipe(("random",), starts="anywhere")):
        with pytest.raises(SegueError, match="Pendulum-v1: has no maze"):
            collect(GymTask.custom("Pendulum-v1"), recipe, 10)
        with pytest.raises(SegueError, match="is not a maze"):
            collect(GymTask.custom("Pendulum-v1", domain="antmaze"), recipe, 10)
    with pytest.raises(SegueError, match="has no ant"):
        collect(point, Recipe(SCRIPTED, walker="x.npz"), 10)
    with pytest.raises(SegueError, match="do not say where the body is"):
        collect(replace(point, keys=("achieved_goal",)), Recipe(SCRIPTED), 10)
    with pytest.raises(SegueError, match="do not say where the body is"):
        collect(replace(ant, keys=("observation",)), Recipe(SCRIPTED), 10)
    for grid, says in (
        ([[1, 1, 1], [1, 0, 0], [1, 1, 1]], "open at the edge"),
        ([[1, 1, 1, 1, 1], [1, 0, 1, 0, 1], [1, 1, 1, 1, 1]], "cells that cannot be reached"),
    ):
        odd = replace(point, env_kwargs=(("maze_map", grid),), options=(("goal_cell", (1, 1)),))
        with pytest.raises(SegueError, match=says):
            collect(odd, Recipe(SCRIPTED), 10)
    monkeypatch.delenv("SEGUE_DATA", raising=False)
    with pytest.raises(SegueError, match=r"SEGUE_DATA is not set; give one: --walker"):
        collect(ant, Recipe(SCRIPTED), 10)
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path))
    with pytest.raises(SegueError, match=r"ant_runner.npz is not in .* --walker"):
        collect(ant, Recipe(SCRIPTED), 10)


def test_walkers_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "w.npz"
    with pytest.raises(SegueError, match="cannot be read"):
        read_walker(path)
    for content in (b"", b"no zip at all", write_walker(path).read_bytes()[:300]):
        path.write_bytes(content)
        with pytest.raises(SegueError, match="cannot be read"):
            read_walker(path)
    with open(path, "wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(SegueError, match="cannot be read"):
        read_walker(path)
    for other, says in (
        ({"mean": np.array([None] * 27, object)}, "cannot be read"),
        ({"b1": None}, "no array 'b1'"),
        ({"w0": np.zeros((16, 29))}, r"w0 has shape \(16, 29\), it should be \(16, 27\)"),
        ({"w2": np.zeros((6, 16)), "b2": np.zeros(6)}, r"w2 has shape \(6, 16\), it should be \(8, 16\)"),
        ({"b0": np.full(16, np.nan)}, "b0 .* of finite numbers"),
        ({"std": np.zeros(27)}, "std has numbers that are not above 0"),
    ):
        with pytest.raises(SegueError, match=says):
            read_walker(write_walker(path, **other))
