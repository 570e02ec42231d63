"""Imports point one way, and `import segue` brings nothing heavy or optional."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import segue

PACKAGE = Path(segue.__file__).parent
# Who may import whom; a folder counts as one unit.  An arrow that is missing here needs a reason, not a line.
ARROWS: dict[str, set[str]] = {
    "types": set(),
    "files": set(),
    "options": {"types"},
    "observations": {"types"},
    "sight": {"types", "options", "observations", "nets"},
    "nets": {"types"},
    "optim": {"types"},
    "agents": {"types", "options", "observations", "sight", "nets", "optim"},
    "augment": {"types", "options", "nets", "optim"},
    "units": {"types"},
    "replay": {"types", "units"},
    "samplers": {"types", "options", "replay"},
    "first": {"types", "options", "replay"},
    "sumtree": {"types"},
    "prioritised": {"types", "options", "nets", "optim", "replay", "samplers", "sumtree"},
    "oversample": {"types", "options", "replay", "samplers", "sumtree"},
    "behaviour": {"types", "options", "fleet"},
    "phases": {"types", "units", "options", "optim", "augment", "replay", "samplers", "behaviour"},
    "fleet": {"types"},
    "programs": {"types", "options", "units", "replay", "augment", "phases"},
    "carry": {"types", "units", "optim", "replay", "phases", "fleet", "behaviour"},
    "engine": {"types", "units", "replay", "phases", "fleet", "programs", "carry", "evaluate", "behaviour"},
    "evaluate": {"types", "units", "replay", "fleet", "programs"},
    "diagnostics": {"types", "units", "replay", "evaluate"},
    "checkpoint": {"types", "files", "units", "replay", "phases", "fleet", "programs", "carry", "engine"},
    "policy": {"types", "files", "units", "observations", "agents", "checkpoint"},
    "data": {"types", "files", "units", "options", "observations", "replay"},
    "collect": {"types", "options", "data", "fleet", "policy", "tasks"},
    "tasks": {"types", "observations", "replay", "data"},
    "meanings": set(),
    "estimate": {"types", "units", "replay", "phases", "programs"},
    "recipes": {
        *("types", "units", "meanings", "options", "agents", "augment", "replay"),
        *("samplers", "prioritised", "oversample", "first", "phases", "behaviour"),
    },
    "rules": {"types", "units", "options", "agents", "samplers", "first", "phases"},
    "record": {"types"},
    "progress": {"record"},
    "live": {"types", "record", "progress"},
    "report": {"types", "files"},
    "guards": {"types", "files", "record"},
    "manifest": {"types", "files", "agents", "recipes"},
    "driver": {
        *(
            "types",
            "files",
            "data",
            "carry",
            "engine",
            "evaluate",
            "fleet",
            "diagnostics",
            "checkpoint",
            "policy",
            "recipes",
        ),
        *("record", "progress", "live", "report", "guards", "manifest"),
    },
}
TOP = {
    "__init__",
    "asked",
    "changes",
    "checks",
    "experiment",
    "cli",
    "data_commands",
    "data_shown",
    "__main__",
}  # may import anything but cli, which only __main__ does
HEAVY = ("torch", "tensorflow", "minari", "wandb", "tensorboardX", "gymnasium_robotics", "mujoco")


def unit_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Units that a file names in any import, wherever it stands in the file."""
    package = ["segue", *path.relative_to(PACKAGE).parts[:-1]]
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = [f"{module}.{alias.name}" for alias in node.names] if module == "segue" else [module]
        found |= {name.split(".")[1] if "." in name else "__init__" for name in names if name.split(".")[0] == "segue"}
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_unit_has_its_arrows() -> None:
    assert {unit_of(path) for path in FILES} - TOP == set(ARROWS)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_arrows_point_one_way(path: Path) -> None:
    unit, names = unit_of(path), imported(path)
    if unit in TOP:
        assert "cli" not in names or unit == "__main__"
        return
    strange = names - ARROWS[unit] - {unit}
    assert not strange, f"{unit} may import {sorted(ARROWS[unit])}, and not {sorted(strange)}"


def test_arrows_have_no_cycle() -> None:
    above = {unit: set(below) for unit, below in ARROWS.items()}
    while above:
        free = {unit for unit, below in above.items() if not below}
        assert free, f"a cycle among {sorted(above)}"
        above = {unit: below - free for unit, below in above.items() if unit not in free}


def test_import_is_light() -> None:
    code = f"import segue, sys; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
