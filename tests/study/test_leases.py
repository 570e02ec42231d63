"""Who works on a cell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from segue.study import lease as leases
from segue.study.lease import NOBODY, Lease, Lost, Watch, claim, ended, lease_of, reopen, run_of, this_worker, tidy


def begun(run: Path, rows: str = "1\n") -> Path:
    """What stands for a run: files that are replaced, and one that grows."""
    (run / "checkpoints" / "000001").mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "checkpoints" / "000001" / "state.safetensors").write_text("state")
    (run / "metrics.jsonl").write_text(rows)
    return run


@pytest.mark.parametrize("links", [True, False])
def test_one_of_many_gets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool) -> None:
    if not links:  # a file system without second names

        def refuse(*_: object) -> None:
            raise OSError("no links here")

        monkeypatch.setattr(os, "link", refuse)
    barrier, got = threading.Barrier(16), []

    def race(number: int) -> None:
        barrier.wait()
        got.append(claim(tmp_path / "cell", f"worker {number}", NOBODY))

    threads = [threading.Thread(target=race, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    mine = [one for one in got if one is not None]
    assert len(got) == 16
    assert len(mine) == 1
    assert lease_of(tmp_path / "cell") == mine[0].held
    assert sorted(path.name for path in (tmp_path / "cell").iterdir()) == ["000001.lease"]


def test_a_sleeper_that_wakes_up_reaches_nobody(tmp_path: Path) -> None:
    """Whatever it writes goes to a folder that no longer counts; its next sign of life tells it."""
    cell, time = tmp_path / "cell", [0.0]
    first = claim(cell, "elsewhere 1", NOBODY)
    assert first is not None
    begun(first.folder)
    watch = Watch(10.0, lambda: time[0])
    assert not watch.silent(cell, lease_of(cell))
    time[0] = 9.0
    first.beat()
    assert not watch.silent(cell, lease_of(cell))
    time[0] = 18.0
    assert not watch.silent(cell, lease_of(cell))
    time[0] = 19.0
    assert watch.silent(cell, lease_of(cell))
    second = claim(cell, "elsewhere 2", lease_of(cell))
    assert second is not None
    assert (second.folder / "metrics.jsonl").read_text() == "1\n"
    with (first.folder / "metrics.jsonl").open("a") as log:
        log.write("2\n")
    (first.folder / "run.json").write_text("other")
    assert run_of(cell) == second.folder
    assert (second.folder / "metrics.jsonl").read_text() == "1\n"
    with pytest.raises(Lost):
        first.beat()
    with pytest.raises(Lost):
        first.end("done")
    second.end("done")
    assert lease_of(cell).over
    tidy(cell)
    assert not first.folder.exists()
    assert second.folder.exists()


def test_run_json_of_a_sleeper_is_not_shared(tmp_path: Path) -> None:
    """Files with two names must never be written in place: those of a run are replaced."""
    first = claim(tmp_path, "elsewhere 1", NOBODY)
    assert first is not None
    begun(first.folder)
    first.end("released")
    second = claim(tmp_path, "elsewhere 2", lease_of(tmp_path))
    assert second is not None
    state = "checkpoints/000001/state.safetensors"
    assert os.path.samefile(first.folder / state, second.folder / state)
    assert not os.path.samefile(first.folder / "metrics.jsonl", second.folder / "metrics.jsonl")


def test_deaths_count_while_nothing_new_is_left(tmp_path: Path) -> None:
    def again(deaths: int) -> Lease:
        lease = claim(tmp_path, "w", lease_of(tmp_path))
        assert lease is not None
        assert lease.held.deaths == deaths
        return lease

    again(0).end("died", "killed")
    again(1).end("died", "killed")
    lease = again(2)
    begun(lease.folder)
    lease.end("died", "killed")
    again(0).end("died", "killed")
    again(1)  # whose worker is lost, which is not the run's fault
    again(1).end("failed", "why")
    reopen(tmp_path)
    again(0)


@pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="needs Linux's /proc")
def test_a_process_of_this_machine_that_is_gone_is_known(tmp_path: Path) -> None:
    words = "from segue.study.lease import this_worker; print(this_worker())"
    other = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout.strip()
    assert ended(other)
    assert not ended(this_worker())
    assert not ended(f"elsewhere {other.partition(' ')[2]}")
    assert Watch(1e9).silent(tmp_path, leases.Held(1, other))


def test_a_lease_that_is_half_written_is_held(tmp_path: Path) -> None:
    (tmp_path / "000003.lease").write_text(json.dumps({"number": 3})[:5])
    assert lease_of(tmp_path).number == 3
    assert lease_of(tmp_path).state == "held"
