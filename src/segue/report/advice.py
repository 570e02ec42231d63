"""What the three regimes advise for a run (arXiv 2510.01460), and the commands that try it from the run's switch.

The advice is the paper's: keep what is better, the policy or the data.  Which of Segue's rules stand for it, and their
numbers, are defaults of ours.  A fork repeats the settings and rules of the run, but for those that the advice changes.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from segue.report.regime import Name, Regime
from segue.report.run import Run

WARM_UP = 5_000  # environment steps of WSRL's warm-up (arXiv 2412.07762), of 500,000
TENTH = 10  # of the online steps a warm-up takes at most one in so many (default of ours)
SAYS: dict[Name, str] = {
    "superior": (
        "What the policy has learned is worth more than the data.  Stay close to the policy: collect with it, frozen, "
        "before it learns, then learn from own rows alone (as WSRL does); or keep the loss that holds it offline."
    ),
    "comparable": "Neither is worth more than the other.  Stay close to the policy, to the data, or to both.",
    "inferior": (
        "The data are worth more than what the policy has learned.  Stay close to the data: replay them in every "
        "batch, possibly with new networks (as RLPD does)."
    ),
}


class Advice(NamedTuple):
    """What to do: the paper's words, Segue's part that does it, and commands; `none` says why there is no fork."""

    says: str
    does: str
    fork: str = ""
    none: str = ""
    anew: str = ""  # the command of another recipe that begins without the policy


class Part(NamedTuple):
    """Rules and settings of the phase that fine-tunes, in words and as the command line takes them."""

    does: str
    rules: tuple[str, ...]
    settings: Mapping[str, str]
    replaces: tuple[str, ...]  # rules of the run's own that stand against it


def advice(run: Run, found: Regime) -> Advice | None:
    """Return the advice for a run in a regime; None where the regime is not known."""
    if found.name == "unknown" or run.switch is None:
        return None
    says, anew = SAYS[found.name], _anew(run) if found.name == "inferior" else ""
    learning = [n for n, p in enumerate(run.phases) if n >= run.switch and p.collects and p.updates]
    if len(learning) != 1 or learning[0] != len(run.phases) - 1 or learning[0] > run.switch + 1:
        return Advice(says, "", none="after its switch this recipe does more than fine-tune", anew=anew)
    part = _part(run, found.name, run.phases[learning[0]].name)
    if not (part.rules or part.settings):
        return Advice(says, part.does, none="this run has done that already", anew=anew)
    words = _words(run, part)
    if words is None:
        return Advice(says, part.does, none="the run was started from Python with parts that are no words", anew=anew)
    if not run.kept:
        return Advice(says, part.does, none="the end of its offline phase was not kept (--keep)", anew=anew)
    return Advice(says, part.does, shlex.join(words), anew=anew)


def _part(run: Run, name: Name, phase: str) -> Part:
    """What a regime asks of the phase that fine-tunes, without what the run has already."""
    value = lambda path: run.config[path].value if path in run.config else None  # noqa: E731
    own = {_name(rule) for rule in _texts(run.request.get("rules"))}
    cut = "retain" in own and value(f"{phase}.batch.type") == "Subset"  # by the rule, which the advice replaces
    batch = f"{phase}.batch.inner" if cut else f"{phase}.batch"
    kind, offline = value(f"{batch}.type"), run.whole(f"{batch}.offline")
    rows = offline + run.whole(f"{batch}.online")
    first = run.phases[run.switch or 0].name
    warm = first != phase and value(f"{first}.actor") != "random"
    collects = () if warm else (f"warm_up={_warm_up(run, phase)}",)
    if name == "superior":
        known = kind in ("Mix", "Union")
        drops = ("retain=0",) if kind == "Union" or (kind == "Mix" and offline) else ()
        said = "the rules warm_up and retain=0" if known else "the rule warm_up (its batches need the dataset)"
        replaced = ("warm_up",) * bool(collects) + ("retain",) * bool(drops)
        return Part(said, (*collects, *drops), {}, replaced)
    few = kind == "Mix" and 2 * offline < rows
    half = {f"{phase}.batch.offline": str(rows // 2), f"{phase}.batch.online": str(rows - rows // 2)} if few else {}
    kept = ("retain",) if "retain" in own else ()
    whole = ("retain=1",) * bool(kept)
    said = {
        "Mix": "batches of which at least half is from the whole dataset",
        "Union": "batches from the whole dataset and own rows as if they were one",
    }.get(str(kind), f"batches of {kind}, which this page leaves as they are")
    if name == "inferior":
        return Part(said, whole, half, kept)
    return Part(f"the rule warm_up, with {said}", (*collects, *whole), half, ("warm_up",) * bool(collects) + kept)


def _warm_up(run: Run, phase: str) -> int:
    """Steps of a warm-up: WSRL's, at most a tenth of the phase that follows, at least one whole episode."""
    steps = next(p.environment_steps or 0 for p in run.phases if p.name == phase)
    envs = run.whole("experience.envs") or 1
    least = max(min(WARM_UP, steps // TENTH), run.horizon * envs, 1)
    return -(-least // envs) * envs


def _words(run: Run, part: Part) -> list[str] | None:
    """The words of `segue run` that begin at the switch; None where a setting is no word."""
    asked = run.request.get("settings") or {}
    settings = {key: _word(value) for key, value in asked.items()} if isinstance(asked, Mapping) else {}
    if None in settings.values():
        return None
    own = [f"{key}={value}" for key, value in (settings | dict(part.settings)).items()]
    rules = [rule for rule in _texts(run.request.get("rules")) if _name(rule) not in part.replaces]
    words = ["segue", "run", run.recipe, run.task, "--from", str(run.folder)]
    words += ["--rules", *rules, *part.rules] if rules or part.rules else []
    return words + (["--set", *own] if own else [])


def _anew(run: Run) -> str:
    """RLPD on the same task, with as many environment steps: new networks, and the dataset in half of each batch."""
    steps = sum(p.environment_steps or 0 for p in run.phases)
    seeds = ",".join(map(str, run.seeds))
    words = ["segue", "run", "rlpd", run.task, "--seeds", seeds, "--set", f"online.environment_steps={steps}"]
    return shlex.join(words)


def _name(rule: str) -> str:
    return rule.partition("=")[0].strip().replace("-", "_")


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else []


def _word(value: object) -> str | None:
    """A setting as the command line takes it; None for what is no word."""
    if isinstance(value, (list, tuple)):
        words = [_word(item) for item in value]
        return None if None in words else f"({','.join(map(str, words))},)"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "true", False: "false"}[value]
    return str(value) if isinstance(value, (str, int, float)) else None
