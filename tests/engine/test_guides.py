"""Policies that Segue did not train: they act, begin episodes for others, and are remembered over a stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import segue
from segue.core.experience import Ledger
from segue.core.types import SegueError
from segue.engine import loop
from segue.engine.envs import here
from segue.engine.phase import Phase
from segue.engine.sharing import Guide, Standing, Turn
from segue.runs import checkpoint
from segue.samplers.uniform import Mix
from tests.contract.test_agents import equal, small
from tests.corridor import HORIZON
from tests.toys import SPEC, UNITS, CorridorTask

TASK = CorridorTask()
HERE = "tests.engine.test_guides"


class Counting:
    """Its actions are the number of its steps in the episode, in hundredths."""

    def reset(self) -> None:
        self.steps = 0

    def act(self, observation: np.ndarray) -> np.ndarray:
        self.steps += 1
        return np.asarray([self.steps / 100.0])


def left(observation: np.ndarray) -> list[float]:
    return [-0.5]


def wide(observation: np.ndarray) -> np.ndarray:
    return np.zeros(2)


def lost(observation: np.ndarray) -> list[float]:
    return [float("nan")]


def broken(observation: np.ndarray) -> list[float]:
    raise RuntimeError("no camera")


def standing(returns: Any = (), done: float = 0.0) -> Standing:
    return Standing((), {}, lambda count: 0.0, lambda: returns, done, HORIZON)


def test_when_a_guide_hands_over() -> None:
    drawn = [Guide("g", "random").turn(3, n, standing()) for n in range(2000)]
    assert {turn.who for turn in drawn} == {1}
    assert {turn.steps for turn in drawn} == {*range(HORIZON + 1)}
    assert abs(np.mean([turn.steps or 0 for turn in drawn]) - HORIZON / 2) < 0.5
    line = [Guide("g", "linear", horizon=10).turn(0, 0, standing(done=d)).steps for d in (0.0, 0.25, 0.5, 0.9)]
    assert line == [10, 5, 0, 0]
    assert Guide("g", "never").turn(0, 0, standing()) == Turn(1)
    curriculum = Guide("g", "curriculum", stages=3, window=2, tolerance=0.1)
    steps = lambda *returns: curriculum.turn(0, 0, standing(returns)).steps  # noqa: E731
    assert steps() == steps(5.0) == HORIZON
    assert steps(5.0, 5.0) == steps(5.0, 5.0, 1.0, 1.0) == steps(5.0, 5.0, 4.4, 4.4) == HORIZON // 2
    assert steps(5.0, 5.0, 4.6, 4.6) == steps(*[5.0] * 40) == 0
    assert [Turn(1, 4).own(n) for n in (4, 8)] == [0.0, 0.5]
    assert (Turn(0).own(3), Turn(1).own(3)) == (1.0, 0.0)
    for wrong in ({"hand_over": "soon"}, {"horizon": 0}, {"stages": 1}, {"window": 0}, {"tolerance": -1.0}):
        with pytest.raises(SegueError, match=next(iter(wrong))):
            Guide("g", **wrong)  # type: ignore[arg-type]


def test_returns_of_a_phase_are_those_of_its_finished_episodes() -> None:
    ledger = Ledger(2)
    ended = np.asarray([[0, 1], [1, 0], [0, 1], [1, 1], [0, 0]], np.bool_)
    ledger.add(np.arange(10, dtype=np.float32).reshape(5, 2), ended, ended)
    assert ledger.returns(0, slice(0, 2)) == [1.0, 2.0, 8.0, 10.0, 7.0]
    assert ledger.returns(3, slice(0, 2)) == [10.0, 7.0]
    assert ledger.returns(0, slice(1, 2)) == [1.0, 8.0, 7.0]


@pytest.mark.parametrize("chunk", [1, 3])
def test_a_guide_begins_episodes_and_a_stop_changes_nothing(tmp_path: Path, chunk: int) -> None:
    guide = Guide(f"{HERE}:Counting", "random", horizon=HORIZON - 2)
    agent: Any = small("SAC")
    phases = (
        Phase("warm-up", agent, environment_steps=15, utd_ratio=0, chunk=chunk),
        Phase("online", agent, environment_steps=60, batch=Mix(0, 8), actor=guide, log_every=20, chunk=chunk),
    )
    told, state, saved = [], None, False
    for record in loop.run(phases, TASK, (0, 1), UNITS, keep_rows=True):
        state = record.state
        told += [e for e in record.episodes if record.index == 1]
        if record.index == 1 and record.phase_step == 40:
            checkpoint.save(tmp_path, state)
            saved = True
    assert state is not None
    assert saved
    resumed, _ = checkpoint.load(tmp_path, phases, SPEC, 0, here(TASK.make_env))
    assert resumed.envs is not None
    assert any(one.actions for one in resumed.envs.open), "stopped between episodes: nothing to remember"
    for record in loop.run(phases, TASK, (0, 1), UNITS, state=resumed):
        resumed = record.state
    jax.tree.map(np.testing.assert_array_equal, resumed.experience.replay, state.experience.replay)
    assert equal(resumed.slots["agent"].state, state.slots["agent"].state)
    assert resumed.history == state.history
    guided = 0
    for e in told:
        rows = slice(e.environment_step - e.length, e.environment_step)
        action = np.asarray(state.experience.replay.action[e.seed, rows, 0])
        counted = np.isclose(action, np.arange(1, e.length + 1) / 100.0, atol=1e-6)
        begun = round((1.0 - (e.own or 0.0)) * e.length)
        assert begun == 0 or rows.start >= 15, "an episode that was open already was begun by another"
        assert counted[:begun].all()
        assert not counted[begun:].all() or begun == e.length
        guided += begun
    assert guided > 10


def test_a_guide_alone_collects_what_another_policy_clones(tmp_path: Path) -> None:
    """A foreign policy as a start: its rows, cloned in the same run; the policy that comes out does what it did."""
    guide = Guide(f"{HERE}:left", "never")
    agent: Any = small("TD3")
    phases = (
        Phase("gather", agent, environment_steps=60, utd_ratio=0, actor=guide),
        Phase("clone", segue.BC(agent, learning_rate=1e-2), gradient_steps=200, batch=Mix(0, 16)),
    )
    for record in loop.run(phases, TASK, (0,), UNITS):
        state = record.state
    np.testing.assert_allclose(state.experience.replay.action[0, :60], -0.5, atol=1e-6)
    inner = jax.tree.map(lambda x: x[0], state.slots["agent"].state)
    seen = UNITS.see(state.experience.replay.observation[0, :60])
    np.testing.assert_allclose(agent.act(inner, seen, jax.random.key(0), False), -0.5, atol=0.1)


@pytest.mark.parametrize(
    ("word", "says"),
    [
        (f"{HERE}:wide", r"finite action of shape \(1,\) for one observation; it returned an array of shape \(2,\)"),
        (f"{HERE}:lost", "it returned NaN or infinity"),
        (f"{HERE}:broken", "failed: RuntimeError: no camera"),
        (f"{HERE}:HORIZON", "is a int; name a class, or a function"),
        (f"{HERE}:lef", "did you mean left"),
        ("nothing.onnx", "there is no such file"),
        ("", "has no guide; set online.actor.policy to"),
        ("agent", "would be guided by slot 'agent', which it trains"),
        ("teacher", "reads slot 'teacher', but no earlier phase fills it"),
    ],
)
def test_bad_guides_are_one_line(word: str, says: str) -> None:
    phase = Phase("online", small("SAC"), environment_steps=20, batch=Mix(0, 8), actor=Guide(word))
    with pytest.raises(SegueError, match=says) as found:
        list(loop.run((phase,), TASK, (0,), UNITS))
    assert "\n" not in str(found.value)
