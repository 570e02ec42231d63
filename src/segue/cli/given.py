"""`segue run --config FILE` and `--like RUN`: a file and a run are two sources of the words of `segue run`.

    words of the run that is named < words of the file < words of the command line

Words that the command line lacks are added to it before it is read, so the parser and everything below see one command.
Settings are put together option by option; a list that is given (`--rules`, `--track`) stands in the other one's place.
"""

from __future__ import annotations

import inspect
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

from segue.cli.running import parse_seeds, run_command
from segue.core import files
from segue.core.options import parse, unknown
from segue.core.types import SegueError

Given = dict[str, list[str]]
"""Words by flag, without its dashes, and by PLACES."""
PLACES = ("RECIPE", "TASK")
SOURCES = ("config", "like")
LISTS = ("rules", "track")
ASKED = (*PLACES, "seeds", "set", "rules", "track", "from", "with-experience", "keep", "stop-when")
"""What a run's request holds.  Consent to move a robot is not handed on."""


def filled(words: Sequence[str]) -> list[str]:
    """The words of `segue run` (places first, then flags) with those of `--like RUN` and `--config FILE`."""
    places, flags = _sorted(words)
    if not flags.keys() & set(SOURCES):
        return list(words)
    sources = {name: flags.pop(name) for name in SOURCES if name in flags}
    for name, named in sources.items():
        if len(named) != 1:
            raise SegueError(f"--{name}: give one {'file' if name == 'config' else 'run'}")
    like = of_run(Path(sources["like"][0])) if "like" in sources else {}
    asked = _over(like, of_file(Path(sources["config"][0])) if "config" in sources else {})
    asked |= {name: [word] for name, word in zip(_open(places, asked, sources), places)}
    asked = _over(asked, flags)
    if "like" in sources:
        print(_other(sources["like"][0], like, asked))
    return _words(asked)


