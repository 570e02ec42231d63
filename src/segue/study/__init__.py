"""Studies: recipes on tasks with settings and seeds, in a folder that any number of workers fill.

Workers know a study's folder and nothing else, share nothing but the file system, and may die at any time.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from segue.report.columns import Column


def load(folder: str | os.PathLike[str]) -> dict[str, Column]:
    """Every evaluation of every seed of a study's finished cells, as columns of one length.

    `pandas.DataFrame(segue.study.load("runs/first"))` and `polars.DataFrame(...)` take them as they are; the columns
    are those of `segue.report.tidy`.  Raises `SegueError` where the folder is no study, or none of its cells is done.
    """
    from segue.report import tidy
    from segue.study.folder import read
    from segue.study.status import runs

    return tidy(runs(Path(folder), read(Path(folder)))[0])
