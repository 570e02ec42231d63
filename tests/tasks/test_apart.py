"""Simulators in processes of their own: the same bits, the same words where they fail, and nothing left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from segue.core.log import Data
from segue.core.types import EnvError, SegueError
from segue.tasks import GymTask, apart, find_task
from segue.tasks.apart import AHEAD, Workers

ROWS = np.zeros((3, 2), np.float32)


class Telling:
    """Tells in its observation what the test wants to know of its process; actions are orders."""

    def reset(self, seed: int) -> np.ndarray:
        self.seed = seed
        print("a word of the environment")
        return np.array([os.getpid(), "jax" in sys.modules, "numpy" in sys.modules, seed], np.int64)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, float]:
        order = float(action[0])
        if order == 1:
            raise ValueError("two\nlines")
        if order == 2:
            raise EnvError("Telling: step() broke; fix it")
        if order == 3:
            os._exit(7)
        if order == 4:
            time.sleep(60)
        return np.full((200, 200), self.seed, np.uint8), order, False, False, np.nan

    def close(self) -> None:
        pass


def failing() -> Telling:
    raise SegueError("Telling: cannot be made; buy one")


def slow() -> Telling:
    time.sleep(60)
    return Telling()


class Own(gymnasium.Env):
    """Registered at run time, which other processes cannot know."""

    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        return np.zeros(2), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        return action, 0.0, False, False, {}


@contextlib.contextmanager
def workers(make: Any, count: int) -> Iterator[Workers]:
    """Processes that leave no file open and no child."""
    before = len(os.listdir("/dev/fd"))
    made = Workers(make, count)
    try:
        yield made
    finally:
        pids = [process._popen.pid for process in made._processes]
        made.close()
    assert len(os.listdir("/dev/fd")) == before
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def do(order: float) -> np.ndarray:
    return np.array([order], np.float32)


@pytest.mark.parametrize("name", ["gym:Hopper-v5", "pointmaze-umaze"])
def test_same_bits_as_in_this_process(name: str) -> None:
    pytest.importorskip("gymnasium_robotics")
    task = find_task(name)
    here, rng = task.make_env(), np.random.default_rng(0)
    with workers(task.make_env, 1) as made:
        there = made.make()
        for seed in (3, 4):
            np.testing.assert_array_equal(here.reset(seed), there.reset(seed))
            for _ in range(40):
                action = rng.uniform(-1, 1, task.spec.action).astype(np.float32)
                (seen, *rest), (expected, *others) = there.step(action), here.step(action)
                np.testing.assert_array_equal(seen, expected)
                assert seen.dtype == expected.dtype
                np.testing.assert_array_equal(rest, others)
                if rest[1] or rest[2]:
                    break
    here.close()


def test_places_answers_and_words(capfd: pytest.CaptureFixture[str]) -> None:
    with workers(Telling, 2) as made:
        all = [made.make() for _ in range(2 * AHEAD + 6)]
        for seed, one in enumerate(all):
            one.ask("reset", seed)
        told = np.stack([one.answer() for one in all])
        assert told[:, 3].tolist() == [*range(len(all))]
        assert len({*told[::2, 0]}) == len({*told[1::2, 0]}) == 1
        assert told[0, 0] != told[1, 0] != os.getpid()
        assert told[:, 1:3].tolist() == [[0, 1]] * len(all)  # no JAX there
        # More than a pipe holds is asked before it is read, and some of it never.
        for one in all:
            one.ask("step", do(5))
        for seed, one in reversed([*enumerate(all)]):
            one.ask("step", do(6))
            seen, reward, *_, success = one.answer()
            assert seen.shape == (200, 200)
            assert (seen == seed).all()
            assert reward == 6
            assert np.isnan(success)
        for one in all[2::2]:
            one.close()
        fresh = made.make()
        assert fresh.answer() is None
        assert fresh.reset(9)[0] == told[0, 0]  # to the process that has the fewest
        with pytest.raises(AssertionError, match="nothing was asked"):
            fresh.answer()
    said = capfd.readouterr()
    assert "a word" in said.err
    assert "a word" not in said.out


def test_an_error_is_one_line_and_its_process_goes_on() -> None:
    with workers(Telling, 1) as made:
        one, other = made.make(), made.make()
        one.reset(0)
        other.reset(1)
        one.ask("step", do(1))
        other.ask("step", do(5))
        with pytest.raises(EnvError) as caught:
            one.answer()
        assert str(caught.value) == "ValueError: two lines"
        assert "Traceback" in caught.value.__notes__[0]
        # The other's answer was never taken, and is not the answer to what it is asked now.
        other.ask("step", do(6))
        assert other.answer()[1] == 6
        with pytest.raises(EnvError, match=r"^Telling: step\(\) broke; fix it"):
            one.step(do(2))
        assert one.step(do(7))[1] == 7


def test_a_simulator_that_cannot_be_made() -> None:
    with workers(failing, 1) as made:
        one, other = made.make(), made.make()
        for ask in (one.answer, partial(other.reset, 0)):
            with pytest.raises(SegueError) as caught:
                ask()
            assert str(caught.value) == "Telling: cannot be made; buy one"
        other.close()


def test_nobody_waits_for_a_simulator_that_is_being_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart, "GRACE", 0.1)
    begun = time.monotonic()
    with workers(slow, 2) as made:
        made.make().close()
        made.make().ask("reset", 0)
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("end", ["killed", "exit"])
def test_a_process_that_ends(end: str) -> None:
    with workers(Telling, 1) as made:
        one, other = made.make(), made.make()
        pid = int(one.reset(0)[0])
        one.ask("step", do(3 if end == "exit" else 4))
        other.ask("reset", 1)
        if end == "killed":
            os.kill(pid, signal.SIGTERM)  # as a cluster sends to all processes of a job: theirs is not to answer it
            os.kill(pid, signal.SIGKILL)
        said = r"was killed \(SIGKILL\); if memory ran out" if end == "killed" else "ended with exit code 7"
        for simulator in (one, other):
            with pytest.raises(SegueError, match=f"^the simulator's process {said}"):
                simulator.answer()
        with pytest.raises(SegueError, match=said):
            one.reset(0)
        one.close()


def test_a_parent_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("from tests.tasks.test_apart import Telling\nclass Beside(Telling): ...\n")
    script = tmp_path / "script.py"
    script.write_text(
        "import time\nfrom beside import Beside\nfrom segue.tasks.apart import Workers\n"
        "print(Workers(Beside, 1).make().reset(0)[0], flush=True)\ntime.sleep(60)\n"
    )
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": paths},
        text=True,
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())  # so the module beside the script was found
    os.kill(pid, signal.SIGINT)  # of no effect
    os.kill(pid, 0)
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 10
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has waited for yet does not."""
    found = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip()[:1] not in ("", "Z")


