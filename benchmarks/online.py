"""Environment steps a second, each with an update: Segue beside a flat JAX loop and beside SBX, in turns.

    python benchmarks/online.py                       Segue and the flat loop, TD3 on HalfCheetah-v5, one seed
    python benchmarks/online.py --seeds 4             four seeds; the others in a process for each core (SBX: one seed)
    python benchmarks/online.py --setup-peer FOLDER   makes a virtual environment with SBX, once
    python benchmarks/online.py --peer FOLDER         compares with it too
    python benchmarks/online.py --agents TD3 SAC      SAC has no flat loop here
    python benchmarks/online.py --source OLD/src      and another checkout of Segue, in the same turns

It prints the tables of docs/results/speed.md.  Networks of 256 x 2, two critics, batches of 256, one update a step.
Each measurement is a process of its own, which compiles and warms up before it is timed.  A turn measures every side
once; a ratio is the median of the ratios within turns.  Nothing else may run meanwhile: the script waits for an idle
machine.  It needs Linux (/proc/stat, taskset).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import venv
from pathlib import Path

HERE = Path(__file__).parent
ENV, BEFORE = "HalfCheetah-v5", 1_000
PEER = ("sbx-rl==0.28.0", "gymnasium[mujoco]")


def segue(agent: str, seeds: list[int], steps: int) -> float:
    """Steps a second of Segue, all seeds in one run."""
    from segue import SAC, TD3, Mix, Phase, Scaling, run
    from segue.tasks import GymTask

    learner = {"TD3": TD3, "SAC": SAC}[agent]()
    phases = (
        Phase("warm-up", learner, environment_steps=BEFORE, utd_ratio=0, actor="random"),
        Phase("online", learner, environment_steps=1_000 + steps, batch=Mix(0, 256), log_every=1_000),
    )
    began = 0.0
    for record in run(phases, GymTask.custom(ENV, horizon=1_000), seeds, Scaling()):
        if record.index == 1 and record.phase_step >= 1_000 and not began:
            began, first = time.perf_counter(), record.phase_step
    return len(seeds) * (record.phase_step - first) / (time.perf_counter() - began)


def one(side: str, agent: str, seeds: list[int], steps: int) -> float:
    """What this process measures."""
    if side == "segue":
        return segue(agent, seeds, steps)
    if side == "flat":
        from peer_flat import rate

        return rate(ENV, seeds, BEFORE, steps)
    from peer_sbx import rate as of_sbx

    return of_sbx(agent, ENV, seeds[0], BEFORE, steps)


def measured(python: str, side: str, agent: str, seeds: int, steps: int, source: str) -> float:
    """Steps a second of a side; the peers' seeds are spread over a process for each core."""
    cores = sorted(os.sched_getaffinity(0))
    spread = side != "segue" and seeds > 1
    groups = [list(range(seeds))[n :: len(cores)] for n in range(len(cores))] if spread else [list(range(seeds))]
    started = []
    for core, group in zip(cores, groups):
        pin = ["taskset", "-c", str(core)] if spread else []
        words = [*pin, python, __file__, "--one", side, agent, json.dumps(group), str(steps)]
        more = {"PYTHONPATH": source} if source else {}
        quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        started.append(subprocess.Popen(words, env=os.environ | more, cwd=HERE, **quiet))  # type: ignore[call-overload]
    total = 0.0
    for process in started:
        said, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{side} failed; try: {python} {__file__} --one {side} {agent} '[0]' {steps}")
        total += float(said.split()[-1])
    return total


def wait_until_idle(patience: float = 600.0) -> None:
    """Wait until the machine has done nothing for a second."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        before = [int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        time.sleep(1.0)
        after = [int(x) for x in Path("/proc/stat").read_text().split("\n")[0].split()[1:]]
        passed = [b - a for a, b in zip(before, after)]
        if passed[3] > 0.9 * sum(passed):
            return
    print("the machine is not idle; the numbers below say little", file=sys.stderr)


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        side, agent, seeds, steps = sys.argv[2:6]
        print(one(side, agent, json.loads(seeds), int(steps)))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", default=["TD3"], choices=["TD3", "SAC"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--steps", type=int, default=4_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--setup-peer", type=Path)
    parser.add_argument("--source", default="", help="src folder of another checkout")
    asked = parser.parse_args()
    if asked.setup_peer:
        venv.create(asked.setup_peer, with_pip=True)
        subprocess.run([asked.setup_peer / "bin" / "python", "-m", "pip", "install", "-q", *PEER], check=True)
        return
    for agent in asked.agents:
        sides: dict[str, tuple[str, str, str]] = {"segue": (sys.executable, "segue", str(HERE.parent / "src"))}
        if asked.source:
            sides["other segue"] = (sys.executable, "segue", str(Path(asked.source).resolve()))
        if agent == "TD3":
            sides["flat loop"] = (sys.executable, "flat", "")
        if asked.peer:
            sides["SBX"] = (str(asked.peer.resolve() / "bin" / "python"), "sbx", "")
        found: dict[str, list[float]] = {name: [] for name in sides}
        for turn in range(asked.turns):
            for name, (python, side, source) in sides.items():
                wait_until_idle()
                found[name].append(measured(python, side, agent, asked.seeds, asked.steps, source))
            print(f"turn {turn + 1}:", {k: round(v[-1]) for k, v in found.items() if v}, file=sys.stderr, flush=True)
        plural = "s" if asked.seeds > 1 else ""
        print(f"| {agent}, {asked.seeds} seed{plural}: steps a second, each with an update | median (range) | Segue is")
        print("|---|---|---|")
        for name, rates in found.items():
            ratios = sorted(a / b for a, b in zip(found["segue"], rates))
            times = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}) times as fast"
            print(
                f"| {name} | {statistics.median(rates):.0f} ({min(rates):.0f} to {max(rates):.0f}) "
                f"| {'' if name == 'segue' else times} |"
            )


if __name__ == "__main__":
    main()
