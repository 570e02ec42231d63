"""Kill runs at random instants, resume them, and compare with runs that nothing has disturbed.

    python benchmarks/kills.py --kills 100

Each of four recipes runs once in peace, as a process of its own.  Then the same run is started, killed (SIGKILL)
after a time drawn uniformly from the length of a run, resumed, perhaps killed again, and so on to its end.  Its policy,
its last checkpoint and its rows (but for the clock on the wall) must be those of the undisturbed run, byte for byte.
Prints a line per kill and per run, and a summary; the exit status is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TASK = "pointmaze-umaze"
SMALL = ("agent.actor_hidden=(16,)", "agent.critic_hidden=(16,)", "evaluation.episodes=1")
ONLINE = ("online.environment_steps=350", "online.log_every=50", "online.evaluate_every=200")
OFFLINE = ("offline.gradient_steps=300", "offline.log_every=100", "offline.evaluate_every=0")
GATHER = ("gather.environment_steps=60", "meta.gradient_steps=150", "meta.log_every=50", "online.batch.hidden=(16,)")
EXPLOIT = tuple(
    f"exploit-{n}.{x}" for n in (1, 2, 3, 4) for x in ("gradient_steps=60", "log_every=30", "evaluate_every=0")
)
RETRAIN = (
    "retrain-1.gradient_steps=120",
    "retrain-1.log_every=40",
    "retrain-1.evaluate_every=0",
    "retrain-1.validation.steps=900",
)
RECIPES: dict[str, tuple[str, ...]] = {
    "cal-ql": (*OFFLINE, *ONLINE, *SMALL, "agent.samples=2"),
    "opt(td3-bc)+rnd": (*OFFLINE, *GATHER, *ONLINE, *SMALL, "offline.bonus.hidden=(16,)"),
    "ooo(iql)": (*OFFLINE, *ONLINE, *EXPLOIT, *SMALL, "exploiter.actor_hidden=(16,)", "exploiter.critic_hidden=(16,)"),
    "recommend(sac,iql)": (*ONLINE, *RETRAIN, *SMALL, "student.actor_hidden=(16,)", "student.critic_hidden=(16,)"),
}


def rows(folder: Path) -> list[dict[str, object]]:
    """Rows of metrics but for the clock on the wall."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "wall_s"} for line in lines]


def differences(folder: Path, undisturbed: Path) -> list[str]:
    """What is not as in the undisturbed run."""
    found = []
    if rows(folder) != rows(undisturbed):
        found.append("rows")
    if (folder / "policy/weights.safetensors").read_bytes() != (
        undisturbed / "policy/weights.safetensors"
    ).read_bytes():
        found.append("policy")
    states = [max((run / "checkpoints").glob("[0-9]*")) / "state.safetensors" for run in (folder, undisturbed)]
    if states[0].read_bytes() != states[1].read_bytes():
        found.append("last checkpoint")
    if json.loads((folder / "run.json").read_text())["status"] != "finished":
        found.append("status")
    return found


def words(recipe: str, folder: Path) -> list[str]:
    """The command that takes a run on: `run` where nothing is there yet, `resume` afterwards."""
    begin = ["run", recipe, TASK, "--seeds", "1", "--out", str(folder), "--set", *RECIPES[recipe]]
    there = (folder / "run.json").exists()
    return [sys.executable, "-m", "segue", *(["resume", str(folder)] if there else begin)]


def main() -> int:
    """Do as the words of the command line say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--again", type=float, default=0.5, help="probability that a resumed run is killed again")
    asked = parser.parse_args()
    chance = random.Random(asked.seed)
    root = Path(tempfile.mkdtemp(prefix="kills-"))
    environment = os.environ | {
        "SEGUE_SAVE_EVERY": "0.2",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
    }

    def go(command: list[str], limit: float | None) -> bool:
        """Whether the process was killed at the limit; another end but success is an error."""
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            _, err = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return True
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit {process.returncode}: {err}")
        return False

    peace: dict[str, Path] = {}
    seconds: dict[str, float] = {}
    for number, recipe in enumerate(asked.recipes):
        for name in ("cold", "warm"):  # the second has its programs compiled, as all that follow
            peace[recipe] = root / f"{name}-{number}"
            began = time.monotonic()
            go(words(recipe, peace[recipe]), None)
            seconds[recipe] = time.monotonic() - began
        print(f"{recipe}: {seconds[recipe]:.1f} s undisturbed, {len(rows(peace[recipe]))} rows", flush=True)
    kills = runs = different = 0
    while kills < asked.kills:
        recipe = asked.recipes[runs % len(asked.recipes)]
        folder, runs, before = root / f"run-{runs:03d}", runs + 1, kills
        try:
            while True:
                resumed = (folder / "run.json").exists()
                if resumed and json.loads((folder / "run.json").read_text())["status"] == "finished":
                    break  # killed while it wrote its report
                kill = kills < asked.kills and (kills == before or chance.random() < asked.again)
                limit = chance.uniform(0.0, seconds[recipe]) if kill else None
                if not go(words(recipe, folder), limit):
                    break
                kills += 1
                saved = sorted(p.name for p in (folder / "checkpoints").glob("[0-9]*"))
                what = "resumed" if resumed else "started"
                print(f"kill {kills}: {recipe}, {limit:.2f} s after it was {what}, checkpoints {saved}", flush=True)
            found = differences(folder, peace[recipe])
        except (RuntimeError, OSError, ValueError) as error:
            found = [" ".join(str(error).split())]
        different += bool(found)
        print(f"run {runs}: {recipe}, {kills - before} kills: {', '.join(found) or 'the same'}", flush=True)
    print(f"{kills} kills in {runs} runs of {len(asked.recipes)} recipes: {different} runs differ ({root})")
    return int(different > 0)


if __name__ == "__main__":
    sys.exit(main())
