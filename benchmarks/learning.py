"""The learning runs behind docs/results: every recipe on real tasks, under one budget for each table.

    python benchmarks/learning.py pointmaze --out runs/learning
    python benchmarks/learning.py locomotion --out runs/learning --tasks hopper-mixed --only iql td3-bc
    python benchmarks/learning.py pointmaze --out runs/learning --table

Each run is a `segue run` of its own; one that was stopped goes on, a finished one is kept, so the command may be
repeated until all are done.  Then it prints the table, and `segue report OUT/SUITE/*` draws the curves.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from segue.core.types import SegueError
from segue.report.read import read_run
from segue.report.statistics import Floats, Interval, interval, probability_of_improvement
from segue.report.summary import Summary, quantity_of, summarise


@dataclass(frozen=True)
class Suite:
    """Recipes on tasks; settings for all, and for one recipe on top."""

    tasks: tuple[str, ...]
    recipes: tuple[str, ...]
    settings: Mapping[str, object] = field(default_factory=dict)
    own: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    against: Mapping[str, str] = field(default_factory=dict)
    """Recipes and what each of them is compared with, seed by seed."""
    rules: tuple[str, ...] = ()

    def chosen(self, recipe: str) -> dict[str, object]:
        """A recipe's settings."""
        return {**self.settings, **self.own.get(recipe, {})}

    def words(self, recipe: str) -> list[str]:
        """What a recipe is run with, as words of the command line."""
        pairs = [f"{name}={value}".replace(" ", "") for name, value in self.chosen(recipe).items()]
        return [*(["--set", *pairs] if pairs else []), *(["--rules", *self.rules] if self.rules else [])]


