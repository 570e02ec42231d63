"""The roles of a table's columns: from known names, or from options."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from segue.core.types import SegueError
from segue.data.facts import Facts
from segue.data.readers.reader import Options

KNOWN: dict[str, tuple[str, ...]] = {
    "observation": ("observations", "observation", "obs", "state", "states"),
    "action": ("actions", "action"),
    "reward": ("rewards", "reward"),
    "next_observation": ("next_observations", "next_observation", "next_obs", "next_state", "next_states"),
    "terminated": ("terminals", "terminal", "terminated", "terminations", "dones", "done"),
    "truncated": ("timeouts", "timeout", "truncated", "truncations"),
    "episode": ("episode", "episode_id", "episode_index", "episodes", "trajectory", "trajectory_id"),
    "success": ("success", "successes", "is_success", "infos/success"),
}
"""Names that are recognised: D4RL's, Minari's and Gymnasium's."""
VECTORS = ("observation", "next_observation", "action")
FINAL = ("dropped", "kept", "row")
OPTIONS = (*KNOWN, "low", "high", "final")


class Roles(NamedTuple):
    """Columns of a table by their role; a role without a column is empty.

    Several columns of a role are concatenated in order.  `low` and `high`, (A,) or (1,), are the environment's own
    bounds of the action.  `final` is one of `FINAL` (see `segue.data.readers.rows`).  If `inside` is False, flags
    inside an episode do not end it: only its last row's flag counts.
    """

    observation: tuple[str, ...]
    action: tuple[str, ...]
    reward: str
    next_observation: tuple[str, ...] = ()
    terminated: str = ""
    truncated: str = ""
    episode: str = ""
    success: str = ""
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    final: str = FINAL[0]
    inside: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of all columns to read."""
        scalars = (self.reward, self.terminated, self.truncated, self.episode, self.success)
        every = (*self.observation, *self.next_observation, *self.action, *scalars)
        return tuple(dict.fromkeys(name for name in every if name))

    def facts(self, source: str, size: int = 1) -> Facts:
        """Facts of a source of such a table; `size`: the action's, if it is known before rows are read."""
        used = {role: getattr(self, role) for role in KNOWN if getattr(self, role)}
        notes = {role: list(value) if isinstance(value, tuple) else value for role, value in used.items()}
        facts: Facts = {"source": source, "environment": None, "notes": {"columns": notes}}
        if self.low is not None and self.high is not None:
            low, high = (np.resize(bound, max(size, len(bound))).tolist() for bound in (self.low, self.high))
            facts["action"] = {"low": low, "high": high}
        return facts


def listed(names: Iterable[str]) -> str:
    """Names in one printable line, at most 30 of them."""
    shown = [name if name.isprintable() else repr(name) for name in names]
    return (", ".join(shown[:30]) or "none") + (f" and {len(shown) - 30} more" if len(shown) > 30 else "")


def choose(names: Sequence[str], options: Options, where: str) -> Roles:
    """Choose the roles of columns by the options, and else by the names in `KNOWN` (also NAME_0, NAME_1, ...).

    `observation=a,b`, `next_observation=` and `action=` take names.  `obs_*` takes all names that begin so: sorted by
    number if only numbers follow, else in the table's order.  The other roles take one name.  `low=` and `high=` take a
    number, or one for each part of the action.  Raises `SegueError` if a column is unknown, ambiguous or missing, or if
    nothing says where episodes end.
    """
    found = {role: _columns(role, list(names), options, where) for role in KNOWN}
    final = options.choice("final", FINAL)
    for role in ("observation", "action", "reward"):
        if not found[role]:
            raise SegueError(f"{where}: no column for the {role}; write {role}=NAME, one of: {listed(names)}")
    if not any(found[role] for role in ("terminated", "truncated", "episode", "next_observation")):
        ways = "terminated=, truncated= or episode=NAME"
        raise SegueError(f"{where}: no column marks where episodes end; write {ways} of {listed(names)}")
    if found["next_observation"] and options.text("final"):
        raise SegueError(f"{where}: final={final} has no effect beside next observations; leave it out")
    low, high = bounds(options, where)
    seen, then, action = (tuple(found[role]) for role in VECTORS)
    reward, terminated, truncated, episode, success = ("".join(found[role]) for role in KNOWN if role not in VECTORS)
    inside = final != "row" or not episode
    return Roles(seen, action, reward, then, terminated, truncated, episode, success, low, high, final, inside)


def bounds(options: Options, where: str) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The options `low` and `high` as arrays of the same size, or None twice if neither is given."""
    if not options.text("low") and not options.text("high"):
        return None, None
    try:
        given = [np.array([float(word) for word in options.names(name)]) for name in ("low", "high")]
        low, high = np.broadcast_arrays(*given)
    except ValueError:
        low = high = np.zeros(0)
    if not len(low) or not np.isfinite([low, high]).all() or not (low < high).all():
        raise SegueError(f"{where}: give the action's bounds as numbers, low=-2&high=2 or low=-1,0&high=1,5")
    return low, high


def _columns(role: str, names: list[str], options: Options, where: str) -> list[str]:
    words = options.names(role)
    if role not in VECTORS and len(words) > 1:
        raise SegueError(f"{where}: {role}={','.join(words)} names {len(words)} columns; name one")
    found = [name for word in words for name in _named(role, word, names, where)]
    if not words:
        found = [name for name in KNOWN[role] if name in names]
        if len(found) > 1:
            raise SegueError(
                f"{where}: both '{found[0]}' and '{found[1]}' may be the {role}; write {role}={found[0]} or {found[1]}"
            )
        if not found and role in VECTORS:
            found = _numbered(role, names, where)
    if doubled := [name for name in found if names.count(name) > 1 or not name.isprintable()]:
        raise SegueError(
            f"{where}: a column's name is used twice or is not printable: {listed(doubled[:1])}; rename it"
        )
    return found


def _named(role: str, word: str, names: list[str], where: str) -> list[str]:
    """The columns that a word of an option means."""
    if word in names:
        return [word]
    prefix = word.removesuffix("*")
    found = [n for n in names if n.startswith(prefix)] if prefix != word and role in VECTORS else []
    if not found:
        raise SegueError(f"{where}: no column '{word}' for {role}=; there are {listed(names)}")
    if all(re.fullmatch("[0-9]{1,9}", n[len(prefix) :]) for n in found):
        found.sort(key=lambda n: int(n[len(prefix) :]))
    return found


def _numbered(role: str, names: list[str], where: str) -> list[str]:
    """Columns NAME_0, NAME_1, ... of a known name, by number."""
    families: dict[str, dict[int, str]] = {}
    for name in names:
        match = re.fullmatch("(.+)[_.]([0-9]{1,9})", name)
        if match and match[1] in KNOWN[role]:
            families.setdefault(match[1], {})[int(match[2])] = name
    if len(families) > 1:
        first, second = list(families)[:2]
        raise SegueError(f"{where}: both '{first}_*' and '{second}_*' may be the {role}; write {role}={first}_*")
    return [name for found in families.values() for _, name in sorted(found.items())]
