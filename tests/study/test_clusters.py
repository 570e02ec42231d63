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
        run = train.start(own.recipe, own.Task(), request_of(cell), alone / cell.name, stream=io.StringIO())
        assert rows(there) == rows(run)


def begun(folder: Path) -> bool:
    return any(folder.glob("cells/*/*/checkpoints/00000[2-9]"))


def segue(*words: str) -> tuple[int, str, str]:
    """What a command has said; SLURM's and Ray's packages write to streams that a test cannot take away."""
    done = subprocess.run([sys.executable, "-m", "segue", *words], capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(shutil.which("sbatch") is None, reason="needs a SLURM: .ci/slurm starts one")
def test_slurm(file: Path, tmp_path: Path) -> None:
    """A job is killed, another one put into the queue again; two that come later take their cells over."""
    pytest.importorskip("submitit", reason='needs pip install "segue[slurm]"')
    assert subprocess.run(["sinfo"], capture_output=True).returncode == 0, "SLURM is installed and does not answer"
    folder = tmp_path / "s"
    slurm = ["--executor", "slurm", "--workers", "2", "--slurm"]
    words = ["study", "run", str(file), "--out", str(folder), *slurm]
    code, _, said = segue(*words, "partition=debug")
    assert (code, "--slurm: give time=MINUTES" in said) == (1, True)
    code, _, said = segue(*words, "time=5", "partition=nowhere")
    assert (code, "sbatch refused" in said) == (1, True)
    code, out, said = segue(*words, "time=5")
    assert code == 0, said
    first, second = out.partition(" submitted")[0].removeprefix("jobs ").split(", ")
    try:
        until(lambda: begun(folder), 120)
        subprocess.run(["scancel", "--signal=KILL", "--full", first], check=True)
        subprocess.run(["scontrol", "requeue", second], check=True)
        assert segue("study", "run", str(folder), *slurm, "time=5")[0] == 0
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
def test_ray(cluster: Any, file: Path, tmp_path: Path) -> None:
    """A node is lost in the middle; another one takes its work over."""
    folder = tmp_path / "s"
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    words = ["study", "run", str(file), "--out", str(folder), "--executor", "ray", "--ray", cluster.address]
    code, _, said = segue(*words, "--workers", "3")
    assert (code, "the cluster has room for 2" in said) == (1, True), said
    pipes: Any = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    process = subprocess.Popen([sys.executable, "-m", "segue", *words], **pipes)
    try:
        until(lambda: begun(folder), 120)
        cluster.remove_node(nodes[0], allow_graceful=False)
        cluster.add_node(num_cpus=1)
        told, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, told
    as_alone(folder, tmp_path)
