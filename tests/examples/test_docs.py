"""What README and docs say exists: links, files, commands, names in snippets."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import segue
from segue import report
from segue.cli import main, plans
from segue.runs import fork, train
from tests.toys import UNITS, CorridorTask, corridor_data, small_cql

ROOT = Path(__file__).parents[2]
OUTSIDE = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*OUTSIDE, *sorted((ROOT / "docs").rglob("*.md"))]
WITH_COMMANDS = (ROOT / "README.md", ROOT / "docs" / "command-line.md")
LINK = re.compile(r"\]\(([^)\s]+)\)")
MENTION = re.compile(r"`((?:src|docs|examples|tests|benchmarks|\.ci|\.github)/[\w./-]*)`")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def name_of(value: Any) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


def fences(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page.read_text()) if kind == language]


def commands() -> list[str]:
    lines = [line for page in WITH_COMMANDS for body in fences(page, "sh") for line in body.splitlines()]
    parts = [part for line in lines for part in re.split(r"&&|\s#", line)]
    said = (part.strip().removeprefix(".venv/bin/") for part in parts if re.match(r"\s*(\.venv/bin/)?segue ", part))
    return list(dict.fromkeys(said))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_files_exist(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    links = [x.partition("#")[0] for x in LINK.findall(text) if not re.match(r"[a-z]+:|#", x)]
    missing = [x for x in links if not (page.parent / x).exists()]
    missing += [x for x in MENTION.findall(text) if not (ROOT / x).exists()]
    assert not missing


def test_ci_runs_the_readme_command() -> None:
    (said,) = [line for body in fences(PAGES[0], "sh") for line in body.splitlines() if "pytest" in line]
    assert f"tests='{said}'\n" in (ROOT / ".ci" / "run").read_text()


def test_ci_runs_on_every_python_that_is_said() -> None:
    jobs = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    said = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text())
    assert re.findall(r'part: tests, python: "(.*)" }', jobs) == said
    assert f'part: tests, python: "{said[0]}", lowest: 1' in jobs
    assert re.findall(r"run: (.+)", jobs) == [".ci/run ${{ matrix.part }}"]
    assert {"tests", "lint", "docs"} <= set(re.findall(r"part: (\w+),", jobs))


@pytest.mark.parametrize("line", commands())
def test_commands_parse(line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each command resolves its recipe, task, settings and flags; nothing is run or made."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(segue.GymTask, "dataset", lambda self: None)
    for owner, name in ((train, "start"), (train, "resume"), (plans, "check"), (report, "write_report")):
        monkeypatch.setattr(owner, name, lambda *arguments, **named: tmp_path)
    monkeypatch.setattr(fork, "find_end", lambda text: SimpleNamespace(origin=lambda experience: None))
    assert main.command(shlex.split(line)[1:]) == 0


def own_commands() -> list[str]:
    """Commands of docs/combining.md that name a module of one's own."""
    lines = [line for body in fences(ROOT / "docs" / "combining.md", "bash") for line in body.splitlines()]
    return [line for line in lines if " my_" in line or "=my_" in line]


@pytest.mark.parametrize("line", own_commands())
def test_commands_with_own_parts_are_checked(line: str, lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each finds its parts in the files that the page shows, and an update of each phase can be traced."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(lab / "xla"))
    monkeypatch.setattr(segue.GymTask, "dataset", lambda self: None)
    monkeypatch.setattr(plans, "check", lambda *arguments: None)
    assert main.command([*shlex.split(line)[1:], "--dry-run"]) == 0


def test_every_page_is_on_the_site() -> None:
    """The navigation of mkdocs.yml names each page, and pages that exist or that `.ci/site.py` makes."""
    made = {"index.md", "contributing.md", "changelog.md", "reference/commands.md"}
    named = re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2], re.MULTILINE)
    there = {page.relative_to(ROOT / "docs").as_posix() for page in PAGES if page not in OUTSIDE}
    assert sorted(named) == sorted(there | made)


def test_every_public_name_is_in_the_reference() -> None:
    text = "".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    names = re.findall(r"^::: segue\.(\S+)$", text, re.MULTILINE)
    assert len(names) == len(set(names))
    assert set(segue.__all__) - {"data", "recipes", "report", "study"} <= set(names)  # these are modules
    for name in names:
        module, _, thing = f"segue.{name}".rpartition(".")
        assert hasattr(importlib.import_module(module), thing), name


def test_there_are_commands() -> None:
    assert {line.split()[1] for line in commands()} == {"run", "resume", "report", "list", "explain"}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_snippets_compile_and_their_names_exist(page: Path) -> None:
    shown = modules(page)
    for body in fences(page, "python"):
        compile(body, str(page), "exec", dont_inherit=True)
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    importlib.import_module(alias.name)
            elif isinstance(node, ast.ImportFrom) and node.module in shown:
                assert {alias.name for alias in node.names} <= shown[node.module]
            elif isinstance(node, ast.ImportFrom):
                module = importlib.import_module(str(node.module))
                assert all(hasattr(module, alias.name) for alias in node.names)
            elif isinstance(node, ast.Attribute) and (path := dotted(node)):
                value: Any = segue
                for step in path:
                    assert hasattr(value, step), f"segue.{'.'.join(path)}"
                    value = getattr(value, step)


def modules(page: Path) -> dict[str | None, set[str]]:
    """Modules that a page shows ("# name.py" is their first line), and the classes and functions in them."""
    found = {}
    for body in fences(page, "python"):
        if title := re.match(r"# (\w+)\.py\n", body):
            defined = (node for node in ast.parse(body).body if isinstance(node, (ast.ClassDef, ast.FunctionDef)))
            found[title[1]] = {node.name for node in defined}
    return found  # type: ignore[return-value]


def dotted(node: ast.expr) -> list[str]:
    """["a", "b"] of segue.a.b, else []."""
    steps: list[str] = []
    while isinstance(node, ast.Attribute):
        steps.insert(0, node.attr)
        node = node.value
    return steps if isinstance(node, ast.Name) and node.id == "segue" else []


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """Names that docs/combining.md defines, with a small agent in the place of SAC."""
    names: dict[str, Any] = {"__name__": "page"}
    for body in fences(ROOT / "docs" / "combining.md", "python"):
        exec(compile(body, "combining.md", "exec", dont_inherit=True), names)
    for name in ("online", "retrain"):
        names[name] = replace(names[name], learner=small_cql().base)
    return names


def shrunk(phase: segue.Phase, steps: int) -> segue.Phase:
    length = {"environment_steps": steps} if phase.collects else {"gradient_steps": steps}
    return replace(phase, **length, utd_ratio=min(phase.utd_ratio, 2), evaluate_every=0)


def test_subroutine_runs(page: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("online", "retrain"):
        monkeypatch.setitem(page, name, shrunk(page[name], 3))
    monkeypatch.setitem(page, "CYCLES", 2)
    told = page["subroutine"](CorridorTask(corridor_data()), (0, 1), UNITS)
    assert told == ["online", "retrain", "online", "retrain"]
