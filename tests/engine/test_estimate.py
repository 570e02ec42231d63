"""What a run will need, against what a small one took."""

from __future__ import annotations

from pathlib import Path

import jax
import pytest
from safetensors.numpy import load_file

from segue.engine.estimate import duration, estimate, size
from segue.engine.loop import run
from segue.runs import checkpoint
from tests.engine.test_run import DATA, TASK, plan
from tests.toys import SPEC, UNITS

pytestmark = pytest.mark.xdist_group("engine")  # they compile the same programs


def test_disk_and_memory_are_those_of_a_run(tmp_path: Path) -> None:
    phases = plan(2, 300)
    found = estimate(phases, SPEC, UNITS, 2, len(DATA), timed=True)
    state = None
    for record in run(phases, TASK, (0, 1), UNITS, keep_rows=True):
        state = record.state
        if record.ends:
            checkpoint.save(tmp_path, state)
    assert state is not None
    held = lambda path: sum(x.nbytes for x in load_file(path).values())  # noqa: E731 - without names and headers
    log = sum(held(p) for p in (tmp_path / "replay").iterdir())
    states = max(held(p) for p in tmp_path.glob("checkpoints/*/state.safetensors"))
    assert found.disk == pytest.approx(log + 3 * states, rel=0.03)
    arrays = sum(x.nbytes for x in jax.tree.leaves(state.experience.replay)) + 2 * sum(
        x.nbytes for x in jax.tree.leaves(state.slots["agent"].state)
    )
    assert arrays < found.memory < arrays + 4 * sum(x.nbytes for x in (DATA.observation, DATA.next_observation)) + 1e5
    assert found.seconds is not None
    assert 0 < found.seconds[0] < found.seconds[1]
    assert "from operation counts and not measured" in found.words()
    assert estimate(phases, SPEC, UNITS, 2, len(DATA)).seconds is None
    few = estimate(phases, SPEC, UNITS, 2, len(DATA), capacity=13)
    assert (few.disk, few.memory < found.memory) == (found.disk, True)


def test_in_words() -> None:
    assert [size(12), size(4_200), size(3.2e10)] == ["12 bytes", "4.2 kB", "32 GB"]
    told = [duration(90), duration(600), duration(9_000), duration(5 * 86_400)]
    assert told == ["90 seconds", "10 minutes", "2 hours", "5 days"]
