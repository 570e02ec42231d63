"""Environment steps a second of one seed with several simulators, in this process and in processes of their own.

    python benchmarks/simulators.py                 a simulator that sleeps 5 ms a step, and HalfCheetah-v5 as it is

TD3, networks of 256 x 2, batches of 256.  "collecting": no updates.  "learning": one update a step.  "overlap": these
updates run while the simulators step.  Each measurement is a process of its own, which compiles before it is timed; the
table has medians of the turns.  Nothing else may run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
WAYS = {"collecting": (0.0, False), "learning": (1.0, False), "overlap": (1.0, True)}
SHAPES = ((1, 0), (8, 0), (8, 2), (8, 8))


def rate(kind: str, envs: int, workers: int, way: str, seconds: float) -> float:
    """Steps a second over at least so many seconds."""
    import slow
    from segue import TD3, Mix, Phase, Scaling, run
    from segue.tasks import GymTask
    from segue.tasks.apart import Workers

    task, (utd, overlap) = GymTask.custom(getattr(slow, kind), horizon=1_000), WAYS[way]
    more = {"utd_ratio": utd, "train_every": envs, "batch": Mix(0, 256), "log_every": 8, "overlap": overlap}
    phases = (
        Phase("warm-up", TD3(), environment_steps=400, train_every=envs, utd_ratio=0, actor="random"),
        Phase("online", TD3(), environment_steps=10_000_000, **more),  # type: ignore[arg-type]
    )
    processes = Workers(task.make_env, workers) if workers else None
    simulators = processes.make if processes else None
    began = 0.0
    try:
        for record in run(phases, task, [0], Scaling(), capacity=100_000, envs=envs, simulators=simulators):
            if record.index == 1 and record.phase_step >= 200 and not began:
                began, first = time.perf_counter(), record.phase_step
            elif began and time.perf_counter() - began > seconds:
                return (record.phase_step - first) / (time.perf_counter() - began)
    finally:
        if processes:
            processes.close()
    raise AssertionError("the phase is long enough")


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        kind, envs, workers, way, seconds = sys.argv[2:7]
        print(rate(kind, int(envs), int(workers), way, float(seconds)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0)
    asked = parser.parse_args()
    found: dict[str, list[float]] = {}
    for turn in range(asked.turns):
        for kind in ("slow", "quick"):
            for envs, workers in SHAPES:
                for way in WAYS:
                    words = [kind, str(envs), str(workers), way]
                    command = [sys.executable, __file__, "--one", *words, str(asked.seconds)]
                    said = subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True).stdout
                    found.setdefault(json.dumps(words), []).append(float(said.split()[-1]))
        print(f"turn {turn + 1} of {asked.turns} done", file=sys.stderr, flush=True)
    print("| a step | simulators | processes | " + " | ".join(WAYS) + " |")
    print("|---|---|---|" + "---|" * len(WAYS))
    for kind, name in (("slow", "5 ms"), ("quick", "0.04 ms")):
        for envs, workers in SHAPES:
            rates = [found[json.dumps([kind, str(envs), str(workers), way])] for way in WAYS]
            cells = " | ".join(f"{statistics.median(r):,.0f} ({min(r):,.0f} to {max(r):,.0f})" for r in rates)
            print(f"| {name} | {envs} | {workers or 'this one'} | {cells} |")


if __name__ == "__main__":
    main()
