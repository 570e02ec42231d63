"""Tasks as data: what a record says, and groups of records for a reader."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

Words = tuple[str, ...]


@dataclass(frozen=True)
class Record:
    """Everything that Segue knows of one named task; `segue.tasks.catalogue` makes a `GymTask` of it.

    `env`, `horizon`, `domain`, `presets`, `env_kwargs`, `keys`, `options`, `exact_goal`, `reward`, `success`,
    `terminal_success`, `failure`: as in `GymTask`.  `reference`: a name in `scores.csv`, (random, expert) raw returns,
    or None.  `discount`: what the literature uses where that is not 0.99; shown, never applied.  `provenance`: where
    these facts are from, and what is not certain.

    `choices`: keywords of the environment that a task's name may set, and their values (NAME?success_timing=post).

    `away`: as in `GymTask`.  `log`: the name of the task whose log this task's is, before rows are left out; its own
    unless given.

    `data`: sources of the log as `segue data import` takes them, in order of preference.  `file`: its name in the
    folder $SEGUE_DATA, for a log that is only there (any log is found there as NAME.hdf5), or for one that several
    tasks share.  `made`: the source of a log that Segue makes itself.  `maker`: the word by which `segue data make`
    makes it.
    """

    name: str
    env: str
    horizon: int
    domain: str
    provenance: str
    presets: tuple[str, ...] = ()
    env_kwargs: Mapping[str, object] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    options: Mapping[str, object] = field(default_factory=dict)
    exact_goal: bool = False
    reward: str = "env"
    success: str = "never"
    terminal_success: bool = False
    failure: float | None = None
    reference: str | tuple[float, float] | None = None
    discount: float | None = None
    away: tuple[float, float, float] | None = None
    log: str = ""
    choices: Mapping[str, Words] = field(default_factory=dict)
    data: tuple[str, ...] = ()
    file: str = ""
    made: str = ""
    maker: str = ""


def locomotion(body: str, kind: str) -> tuple[str, ...]:
    """Names of recipes' presets for a log of one body, in D4RL's words for what was logged."""
    return body, f"locomotion-{kind}", f"{body}-{kind}"


class World(NamedTuple):
    """An environment of Segue's own, which `segue.tasks.envs` registers with Gymnasium."""

    entry_point: str
    horizon: int
    kwargs: dict[str, object]


@dataclass(frozen=True)
class Group:
    """Records that differ in words of their names, under the heading `family`.

    `pattern`: the names, with braces as bash expands them.  `needs`: the extra that installs the environments.
    """

    family: str
    pattern: str
    records: tuple[Record, ...]
    needs: str = "envs"


def group(family: str, words: Sequence[Words], make: Callable[..., Record], needs: str = "envs") -> Group:
    """Group of all combinations of words; `make` takes one word from each place and returns the record."""
    pattern = "-".join(w[0] if len(w) == 1 else "{" + ",".join(w) + "}" for w in words)
    return Group(family, pattern, tuple(make(*chosen) for chosen in itertools.product(*words)), needs)
