"""Damage to any single file of a run folder: an exact continuation, or one true line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.core import files
from segue.core.types import SegueError
from segue.engine import running
from segue.engine.envs import here
from segue.engine.loop import run
from segue.engine.state import RunState
from segue.runs import checkpoint, manifest
from segue.runs.sinks import Jsonl, unchanged
from tests.engine.test_run import DATA, TASK, plan
from tests.toys import SPEC, UNITS, Corridor

pytestmark = pytest.mark.xdist_group("engine")  # they compile the same programs
PLAN, SEEDS, STOP = plan(3, 14), (0, 1), 12
DESCRIBED = {"segue": "0", "status": "running", "request": {}, "config": {"a": 1}, "phases": [], "provenance": {}}


def fits(folder: Path) -> Callable[[Any], str | None]:
    log = folder / "metrics.jsonl"

    def fault(found: Any) -> str | None:
        whole = unchanged(log, found["extra"]["position"], found["extra"]["rows"])
        return None if whole else f"{log} is not as the checkpoint saw it"

    return fault


def drive(folder: Path, state: RunState | None, position: int, stop: int = 1000) -> RunState:
    """A small driver: a row and a checkpoint at every third record, until `stop` records are seen."""
    log = Jsonl(folder / "metrics.jsonl", position)
    for seen, record in enumerate(run(PLAN, TASK, SEEDS, UNITS, state=state, keep_rows=True)):
        state = record.state
        row = {k: v.tolist() for k, v in record.metrics.items()}
        log.write({"phase_step": record.phase_step, "update": record.update, "values": row, "ends": record.ends})
        if seen % 3 == 0 or record.ends:
            checkpoint.save(folder, state, {"position": log.position(), "rows": log.digest()})
        if seen == stop:
            break
    log.close()
    assert state is not None
    return state


def resume(folder: Path) -> RunState:
    manifest.read(folder)
    found = checkpoint.latest(folder, fits(folder))
    assert found is not None
    state, extra = checkpoint.load(folder, PLAN, SPEC, len(DATA), here(Corridor), fits(folder))
    return drive(folder, state, extra["position"])


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunState, bytes]:
    """A run that was stopped in its middle; and the end and the rows of one that was not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "PULSE", 0.0)  # a record after every turn
        patch.setattr(running, "LEAST", 1)
        undisturbed = tmp_path_factory.mktemp("whole")
        whole = drive(undisturbed, None, 0)
        rows = (undisturbed / "metrics.jsonl").read_bytes()
        folder = tmp_path_factory.mktemp("stopped")
        manifest.write(folder, DESCRIBED)
        drive(folder, None, 0, STOP)
    assert len(list((folder / "replay").iterdir())) >= 3
    assert len(list((folder / "checkpoints").iterdir())) == 2
    return folder, whole, rows


def files_of(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def damage(path: Path, how: str, where: float) -> None:
    content = bytearray(path.read_bytes())
    at = min(int(where * len(content)), len(content) - 1)
    if how == "delete":
        path.unlink()
    elif how == "truncate":
        path.write_bytes(content[:at])
    else:
        content[at] ^= 1 << int(where * 8191) % 8
        path.write_bytes(content)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(["delete", "truncate", "flip"]), st.floats(0, 1, exclude_max=True))
def test_any_damage_to_any_file(
    stopped: tuple[Path, RunState, bytes], tmp_path_factory: pytest.TempPathFactory, data: Any, how: str, where: float
) -> None:
    source, whole, rows = stopped
    folder = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(source, folder)
    name = data.draw(st.sampled_from(files_of(folder)))
    damage(folder / name, how, where)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "PULSE", 0.0)
        patch.setattr(running, "LEAST", 1)
        said = problem(folder)
        if said:
            assert "\n" not in said
            assert Path(name).name in said, (name, said)
            shutil.copy(source / name, folder / name)  # with that file back it goes on
        state = resume(folder)
    assert equal(state, whole)
    assert (folder / "metrics.jsonl").read_bytes() == rows
    checkpoint.save(folder, state, {"position": 0, "rows": None})
    shutil.rmtree(folder)


def problem(folder: Path) -> str:
    """What resuming says where it cannot; nothing where it can."""
    try:
        manifest.read(folder)
        checkpoint.latest(folder, fits(folder))
    except SegueError as error:
        return str(error)
    return ""


def equal(a: RunState, b: RunState) -> bool:
    states = [(c.slots["agent"].state, jax.device_get(c.experience.replay)) for c in (a, b)]
    leaves = zip(*map(jax.tree.leaves, states), strict=True)
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in leaves)


def test_a_checkpoint_never_takes_the_place_of_a_damaged_one(
    stopped: tuple[Path, RunState, bytes], tmp_path: Path
) -> None:
    """And the whole one before it stays until a newer whole one is there."""
    folder = tmp_path / "run"
    shutil.copytree(stopped[0], folder)
    older, newest = sorted((folder / "checkpoints").iterdir())
    damage(newest / "state.safetensors", "flip", 0.5)
    state, extra = checkpoint.load(folder, PLAN, SPEC, len(DATA), here(Corridor), fits(folder))
    saved = checkpoint.save(folder, state, extra)
    assert int(saved.name) > int(newest.name)
    assert [p.name for p in sorted((folder / "checkpoints").iterdir())] == [older.name, saved.name]
    found = checkpoint.latest(folder)
    assert found is not None
    assert found[0] == saved


def test_the_log_s_folder_is_synced(stopped: tuple[Path, RunState, bytes], tmp_path: Path, monkeypatch: Any) -> None:
    synced: list[Path] = []
    monkeypatch.setattr("segue.core.files.sync", synced.append)
    drive(tmp_path, None, 0, 9)
    assert {tmp_path / "replay", tmp_path / "checkpoints"} <= set(synced)


def test_a_checkpoint_of_an_older_version_is_refused(stopped: tuple[Path, RunState, bytes], tmp_path: Path) -> None:
    """It is not damaged, and says so."""
    folder = tmp_path / "run"
    shutil.copytree(stopped[0], folder)
    for path in (folder / "checkpoints").glob("*/manifest.json"):
        old = {k: v for k, v in json.loads(path.read_text()).items() if k != "seal"}
        path.write_text(json.dumps(files.sealed(old | {"format": 4})))
    with pytest.raises(SegueError, match=r"manifest.json has format 4, and this version reads 5"):
        checkpoint.latest(folder, lambda m: None)
