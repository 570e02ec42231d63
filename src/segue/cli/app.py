"""The command line's app, and what its commands take."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

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