_NARROW = {"agent.actor_hidden": (256, 256), "agent.critic_hidden": (256, 256)}
_LOCOMOTION = {
    "offline.gradient_steps": 50_000,
    "offline.evaluate_every": 10_000,
    "online.environment_steps": 50_000,
    "online.evaluate_every": 5_000,
    "evaluation.episodes": 10,
}
_AGAINST = {
    "cal-ql+sera": "cal-ql",
    "cql+sera": "cql",
    "opt(td3-bc)": "td3-bc",
    "opt(spot)": "spot",
    "opt(iql)": "iql",
    "iql+sera": "iql",
    "opt(iql)+sera": "iql",
    "ooo(iql)": "iql",
    "ooo(cal-ql)": "cal-ql",
}
_SYSTEMS = (
    *("cal-ql", "cal-ql+sera", "cql", "cql+sera", "td3-bc", "opt(td3-bc)", "spot", "opt(spot)"),
    # A combination that no paper has, beside its parts.
    *("iql", "opt(iql)", "iql+sera", "opt(iql)+sera"),
    *("ooo(iql)", "ooo(cal-ql)"),
)
_SUBROUTINES = (
    *("validated(sac)", "recommend(sac,iql)", "recommend-fresh(sac,iql)", "recommend-better(sac,iql)"),
    *("recommend-weighted(sac,iql)", "fine-tune(sac,iql)", "alternate(sac,iql)", "repeat(sac,iql)"),
)
_BUDGETED = {r: "validated(sac)" for r in _SUBROUTINES if r != "validated(sac)"}
SUITES = {
    "locomotion": Suite(
        ("hopper-mixed", "hopper-medium", "halfcheetah-medium"),
        ("td3-bc", "iql", "rebrac", "spot"),
        _LOCOMOTION,
        {
            # A quarter of the authors' batch: the whole would take four times as long.
            "rebrac": {"offline.batch.offline": 256, "online.batch.offline": 128, "online.batch.online": 128},
            "spot": {"density.gradient_steps": 20_000},
        },
    ),
    "systems": Suite(("pointmaze-medium",), _SYSTEMS, against=_AGAINST),
    "systems-large": Suite(
        ("pointmaze-large",),
        _SYSTEMS,
        # Less than a third of the presets' 40,000 steps, and half of CQL's offline updates: what a CPU does in hours.
        {"online.environment_steps": 12_000, "online.evaluate_every": 1_000},
        {
            **{r: {"offline.gradient_steps": 10_000} for r in _SYSTEMS if "ql" in r and "iql" not in r},
            # After 2,000 steps of the frozen policy.
            **{
                r: {"online.environment_steps": 10_000, "agent.kappa_updates": 10_000}
                for r in _SYSTEMS
                if r.startswith("opt")
            },
            "ooo(cal-ql)": {
                "offline.gradient_steps": 10_000,
                **{f"exploit-{n}.gradient_steps": 10_000 for n in (1, 2, 3, 4)},
            },
        },
        _AGAINST,
    ),
    "systems-locomotion": Suite(
        ("hopper-mixed", "halfcheetah-medium"),
        ("cal-ql", "cal-ql+sera", "cql", "cql+sera", "td3-bc", "opt(td3-bc)", "td3-bc+sera", "iql", "ooo(iql)"),
        _LOCOMOTION,
        {
            "opt(td3-bc)": {  # the same 50,000 steps in all, one update each as its base has
                "gather.environment_steps": 5_000,
                "meta.gradient_steps": 10_000,
                "online.environment_steps": 45_000,
                "online.utd_ratio": 1,
                "agent.kappa_updates": 22_500,
            },
            "ooo(iql)": {
                f"exploit-{n}.{name}": value
                for n in (1, 2, 3, 4)
                for name, value in (("gradient_steps", 50_000), ("evaluate_every", 10_000))
            },
        },
        {**_AGAINST, "td3-bc+sera": "td3-bc"},
    ),
    # Starts and goals anywhere: from the one start of pointmaze-umaze SAC never comes to the goal in so many steps.
    "subroutine": Suite(("gym:PointMaze_UMaze-v3",), _SUBROUTINES, against=_BUDGETED, rules=("budget=30000",)),
    "subroutine-dense": Suite(
        ("gym:Pendulum-v1",),
        _SUBROUTINES,
        {"agent.actor_hidden": (64, 64), "agent.critic_hidden": (64, 64)},
        {
            r: {"student.actor_hidden": (64, 64), "student.critic_hidden": (64, 64)}
            for r in _SUBROUTINES
            if r != "validated(sac)"
        },
        _BUDGETED,
        ("budget=15000",),
    ),
    "pointmaze": Suite(
        ("pointmaze-medium",),
        ("cal-ql", "cql", "iql", "awac", "td3-bc", "rebrac", "spot", "pex", "wsrl", "rlpd", "sac", "td3"),
    ),
    "pixels": Suite(("pointmaze-umaze-pixels",), ("iql", "sac")),
    "adroit": Suite(
        ("adroit-pen-binary", "adroit-door-binary"),
        ("iql", "cal-ql", "wsrl", "rlpd"),
        {"online.environment_steps": 20_000, "online.evaluate_every": 2_500, "evaluation.episodes": 10},
        # What a CPU allows: narrower networks, fewer critics and fewer updates a step than the published settings.
        {
            "cal-ql": {"offline.gradient_steps": 20_000, "agent.samples": 4, **_NARROW},
            "wsrl": {"agent.critics": 4, "agent.samples": 4, **_NARROW},
            "rlpd": {
                "agent.critics": 4,
                "agent.critic_updates": 5,
                "online.batch.offline": 640,
                "online.batch.online": 640,
                **_NARROW,
            },
        },
    ),
}


def run(suite: Suite, recipe: str, task: str, folder: Path, seeds: int) -> int:
    """Start or go on with one run; the exit code."""
    if (folder / "run.json").exists():
        if json.loads((folder / "run.json").read_text())["status"] == "finished":
            return 0
        words = ["resume", str(folder)]
    else:
        words = ["run", recipe, task, "--seeds", str(seeds), "--out", str(folder), *suite.words(recipe)]
    print("$ segue", *words, flush=True)
    return subprocess.run([sys.executable, "-m", "segue", *words]).returncode


