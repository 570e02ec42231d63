"""Stopping at any record, saving, and going on from the files gives the same numbers, bit for bit."""

from __future__ import annotations

import errno
from pathlib import Path

import jax
import numpy as np
import pytest

from segue.core.types import SegueError
from segue.engine import running
from segue.engine.envs import here
from segue.engine.loop import run
from segue.runs import checkpoint
from tests.engine.test_run import DATA, TASK, finish, plan, same
from tests.toys import SPEC, UNITS, Corridor

pytestmark = pytest.mark.xdist_group("engine")  # they compile the same programs
SEEDS = (0, 1)


@pytest.mark.parametrize(("stop", "envs"), [(1, 1), (3, 1), (6, 1), (17, 1), (29, 1), (16, 3)])
def test_resume_is_exact(stop: int, envs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "PULSE", 0.0)  # a record after every turn
    monkeypatch.setattr(running, "LEAST", 1)
    phases = plan(envs=envs)
    whole, records = finish(phases, SEEDS, envs=envs)
    for seen, record in enumerate(run(phases, TASK, SEEDS, UNITS, envs=envs, keep_rows=True)):
        if seen in (stop - 1, stop):
            checkpoint.save(tmp_path, record.state, {"seen": seen})
        if seen == stop:
            break
    state, extra = checkpoint.load(tmp_path, phases, SPEC, len(DATA), here(Corridor), envs=envs)
    assert extra == {"seen": stop}
    rest = list(run(phases, TASK, SEEDS, UNITS, state=state))
    same(whole, state)
    for name, a, b in zip(
        whole.experience.replay._fields,
        jax.device_get(whole.experience.replay),
        jax.device_get(state.experience.replay),
    ):
        np.testing.assert_array_equal(a, b, err_msg=name)
    assert len(rest) == len(records) - stop - 1
    for a, b in zip(records[stop + 1 :], rest):
        assert (a.phase.name, a.phase_step, a.logs, a.ends, a.episodes) == (
            b.phase.name,
            b.phase_step,
            b.logs,
            b.ends,
            b.episodes,
        )
        for name in a.metrics:
            np.testing.assert_array_equal(a.metrics[name], b.metrics[name])


def saved(folder: Path) -> None:
    for record in run(plan(2, 5), TASK, SEEDS, UNITS, keep_rows=True):
        if record.begins or record.ends:
            checkpoint.save(folder, record.state)


def test_a_damaged_checkpoint_falls_back(tmp_path: Path) -> None:
    saved(tmp_path)
    newest, _, fault = checkpoint.latest(tmp_path) or (None, None, None)
    assert newest is not None
    assert fault is None
    with (newest / "state.safetensors").open("r+b") as file:
        file.seek(-3, 2)
        file.write(b"xyz")
    older, _, fault = checkpoint.latest(tmp_path) or (None, None, None)
    assert older is not None
    assert fault == f"{newest / 'state.safetensors'} is damaged"
    assert older.name < newest.name
    checkpoint.load(tmp_path, plan(2, 5), SPEC, len(DATA), here(Corridor))


def test_another_plan_is_refused(tmp_path: Path) -> None:
    saved(tmp_path)
    from dataclasses import replace

    from tests.toys import small_cql

    wider = small_cql(base=replace(small_cql().base, actor_hidden=(17,)))
    phases = tuple(replace(p, learner=wider) for p in plan(2, 5))
    with pytest.raises(SegueError, match="does not fit the run's plan"):
        checkpoint.load(tmp_path, phases, SPEC, len(DATA), here(Corridor))


def test_no_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(SegueError, match="no complete checkpoint"):
        checkpoint.load(tmp_path, plan(), SPEC, len(DATA), here(Corridor))


def test_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path)
    before = checkpoint.latest(tmp_path)
    state, _ = checkpoint.load(tmp_path, plan(2, 5), SPEC, len(DATA), here(Corridor))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(SegueError, match=r"disk is full.*segue resume"):
        checkpoint.save(tmp_path, state)
    assert checkpoint.latest(tmp_path) == before
    assert not list((tmp_path / "checkpoints").glob(".*"))
