"""Kill the workers of a study at random, let others go on, and compare with a study that nothing has disturbed.

    python benchmarks/study_kills.py --kills 20                       workers of this machine
    python benchmarks/study_kills.py --kills 10 --executor slurm      jobs of the SLURM that is running here
    python benchmarks/study_kills.py --kills 10 --executor ray        tasks of a Ray cluster of three nodes, made here

The study has three recipes on two tasks with four seeds, two of them in a cell.  It is run once in peace by two workers
of this machine.  Then it is run by the executor, and something of it is killed (SIGKILL) again and again: a run, a
worker, the command itself, a job, a node.  In the end every cell must have the rows (but for the clock on the wall),
the policy and the last checkpoint of its twin, byte for byte.  The exit status is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from kills import differences

FILE = """
recipes = ["iql", "td3-bc", "awac"]
tasks = ["pointmaze-umaze", "pointmaze-medium"]
seeds = 4
seeds_per_cell = 2
patience = 6
[settings]
offline.gradient_steps = 1500
offline.evaluate_every = 500
online.environment_steps = 1000
online.evaluate_every = 500
evaluation.episodes = 2
[[runs]]
[[runs]]
recipes = ["iql"]
tasks = ["pointmaze-umaze"]
grid.online.utd_ratio = [2, 4]
"""
WORKERS = 2


def segue(*words: str) -> list[str]:
    return [sys.executable, "-m", "segue", "study", *words]


def processes(*words: str) -> list[int]:
    """Numbers of processes whose command has all these words."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            command = path.read_bytes().decode(errors="replace").split("\0")
            if all(word in command for word in words) and int(path.parent.name) != os.getpid():
                found.append(int(path.parent.name))
    return found


class Local:
    """Workers of this machine, and the command that has started them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start()

    def start(self) -> None:
        words = segue("run", str(self.folder), "--workers", str(WORKERS))
        self.process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def keep_going(self) -> None:
        if self.process.poll() is not None:
            self.start()

    def strike(self, chance: random.Random) -> str:
        kinds = {"run": ("study", "cell"), "worker": ("study", "work")}
        kind = chance.choice(["run", "run", "worker", "worker", "command"])
        if kind == "command":
            self.process.kill()
            self.process.wait()
            return kind
        return kill(chance, kind, *kinds[kind], str(self.folder.resolve()))

    def end(self) -> None:
        self.process.wait()


class Ray:
    """A cluster of three nodes on this machine, of which one after the other is lost."""

    def __init__(self, folder: Path) -> None:
        from ray.cluster_utils import Cluster

        self.folder = folder
        self.cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
        self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(WORKERS)]
        self.start()

    def start(self) -> None:
        words = segue("run", str(self.folder), "--executor", "ray", "--ray", self.cluster.address)
        self.log = open(self.folder / "ray.log", "ab")  # noqa: SIM115
        self.process = subprocess.Popen([*words, "--workers", str(WORKERS)], stdout=self.log, stderr=self.log)

    def keep_going(self) -> None:
        if self.process.poll() is not None:
            self.start()

    def strike(self, chance: random.Random) -> str:
        kind = chance.choice(["run", "node", "node", "command"])
        if kind == "command":
            self.process.kill()
            self.process.wait()
            return kind
        if kind == "node":
            node = self.nodes.pop(chance.randrange(len(self.nodes)))
            self.cluster.remove_node(node, allow_graceful=False)
            self.nodes.append(self.cluster.add_node(num_cpus=1))
            return kind
        return kill(chance, kind, "study", "cell", str(self.folder.resolve()))

    def end(self) -> None:
        self.process.wait()
        self.cluster.shutdown()


class Slurm:
    """Jobs, which are cancelled, put into the queue again, or killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.jobs: list[str] = []
        self.submit(WORKERS)

    def submit(self, count: int) -> None:
        words = segue("run", str(self.folder), "--executor", "slurm", "--workers", str(count), "--slurm", "time=60")
        said = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        self.jobs += [word.strip(",") for word in said.partition(" submitted")[0].split()[1:]]

    def working(self) -> list[str]:
        said = subprocess.run(["squeue", "-h", "-r", "-o", "%i %T"], capture_output=True, text=True).stdout
        there = [line.split() for line in said.splitlines()]
        return [job for job, state in there if state in ("RUNNING", "PENDING", "CONFIGURING", "COMPLETING")]

    def keep_going(self) -> None:
        missing = WORKERS - len(self.working())
        if missing > 0:
            self.submit(missing)

    def strike(self, chance: random.Random) -> str:
        kind = chance.choice(["run", "cancel", "requeue", "requeue"])
        if kind == "run":
            return kill(chance, kind, "study", "cell", str(self.folder.resolve()))
        job = chance.choice(self.working() or ["0"])
        words = {"cancel": ["scancel", "--signal=KILL", "--full", job], "requeue": ["scontrol", "requeue", job]}
        subprocess.run(words[kind], capture_output=True)
        return f"{kind} {job}"

    def end(self) -> None:
        subprocess.run(["scancel", *self.working()], capture_output=True)


