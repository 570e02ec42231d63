"""Which runs have the same configuration, and names that tell configurations apart.

Two runs have the same configuration if recipe, task, data, hand-over rules and all resolved options are the same.  How
often a run is evaluated and logged does not count, nor what it keeps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence

from segue.report.run import Run

WATCHING = re.compile(r"^evaluation\.|\.(evaluate_every|log_every)$")  # options that only watch a run


def configuration(run: Run) -> str:
    """A text that two runs share if their seeds may be pooled."""
    options = {key: setting.value for key, setting in run.config.items() if not WATCHING.search(key)}
    return json.dumps([run.recipe, run.task, run.stand_in, run.beside, options], sort_keys=True, default=str)


def labels_of(runs: Sequence[Run]) -> list[str]:
    """A name for each run: its recipe, and what differs among the runs of this recipe on a task, and only that.

    Runs of one configuration have the same name; on one task, runs of two have two.
    """
    labels = [""] * len(runs)
    for recipe in dict.fromkeys(run.recipe for run in runs):
        places = [place for place, run in enumerate(runs) if run.recipe == recipe]
        for place, label in zip(places, _labels([runs[place] for place in places])):
            labels[place] = label
    return labels


def _labels(runs: Sequence[Run]) -> list[str]:
    """Labels of the runs of one recipe, with as few words as will do."""
    identities = [configuration(run) for run in runs]
    known: dict[str, Run] = {}
    for run, identity in sorted(zip(runs, identities), key=lambda pair: _was_set(pair[0])):
        known[identity] = run  # of runs of one configuration, the one with most settings: it says what was asked for
    distinct = dict(zip(known, _of_configurations(list(known.values()))))
    return [distinct[identity] for identity in identities]


def _was_set(run: Run) -> int:
    return sum(_set(run, key) for key in run.config)


def _of_configurations(runs: Sequence[Run]) -> list[str]:
    rules = [_rules(run) for run in runs]
    common = set.intersection(*map(set, rules))
    ruled = [[word for word in of if word not in common] for of in rules]
    differing = _differing(runs)
    asked = [key for key in differing if any(_set(run, key) for run in runs)]
    for keys, more in ((asked, False), (differing, False), (differing, True)):
        words = _option_words(runs, keys)
        labels = [
            " ".join([run.recipe, *rule, *word, *(_other_words(run) if more else [])])
            for run, rule, word in zip(runs, ruled, words)
        ]
        if len({(run.task, label) for run, label in zip(runs, labels)}) == len(runs):
            return labels
    return [f"{run.recipe} ({run.name})" for run in runs]


def _rules(run: Run) -> tuple[str, ...]:
    found = run.beside.get("rules", ())
    return found if isinstance(found, tuple) else ()


def _set(run: Run, key: str) -> bool:
    """Whether the user has set an option, in this run or in one whose phases it took over."""
    source = run.config[key].source if key in run.config else ""
    return source == "settings" or (source == "inherited" and key.rpartition(".")[2] in run.inherited)


def _value(run: Run, key: str) -> str | None:
    """An option as a person would write it; None where the run has no such option."""
    if key not in run.config:
        return None
    value = run.config[key].value
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _differing(runs: Sequence[Run]) -> list[str]:
    """Options that differ between two of the runs on the same task."""
    found: dict[str, None] = {}
    for task in dict.fromkeys(run.task for run in runs):
        here = [run for run in runs if run.task == task]
        keys = dict.fromkeys(key for run in here for key in run.config if not WATCHING.search(key))
        found |= dict.fromkeys(key for key in keys if len({_value(run, key) for run in here}) > 1)
    return list(found)


def _option_words(runs: Sequence[Run], keys: Iterable[str]) -> list[list[str]]:
    """For each run, name=value of each option; those of one last name are one word if all such agree in every run."""
    families: dict[str, list[str]] = {}
    for key in keys:
        families.setdefault(key.rpartition(".")[2], []).append(key)
    words: list[list[str]] = [[] for _ in runs]
    for last, family in families.items():
        alike = all(
            len({_value(run, key) for key in run.config if key.rpartition(".")[2] == last}) <= 1 for run in runs
        )
        ends = [f"{key.partition('.')[0]}.{last}" for key in family]
        unique = len(set(ends)) == len(family)
        named = {last: family} if alike else {end if unique else key: [key] for end, key in zip(ends, family)}
        for name, of in named.items():
            for place, value in enumerate(_values(runs, of)):
                words[place] += [f"{name}={value}"] * (value is not None)
    return words


def _values(runs: Sequence[Run], keys: Sequence[str]) -> list[str | None]:
    """What each run has under keys that agree; "preset" where it follows the task, and only other runs were set."""
    found = [next((value for key in keys if (value := _value(run, key)) is not None), None) for run in runs]
    was_set = [any(_set(run, key) for key in keys) for run in runs]
    followed = {value for value, own in zip(found, was_set) if not own and value is not None}
    if not any(was_set) or len(followed) < 2:
        return found
    return [value if own or value is None else "preset" for value, own in zip(found, was_set)]


def _other_words(run: Run) -> list[str]:
    """What differs beside options: data, modules of one's own, changes in a run's middle, experience, the measure."""
    own, changes = run.beside.get("own"), run.beside.get("changes")
    return [
        *([f"data={str(run.beside['data'])[:8]}"] if run.beside.get("data") else []),
        *(f"{module}@{mark}" for module, mark in (own.items() if isinstance(own, Mapping) else ())),
        *(["changed-midway"] if changes else []),
        *(["with-experience"] if run.beside.get("inherited experience") else []),
        *(["training-episodes"] if run.stand_in else []),
    ]
