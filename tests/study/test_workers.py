"""Workers of a study: in processes for real, and many of them with runs that only pretend."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from segue.cli.main import command
from segue.core.types import NoRoom, SegueError
from segue.runs import train
from segue.study import begin, leash, work
from segue.study.asked import Asked, Runs
from segue.study.begin import request_of
from segue.study.cells import Cell
from segue.study.folder import Study, change, place, read
from segue.study.lease import kept, lease_of, run_of
from segue.study.status import counted, runs, standing
from segue.study.work import FULL, MOST_DEATHS, Worker
from tests.cli.conftest import rows
from tests.study import own

ROOT = Path(__file__).parents[2]


class Pretended:
    """A run that ends when it is looked at for the third time, with an exit code that chance chooses."""

    def __init__(
        self, words: Sequence[str], chance: random.Random, doing: dict[str, int], codes: Sequence[int]
    ) -> None:
        _, _, folder, self.cell, number = words
        self.study, self.there = read(Path(folder)), place(Path(folder), self.cell) / f"{int(number):06d}"
        # Two deaths in a row at most, but where nothing else happens.
        self.code = chance.choice([c for c in codes if c != -9 or int(number) < 3] or codes)
        self.looks, self.doing = 0, doing
        self.stdin = io.BytesIO()
        assert doing.setdefault(self.cell, 0) == 0, "two at once"
        doing[self.cell] += 1
        for owner, phase in self.study.cell(self.cell).shares:
            there = place(Path(folder), owner)
            assert kept(there, phase) or lease_of(there).over, "begun too early"

    def poll(self) -> int | None:
        return None if self.looks < 3 else self.code

    def wait(self, seconds: float | None = None) -> int:
        self.looks += 1
        if self.looks < 3 and seconds is not None:
            time.sleep(0.002)
            raise subprocess.TimeoutExpired("run", seconds)
        if self.looks < 99:
            self.looks = 99
            self.doing[self.cell] -= 1
            if self.code == 0:
                (self.there / "phases" / "0-offline").mkdir(parents=True, exist_ok=True)
                (self.there / "run.json").write_text("{}")
        return self.code

    def terminate(self) -> None:
        self.code = -15

    kill = terminate


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[int]], None]:
    monkeypatch.setattr(work, "PAUSE", 0.01)
    chance, doing = random.Random(0), dict[str, int]()

    def with_codes(codes: Sequence[int]) -> None:
        def start(words: Sequence[str], output: object, env: Mapping[str, str]) -> Any:
            output.write(b"segue: this is why\n")  # type: ignore[attr-defined]
            return Pretended(words, chance, doing, codes)

        monkeypatch.setattr(leash, "start", start)

    return with_codes


def many(folder: Path, count: int) -> Study:
    """Groups of four cells that share the first one's offline phase."""
    cells = []
    for n in range(count):
        cell = Cell("iql", "task", {"n": n}, (), (0,), ((cells[n - n % 4].name, "offline"),) if n % 4 else ())
        cells.append(cell)
    asked = Asked((Runs(("iql",), ("task",)),), (0,), patience=1000)
    return change(folder, lambda none: Study(asked, ((0,),), tuple(cells)))


def work_together(folder: Path, count: int) -> list[str]:
    said: list[str] = []
    wrong: list[BaseException] = []

    def one() -> None:
        try:
            Worker(folder, said.append).work()
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    if wrong:
        raise wrong[0]
    return said


def test_each_cell_is_done_once_and_not_too_early(tmp_path: Path, pretended: Callable[[Sequence[int]], None]) -> None:
    """Also where runs are killed and where they fail; a cell whose owner has failed does all itself."""
    pretended([0, 0, 0, -9, 143])
    study = many(tmp_path / "s", 40)
    said = work_together(tmp_path / "s", 4)
    assert counted(standing(tmp_path / "s", study)) == {"done": 40}
    assert sum(line.endswith(": done") for line in said) == 40
    assert any("was killed" in line for line in said)
    pretended([0, 1])
    study = many(tmp_path / "t", 40)
    work_together(tmp_path / "t", 4)
    found = counted(standing(tmp_path / "t", study))
    assert found["done"] + found["failed"] == 40
    assert found["failed"] > 5
    assert {one.reason for one in standing(tmp_path / "t", study) if one.state == "failed"} == {"this is why"}