EXECUTORS: dict[str, Callable[[Path], Local | Ray | Slurm]] = {"local": Local, "ray": Ray, "slurm": Slurm}


def kill(chance: random.Random, kind: str, *words: str) -> str:
    """Kill one process whose command has these words."""
    there = processes(*words)
    if not there:
        return ""
    with contextlib.suppress(ProcessLookupError):
        os.kill(chance.choice(there), signal.SIGKILL)
    return kind


def counts(folder: Path) -> tuple[int, int, int]:
    """Cells, those that are done, those that have failed."""
    from segue.study.folder import read
    from segue.study.status import standing

    states = [one.state for one in standing(folder, read(folder))]
    return len(states), states.count("done"), states.count("failed")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--executor", choices=EXECUTORS, default="local")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--every", type=float, default=12.0, help="seconds between kills, on average")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--root", type=Path, help="folder of both studies; the one in peace is made once")
    asked = parser.parse_args()
    from segue.study.folder import read
    from segue.study.lease import run_of

    root = asked.root or Path(tempfile.mkdtemp(prefix="study-kills-"))
    root.mkdir(parents=True, exist_ok=True)
    os.environ["SEGUE_SAVE_EVERY"] = "2"
    file, peace, folder = root / "study.toml", root / "peace", root / asked.executor
    file.write_text(FILE)
    if not peace.exists() or counts(peace)[0] != counts(peace)[1]:
        began = time.monotonic()
        subprocess.run(segue("run", str(file), "--out", str(peace), "--workers", str(WORKERS)), check=True)
        print(f"in peace: {time.monotonic() - began:.0f} s", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copyfile(peace / "study.json", folder / "study.json")
    chance, kills, began = random.Random(asked.seed), dict[str, int](), time.monotonic()
    workers = EXECUTORS[asked.executor](folder)
    strike_at = began + asked.every
    while (now := counts(folder))[1] + now[2] < now[0]:
        time.sleep(0.5)
        if sum(kills.values()) < asked.kills and time.monotonic() > strike_at:
            if said := workers.strike(chance):
                kills[said.split()[0]] = kills.get(said.split()[0], 0) + 1
                print(f"{time.monotonic() - began:6.0f} s: killed a {said}; cells {counts(folder)}", flush=True)
            strike_at = time.monotonic() + chance.uniform(0.3, 1.7) * asked.every
        workers.keep_going()
    workers.end()
    different = 0
    for cell in read(folder).cells:
        runs = run_of(folder / "cells" / cell.name), run_of(peace / "cells" / cell.name)
        found = ["a run is missing"] if None in runs else differences(runs[0], runs[1])  # type: ignore[arg-type]
        print(f"{cell.name}: {', '.join(found) or 'the same'}", flush=True)
        different += bool(found)
    told = ", ".join(f"{count} times a {kind}" for kind, count in kills.items())
    print(f"{asked.executor}: {time.monotonic() - began:.0f} s, killed {told or 'nothing'}; {different} cells differ")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
