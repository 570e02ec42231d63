"""The command line's app, and what its commands take."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from segue.recipes.rules import RULES
from segue.runs.trackers import TRACKERS

F = TypeVar("F", bound=Callable[..., Any])


class App(tyro.extras.SubcommandApp):
    """Commands; where one is named, it alone is parsed: a wrong option is not looked for in the others."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[str, Callable[..., Any]] = {}

    def command(self, *, name: str) -> Callable[[F], F]:  # type: ignore[override]
        """Register a function under a name."""

        def register(function: F) -> F:
            self.known[name] = function
            return super(App, self).command(name=name)(function)

        return register

    def parse(self, words: Sequence[str], description: str | None) -> None:
        """Do what the words say."""
        config = (tyro.conf.OmitArgPrefixes,)
        if words and words[0] in self.known:
            tyro.cli(self.known[words[0]], prog=f"segue {words[0]}", args=words[1:], config=config)
        else:
            self.cli(prog="segue", description=description, args=words, config=config)


app = App()
RecipeName = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="RECIPE")]]
TaskName = tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="TASK")]]
Folder = tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="FOLDER")]]
Folders = tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FOLDER ...")]]
Rules = Annotated[tuple[str, ...], tyro.conf.arg(metavar="RULE ...")]
if TYPE_CHECKING:
    Tracker = str
else:
    Tracker = Literal[tuple(TRACKERS)]
Settings = Annotated[tuple[str, ...], tyro.conf.arg(name="set", metavar="NAME=VALUE ...")]
LISTS = {
    "--set": lambda word: re.match(r"[A-Za-z_][\w.-]*=", word) is not None,
    "--rules": lambda word: re.split("[=,]", word)[0] in RULES,
    "--track": lambda word: word in TRACKERS,
    "--slurm": lambda word: "=" in word,
}
"""Options that take several words, and what these look like (`segue.cli.words.gather`)."""
