"""Words of a command, sorted: places, flags, and settings."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping

from segue.core.types import SegueError
from segue.runs.trackers import TRACKERS


def split_settings(settings: Iterable[str]) -> Mapping[str, object]:
    """{path: text} from 'path=text' words; a text in braces is a whole part, as run.json describes it."""
    out: dict[str, object] = {}
    for word in settings:
        path, equals, text = word.partition("=")
        if not equals or not path or not text:
            raise SegueError(f"--set {word}: write it as name=value, for example online.utd_ratio=2")
        path = path.strip()
        if path in out:
            raise SegueError(f"--set {path}: given twice; give it once")
        out[path] = _part(path, text) if text.strip().startswith("{") else text.strip()
    return out


def _part(path: str, text: str) -> object:
    """A whole part in JSON, which can be built; else `SegueError`."""
    from typing import Any

    from segue.core.parts import part_of

    shown = f"--set {path}"
    try:
        part_of(json.loads(text), Any, shown)
    except (ValueError, KeyError, TypeError) as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        raise SegueError(f"{shown}: is no part as run.json describes it ({cause})") from error
    return json.loads(text)


def gather(words: Iterable[str], lists: Mapping[str, Callable[[str], bool]], places: int) -> list[str]:
    """Put a command's places (a recipe, a task) first, and all words of an option that takes several behind one flag.

    A parser would give such an option every word up to the next flag, and of two flags keep the last.  `lists` says of
    each such option what its words look like.  Where fewer than `places` words stand outside, the last ones of a list
    that do not look like its own are places: in `--track wandb cal-ql maze` two are.
    """
    outside: list[str] = []
    lists_of: dict[str, list[str]] = {}
    inside: str | None = None
    takes_one = False
    waiting: list[str] = []  # words of the list that is read
    flags: list[str] = []

    def end() -> None:
        nonlocal inside
        if inside is not None:
            strange = 0
            while strange < len(waiting) and not lists[inside](waiting[-1 - strange]):
                strange += 1
            count = min(strange, places - len(outside))
            outside.extend(waiting[len(waiting) - count :] if count > 0 else [])
            lists_of[inside] += waiting[: len(waiting) - max(count, 0)]
            waiting.clear()
        inside = None

    for word in words:
        flag, equals, value = word.partition("=")
        if flag in lists:
            end()
            inside, takes_one = flag, False
            lists_of.setdefault(flag, [])
            waiting += [value] * bool(equals)
        elif word.startswith("--"):
            end()
            flags.append(word)
            takes_one = not equals and flag not in SWITCHES and not flag.startswith("--no-")
        elif takes_one:
            flags.append(word)
            takes_one = False
        elif inside is None:
            outside.append(word)
        else:
            waiting.append(word)
    end()
    for flag, found in lists_of.items():
        if not found:
            raise SegueError(f"{flag}: give at least one {EXAMPLES.get(flag, 'word')}")
        flags += [flag, *found]
    return [*outside, *flags]


SWITCHES = (
    *("--help", "--dry-run", "--untrained", "--with-experience", "--json", "--replace", "--simulate", "--changed"),
    *("--watch", "--all", "--retry"),
)
EXAMPLES = {
    "--set": "name=value, for example online.utd_ratio=2",
    "--rules": "rule, for example freeze_actor=2000",
    "--track": f"tracker: {', '.join(TRACKERS)}",
    "--slurm": "option of sbatch, for example time=240",
}
