"""Run an older checkout and this one beside each other, and compare what the runs computed.

    git archive COMMIT | tar -x -C OLD
    python benchmarks/traces.py OLD --keep FOLDER

Each run of the table below is started twice through the command line, with the sources of either checkout, the same
Python and the same threads.  Rows of metrics (without the clock on the wall), the weights of every policy, and the
arrays of the last checkpoint must be equal, bit for bit, once the names of the older checkout have been replaced by
those in `renames.toml`; arrays that it calls added may stand in this one alone.  With `--keep`, runs of the older
checkout stay in that folder and serve the next comparison.
The exit status is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

HERE = Path(__file__).resolve().parent
MAZE = "pointmaze-umaze"
SMALL = ("evaluation.episodes=2", "agent.actor_hidden=(32,32)", "agent.critic_hidden=(32,32)")
STUDENT = ("student.actor_hidden=(32,)", "student.critic_hidden=(32,)")
EXPLOITER = ("exploiter.actor_hidden=(32,)", "exploiter.critic_hidden=(32,)")


def lasts(phase: str, ticks: int, *more: str) -> tuple[str, ...]:
    """A phase that lasts so long, with four rows of metrics."""
    return f"{phase}.ticks={ticks}", f"{phase}.log_every={ticks // 4}", f"{phase}.evaluate_every={ticks // 2}", *more


BOTH = (*SMALL, *lasts("offline", 200), *lasts("online", 400))
EXPLOIT = tuple(word for n in (1, 2, 3, 4) for word in lasts(f"exploit-{n}", 80))
RETRAIN = (*STUDENT, *lasts("retrain-1", 120, "retrain-1.validation.steps=900"))
GATHER = ("gather.ticks=60", *lasts("meta", 120), "agent.kappa_steps=300")
RUNS: dict[str, tuple[str, str, tuple[str, ...], tuple[str, ...]]] = {
    "cal-ql": ("cal-ql", MAZE, BOTH, ()),
    "cal-ql-rules": ("cal-ql", MAZE, BOTH, ("warm_up=50", "freeze_actor=100", "retain=0.5", "discount=0.98")),
    "cql+sera": ("cql+sera", MAZE, (*BOTH, "online.updates=2"), ("decay=conservative_weight,over=300,floor=0.1",)),
    "iql": ("iql", MAZE, BOTH, ("reset_optimisers",)),
    "awac+vcse": ("awac+vcse", MAZE, BOTH, ()),
    "td3-bc": ("td3-bc", MAZE, BOTH, ()),
    "rebrac": ("rebrac", MAZE, BOTH, ()),
    "spot": ("spot", MAZE, (*BOTH, *lasts("density", 100), "density.learner.hidden=(32,)"), ()),
    "pex": ("pex", MAZE, (*BOTH, "warm-up.ticks=50"), ()),
    "wsrl": ("wsrl", MAZE, (*BOTH, "warm-up.ticks=50"), ()),
    "rlpd": ("rlpd", MAZE, (*SMALL, "warm-up.ticks=50", *lasts("online", 200)), ()),
    "sac+state-entropy": ("sac+state-entropy", "gym:Pendulum-v1", (*SMALL, *lasts("online", 600)), ()),
    "td3+rnd": ("td3+rnd", "gym:Pendulum-v1", (*SMALL, *lasts("online", 600)), ()),
    "opt(td3-bc)+rnd": ("opt(td3-bc)+rnd", MAZE, (*BOTH, *GATHER), ()),
    "opt(spot)": ("opt(spot)", MAZE, (*BOTH, *GATHER, *lasts("density", 100)), ()),
    "ooo(iql)": ("ooo(iql)", MAZE, (*BOTH, *EXPLOIT, *EXPLOITER), ()),
    "ooo(cal-ql)": ("ooo(cal-ql)", MAZE, (*BOTH, *EXPLOIT, *EXPLOITER), ()),
    "recommend-weighted": ("recommend-weighted(sac,iql)", MAZE, (*SMALL, *lasts("online", 900), *RETRAIN), ()),
    "recommend-fresh": (
        "recommend-fresh(sac,iql)",
        MAZE,
        (
            *SMALL,
            *lasts("online", 900, "online.validation.steps=900"),
            *RETRAIN,
            "gather.ticks=400",
            "retrain-1.batch.rows=400",
        ),
        (),
    ),
    "alternate": (
        "alternate(sac,iql)",
        MAZE,
        (*SMALL, *lasts("online", 900), *RETRAIN, *lasts("fine-tune-1", 400, "fine-tune-1.validation.steps=900")),
        (),
    ),
    "iql-pixels": (
        "iql",
        "pointmaze-umaze-pixels",
        ("evaluation.episodes=1", *lasts("offline", 20), *lasts("online", 20), "offline.batch.offline=32"),
        (),
    ),
}


def renamed(patterns: dict[str, str], word: str) -> str:
    """A word of the older checkout as this one writes it."""
    for pattern, new in patterns.items():
        word = re.sub(pattern, new, word)
    return word


def names_of(renames: dict[str, dict[str, str]], kind: str, name: str) -> dict[str, str]:
    """Names of a kind, after those of this run alone: a table called "KIND of REGEX" holds for the runs it matches."""
    own = (table for title, table in renames.items() if re.fullmatch(title.removeprefix(f"{kind} of "), name))
    return {pattern: new for table in own for pattern, new in table.items()} | renames[kind]


def run(checkout: Path, folder: Path, name: str, options: dict[str, str]) -> str | None:
    """Run one of the table with the sources of a checkout; what it printed if it failed."""
    recipe, task, settings, rules = RUNS[name]
    recipe, *rest = (renamed(options, word) for word in (recipe, *settings))
    words = ["run", recipe, task, "--seeds", "2", "--out", str(folder), "--set", *rest]
    words += ["--rules", *(renamed(options, rule) for rule in rules)] if rules else []
    environment = os.environ | {"PYTHONPATH": str(checkout / "src"), "SEGUE_SAVE_EVERY": "1e9"}
    done = subprocess.run(
        [sys.executable, "-m", "segue", *words], env=environment, capture_output=True, text=True, check=False
    )
    return None if done.returncode == 0 else (done.stderr + done.stdout).strip()[-600:]


def rows(folder: Path, names: dict[str, str]) -> list[dict[str, Any]]:
    """Rows of metrics but for the clock on the wall, with the names of this checkout."""

    def anew(part: Any) -> Any:
        return {renamed(names, k): anew(v) for k, v in part.items()} if isinstance(part, dict) else part

    def row(line: str) -> dict[str, Any]:
        read = json.loads(line)
        values = {new: v for k, v in read.pop("values").items() if (new := renamed(names, k))}
        return anew({k: v for k, v in read.items() if k != "wall_s"}) | {"values": values}

    return [row(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def arrays(folder: Path, names: dict[str, str]) -> dict[str, np.ndarray]:
    """Arrays of the policy and of the last checkpoint, with the names of this checkout."""
    last = max((folder / "checkpoints").glob("[0-9]*"))
    found = {f"policy/{k}": v for k, v in load_file(folder / "policy" / "weights.safetensors").items()}
    found |= {f"state/{k}": v for k, v in load_file(last / "state.safetensors").items()}
    return {new: v for k, v in found.items() if (new := renamed(names, k))}


def differences(old: Path, new: Path, renames: dict[str, dict[str, str]]) -> list[str]:
    """What is not equal in two runs, a line each."""
    found = []
    before, after = rows(old, renames["rows"]), rows(new, {})
    if len(before) != len(after):
        found.append(f"{len(before)} rows and {len(after)}")
    for n, (one, other) in enumerate(zip(before, after)):
        if one != other:
            keys = {k for k in one.keys() | other.keys() if one.get(k) != other.get(k)}
            values = one["values"].keys() | other["values"].keys()
            keys |= {f"values.{k}" for k in values if one["values"].get(k) != other["values"].get(k)}
            found.append(f"row {n} ({one['kind']}): {', '.join(sorted(keys - {'values'}))}")
            break
    was, stands = arrays(old, names_of(renames, "arrays", new.name)), arrays(new, {})
    if gone := sorted(was.keys() - stands.keys()):
        found.append(f"{len(gone)} arrays are gone: {', '.join(gone[:3])}")
    added = re.compile("|".join(renames["added"]) or "$^")
    if more := sorted(k for k in stands.keys() - was.keys() if not added.search(k)):
        found.append(f"{len(more)} arrays are new: {', '.join(more[:3])}")
    both = sorted(was.keys() & stands.keys())
    if other := [k for k in both if was[k].dtype != stands[k].dtype or was[k].tobytes() != stands[k].tobytes()]:
        apart = max((_apart(was[k], stands[k]), k) for k in other)
        found.append(f"{len(other)} of {len(both)} arrays differ, most {apart[1]} by {apart[0]:.2e}")
    return found


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    if one.shape != other.shape:
        return float("inf")
    return float(np.max(np.abs(np.nan_to_num(one.astype(np.float64)) - np.nan_to_num(other.astype(np.float64)))))


def compare(old: Path, keep: Path, renames: dict[str, dict[str, str]], name: str) -> bool:
    """Run both, print what differs, and say whether all is equal."""
    before, after, began = keep / "old" / name, keep / "new" / name, time.monotonic()
    failed = None
    if not (before / "report.html").exists():
        subprocess.run(["rm", "-rf", str(before)], check=True)
        failed = run(old, before, name, {})
    subprocess.run(["rm", "-rf", str(after)], check=True)
    failed = failed or run(HERE.parent, after, name, renames["options"])
    found = [failed] if failed else differences(before, after, renames)
    print(f"{name}: {'; '.join(found) if found else 'equal'} ({time.monotonic() - began:.0f} s)", flush=True)
    return not found


def main() -> int:
    """Compare all runs, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, help="the older checkout")
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=list(RUNS), metavar="RUN")
    parser.add_argument("--keep", type=Path, help="where the runs lie; a folder that goes away unless given")
    parser.add_argument("--jobs", type=int, default=2)
    asked = parser.parse_args()
    renames = tomllib.loads((HERE / "renames.toml").read_text())
    with tempfile.TemporaryDirectory() as somewhere, ThreadPoolExecutor(asked.jobs) as pool:
        keep = Path(asked.keep or somewhere)
        equal = list(pool.map(partial(compare, asked.old.resolve(), keep, renames), asked.runs))
    print(f"{sum(equal)} of {len(equal)} runs are equal")
    return 0 if all(equal) else 1


if __name__ == "__main__":
    sys.exit(main())
