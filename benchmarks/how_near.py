"""How near to a maze's goal a run's own episodes came, for tasks whose log never does (NAME-goal-missing-...).

    python benchmarks/how_near.py RUN [RUN ...]

Prints, for each run, how many training episodes it has, the share of them that came nearer than the log ever does, and
the least and the median of the nearest distances, in metres.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

import segue
from segue.data.readers import open_source


def main() -> None:
    """Print a line for each run."""
    for folder in map(Path, sys.argv[1:]):
        about = json.loads((folder / "run.json").read_text())
        task = segue.find_task(about["task"])
        if not isinstance(task, segue.GymTask) or task.away is None:
            sys.exit(f"{folder}: its task {about['task']} says nothing of a goal that the log does not come near")
        x, y, radius = task.away
        seen = [episode.following[:, :2] for episode in open_source(f"run:{folder}").episodes]
        nearest = np.asarray([np.hypot(*(place - (x, y)).T).min() for place in seen])
        print(
            f"{about['recipe']}: {len(nearest)} episodes, {(nearest < radius).mean():.0%} within {radius} m; nearest "
            f"{nearest.min():.2f}, median {np.median(nearest):.2f}"
        )


if __name__ == "__main__":
    main()
