"""The cache folder, and the one way to write a file: whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from segue.core import files
from segue.core.types import SegueError


def cache_folder() -> Path:
    """Return the folder of generated datasets: the environment variable SEGUE_CACHE, or ~/.cache/segue."""
    return Path(os.environ.get("SEGUE_CACHE") or Path.home() / ".cache" / "segue")


def write_atomically(path: Path, content: str | bytes | Callable[[Path], None]) -> None:
    """Make the folder and write as `segue.core.files.write` does; `SegueError` with a cure if that fails."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, content)
    except OSError as error:
        cure = "free some space there" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "give another place"
        raise SegueError(f"{path}: cannot be written ({error.strerror or error}); {cure}") from error
