"""Objects by where they stand, "module:name": how the command line and saved files name parts of one's own."""

from __future__ import annotations

import difflib
import importlib
import os
import re
import sys
import sysconfig
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from segue.core.types import SegueError

_NAME = r"[^\W\d]\w*(?:\.[^\W\d]\w*)*"
FORM = re.compile(rf"{_NAME}:{_NAME}")


def is_named(word: str) -> bool:
    """Whether a word looks like module:name.  Task names like gym:ID do too: ask for their prefixes first."""
    return FORM.fullmatch(word) is not None


def named(word: str, what: str) -> Any:
    """Import "module:name" and return the object; a name may be dotted, CLASS.ATTRIBUTE.

    The working folder can be imported from, as for `python -m`.  `what` tells the reader what was looked for ("a
    sampler").  Raises `SegueError` where there is no such module, where importing it fails, or where it has no such
    name.
    """
    module, _, path = word.partition(":")
    found: Any = _imported(module, f"{word} should be {what}, but")
    for step in path.split("."):
        names = [name for name in dir(found) if not name.startswith("_")]
        if not hasattr(found, step):
            near = difflib.get_close_matches(step, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(names[:20]) or 'nothing'}"
            raise SegueError(f"{word} should be {what}, but {module} has no '{step}'; {hint}")
        found = getattr(found, step)
    return found


def main_name() -> str:
    """Name by which the module that Python was started with can be imported; "" for a notebook or an interpreter.

    A command's script has none either: `bin/segue` is not the module segue.
    """
    main = sys.modules["__main__"]
    if main.__spec__ is not None:
        return main.__spec__.name
    file = getattr(main, "__file__", None)
    return Path(file).stem if file and Path(file).suffix == ".py" else ""


def file_of(module: str) -> Path | None:
    """File of a module that has been imported, or None."""
    found = sys.modules.get("__main__" if module == main_name() else module)
    file = getattr(found, "__file__", None)
    return Path(file) if file else None


IMPORTED: set[str] = set()
"""Modules that have been imported by a name: an error that comes out of them is not Segue's."""
PACKAGE = Path(__file__).parents[1]


def is_own(file: str) -> bool:
    """Whether a file holds code of the user's: of a module that was named, or of none that is installed."""
    packages = {found.parent if found.name == "__init__.py" else found for found in map(file_of, IMPORTED) if found}
    path = Path(file)
    if PACKAGE in path.parents or not path.is_file():
        return False
    installed = {"site-packages", "dist-packages"} & {*path.parts} or _PYTHON in path.parents
    return not installed or bool(packages & {path, *path.parents})


_PYTHON = Path(sysconfig.get_path("stdlib"))


def _imported(module: str, why: str) -> ModuleType:
    if module == main_name():
        return sys.modules["__main__"]  # imported again it would hold classes of other identity
    IMPORTED.add(module)
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            file = f"{module.partition('.')[0]}.py"
            raise SegueError(
                f"{why} there is no module '{error.name}' in {here}; start in the folder of {file}, or put that folder "
                "into PYTHONPATH"
            ) from error
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise SegueError(
            f"{why} importing {module} failed: {type(error).__name__}: {error} ({Path(place.filename).name}, line "
            f"{place.lineno})"
        ) from error