def of_file(file: Path) -> Given:
    """The words of a file; `SegueError` names what it cannot be."""
    try:
        table = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise SegueError(f"--config {file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise SegueError(f"--config {file}: is not TOML ({' '.join(str(error).split())})") from error
    known, out = _known(), Given()
    for key, value in table.items():
        name = key.replace("_", "-")
        if name not in known:
            unknown(f"--config {file}", key, known)
        word = "set" if name == "settings" else name.upper() if name.upper() in PLACES else name
        if word in out:
            raise SegueError(f"--config {file}: {name} is given twice")
        out[word] = _read(f"--config {file}: {key}", name, value, known[name])
    return {word: words for word, words in out.items() if words or word != "set"}


def of_run(folder: Path) -> Given:
    """The words that ask for a run's request again."""
    from segue.runs import manifest
    from segue.runs.request import request_of

    request = request_of(manifest.read(folder)["request"])
    out: Given = {"RECIPE": [request.recipe], "TASK": [request.task], "seeds": [_seeds(request.seeds)]}
    out["set"] = [f"{path}={_text(value)}" for path, value in request.settings.items()]
    out |= {"rules": list(request.rules), "track": list(request.trackers)}
    if request.origin is not None:
        out["from"] = [f"{request.origin.run}@{request.origin.phase}"]
        out |= {"with-experience": []} if request.origin.experience else {}
    out |= {} if request.keep is None else {"keep": [str(request.keep)]}
    out |= {} if request.stop_when is None else {"stop-when": [request.stop_when]}
    return {name: words for name, words in out.items() if words or name not in ("set", *LISTS)}


def _switches() -> set[str]:
    return {name for name, hint in _known().items() if hint is bool}


def _known() -> dict[str, Any]:
    """What a file may say: the words of `segue run`, with the types of their values."""
    names = {"init_from": "from"}
    hints = get_type_hints(run_command)
    return {
        names.get(name, name).replace("_", "-"): hints[name]
        for name in inspect.signature(run_command).parameters
        if name not in SOURCES
    }


def _read(shown: str, name: str, value: Any, hint: Any) -> list[str]:
    """The words behind a flag that a file's value stands for."""
    if name == "settings":
        if not isinstance(value, Mapping):
            raise SegueError(f"{shown}: write a table, for example [settings] with online.utd_ratio = 2")
        return [f"{path}={_text(inner)}" for path, inner in _flat(shown, value).items()]
    if name == "seeds" and isinstance(value, list):
        return [_seeds(value)]
    if name in LISTS:
        words = [value] if isinstance(value, str) else value
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise SegueError(f'{shown}: write a list of words, for example ["..."]')
        return words
    if hint is bool:
        if not isinstance(value, bool):
            raise SegueError(f"{shown}: write true or false, not {value!r}")
        return [] if value else ["no"]
    wanted = str if name == "seeds" and isinstance(value, str) else int if name == "seeds" else hint
    return [str(parse(shown, value, str if wanted in (Path, Path | None) else wanted))]


def _flat(shown: str, table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{path: value} of nested tables."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        found = _flat(shown, value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
        if twice := sorted(out.keys() & found.keys()):
            raise SegueError(f"{shown}: {twice[0]} is given twice")
        out |= found
    return out


def _text(value: Any) -> str:
    """A setting's value as the command line writes it; a whole part, as run.json describes it, is JSON."""
    if isinstance(value, Mapping):
        return json.dumps(value)
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _seeds(seeds: Sequence[Any]) -> str:
    words = [str(seed) for seed in seeds]
    if words and list(seeds) == list(range(len(words))):
        return str(len(words))
    return ",".join(words) + "," * (len(words) == 1)


def _sorted(words: Sequence[str]) -> tuple[list[str], Given]:
    """Places, and the other words by their flags; a switch that is turned off has the word "no"."""
    places, flags, inside, switches = list[str](), Given(), "", _switches()
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        name = name.replace("_", "-")
        if not word.startswith("--"):
            (flags[inside] if inside else places).append(word)
        elif name.startswith("no-") and name.removeprefix("no-") in switches:
            inside = name.removeprefix("no-")
            flags[inside] = ["no"]
        else:
            inside = name
            flags[inside] = [value] if equals else []
    return places, flags


def _words(asked: Given) -> list[str]:
    """The command line that says all this."""
    out = [word for place in PLACES for word in asked.get(place, ())]
    for name, words in asked.items():
        if name not in PLACES:
            out += [f"--no-{name}"] if name in _switches() and words == ["no"] else [f"--{name}", *words]
    return out


def _open(places: Sequence[str], asked: Given, sources: Mapping[str, list[str]]) -> list[str]:
    """Which of recipe and task the places of the command line are.  `SegueError` where that is not plain."""
    missing = [name for name in PLACES if name not in asked]
    which = missing if len(places) == len(missing) else list(PLACES) if len(places) == 2 else []
    where = " and ".join(f"--{name} {words[0]}" for name, words in sources.items())
    if len(which) < len(places):
        raise SegueError(
            f"'{' '.join(places)}' beside {where}: give RECIPE and TASK, or what is missing there "
            f"({' and '.join(missing) or 'nothing'})"
        )
    if lacks := [name for name in missing if name not in which]:
        raise SegueError(f"{where}: no {' and no '.join(lacks)}; name RECIPE and TASK on the command line")
    return which


def _over(base: Given, above: Given) -> Given:
    """Words of one source over those of another: settings option by option, all else as a whole."""
    out = {**base, **above}
    if "set" in base and "set" in above:
        named = {word.partition("=")[0].strip() for word in above["set"]}
        out["set"] = [word for word in base["set"] if word.partition("=")[0] not in named] + above["set"]
    return out


def _other(run: str, like: Given, asked: Given) -> str:
    """One line that says what is other than in the run."""
    said = []
    for name in ASKED:
        was, now = like.get(name), asked.get(name)
        if name == "seeds" and was and now and parse_seeds(now[0]) == parse_seeds(was[0]):
            continue
        if name == "set":
            before = dict(word.split("=", 1) for word in was or ())
            after = dict(word.partition("=")[::2] for word in now or ())
            moved = {path: text for path, text in after.items() if before.get(path) != text}
            said += [f"--set {path}={text}{_was(before.get(path))}" for path, text in moved.items()]
        elif was != now and not (was is None and now == ["no"]):
            shown = name.lower() if name in PLACES else f"--{name}"
            said.append(" ".join([shown, *(now or ())]) + _was(" ".join(was or ())))
    return f"like {files.word(Path(run))}" + (f", but for {'; '.join(said)}" if said else ", with nothing changed")


def _was(text: str | None) -> str:
    return f" (was {text})" if text else ""
