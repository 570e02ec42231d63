"""The tutorials run: their files, commands and Python, in order and in one folder.

Each page says in a comment how it is made small: words after `tests:` replace constants of its Python (NAME=3) and are
added to each `segue run`; those after --set also stand in a study's file.
"""

from __future__ import annotations

import io
import re
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segue.cli import main
from segue.study import leash

PAGES = {page.stem: page.read_text() for page in (Path(__file__).parents[2] / "docs" / "tutorials").glob("*.md")}
NEEDS = {"reading-the-report": "first-run"}
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
done: set[str] = set()


class Inline:
    """A process of a study's worker or run, done here before it is asked for."""

    stdin = io.BytesIO()

    def __init__(self, words: list[str], output: Any, env: dict[str, str]) -> None:
        self.returncode = main.command([word for word in words if word != "--on"][: -1 if "--on" in words else None])

    def poll(self, *_: Any) -> int:
        return self.returncode

    wait = poll


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from segue.data.making import pointmaze

    folder = tmp_path_factory.mktemp("tutorials")
    before = set(sys.modules), {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGUE_CACHE", str(folder / "cache"))
        patch.setenv("SEGUE_DATASETS", str(folder / "datasets"))
        patch.delenv("SEGUE_DATA", raising=False)
        patch.setitem(pointmaze.MAZES, "umaze", pointmaze.Maze("PointMaze_UMaze-v3", 30, (3, 1), (1, 1), 300))
        patch.setattr(leash, "start", Inline)
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        yield folder
    for name in set(sys.modules) - before[0]:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
            del sys.modules[name]
    for number, handler in before[1].items():
        signal.signal(number, handler)


def small(page: str) -> tuple[dict[str, str], list[str]]:
    """Constants of a page, and words for its runs."""
    words = shlex.split(re.findall(r"<!-- tests: (.*?) -->", PAGES[page], re.DOTALL)[0])
    first = next((n for n, word in enumerate(words) if word.startswith("--")), len(words))
    return dict(word.split("=") for word in words[:first]), words[first:]


def read(page: str) -> None:
    """Do what a page says, once."""
    if page in done:
        return
    if page in NEEDS:
        read(NEEDS[page])
    done.add(page)
    names: dict[str, Any] = {"__name__": page}
    constants, words = small(page)
    settings = dict(word.split("=") for word in words[words.index("--set") + 1 :]) if "--set" in words else {}
    for kind, body in FENCE.findall(PAGES[page]):
        for name, value in constants.items():
            body = re.sub(rf"^{name} = \S+", f"{name} = {value}", body, flags=re.MULTILINE)
        title = re.match(r"# ([\w-]+\.(py|toml))\n", body)
        if title and kind == "toml":
            body = re.sub(rf"^({'|'.join(map(re.escape, settings))}) = .*\n", "", body, flags=re.MULTILINE)
            lines = "".join(f"{path} = {value}\n" for path, value in settings.items())
            body = body.replace("[settings]\n", "[settings]\n" + lines)
        if title:
            Path(title[1]).write_text(body)
        elif kind == "python":
            exec(compile(body, f"{page}.md", "exec", dont_inherit=True), names)
        elif kind == "sh":
            for line in body.splitlines():
                asked = shlex.split(line, comments=True)[1:]
                own = {word.partition("=")[0] for word in asked}
                more = [word for word in words if word.partition("=")[0] not in own or word.startswith("--")]
                assert main.command([*asked, *more] if asked[0] == "run" else asked) == 0, line


@pytest.mark.parametrize("page", PAGES)
def test_tutorial(page: str, folder: Path) -> None:
    pytest.importorskip("gymnasium_robotics")
    pytest.importorskip("pyarrow")
    read(page)


def test_pages_are_short() -> None:
    assert all(60 <= text.count("\n") <= 120 for text in PAGES.values())
