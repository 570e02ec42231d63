"""What may go wrong around a run: disks, trackers, reports, signals.  Toy worlds, in this process."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from segue.agents import TD3, OnlinePretraining
from segue.agents.second_critics import grow
from segue.core.types import Interrupted, SegueError
from segue.data.readers import open_source
from segue.engine import running
from segue.engine.phase import Phase
from segue.recipes import RECIPES, Evaluation, Recipe, published
from segue.runs import checkpoint, drive, lock, policy, train
from segue.runs.request import Request
from segue.samplers.uniform import Halves, Mix
from segue.tasks import apart
from tests.cli.conftest import rows
from tests.toys import HORIZON, SPEC, UNITS, Corridor, corridor_data


class Toy:
    """A corridor as a task."""

    name = domain = "corridor"
    presets = ()
    real = absent = False
    horizon, failure, source, spec = HORIZON, 0.0, "toy", SPEC
    action_bounds = (-np.ones(1), np.ones(1))
    data = corridor_data()

    def card(self) -> dict[str, Any]:
        about = {"name": self.name, "env": "Corridor", "env_kwargs": {}, "horizon": HORIZON, "options": {}}
        return {**about, "observation": {"keys": []}}

    def dataset(self) -> Any:
        return self.data

    make_env = Corridor  # not a method, so that other processes import the simulator alone

    def score(self, raw_return: np.ndarray, success: np.ndarray) -> np.ndarray:
        return 100.0 * success


AGENT = TD3((16,), (16,))
PHASES = (
    Phase("offline", AGENT, gradient_steps=6, batch=Mix(16), log_every=4),
    Phase("online", AGENT, environment_steps=30, batch=Mix(8, 8, "closed"), log_every=10, evaluate_every=10),
)


def toy(*phases: Phase) -> Recipe:
    """A recipe of these phases."""
    return published("toy", "no paper", "nothing", phases, UNITS, Evaluation(2))


RECIPE = toy(*PHASES)


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "toy", RECIPE)
    monkeypatch.setenv("SEGUE_SAVE_EVERY", "0")


def begin(folder: Path | None, recipe: Recipe = RECIPE, **more: Any) -> Path:
    request = Request("toy", "corridor", (0, 1), more.pop("settings", {}), more.pop("trackers", ()))
    return train.start(recipe, Toy(), request, folder, stream=io.StringIO(), **more)


def go_on(folder: Path) -> Path:
    return train.resume(folder, lambda name: Toy(), io.StringIO())


def status(folder: Path) -> str:
    return json.loads((folder / "run.json").read_text())["status"]


def weights(folder: Path) -> bytes:
    return (folder / "policy" / "weights.safetensors").read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An undisturbed run."""
    RECIPES["toy"] = RECIPE
    return begin(tmp_path_factory.mktemp("whole") / "run")


