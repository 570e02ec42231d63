"""Studies on a real SLURM and a real Ray, with jobs and nodes that are lost; skipped where there is none.

For SLURM `.ci/slurm` starts one of two nodes on this machine; for Ray `pip install "segue[ray]"` is enough.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segue.cli.main import command
from segue.runs import train
from segue.study.begin import request_of
from segue.study.folder import place, read
from segue.study.lease import run_of
from segue.study.status import counted, standing
from tests.cli.conftest import rows
from tests.study import own
from tests.study.test_workers import ROOT, until

pytestmark = [pytest.mark.xdist_group("clusters")]


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(ROOT / "src"), str(ROOT)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("SEGUE_SAVE_EVERY", "0")
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Three cells of which two begin from the first one's phase."""
    path = tmp_path / "study.toml"
    path.write_text(
        f'recipes = ["{own.RECIPE}"]\ntasks = ["{own.TASK}"]\nseeds = 1\npatience = 6\n'
        "settings.online.environment_steps = 2000\ngrid.online.utd_ratio = [1, 2, 3]\n"
    )
    return path


def as_alone(folder: Path, alone: Path) -> None:
    """All cells are done, and are what runs of their own make."""
    study = read(folder)
    assert counted(standing(folder, study)) == {"done": len(study.cells)}
    for cell in study.cells:
        there = run_of(place(folder, cell.name))
        assert there is not None
        run = train.start(own.recipe, own.Task(), request_of(cell, None), alone / cell.name, stream=io.StringIO())
        assert rows(there) == rows(run)


def begun(folder: Path) -> bool:
    return any(folder.glob("cells/*/*/checkpoints/00000[2-9]"))


@pytest.mark.skipif(shutil.which("sbatch") is None, reason="needs a SLURM: .ci/slurm starts one")
def test_slurm(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A job is killed, another one put into the queue again; two that come later take their cells over."""
    pytest.importorskip("submitit", reason='needs pip install "segue[slurm]"')
    assert subprocess.run(["sinfo"], capture_output=True).returncode == 0, "SLURM is installed and does not answer"
    folder = tmp_path / "s"
    words = ["study", "run", str(file), "--out", str(folder), "--executor", "slurm", "--workers"]
    assert command([*words, "2"]) == 1
    assert "--slurm: give time=MINUTES" in capsys.readouterr().err
    assert command([*words, "2", "--slurm", "time=5", "partition=nowhere"]) == 1
    assert "sbatch refused" in capsys.readouterr().err
    assert command([*words, "2", "--slurm", "time=5"]) == 0
    first, second = capsys.readouterr().out.partition(" submitted")[0].removeprefix("jobs ").split(", ")
    try:
        until(lambda: begun(folder), 120)
        subprocess.run(["scancel", "--signal=KILL", "--full", first], check=True)
        subprocess.run(["scontrol", "requeue", second], check=True)
        assert command(["study", "run", str(folder), *words[5:], "2", "--slurm", "time=5"]) == 0
        until(lambda: counted(standing(folder, read(folder))) == {"done": 3}, 240)
    finally:
        subprocess.run(["scancel", "--me"], check=False)
    as_alone(folder, tmp_path)


@pytest.fixture
def cluster() -> Iterator[Any]:
    pytest.importorskip("ray", reason='needs pip install "segue[ray]"')
    from ray.cluster_utils import Cluster

    there = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        yield there
    finally:
        there.shutdown()


@pytest.mark.filterwarnings("default")  # Ray's own
def test_ray(cluster: Any, file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A node is lost in the middle; another one takes its work over."""
    folder = tmp_path / "s"
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    words = ["study", "run", str(file), "--out", str(folder), "--executor", "ray", "--ray", cluster.address]
    assert command([*words, "--workers", "3"]) == 1
    assert "the cluster has room for 2" in capsys.readouterr().err
    process = subprocess.Popen(
        [sys.executable, "-m", "segue", *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        until(lambda: begun(folder), 120)
        cluster.remove_node(nodes[0], allow_graceful=False)
        cluster.add_node(num_cpus=1)
        said, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, said
    as_alone(folder, tmp_path)