def test_a_cell_that_kills_whoever_does_it_is_given_up(
    tmp_path: Path, pretended: Callable[[Sequence[int]], None]
) -> None:
    pretended([-9])
    study = many(tmp_path / "s", 1)
    work_together(tmp_path / "s", 2)
    (one,) = standing(tmp_path / "s", study)
    assert one.state == "failed"
    assert one.reason.startswith(f"died {MOST_DEATHS} times and left nothing new")
    with pytest.raises(SegueError, match="no cell of this study is done yet"):
        runs(tmp_path / "s", study)


def test_a_machine_without_room_stops_and_others_go_on(
    tmp_path: Path, pretended: Callable[[Sequence[int]], None]
) -> None:
    pretended([FULL])
    study = many(tmp_path / "s", 2)
    with pytest.raises(SegueError, match="this is why"):
        work_together(tmp_path / "s", 1)
    assert counted(standing(tmp_path / "s", study))["stopped"] == 1
    pretended([0])
    work_together(tmp_path / "s", 1)
    assert counted(standing(tmp_path / "s", study)) == {"done": 2}


@pytest.fixture
def environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": path, "SEGUE_SAVE_EVERY": "0", "JAX_NUM_CPU_DEVICES": "1"}


@contextlib.contextmanager
def started(words: Sequence[str | Path], environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process: Any = subprocess.Popen([sys.executable, "-m", "segue", *map(str, words)], env=environment, **pipes)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate()


def until(true: Callable[[], object], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.02)


def processes(*words: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_text().split("\0")
            if all(word in command for word in words):
                found.append(int(path.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux's /proc")
def test_a_study_survives_whatever_is_killed(tmp_path: Path, environment: dict[str, str]) -> None:
    """A run and a worker are killed; what comes out is what runs of their own make, byte for byte."""
    file, folder = tmp_path / "study.toml", tmp_path / "s"
    file.write_text(
        f'recipes = ["{own.RECIPE}"]\ntasks = ["{own.TASK}"]\nseeds = 1\npatience = 5\n'
        "settings.online.environment_steps = 400\nsettings.online.log_every = 50\ngrid.online.utd_ratio = [1, 2]\n"
    )
    words = ["study", "run", file, "--out", folder, "--workers", "1"]
    with started(words, environment) as process:
        until(lambda: process.poll() is not None or processes("study", "cell", str(folder)))
        first = processes("study", "cell", str(folder))
        until(lambda: list(folder.glob("cells/*/000001/checkpoints/00000[2-9]")))
        os.kill(first[0], signal.SIGKILL)
        until(lambda: [p for p in processes("study", "cell", str(folder)) if p not in first])
        until(lambda: processes("study", "work", str(folder)))
        os.kill(processes("study", "work", str(folder))[0], signal.SIGKILL)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
    study = read(folder)
    assert f"{len(study.cells)} cells: {len(study.cells)} done" in said
    until(lambda: not processes("study", "cell", str(folder)), 10)
    for cell in study.cells:
        alone = train.start(own.recipe, own.Task(), request_of(cell), tmp_path / cell.name, stream=io.StringIO())
        there = run_of(place(folder, cell.name))
        assert there is not None
        assert rows(there) == rows(alone)
        weights = [path / "policy" / "weights.safetensors" for path in (there, alone)]
        assert weights[0].read_bytes() == weights[1].read_bytes()
    assert any(
        json.loads((path / "run.json").read_text())["provenance"].get("origin") for path in runs(folder, study)[0]
    )


def test_a_run_without_room_has_a_code_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    many(tmp_path / "s", 1)

    def full(*_: object) -> None:
        raise NoRoom("the disk is full")

    monkeypatch.setattr(begin, "run", full)
    name = read(tmp_path / "s").cells[0].name
    assert command(["study", "cell", str(tmp_path / "s"), name, "1"]) == FULL
    assert capsys.readouterr().out == "segue: the disk is full\n"
    assert command(["study", "cell", str(tmp_path / "s"), "none", "1"]) == 1
    assert "the study has no cell 'none'" in capsys.readouterr().err
