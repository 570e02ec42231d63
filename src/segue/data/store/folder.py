"""The folder of datasets: what is in it, by name."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

from segue.core import files
from segue.core.types import SegueError
from segue.data.store.dataset import Stored

FORMAT = 1
NEEDED = {"transitions", "episodes", "parts", "columns", "sha256"}


def datasets_folder() -> Path:
    """Return the folder of imported datasets: the environment variable SEGUE_DATASETS, or ~/.local/share/segue."""
    return Path(os.environ.get("SEGUE_DATASETS") or Path.home() / ".local" / "share" / "segue")


def place(name: str) -> Path:
    """Folder of a dataset; `SegueError` for a name that cannot be one."""
    if not name or name.startswith(".") or any(c in name for c in "/\\:?&= "):
        raise SegueError(f"dataset name {name!r}: use letters, digits, '-' and '_'")
    return datasets_folder() / name


def is_stored(folder: Path) -> bool:
    """Whether this folder holds a dataset; a replacement that was killed half-way is undone first."""
    with contextlib.suppress(OSError):  # another process may have been faster, or only it may write here
        files.restore(folder)
    return (folder / "dataset.json").is_file()


def stored_names() -> list[str]:
    """Names of the datasets in the folder."""
    folder = datasets_folder()
    if not folder.is_dir():
        return []
    there = {p.name.removeprefix(".").removesuffix("-old") if p.name[0] == "." else p.name for p in folder.iterdir()}
    return sorted(name for name in there if is_stored(folder / name))


def find_stored(name: str) -> Stored:
    """Open the dataset of that name, or the one whose folder `name` is; `SegueError` if there is none."""
    folder = Path(name) if os.sep in name else datasets_folder() / name
    described = folder / "dataset.json"
    if not is_stored(folder):
        known = ", ".join(stored_names()) or "none"
        raise SegueError(f"no dataset '{name}' in {folder.parent} (there: {known}); import it with segue data import")
    try:
        facts = json.loads(described.read_text())
        newer = facts["format"] > FORMAT
        if not newer and (missing := sorted(NEEDED - facts.keys())):
            raise ValueError(f"no '{missing[0]}'")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SegueError(f"{described}: cannot be read ({error}); import the dataset again") from error
    if newer:
        raise SegueError(f"{folder}: written by a newer Segue (format {facts['format']}); update Segue")
    return Stored(folder, facts)
