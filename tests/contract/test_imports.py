"""Imports point one way, and what is not needed is not imported."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import segue
from segue.runs.trackers import TRACKERS

PACKAGE = Path(segue.__file__).parent
# Who may import whom: the rooms of the house, from the ground up.  An arrow that is missing here needs a reason.
ARROWS: dict[str, set[str]] = {
    "core": set(),
    "agents": {"core"},
    "samplers": {"core"},
    "bonuses": {"core"},
    "engine": {"core", "samplers", "bonuses"},
    "recipes": {"core", "agents", "samplers", "bonuses", "engine"},
    "data": {"core"},
    "tasks": {"core", "data"},
    "report": {"core", "data"},  # data.extras: the line that says how to install what draws PDF and PNG
    "runs": {"core", "agents", "bonuses", "engine", "recipes", "data", "tasks", "report"},
    "deploy": {"core", "data", "runs"},  # a policy comes from a run's folder; missing extras are named in data
    "collect": {"core", "engine", "data", "tasks", "runs"},
    "study": {"core", "engine", "recipes", "data", "tasks", "runs", "report"},
    # a film is of a run's policy in its task, with the report's ticks and numbers under it
    "filming": {"core", "engine", "data", "tasks", "report", "runs"},
}
TOP = {"__init__", "__main__", "cli"}  # may import anything but the command line, which only __main__ does
OPTIONAL = (
    *("torch", "tensorflow", "minari", "gymnasium_robotics", "mujoco", "submitit", "ray", "optuna", "cairosvg"),
    *("onnx", "onnxruntime", "huggingface_hub"),
    *(tracker.package for tracker in TRACKERS.values()),
)
HEAVY = ("jax", "scipy", "optax", "equinox", "gymnasium", *OPTIONAL)
WORDS = (
    *("--version", "--help", "run --help", "list", "data --help", "data list", "nothing", "data nothing"),
    *(
        "study --help",
        "study status nothing",
        "export --help",
        "push --help",
        "pull --help",
        "eval --help",
        "film --help",
    ),
    *(
        "--tyro-print-completion bash",
        *(f"list {what}" for what in ("recipes", "tasks", "agents", "bonuses", "rules", "runs")),
    ),
)


def unit_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(path: Path) -> set[str]:
    """Scaling that a file names in any import, wherever it stands in the file."""
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
        assert "cli" not in names or unit in ("__main__", "cli")
        return
    strange = names - ARROWS[unit] - {unit}
    assert not strange, f"{unit} may import {sorted(ARROWS[unit])}, and not {sorted(strange)}"


def test_arrows_have_no_cycle() -> None:
    above = {unit: set(below) for unit, below in ARROWS.items()}
    while above:
        free = {unit for unit, below in above.items() if not below}
        assert free, f"a cycle among {sorted(above)}"
        above = {unit: below - free for unit, below in above.items() if unit not in free}


def test_words_wait_for_nothing_heavy() -> None:
    """What only shows words or refuses them imports no JAX, no simulator and nothing optional."""
    code = f"""
import contextlib, io, sys
import segue
from segue.cli.main import command
for line in {WORDS!r}:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        code = command(line.split())
    print(line, code, [m for m in {HEAVY!r} if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [f"{line} {int('nothing' in line)} []" for line in WORDS], done.stderr


def test_simulators_run_without_jax() -> None:
    """As in a worker process, which finds its task by name."""
    pytest.importorskip("gymnasium_robotics")
    code = """
import sys
from segue.tasks import find_task
for name in ("pointmaze-umaze", "gym:Hopper-v5"):
    env = find_task(name).make_env()
    env.reset(0)
    env.step(env.action_bounds[0])
print([m for m in ("jax", "scipy", "optax", "equinox") if m in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


def test_the_face_is_complete() -> None:
    assert {*segue.__all__} <= {*dir(segue)}
    assert segue.find_task is importlib.import_module("segue.tasks.table").find_task
    with pytest.raises(AttributeError, match=r"module 'segue' has no attribute 'CallQL'; did you mean CalQL\?"):
        segue.CallQL  # type: ignore[attr-defined]  # noqa: B018


def test_rooms_are_there_after_one_import() -> None:
    code = "import segue; segue.data.from_arrays, segue.recipes.RECIPES, segue.report.tidy"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_module_says_it_has_is_there() -> None:
    for module in pkgutil.walk_packages(segue.__path__, "segue."):
        if module.name != "segue.__main__":
            found = importlib.import_module(module.name)
            assert [name for name in getattr(found, "__all__", ()) if not hasattr(found, name)] == [], module.name


def test_no_module_hides_a_name() -> None:
    """Importing a module sets its package's attribute, so that a name which is imported on use would be gone."""
    for package in pkgutil.walk_packages(segue.__path__, "segue."):
        found = importlib.import_module(package.name) if package.ispkg else None
        if found and "__getattr__" in vars(found):
            modules = {module.name for module in pkgutil.iter_modules(found.__path__)}
            assert modules.isdisjoint(found.__all__), package.name
