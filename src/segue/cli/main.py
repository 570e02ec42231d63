"""The command line: run, resume, report, list, explain, eval, film, study, export, push, pull, data."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType

from segue.cli import running as running  # their commands, in the order of the help
from segue.cli import shown as shown
from segue.cli import trained as trained
from segue.cli import transfer as transfer
from segue.cli.app import LISTS, app
from segue.cli.given import filled
from segue.cli.words import gather
from segue.core.named import is_own
from segue.core.options import unknown
from segue.core.types import Interrupted, SegueError

COMMANDS = (
    *("run", "resume", "report", "list", "explain", "eval", "film", "export", "push", "pull"),
    *("study", "data"),
)
APART = {"study": "segue.cli.study", "data": "segue.cli.data"}
"""Commands that have commands of their own, and where `main` runs them."""
PLACES = {"run": 2, "explain": 3, "resume": 1}
"""Words of a command that has such a list too, before its options."""


@app.command(name="study")
def study_command() -> None:
    """Many runs: recipes on tasks with settings and seeds, on any number of machines; see `segue study --help`."""


@app.command(name="data")
def data_command() -> None:
    """Logs: import, collect, check, card, export; see `segue data --help`."""


def command(arguments: Sequence[str]) -> int:
    """Run the command line; return its exit code.

    0, 1 for a mistake or an error in a part of one's own, 2 for wrong words, 70 for a bug of Segue's, 130 and 143 when
    SIGINT and SIGTERM stopped it.
    """
    words = list(arguments)
    try:
        if words == ["--version"]:
            print(f"segue {metadata.version('segue')}")
            return 0
        if words and not words[0].startswith("-") and words[0] not in COMMANDS:
            unknown("command", words[0], COMMANDS)
        if words and words[0] in APART:
            importlib.import_module(APART[words[0]]).main(words[1:])
            return 0
        if words and words[0] in PLACES:
            words = [words[0], *gather(words[1:], LISTS, PLACES[words[0]])]
            words = ["run", *filled(words[1:])] if words[0] == "run" else words
        app.parse(words, __doc__)
        sys.stdout.flush()  # a reader that has gone is noticed here and not at the interpreter's exit
    except SegueError as error:
        return _fail(str(error), 1)
    except Interrupted as stopped:
        return 128 + stopped.number
    except KeyboardInterrupt as stopped:
        number = stopped.args[0] if stopped.args else signal.SIGINT
        return _fail("stopped; continue a run that has begun with `segue resume FOLDER`", 128 + number)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except SystemExit as finished:
        return finished.code if isinstance(finished.code, int) else int(finished.code is not None)
    except Exception as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            return _fail("out of memory; use fewer seeds or a smaller batch, then `segue resume FOLDER`", 1)
        own = own_frames(error)
        traceback.print_exception(error.with_traceback(own[0]) if own else error)
        if own:
            code, said = own[-1].tb_frame.f_code, f"{type(error).__name__}: {error}"
            place = f"{Path(code.co_filename).name}, line {own[-1].tb_lineno}"
            return _fail(f"{code.co_qualname} of your own ({place}) raised {said}; the lines above say where", 1)
        return _fail("this is a bug in Segue; the lines above say where", 70)
    return 0


def own_frames(error: BaseException) -> list[TracebackType]:
    """Where an error came through the user's own code, the innermost last."""
    found, here = [], error.__traceback__
    while here is not None:
        found += [here] if is_own(here.tb_frame.f_code.co_filename) else []
        here = here.tb_next
    return found


def _fail(line: str, code: int) -> int:
    print("segue:", " ".join(line.split()), file=sys.stderr)
    return code
