"""`segue eval` and `segue film`: what a trained policy does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from segue.cli.app import app
from segue.cli.tables import console, show_table
from segue.core.types import SegueError

if TYPE_CHECKING:
    from segue.runs.evaluation import Evaluated

PolicyName = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RUN[@PHASE]|FOLDER")]]
UNITS = {"success": (100.0, " %", 1), "score": (1.0, "", 1), "length": (1.0, "", 0), "return": (1.0, "", 2)}
"""How a measure is shown: times, unit, digits."""


@app.command(name="eval")
def eval_command(
    policy: PolicyName,
    /,
    episodes: int = 100,
    task: str | None = None,
    seeds: str | None = None,
    stochastic: bool = False,
    out: Path | None = None,
    real: bool = False,
    cores: int | None = None,
) -> None:
    """Roll out a run's policies in new episodes; print a table and write JSON.

    Args:
        policy: A run's folder (its newest policy), RUN@PHASE (the policy at a phase's end), or a policy's folder.
        episodes: Episodes of each seed.
        task: Another task of the same shapes; by default the one that the run learned.
        seeds: The first so many (2), or which ones (3,5,9; one alone: 5,); all by default.
        stochastic: Sample actions as a phase that collects does, instead of taking the best ones.
        out: JSON file to write; by default eval.json in the run's folder, or beside the policy's.
        real: Let the policy move a real robot.
        cores: Cores of the CPU to use; all that this process may use by default.
    """
    from segue.cli.compiled import prepare
    from segue.runs.evaluation import evaluate
    from segue.runs.world import place_for

    prepare(cores)
    place = place_for(policy, "eval.json", task) if out is None else out
    if not place.parent.is_dir():
        raise SegueError(f"{place}: there is no folder {place.parent}; give another --out")
    with progress() as tell:
        found = evaluate(
            policy,
            episodes,
            task,
            seeds=chosen(seeds),
            stochastic=stochastic,
            real=real,
            tell=lambda done, whole: tell("episodes", done, whole),
        )
    show(found)
    print(f"written: {found.write(place)}")


@app.command(name="film")
def film_command(
    policy: PolicyName,
    /,
    episodes: int = 1,
    seed: int | None = None,
    out: Path | None = None,
    task: str | None = None,
    fps: float | None = None,
    stochastic: bool = False,
    real: bool = False,
    cores: int | None = None,
) -> None:
    """Film a policy, with its critic's value and the return that followed drawn under it.

    Args:
        policy: A run's folder (its newest policy), RUN@PHASE (the policy at a phase's end), or a policy's folder.
        episodes: Episodes to show: the first ones of `segue eval`.
        seed: Whose policy; the run's first seed by default.
        out: File to write, .mp4 or .gif; by default film.mp4 in the run's folder, or beside the policy's.
        task: Another task of the same shapes; by default the one that the run learned.
        fps: Pictures a second, 30 for .mp4 and 15 for .gif by default; the film is as fast as the world.
        stochastic: Sample actions as a phase that collects does, instead of taking the best ones.
        real: Let the policy move a real robot.
        cores: Cores of the CPU to use; all that this process may use by default.
    """
    from segue.cli.compiled import prepare
    from segue.filming.film import film

    prepare(cores)
    with progress() as tell:
        made = film(
            policy,
            out,
            episodes=episodes,
            seed=seed,
            task=task,
            fps=fps,
            stochastic=stochastic,
            real=real,
            tell=tell,
        )
    for note in made.notes:
        print(f"note: {note}")
    shown = zip(made.raw_return, made.length, made.success, made.value, made.came)
    for number, (total, steps, success, value, came) in enumerate(shown):
        won = f", success {100 * success:.0f} %" if success == success else ""
        known = f"critic's value at its start {value:.4g}, " if value == value else ""
        said = f"{known}return that followed {came:.4g}"
        print(f"episode {number + 1}: {steps:.0f} steps, return {total:.4g}{won}; {said}")
    size = made.path.stat().st_size / 1e6
    about = f"{made.pictures} pictures, {made.pictures / made.rate:.1f} s, {size:.1f} MB"
    print(f"film of {made.task}, seed {made.seed}: {made.path} ({about})")


def show(found: Evaluated) -> None:
    """Print what an evaluation has found."""
    import numpy as np

    measures = list(found.measures)
    rows = []
    for row, seed in enumerate(found.seeds):
        rows.append((f"seed {seed}", *(_shown(m, float(found.means(m)[row])) for m in measures)))
    if len(found.seeds) > 1:
        ends = [found.over_seeds(m) for m in measures]
        rows.append(("interquartile mean", *(_shown(m, end.point) for m, end in zip(measures, ends))))
        both = ((m, _shown(m, end.low), _shown(m, end.high)) for m, end in zip(measures, ends))
        rows.append(("95 % interval over seeds", *(f"{low} to {high}" for _, low, high in both)))
    count = found.raw_return.shape[1]
    how = "sampled actions" if found.stochastic else "best actions"
    title = f"{found.run} in {found.task}: mean of {count} episode{'s' * (count > 1)}, {how}"
    print(title)
    show_table(None, ("", *measures), rows)
    trained = found.policy["trained"] or {}
    if trained:
        at = f"step {trained['environment_step']:,}, update {trained['update']:,}"
        print(f"policy: phase '{trained['phase']}', {at}, weights {found.policy['weights'][:12]}")
    first = np.asarray(found.starts).ravel()
    print(f"start seeds: {first[0]}, ... (reset seeds that no run uses; the file has all {len(first)})")
    for note in found.notes:
        print(f"note: {note}")


def chosen(text: str | None) -> int | tuple[int, ...] | None:
    """How many seeds ("2"), or which ones ("3,5"); None for all."""
    if text is None:
        return None
    try:
        numbers = tuple(int(word) for word in text.removesuffix(",").split(","))
    except ValueError as error:
        raise SegueError(f"--seeds {text}: give how many (2), or which ones (3,5,9)") from error
    return numbers if "," in text else numbers[0]


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal for what is told: what is done, how much of how much."""
    from rich.progress import Progress

    screen = console()
    if not screen.is_terminal:  # an older rich would print an empty line for a bar that it does not show
        yield lambda what, done, whole: None
        return
    with Progress(console=screen, transient=True) as bars:
        known = {}

        def tell(what: str, done: int, whole: int) -> None:
            if what not in known:
                known[what] = bars.add_task(what, total=whole)
            bars.update(known[what], completed=done, total=whole)

        yield tell


def _shown(measure: str, value: float) -> str:
    factor, unit, digits = UNITS[measure]
    return f"{factor * value:,.{digits}f}{unit}"
