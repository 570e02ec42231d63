"""A dataset larger than memory: import it, train on it, and say what the process held at most.

    python benchmarks/large.py --gigabytes 10 --folder FOLDER

Makes a file in D4RL's layout whose observations were never written (zeros that take no room), imports it, and trains
IQL on it with the observations on the disk.  Also times the import of a million rows of eleven numbers, and of as many
in 100,000 episodes, and how long their content takes to read and to verify.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np

WIDTH = 1000
EPISODE = 500


def make(path: Path, rows: int, width: int, sparse: bool, episode: int = EPISODE) -> None:
    """Write a stream of rows with episodes of so many steps."""
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        # Observations as they come from a fresh dataset: chunks that were never written read as zeros.
        seen = file.create_dataset("observations", (rows, width), "f4", chunks=(1024, width), compression="gzip")
        if not sparse:
            seen[:] = rng.normal(size=(rows, width))
        else:
            seen[: 8 * EPISODE] = rng.normal(size=(8 * EPISODE, width))
        file["actions"] = rng.uniform(-1, 1, (rows, 2)).astype("f4")
        file["rewards"] = rng.normal(size=rows).astype("f4")
        file["terminals"] = np.zeros(rows, bool)
        file["timeouts"] = np.arange(rows) % episode == episode - 1


def step(what: str, *words: str) -> None:
    """Run `words` in a process of its own; print its time and its largest resident memory."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{what}: {done.stderr}")
    held = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    note = "" if held > before else " or less"
    print(f"{what}: {time.monotonic() - began:.1f} s, resident at most {held / 2**20:.2f} GiB{note}", flush=True)
    print("   ", *done.stdout.strip().splitlines()[-2:], sep="\n    ")


TRAIN = """
import sys
import segue
from segue.data.store import find_stored
data = find_stored(sys.argv[1]).data(resident=False)
class Task:
    name = source = domain = "large"
    horizon, failure, world = 500, None, None
    spec = segue.Spec(data.observation.shape[1:], 2)
    def dataset(self): return data
phases = (segue.Phase("offline", segue.agents.IQL(), 200, batch=segue.Mix(256)),)
for record in segue.run(phases, Task(), (0,), segue.Scaling()):
    pass
print(f"{len(data):,} rows, {data.observation.shape[1]} numbers each, {record.update} updates of IQL")
"""

READ = """
import sys, time
from segue.data.store import find_stored
stored = find_stored(sys.argv[1])
for what in (lambda: stored.data(resident=True), stored.verify, lambda: sum(1 for _ in stored.episodes())):
    began = time.process_time()
    what()
    print(f"{time.process_time() - began:.2f} s of the processor", end="; ")
print("to read all, to verify, and to go through the episodes")
"""


def main() -> None:
    """Make, import, train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gigabytes", type=float, default=10.0)
    parser.add_argument("--folder", type=Path, required=True)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    os.environ["SEGUE_DATASETS"] = str(args.folder / "store")
    try:
        make(args.folder / "million.hdf5", 1_000_000, 11, sparse=False)
        step("import of a million rows", "-m", "segue", "data", "import", f"d4rl:{args.folder}/million.hdf5", "million")
        make(args.folder / "short.hdf5", 1_000_000, 11, sparse=False, episode=10)
        step("import of 100,000 episodes", "-m", "segue", "data", "import", f"d4rl:{args.folder}/short.hdf5", "short")
        step("reading them", "-c", READ, "short")
        rows = int(args.gigabytes * 1e9 / (4 * WIDTH))
        make(args.folder / "large.hdf5", rows, WIDTH, sparse=True)
        source = f"d4rl:{args.folder}/large.hdf5"
        step(f"import of {args.gigabytes:g} GB", "-m", "segue", "data", "import", source, "large")
        step("training on it", "-c", TRAIN, "large")
    finally:
        shutil.rmtree(args.folder / "store", ignore_errors=True)
        for name in ("million.hdf5", "short.hdf5", "large.hdf5"):
            (args.folder / name).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
