"""The studies of this repository and of its docs can be planned, with or without their logs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from segue.recipes import TaskFacts, find_recipe, resolve
from segue.recipes.rules import rule_of
from segue.study.asked import Asked
from segue.study.cells import Cell
from segue.study.file import asked_of, read_asked
from segue.study.plan import expand
from segue.tasks import find_task

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "studies").glob("*.toml"))
EXAMPLES = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs/studies.md").read_text(), re.MULTILINE | re.DOTALL)


def resolved(asked: Asked) -> list[Cell]:
    cells = list(expand(asked.runs, [asked.seeds], "study.toml"))
    for cell in cells:
        settings = {path: tuple(v) if isinstance(v, list) else v for path, v in cell.settings.items()}
        rules = {word: rule_of(word) for word in cell.rules}
        resolve(find_recipe(cell.recipe), TaskFacts.of(find_task(cell.task)), settings, rules)
    return cells


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_cell_of_a_file_is_known(file: Path) -> None:
    assert resolved(read_asked(file))


@pytest.mark.parametrize("text", EXAMPLES)
def test_the_examples_of_the_docs(text: str) -> None:
    assert resolved(asked_of(tomllib.loads(text), "docs/studies.md"))