def test_rows_do_not_depend_on_when_the_engine_speaks(whole: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("segue.engine.running.PULSE", 0.0)
    monkeypatch.setattr("segue.engine.running.LEAST", 1)
    assert rows(begin(tmp_path / "run")) == rows(whole)


@pytest.mark.parametrize(
    ("where", "writes"),
    [("checkpoint", 0), ("checkpoint", 2), ("policy", 0), ("metrics", 9), ("status", 2)],
)
def test_a_full_disk(where: str, writes: int, whole: Path, tmp_path: Path, monkeypatch) -> None:
    folder, count = tmp_path / "run", 0
    module, name = {
        "checkpoint": (checkpoint, "save_file"),
        "policy": (policy, "save_file"),
        "metrics": (drive.Jsonl, "write"),
        "status": (os, "fsync"),
    }[where]
    true = getattr(module, name)

    def full(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count > writes + 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return true(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(module, name, full)
        with pytest.raises(SegueError, match=r"disk is full.*segue resume") as caught:
            begin(folder)
        assert "\n" not in str(caught.value)
    go_on(folder)
    assert weights(folder) == weights(whole)
    assert rows(folder) == rows(whole)


def test_a_full_disk_for_real(whole: Path, tmp_path: Path) -> None:
    mount = shutil.which("mount") or "mount"
    small = tmp_path / "small"
    small.mkdir()
    mounting = [mount, "-t", "tmpfs", "-o", "size=60k", "none", str(small)]
    if os.getuid() != 0 or subprocess.run(mounting, check=False, capture_output=True).returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        with pytest.raises(SegueError, match=r"disk is full.*segue resume") as caught:
            begin(small / "run")
        assert "\n" not in str(caught.value)
        subprocess.run([mount, "-o", "remount,size=40m", small], check=True)
        go_on(small / "run")
        assert weights(small / "run") == weights(whole)
        assert rows(small / "run") == rows(whole)
    finally:
        subprocess.run(["umount", small], check=True)


def test_what_a_learner_warns_of_is_in_the_log_the_rows_and_the_report(tmp_path: Path) -> None:
    meta = Phase("meta", OnlinePretraining(AGENT), gradient_steps=2, batch=Halves(8), init_from=grow)
    recipe = toy(PHASES[0], Phase("gather", AGENT, environment_steps=16, utd_ratio=0), meta)
    told, task = io.StringIO(), Toy()
    task.data = replace(task.data, reward=np.zeros_like(task.data.reward))
    request = Request("toy", "corridor", (0, 1), {"evaluation.episodes": 1}, ())
    folder = train.start(recipe, task, request, tmp_path / "run", stream=told)
    assert f"warning: phase '{PHASES[0].name}': no row of the dataset has success, so offline" in told.getvalue()
    said = "the new critics have come"
    assert f"warning: phase 'meta': {said}" in told.getvalue()
    assert [r["phase"] for r in rows(folder) if r.get("remark", "").startswith(said)] == ["meta"]
    assert f"Phase &#39;meta&#39;: {said}" in (folder / "report.html").read_text()


def test_a_crash_before_the_first_checkpoint(whole: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "run"

    def crash(*_: Any) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", crash)
        with pytest.raises(RuntimeError, match="power cut"):
            begin(folder)
    assert status(folder) == "failed"
    assert rows(folder)
    go_on(folder)
    assert weights(folder) == weights(whole)
    assert rows(folder) == rows(whole)


def test_a_folder_of_a_crash_before_run_json_can_be_used(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.json").write_text('{"stat')
    assert status(begin(tmp_path)) == "finished"


def test_a_report_that_fails_does_not_lose_the_run(tmp_path: Path, monkeypatch, capsys) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("no\nfigures")

    monkeypatch.setattr(drive, "write_report", fail)
    folder = begin(tmp_path / "run")
    assert status(folder) == "finished"
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    cause = "ZeroDivisionError: no figures"
    assert f"but its report failed ({cause}); try again with `segue report {folder}`" in err


def test_tensorboard_writes_events(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    folder = begin(tmp_path / "run", trackers=("tensorboard",))
    (events,) = (folder / "tensorboard").glob("events*")
    assert b"evaluation/score/mean" in events.read_bytes()


def test_a_failing_tracker_does_not_stop_the_run(whole: Path, tmp_path: Path, monkeypatch) -> None:
    writer = pytest.importorskip("tensorboardX").SummaryWriter

    def fail(*_: Any, **__: Any) -> None:
        raise ConnectionError("gone")

    monkeypatch.setattr(writer, "add_scalar", fail)
    folder = begin(tmp_path / "run", trackers=("tensorboard",))
    assert status(folder) == "finished"
    assert rows(folder) == rows(whole)


def test_trackers_are_refused_at_the_door(tmp_path: Path, monkeypatch) -> None:
    import sys

    with pytest.raises(SegueError, match="no tracker 'paper'"):
        begin(tmp_path / "run", trackers=("paper",))
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(SegueError, match=r"segue\[wandb\]"):
        begin(tmp_path / "run", trackers=("wandb",))
    assert not list(tmp_path.iterdir())


def test_a_later_phase_is_refused_before_the_first(tmp_path: Path) -> None:
    phases = (PHASES[0], replace(PHASES[1], actor="ghost"))
    with pytest.raises(SegueError, match="slot 'ghost'"):
        begin(tmp_path / "run", toy(*phases))
    phases = (replace(PHASES[0], batch=Mix(0, 8)), PHASES[1])
    with pytest.raises(SegueError, match="there is none yet"):
        begin(tmp_path / "run", toy(*phases))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("number", "during"), [(signal.SIGINT, "evaluation"), (signal.SIGTERM, "door")])
def test_signals_wait_for_a_safe_point(number, during: str, whole: Path, tmp_path: Path, monkeypatch, capfd) -> None:
    folder, sent = tmp_path / "run", 0
    owner, name = (drive.Evaluator, "__call__") if during == "evaluation" else (running, "check_finite")
    true = getattr(owner, name)

    def interrupted(*arguments: Any) -> Any:
        nonlocal sent
        sent += 1
        if sent == 2:
            os.kill(os.getpid(), number)
        return true(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, interrupted)
        with pytest.raises(Interrupted) as caught:
            begin(folder)
    assert caught.value.number == number
    assert status(folder) == "interrupted"
    assert "once more stops at once" in capfd.readouterr().err
    go_on(folder)
    assert weights(folder) == weights(whole)
    assert rows(folder) == rows(whole)


def test_a_second_signal_stops_at_once(whole: Path, tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "run"

    def impatient(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("not reached")

    with monkeypatch.context() as patch:
        patch.setattr(drive, "handover", impatient)
        with pytest.raises(KeyboardInterrupt) as caught:
            begin(folder)
    assert caught.value.args == (signal.SIGTERM,)
    assert status(folder) == "interrupted"
    go_on(folder)
    assert weights(folder) == weights(whole)
    assert rows(folder) == rows(whole)


def test_settings_of_python_are_strict_json(tmp_path: Path) -> None:
    settings = {"agent.noise_clip": float("inf"), "agent.actor_hidden": (16,), "online.environment_steps": 30}
    folder = begin(tmp_path / "run", settings=settings)

    def validate(word: str) -> None:
        raise AssertionError(word)

    json.loads((folder / "run.json").read_text(), parse_constant=validate)
    described = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(described | {"status": "interrupted"}))
    assert status(go_on(folder)) == "finished"


def test_a_run_that_diverged_goes_on_with_the_command_that_it_names(tmp_path: Path, monkeypatch) -> None:
    """And every checkpoint is finite."""
    monkeypatch.setenv("SEGUE_SAVE_EVERY", "1000")  # else one is saved whose numbers are finite, and far gone
    folder = tmp_path / "a run"
    with pytest.raises(SegueError, match="is not finite") as caught:
        begin(folder, settings={"online.learner.actor_learning_rate": 1e30})
    said = str(caught.value)
    assert "\n" not in said
    for path in (folder / "checkpoints").glob("*/state.safetensors"):
        arrays = {k: v for k, v in load_file(path).items() if k.startswith("slots.")}
        assert arrays
        assert all(np.isfinite(v).all() for v in arrays.values())
    resume, name, option, setting = shlex.split(said.split("`")[1])[1:]
    path, _, value = setting.partition("=")
    assert (resume, name, option, path) == ("resume", str(folder), "--set", "online.learner.actor_learning_rate")
    train.resume(folder, lambda name: Toy(), io.StringIO(), settings={path: 1e-4})
    assert float(value) == pytest.approx(1e29)
    assert status(folder) == "finished"


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_a_warning(number: int, tmp_path: Path, monkeypatch, capsys) -> None:
    """And nothing is left behind that would keep the next process out."""
    fcntl = pytest.importorskip("fcntl")

    def validate(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", validate)
        for _ in range(2):
            with lock.lock(tmp_path):
                assert "cannot be locked" in capsys.readouterr().err
    with lock.lock(tmp_path), pytest.raises(SegueError, match="another process"), lock.lock(tmp_path):
        pass
    assert not capsys.readouterr().err


@pytest.mark.parametrize("few", [{"experience.capacity": 13}, {"experience.capacity": 25, "experience.envs": 2}])
def test_a_bounded_run_goes_on_as_if_nothing_had_happened(few: dict[str, int], tmp_path: Path, monkeypatch) -> None:
    """What each seed keeps is an option: its source is told, it cannot change, and a resume learns from as much.

    So is how many simulators write it; a run's log gives the episodes of all of them, in the order of their ends.
    """
    whole, folder = begin(tmp_path / "whole", settings=few), tmp_path / "run"
    seen = lambda: any(r["phase"] == "online" and r["kind"] == "training" for r in rows(folder))  # noqa: E731
    with monkeypatch.context() as patch:
        patch.setattr(drive, "signals", lambda: contextlib.nullcontext(lambda: signal.SIGINT if seen() else None))
        with pytest.raises(Interrupted):
            begin(folder, settings=few)
    described = json.loads((folder / "run.json").read_text())
    for option, value in few.items():
        assert described["config"][option] == {"value": value, "source": "settings"}
        with pytest.raises(SegueError, match=rf"^{option}: cannot change in a run that has begun"):
            train.resume(folder, lambda name: Toy(), io.StringIO(), settings={option: 30})
    envs = few.get("experience.envs", 1)
    often = {"value": envs, "source": "default" if envs == 1 else "from experience.envs"}
    assert described["config"]["online.train_every"] == often
    assert weights(go_on(folder)) == weights(whole)
    assert rows(folder) == rows(whole)
    for seed in (0, 1):
        told = [r["values"] for r in rows(folder) if r["kind"] == "episode" and r["seeds"] == [seed]]
        read = list(open_source(f"run:{folder}?seeds={seed}").episodes)
        assert [(len(e), float(e.reward.sum())) for e in read][: len(told)] == [
            (t["length"][0], t["return"][0]) for t in told
        ]
        assert sum(map(len, read)) == 30
        last = list(open_source(f"run:{folder}?seeds={seed}&last=12").episodes)
        assert [e.observation.tolist() for e in last] == [e.observation.tolist() for e in read[-len(last) :]]


def test_simulators_in_other_processes_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does their number, nor one that is killed: the run is saved, and goes on with what it had."""
    several, made = {"experience.envs": 2}, list[apart.Workers]()

    class Known(apart.Workers):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            made.append(self)

    def moved() -> None:
        if made and any(r["phase"] == "online" and r["kind"] == "training" for r in rows(folder)):
            os.kill(made.pop()._processes[0]._popen.pid, signal.SIGKILL)

    whole, folder = begin(tmp_path / "whole", settings=several), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(apart, "Workers", Known)
        patch.setattr(drive, "signals", lambda: contextlib.nullcontext(moved))
        with pytest.raises(SegueError, match=r"killed \(SIGKILL\).*everything up to environment step 1\d is saved"):
            begin(folder, settings=several, env_workers=2)
    assert train.resume(folder, lambda name: Toy(), io.StringIO(), env_workers=1) == folder
    assert weights(folder) == weights(whole)
    assert rows(folder) == rows(whole)


def test_what_is_thrown_away_and_what_names_stand_for_is_told(tmp_path: Path) -> None:
    again, told = replace(PHASES[0], name="again", batch=Mix(0, 16)), io.StringIO()
    request = Request("toy", "corridor", (0, 1), {"buffer_size": 13, "agent.tau": 0.01})
    train.start(toy(*PHASES, again), Toy(), request, tmp_path / "run", stream=told)
    assert "'again' learns offline after 30 steps, and experience.capacity keeps the last 13 of them" in told.getvalue()
    assert told.getvalue().count("agent.tau is Segue's agent.target_rate") == 1


def test_what_a_phase_has_begun_with_cannot_change(tmp_path: Path, monkeypatch) -> None:
    """Clocks of rows are told from the updates per step; the other options of the phase may change."""
    folder = tmp_path / "run"
    monkeypatch.setattr(drive, "signals", lambda: contextlib.nullcontext(lambda: signal.SIGINT if seen() else None))
    seen = lambda: any(r["phase"] == "online" and r["kind"] == "training" for r in rows(folder))  # noqa: E731
    with pytest.raises(Interrupted):
        begin(folder)
    again = lambda **s: train.resume(folder, lambda name: Toy(), io.StringIO(), settings=s)  # noqa: E731
    before = (folder / "run.json").read_bytes()
    for path, value in {
        "online.utd_ratio": 2,
        "online.actor": "agent",
        "online.environment_steps": 40,
        "agent.nothing": 1,
    }.items():
        with pytest.raises(SegueError, match=path) as caught:
            again(**{path: value})
        assert "\n" not in str(caught.value)
    with pytest.raises(SegueError, match=r"online\.learner\.actor_hidden: changes the shape of a network"):
        again(**{"agent.actor_hidden": (5,)})
    as_was = json.loads(before)
    described = json.loads((folder / "run.json").read_text())
    assert described["config"] == as_was["config"]
    monkeypatch.undo()
    monkeypatch.setitem(RECIPES, "toy", RECIPE)
    told = io.StringIO()
    train.resume(folder, lambda name: Toy(), told, settings={"actor_lr": 1e-5})
    assert told.getvalue().count("actor_lr is Segue's agent.actor_learning_rate") == 1
    (change,) = json.loads((folder / "run.json").read_text())["provenance"]["changes"]
    assert (change["phase"], change["step"] > 0) == ("online", True)
    assert change["settings"] == {"online.learner.actor_learning_rate": [3e-4, 1e-5]}
