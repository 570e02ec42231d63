"""The command line's app, and what its commands take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from segue.recipes.rules import RULES
from segue.runs.trackers import TRACKERS

app = tyro.extras.SubcommandApp()
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
