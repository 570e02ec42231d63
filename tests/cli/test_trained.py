"""`segue eval` and `segue film`: policies that are tried again."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest

import segue
from segue.agents import SAC
from segue.core import display
from segue.core.scaling import Scaling
from segue.core.types import Learned, SegueError, Slot
from segue.engine.envs import EVALUATION, episode_seed
from segue.filming.panel import Curves, Panel
from segue.report.statistics import interval, resampling

SEEDS = (3, 8)


class Line(gymnasium.Env):
    """A point on a line is pushed for 7 steps and paid where it is; it is drawn as a bright column."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012
    observation_space = gymnasium.spaces.Box(-9, 9, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)
    made = 0

    def __init__(self, render_mode: str | None = None, real: bool = False) -> None:
        Line.made += 1
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "real": real}

    def reset(self, *, seed: int | None = None, options: object = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.x, self.t = float(self.np_random.uniform(-1, 1)), 0
        return self.seen(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.x, self.t = float(np.clip(self.x + 0.1 * action[0], -4, 4)), self.t + 1
        return self.seen(), self.x, False, False, {}

    def seen(self) -> np.ndarray:
        return np.asarray([self.x, self.t / 7], np.float32)

    def render(self) -> np.ndarray:
        picture = np.zeros((41, 60, 3), np.uint8)
        picture[:, int(30 + 7 * self.x)] = 255
        return picture


TASK = segue.GymTask.custom(Line, horizon=7, name="line")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Policies of two seeds without any training."""
    agent: Any = SAC(actor_hidden=(8,), critic_hidden=(8,), output_gain=1.0)
    state = jax.jit(jax.vmap(lambda key: agent.init(key, TASK.spec)))(jax.vmap(jax.random.key)(np.asarray(SEEDS)))
    slot = Slot(agent, Learned(state), Scaling(reward_scale=2.0, reward_shift=-1.0, discount=0.9))
    facts = {"task": "line", "action": {"low": [-2.0], "high": [2.0]}, "observation": {"keys": []}}
    return segue.save_policy(tmp_path_factory.mktemp("line") / "bundle", slot, TASK.spec, SEEDS, facts)


def test_it_is_what_each_seeds_policy_does_in_episodes_of_its_own(bundle: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    found = segue.evaluate(bundle, 12, TASK, tell=lambda *x: told.append(x))
    assert (found.seeds, found.raw_return.shape, told[-1]) == (SEEDS, (2, 12), (24, 24))
    assert not {*found.starts.ravel().tolist()} & {episode_seed(s, EVALUATION, n) for s in SEEDS for n in range(200)}
    env = TASK.make_env()
    for row, seed in enumerate(SEEDS):
        policy = segue.load(bundle, seed)
        for number in (0, 11):
            seen, total, over = env.reset(int(found.starts[row, number])), 0.0, False
            while not over:
                seen, reward, _, over, _ = env.step(policy.normalised(seen))
                total += reward
            assert total == pytest.approx(found.raw_return[row, number], abs=1e-5)
    assert set(found.measures) == {"return", "length"}, "neither score nor success is said"
    assert found.over_seeds("return") == interval(found.raw_return.mean(axis=1), resampling())
    read = json.loads(found.write(tmp_path / "eval.json").read_text())
    assert read["return"] == found.raw_return.tolist()
    assert read["policy"]["weights"] == json.loads((bundle / "policy.json").read_text())["weights"]
    (one,) = segue.evaluate(bundle, 12, TASK, seeds=[8]).raw_return
    np.testing.assert_array_equal(one, found.raw_return[1])


def test_sampled_actions_are_other_ones_and_come_again(bundle: Path) -> None:
    greedy, *sampled = (segue.evaluate(bundle, 2, TASK, stochastic=s).raw_return for s in (False, True, True))
    assert not np.isclose(greedy, sampled[0]).any()
    np.testing.assert_array_equal(*sampled)


def test_what_cannot_be_tried_is_one_line(bundle: Path, tmp_path: Path) -> None:
    wide = segue.GymTask.custom(Wide, horizon=7, name="wide")
    for task, match in (
        (wide, r"takes observations \(2,\) of float32 and 1 actions, and wide has observations \(3,\)"),
        (None, "its task cannot be made from its name"),
        (dataclasses.replace(TASK, env=None), "is a log without an environment"),
    ):
        with pytest.raises(SegueError, match=match):
            segue.evaluate(bundle, 2, task)
    for given, match in (({"seeds": 3}, "the policy has 2"), ({"seeds": [4]}, "no seed 4"), ({"episodes": 0}, "one")):
        with pytest.raises(SegueError, match=match):
            segue.evaluate(bundle, **{"episodes": 2, "task": TASK, **given})  # type: ignore[arg-type]
    real = segue.GymTask.custom(Line, horizon=7, name="arm", real=True, env_kwargs={"real": True})
    before = Line.made
    for call in (segue.evaluate, segue.film):
        with pytest.raises(SegueError, match="arm is real, and the policy would move it"):
            call(bundle, task=real)
    assert Line.made == before
    with pytest.raises(SegueError, match="it takes one seed; give --seeds 3,"):
        segue.evaluate(bundle, 2, real, real=True)
    with pytest.raises(SegueError, match=r"films are \.mp4 or \.gif"):
        segue.film(bundle, tmp_path / "film.avi", task=TASK)


class Wide(Line):
    observation_space = gymnasium.spaces.Box(-9, 9, (3,), np.float32)


@pytest.mark.parametrize("name", ["film.mp4", "film.gif"])
def test_a_film_shows_the_first_episodes_and_what_the_critic_said(name: str, bundle: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    pytest.importorskip("PIL")
    made = segue.film(bundle, tmp_path / name, episodes=2, seed=8, task=TASK, fps=10)
    again = segue.evaluate(bundle, 2, TASK, seeds=[8])
    np.testing.assert_allclose(made.raw_return, again.raw_return[0], rtol=1e-6)  # of two programs
    # 7 steps at 20 a second: pictures after 0, 2, 4, 6 and at the end, which stays for a second
    assert (made.pictures, made.rate) == (2 * (5 + 10), 10.0)
    with av.open(str(made.path)) as film:
        shown = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
        assert film.duration == pytest.approx(3e6, rel=0.1)
    assert shown[0].shape == (246 + 126, 360, 3)
    assert len(shown) == made.pictures or name == "film.gif"  # a GIF shows a picture that comes again for longer
    env = TASK.drawn().make_env()
    env.reset(int(again.starts[0, 0]))
    column = int(env.draw()[0, :, 0].argmax())
    assert shown[0][100, :, 0].astype(int).argmax() // 6 == column
    policy = segue.load(bundle, 8)
    seen, rewards = env.reset(int(again.starts[0, 0])), []
    first = float(policy.agent.q(policy.state, seen[None], policy.normalised(seen)[None])[0])
    for _ in range(7):
        seen, reward, *_ = env.step(policy.normalised(seen))
        rewards.append(2.0 * reward - 1.0)
    assert made.came[0] == pytest.approx(sum(0.9**t * r for t, r in enumerate(rewards)), abs=1e-4)
    last = float(policy.agent.q(policy.state, seen[None], policy.normalised(seen)[None])[0])
    # SAC values a policy that samples, so what lies beyond the cut is of a sampled action
    assert made.value[0] == pytest.approx(first - 0.9**7 * last, abs=0.2)


def test_a_panel_tells_nothing_of_what_comes() -> None:
    pytest.importorskip("PIL")
    value, came = np.linspace(0, 5, 40), np.linspace(4, 1, 40)
    curves = Curves(value, came, np.ones(40), 1.0, False, "seed 0", "discount 0.99")
    other = dataclasses.replace(curves, value=np.append(value[:21], np.full(19, 2.0)))
    other = dataclasses.replace(other, value=np.append(other.value[:-1], 5.0))  # equal scales
    pictures = [Panel(c, 320, 112).draw(20) for c in (curves, other)]
    np.testing.assert_array_equal(*pictures)
    assert (Panel(curves, 320, 112).draw(30) != pictures[0]).any()
    assert (Panel(curves, 320, 112).draw(30) != Panel(other, 320, 112).draw(30)).any()


def test_where_nothing_can_be_drawn_the_cure_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "HEADLESS", True)
    monkeypatch.setitem(sys.modules, "mujoco", SimpleNamespace())
    assert display.drawing(lambda: 3) == 3, "worlds without MuJoCo can be drawn"
    with pytest.raises(SegueError, match=r"nothing can be drawn here: MUJOCO_GL is disable.*; install EGL"):
        display.drawing(lambda: 1 // 0)
    monkeypatch.setitem(display.LIBRARIES, "osmesa", "libNotHere.so")
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(SegueError, match="MUJOCO_GL is osmesa, which is not installed; install EGL"), display.said():
        raise AttributeError("as PyOpenGL does")


def test_on_the_command_line(say, mistake, reference: Path, tmp_path: Path) -> None:
    code, out, err = say("eval", reference, "--episodes", "2", "--out", tmp_path / "found.json")
    assert (code, err) == (0, "")
    for word in ("seed 0", "seed 1", "interquartile mean", "95 % interval", "success", "score", "phase 'online'"):
        assert word in out
    read = json.loads((tmp_path / "found.json").read_text())
    assert (read["task"], read["episodes"], len(read["starts"])) == ("pointmaze-umaze", 2, 2)
    other = ("eval", f"{reference}@offline", "--task", "pointmaze-medium", "--episodes", "1", "--seeds", "1")
    code, out, _ = say(*other, "--out", tmp_path / "found.json")
    assert code == 0
    assert "in pointmaze-medium: mean of 1 episode, best actions" in " ".join(out.split())
    assert "there is no folder" in mistake("eval", reference, "--out", tmp_path / "none" / "x.json")
    assert "there is no seed 7" in mistake("eval", reference, "--seeds", "7,")
    assert "films are .mp4 or .gif" in mistake("film", reference, "--out", tmp_path / "film.avi")
