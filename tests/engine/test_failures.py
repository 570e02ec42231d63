"""An environment that fails in the middle of a run loses nothing and is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest

from segue.agents import TD3
from segue.core.types import EnvError, SegueError
from segue.engine.envs import Envs, here
from segue.engine.loop import run
from segue.engine.phase import Phase, fresh, from_slot
from segue.engine.state import RunState
from segue.recipes import Evaluation, Plan
from segue.runs import checkpoint
from segue.runs.checks import check_real
from segue.runs.drive import ended
from segue.runs.request import Request
from segue.samplers.uniform import Mix
from segue.tasks import GymTask
from tests.engine.test_run import DATA, plan
from tests.toys import SPEC, UNITS, Corridor, CorridorTask

pytestmark = pytest.mark.xdist_group("engine")  # they compile the same programs
SEEDS = (0, 1)


class Flaky(CorridorTask):
    """A corridor whose second world raises once, at its step or reset number `at`."""

    def __init__(self, what: str, at: int) -> None:
        super().__init__(DATA)
        self.what, self.left, self.made = what, at, 0
        self.closed: list[int] = []

    def make_env(self) -> Any:
        task, number = self, self.made
        self.made += 1

        class Env(Corridor):
            def step(self, action: np.ndarray) -> Any:
                if number == 1 and task.what == "step":
                    task.count()
                return super().step(action)

            def reset(self, seed: int) -> np.ndarray:
                if number == 1 and task.what == "reset":
                    task.count()
                return super().reset(seed)

            def close(self) -> None:
                task.closed.append(number)

        return Env()

    def count(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise OSError("the cable came off")


def finish(phases: tuple[Phase, ...], task: CorridorTask, state: RunState | None = None) -> tuple[RunState, list[Any]]:
    episodes: list[Any] = []
    try:
        for record in run(phases, task, SEEDS, UNITS, state=state, keep_rows=True):
            state = record.state
            episodes += [(e, ended(record, e)) for e in record.episodes]
    except EnvError as error:
        assert state is not None
        return state, [*episodes, error]
    assert state is not None
    return state, episodes


def every(steps: int, length: int) -> dict[str, Any]:
    """A phase that does one update after so many steps."""
    return {"environment_steps": length, "train_every": steps, "utd_ratio": 1 / steps}


@pytest.mark.parametrize(
    ("what", "at", "changes"),
    [("step", 17, {}), ("reset", 2, {}), ("step", 14, every(5, 120)), ("reset", 3, every(3, 72))],
)
def test_resumed_it_is_the_run_that_nothing_disturbed(
    what: str, at: int, changes: dict[str, Any], tmp_path: Path
) -> None:
    first, online = plan(3, 24)
    phases = (first, replace(online, **changes))
    whole, seen = finish(phases, CorridorTask(DATA))
    task = Flaky(what, at)
    state, before = finish(phases, task)
    error = before.pop()
    assert "the environment failed (seed 1, " in str(error)
    assert "OSError: the cable came off" in str(error)
    assert sorted(task.closed) == [0, 1]
    checkpoint.save(tmp_path, state)
    resumed, _ = checkpoint.load(tmp_path, phases, SPEC, len(DATA), here(Corridor))
    end, after = finish(phases, CorridorTask(DATA), resumed)
    assert before + after == seen
    for a, b in zip(
        *(jax.tree.leaves((c.slots["agent"].state, c.experience.replay)) for c in (end, whole)), strict=True
    ):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_overlapping_updates_are_not_done_twice(tmp_path: Path) -> None:
    first, online = plan(3, 24)
    phases = (first, replace(online, overlap=True))
    state, before = finish(phases, Flaky("step", 17))
    before.pop()
    checkpoint.save(tmp_path, state)
    resumed, _ = checkpoint.load(tmp_path, phases, SPEC, len(DATA), here(Corridor))
    end, _ = finish(phases, CorridorTask(DATA), resumed)
    assert (end.updates, end.environment_steps) == (27, 24)


@pytest.mark.parametrize("how", ["raises", "differs"])
def test_worlds_of_a_resume_that_fails_are_closed(how: str, tmp_path: Path) -> None:
    phases = plan(3, 24)
    state, before = finish(phases, Flaky("step", 17))
    before.pop()
    checkpoint.save(tmp_path, state)
    task = Flaky("step" if how == "raises" else "nothing", 1)
    world: Any = task.make_env
    if how == "differs":
        world = lambda: (  # noqa: E731
            made := task.make_env(),
            setattr(made, "step", lambda a: (np.ones(2), 0.0, False, False, 0.0)),
        )[0]
    with pytest.raises(SegueError, match=r"fix it, then `segue resume" if how == "raises" else "did not repeat"):
        checkpoint.load(tmp_path, phases, SPEC, len(DATA), here(world))
    assert sorted(task.closed) == [0, 1]


def test_closing_twice_closes_once() -> None:
    task = Flaky("nothing", 1)
    fleet = Envs(here(task.make_env), SEEDS)
    fleet.close()
    fleet.close()
    assert sorted(task.closed) == [0, 1]


def asked(untrained: bool = False) -> Request:
    return Request("own", "robot", (0,), {}, untrained=untrained)


OFFLINE = Phase("offline", TD3((16,), (16,)), gradient_steps=3, batch=Mix(16))
MOVES = Phase("online", TD3((16,), (16,)), environment_steps=5, batch=Mix(8, 8))


@pytest.mark.parametrize(
    ("phases", "allowed"),
    [
        ((OFFLINE, MOVES), True),
        ((MOVES,), False),
        ((replace(OFFLINE, gradient_steps=0), MOVES), False),
        ((OFFLINE, replace(MOVES, init_from=fresh)), False),  # it forgets at its hand-over
        ((OFFLINE, replace(MOVES, slot="other", init_from=from_slot("agent"))), True),
        ((OFFLINE, replace(MOVES, slot="other")), False),
        ((OFFLINE, replace(OFFLINE, name="again", gradient_steps=0, init_from=fresh), MOVES), False),
        ((OFFLINE, replace(OFFLINE, name="again", init_from=fresh), MOVES), True),
    ],
)
def test_a_policy_without_updates_never_moves_a_real_world_first(phases: tuple[Phase, ...], allowed: bool) -> None:
    plan = Plan(phases, UNITS, Evaluation(0))
    check_real(plan, asked(untrained=True))
    if allowed:
        check_real(plan, asked())
    else:
        with pytest.raises(SegueError, match="the untrained policy"):
            check_real(plan, asked())


class Odd(gymnasium.Env):
    """An environment that does one thing wrong."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, wrong: str) -> None:
        self.wrong = wrong

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        seen = np.zeros(3 if self.wrong == "reset-shape" else 2, np.float32)
        return seen if self.wrong == "reset-alone" else (seen, {})

    def step(self, action: np.ndarray) -> Any:
        if self.wrong == "raises":
            raise OSError("the cable\ncame off")
        seen = np.zeros(3 if self.wrong == "shape" else 2, np.float32)
        if self.wrong == "nan":
            seen[1] = np.nan
        reward = np.inf if self.wrong == "reward" else 0.0
        if self.wrong == "text":
            return "seen", reward, False, False, {}
        return (seen, reward, False, {}) if self.wrong == "four" else (seen, reward, False, False, {})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("reset-alone", r"Odd: reset\(\) must return \(observation, info\)"),
        ("reset-shape", r"reset\(\) returned an observation of shape \(3,\), its space says \(2,\)"),
        ("four", r"step\(\) returned 4 values; it must return five"),
        ("shape", r"step\(\) returned an observation of shape \(3,\)"),
        ("text", r"step\(\) returned an observation that is not in its space"),
        ("nan", r"step\(\) returned nan as number 1 of the observation"),
        ("raises", r"^Odd: step\(\) raised OSError: the cable came off; fix the environment$"),
        ("reward", r"step\(\) returned the reward inf"),
    ],
)
def test_what_no_environment_may_return(wrong: str, said: str) -> None:
    world = GymTask.custom(Odd, horizon=5, env_kwargs={"wrong": wrong}).make_env()
    with pytest.raises(EnvError, match=said):
        world.step(np.zeros(1)) if world.reset(0) is not None else None
    world.close()


def test_an_environment_that_is_made_already() -> None:
    import segue

    env = gymnasium.make("Pendulum-v1")
    for wrong in (lambda: segue.train("sac", env), lambda: GymTask.custom(env)):  # type: ignore[arg-type]
        with pytest.raises(
            SegueError, match=r"Pendulum-v1: each seed needs an environment of its own.* its id, its class"
        ):
            wrong()
    env.close()