def test_a_task_travels_without_its_log_and_with_its_registration() -> None:
    gymnasium.register("Own-v7", Own, max_episode_steps=5)
    flags = np.zeros(3, bool)
    rows = Data(np.zeros((10**6, 2), np.float32), ROWS, ROWS[:, 0], flags, flags, ROWS)
    try:
        task = GymTask.custom("Own-v7", data=rows)
        with workers(task.make_env, 1) as made:
            assert len(made._maker) < 2_000
            assert task.data is rows
            assert made.make().reset(0).shape == (2,)
    finally:
        del gymnasium.registry["Own-v7"]


def test_what_cannot_be_imported_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Local(Telling):
        pass

    for make in (lambda: Telling(), Local, Local().reset, GymTask.custom(lambda: Own(), horizon=3).make_env):
        with pytest.raises(SegueError, match="which is a lambda or stands in a function; put it into a module"):
            Workers(make, 1)  # type: ignore[arg-type]
    monkeypatch.setattr(Telling, "__module__", "__main__")
    with pytest.raises(SegueError, match="need Telling, which stands in the script that was started; put it"):
        Workers(partial(Telling), 1)
    with pytest.raises(SegueError, match=r"cannot go to another process .*; put it into a module"):
        Workers(partial(failing, sys.stdout), 1)  # type: ignore[call-arg]
    with pytest.raises(SegueError, match="at least 1 process"):
        Workers(failing, 0)


def test_a_module_that_only_this_process_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nowhere", sys.modules[__name__])
    monkeypatch.setattr(failing, "__module__", "nowhere")
    with (
        workers(failing, 1) as made,
        pytest.raises(SegueError, match=r"cannot import what makes it .*No module named 'nowhere'.*; put it"),
    ):
        made.make().answer()
