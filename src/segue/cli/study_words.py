"""What the words of `segue study` ask for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segue.cli.words import split_settings
from segue.core.files import word
from segue.core.types import SegueError

if TYPE_CHECKING:
    from segue.study.asked import Asked
    from segue.study.folder import Study


def asked(
    what: Path | None,
    recipes: str,
    tasks: str,
    seeds: str | None,
    settings: Sequence[str],
    rules: Sequence[str],
    before: Asked | None = None,
) -> Asked:
    """What a command asks for: a file, or words; with `before`, what is left out is that of a study."""
    from segue.cli.running import parse_seeds
    from segue.study.file import asked_of, read_asked

    if what is not None:
        nothing_more(recipes, tasks, seeds, settings, rules, f"{what} says what to run")
        return read_asked(what, before)
    table: dict[str, Any] = {"recipes": listed(recipes), "tasks": listed(tasks), "rules": list(rules)}
    table |= {"settings": dict(split_settings(settings)), "seeds": [] if seeds is None else list(parse_seeds(seeds))}
    if before is None and not (recipes and tasks):
        raise SegueError("name a study's file, or --recipes and --tasks")
    return asked_of({key: value for key, value in table.items() if value}, "segue study", before)


def nothing_more(
    recipes: str, tasks: str, seeds: str | None, settings: Sequence[str], rules: Sequence[str], why: str
) -> None:
    """Raise `SegueError` where words say what to run, and something else says it too."""
    given = {"--recipes": recipes, "--tasks": tasks, "--seeds": seeds, "--set": settings, "--rules": rules}
    if named := [flag for flag, value in given.items() if value]:
        raise SegueError(f"{', '.join(named)}: {why}; leave this out, or use `segue study add`")


def listed(text: str) -> list[str]:
    """Words between commas that stand outside parentheses: recommend(sac,iql),iql is two."""
    found, depth = [""], 0
    for c in text:
        depth += (c == "(") - (c == ")")
        if c == "," and not depth:
            found.append("")
        else:
            found[-1] += c
    return [name.strip() for name in found if name.strip()]


def begun(asked: Asked, file: Path | None, out: Path | None) -> tuple[Path, Study]:
    """Make a study's folder, or find the one that was made of the same before."""
    from segue.runs.train import free_folder
    from segue.study.folder import change
    from segue.study.plan import Planner, planned
    from segue.study.search import check

    folder = out or (Path("runs") / file.stem if file is not None else free_folder(Path("runs"), "study"))

    def made(before: Study | None) -> Study:
        if before is None:
            study = planned(asked, str(file or "segue study"), Planner())
            if asked.search is not None:
                check(study)
            return study
        if before.asked != asked:
            more = f" {word(file)}" if file is not None else ""
            raise SegueError(
                f"{folder}: holds another study; widen it with `segue study add {word(folder)}{more}`, or give "
                "another --out"
            )
        return before

    return folder, change(folder, made)