def table(folders: list[Path]) -> str:
    """Markdown: one line a run; means over seeds, and the seeds' range."""
    lines = [
        "| task | recipe | seeds | dataset | at the switch | lowest after | end | last third | regret |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for folder in folders:
        try:
            done = read_run(folder)
        except SegueError as error:
            print(f"learning.py: {error}", file=sys.stderr)
            continue
        quantity = quantity_of([done])
        said = summarise(done, quantity)
        cells = [done.task, done.recipe, str(len(done.seeds)), dataset_mean(folder, quantity)]
        cells += [spread(quantity, v) for v in (said.at_switch, said.lowest, said.final, last_third(said))]
        regret = np.mean(said.regret) if np.isfinite(said.regret).all() else np.nan
        unfinished = "" if done.status == "finished" else f" ({done.status})"
        lines.append("| " + " | ".join([*cells, f"{regret:.3f}{unfinished}"]) + " |")
    return "\n".join(lines)


def reached(folder: Path) -> tuple[str, Floats]:
    """What a run recommends in the end: the last evaluation of its last retrained policy, else of the run."""
    done = read_run(folder)
    quantity = quantity_of([done])
    if done.retrained:
        return quantity, done.retrained[max(done.retrained)].values[quantity][:, -1]
    return quantity, summarise(done, quantity).final


def comparison(suite: Suite, folders: Mapping[tuple[str, str], Path]) -> str:
    """Markdown: each recipe beside what it is compared with, at the end of the run."""
    lines = [
        "| task | recipe | IQM at the end [95 %] | against | IQM at the end [95 %] | P(better) [95 %] |",
        "|---|---|---|---|---|---|",
    ]
    for (task, recipe), folder in folders.items():
        base = suite.against.get(recipe)
        other = folders.get((task, base or ""))
        if base is None or other is None:
            continue
        if any(read_run(f).status != "finished" for f in (folder, other)):
            continue
        (quantity, ours), (_, theirs) = reached(folder), reached(other)
        generator = lambda: np.random.default_rng(0)  # noqa: E731
        cells = [estimate(quantity, interval(values, generator())) for values in (ours, theirs)]
        better = probability_of_improvement([ours], [theirs], generator())
        shown = f"{better.point:.2f} [{better.low:.2f}, {better.high:.2f}]"
        lines.append(f"| {task} | {recipe} | {cells[0]} | {base} | {cells[1]} | {shown} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def estimate(quantity: str, found: Interval) -> str:
    """A point and its interval in the quantity's notation."""
    factor, digits, unit = (100.0, 0, " %") if quantity == "success" else (1.0, 1, "")
    point, low, high = (f"{factor * x:.{digits}f}" for x in found)
    return f"{point}{unit} [{low}, {high}]"


def spread(quantity: str, values: Floats) -> str:
    """Mean over seeds, and the least and the largest."""
    if not np.isfinite(values).all():
        return "-"
    factor, unit = (100.0, " %") if quantity == "success" else (1.0, "")
    digits = 0 if quantity == "success" else 1
    least, mean, largest = (factor * x for x in (values.min(), values.mean(), values.max()))
    return f"{mean:.{digits}f}{unit} ({least:.{digits}f} to {largest:.{digits}f})"


def last_third(said: Summary) -> Floats:
    """Each seed's mean over the last third of its online evaluations."""
    curve = said.run.evaluation
    rows = curve.values[said.quantity][:, curve.online]
    return rows[:, -max(rows.shape[1] // 3, 1) :].mean(axis=1) if rows.shape[1] else np.full(len(rows), np.nan)


def dataset_mean(folder: Path, quantity: str) -> str:
    """What the dataset's own episodes reached, in the quantity's notation; "-" without a dataset."""
    card = json.loads((folder / "run.json").read_text())["task_card"]
    data = card.get("dataset")
    if not data:
        return "-"
    if quantity == "success":
        share = data["success_fraction"]
        return "-" if share is None else f"{100 * share:.0f} %"
    mean = data["episode_return"]["mean"]
    if quantity == "score":
        low, high = card["score"]
        return f"{100 * (mean - low) / (high - low):.1f}"
    return f"{mean:.1f}"


def plain(name: str) -> str:
    """A folder's name without characters that shells read."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name)


def main() -> None:
    """Do all runs of a suite one after the other, then print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("suite", choices=SUITES)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=None, metavar="RECIPE")
    parser.add_argument("--tasks", nargs="+", default=None, metavar="TASK")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true", help="print the table of what is there and run nothing")
    args = parser.parse_args()
    suite: Suite = SUITES[args.suite]
    wanted = [(t, r) for t in args.tasks or suite.tasks for r in args.only or suite.recipes]
    folders = {(t, r): args.out / args.suite / plain(f"{r}-{t}") for t, r in wanted}
    failed = [] if args.table else [f for (t, r), f in folders.items() if run(suite, r, t, f, args.seeds)]
    begun = {name: f for name, f in folders.items() if (f / "metrics.jsonl").exists()}
    print(table(list(begun.values())))
    if compared := comparison(suite, begun):
        print(f"\n{compared}")
    if failed:
        sys.exit(f"learning.py: did not finish: {', '.join(map(str, failed))}; the same command goes on")


if __name__ == "__main__":
    main()
