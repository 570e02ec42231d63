"""Rows of a table become episodes: the rules that npz, table, csv, ogbench, robomimic and lerobot share.

      row            t-2    t-1     t   | t+1
      observation     s      s'     s"  |  r        the next observation of a row is the row after it

An episode ends at a row with a flag in `terminated` or `truncated` (a row with both is terminated), before a row with
another value in `episode`, and with the table.  A table with `next_observation` and neither `truncated` nor `episode`
ends episodes wherever the next observation is not the row that follows.

Without `next_observation`, nobody knows what followed an episode's last row t.  `final` says what becomes of that row:

    dropped   (unless given) t was a step.  If it terminated it is kept, and its own observation stands for the final
              one: nothing bootstraps from it.  If it was cut it is dropped: the episode is cut at t-1 (D4RL's rule)
    kept      as above, but a row that was cut is kept too; what it bootstraps from is its own observation
    row       t was no step: its observation is the final one, its action and reward mean nothing.  The flag may stand
              there or, where `episode` parts the episodes, on the row before
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

from segue.core.types import Part, SegueError
from segue.data.readers.columns import Roles
from segue.data.recorded import Recorded, bounded, recorded, scaled, together

BLOCK = 65_536
"""Rows that are read at a time."""
Block = Mapping[str, np.ndarray]
"""Columns by name, all of them of the same number of rows: (rows, ...)."""


class _Rows(NamedTuple):
    """Consecutive rows; `key` is the value of the column `episode`, 0 where there is none."""

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    key: np.ndarray
    success: np.ndarray
    next_observation: np.ndarray | None
    made_of: tuple[Part, ...] = ()

    def part(self, start: int, stop: int | None) -> _Rows:
        return _Rows._make(x[start:stop] if isinstance(x, np.ndarray) else x for x in self)

    def shapes(self) -> str:
        seen = self.made_of or f"{self.observation.shape[1:]} {self.observation.dtype}"
        return f"observations {seen}, actions {self.action.shape[1:]}"


def episodes(blocks: Iterable[Block], roles: Roles, where: str) -> Iterator[Recorded]:
    """Yield the episodes of a table that comes in blocks of consecutive rows, by the rules above.

    Actions are scaled by the roles' bounds and kept off +-1.  Needs memory for a block and an episode.  Raises
    `SegueError` that names the first row with a value that does not fit its column; rows count from 0.
    """
    held: list[_Rows] = []
    number = first = begun = 0
    for block in blocks:
        n, start = len(block[roles.action[0]]), 0
        if not n:
            continue
        rows = _rows(block, roles, first, where)
        begins = np.zeros(n, bool)
        begins[1:] = _parted(rows.part(0, -1), rows.part(1, None), roles)
        if held:
            if rows.shapes() != held[-1].shapes():
                raise SegueError(f"{where}: rows of {held[-1].shapes()}, from row {first} on of {rows.shapes()}")
            begins[0] = _parted(held[-1].part(-1, None), rows.part(0, 1), roles)[0]
        for stop in np.flatnonzero(begins).tolist():
            if stop > start:
                held.append(rows.part(start, stop))
            if (one := _finish(held, roles, begun, f"{where}, episode {number}")) is not None:
                yield one
            held, number, begun, start = [], number + 1, first + stop, stop
        held.append(rows.part(start, None))
        first += n
    if held and (one := _finish(held, roles, begun, f"{where}, episode {number}")) is not None:
        yield one


def _parted(one: _Rows, then: _Rows, roles: Roles) -> np.ndarray:
    """Whether each row `then` (m,) begins another episode than the row `one` before it."""
    parted = np.zeros(len(one.key), bool) | (one.key != then.key)  # of words and numbers NumPy says one True
    if roles.inside:
        parted |= one.terminated | one.truncated
    if one.next_observation is not None and not roles.truncated and not roles.episode:
        parted |= ~_alike(one.next_observation, then.observation)
    return parted


def _finish(held: list[_Rows], roles: Roles, begun: int, where: str) -> Recorded | None:
    """The episode of these rows, which begin at row `begun`; None if no step is left."""
    rows = held[0]
    if len(held) > 1:
        rows = _Rows._make(np.concatenate(xs) if isinstance(xs[0], np.ndarray) else xs[0] for xs in zip(*held))
    seen, then = rows.observation, rows.next_observation
    steps, terminated = len(rows.reward), bool(rows.terminated[-1])
    if then is not None:
        if _alike(then[:-1], seen[1:]).all():
            seen, then = np.concatenate([seen, then[-1:]]), None
    elif roles.final == "row":
        steps, terminated = steps - 1, bool(rows.terminated[-2:].any())
        if rows.terminated[:-2].any():
            row = begun + int(np.argmax(rows.terminated))
            raise SegueError(f"{where}: '{roles.terminated}' in row {row}, inside the episode; leave out final=row")
    elif terminated or roles.final == "kept":
        seen = np.concatenate([seen, seen[-1:]])
    else:
        steps -= 1
    known = rows.success[~np.isnan(rows.success)]
    return recorded(
        {
            "observation": seen,
            "next_observation": then,
            "action": rows.action[:steps],
            "reward": rows.reward[:steps],
            "terminated": terminated,
            "success": float(known.max()) if len(known) else np.nan,
        },
        where,
        rows.made_of,
    )


def _rows(block: Block, roles: Roles, first: int, where: str) -> _Rows:
    """The columns of a block by role; `first` is the number of its first row."""
    action = _vector(block, roles.action, where)
    seen, made_of = _observation(block, roles.observation, where)
    then: np.ndarray | None = None
    alike: tuple[Part, ...] = ()
    if roles.next_observation:
        then, alike = _observation(block, roles.next_observation, where)
    sizes = [[part[1:] for part in parts] for parts in (made_of, alike)]  # names differ: "next x" is the next x
    if then is not None and (then.shape != seen.shape or then.dtype != seen.dtype or sizes[0] != sizes[1]):
        raise SegueError(
            f"{where}: observations are {seen.shape} {seen.dtype}, the next {then.shape} {then.dtype}; they must agree"
        )
    n = len(action)
    if roles.low is not None and roles.high is not None:
        if len(roles.low) not in (1, action.shape[1]):
            raise SegueError(
                f"{where}: bounds of {len(roles.low)} numbers for actions of {action.shape[1]}; give as many"
            )
        with np.errstate(all="ignore"):
            action = scaled(action, roles.low, roles.high)
    return _Rows(
        seen,
        bounded(action),
        _column(block, roles.reward, where) if roles.reward else np.zeros(n, np.float32),
        _flags(block, roles.terminated, n, first, where),
        _flags(block, roles.truncated, n, first, where),
        _key(block, roles.episode, n, first, where),
        _column(block, roles.success, where) if roles.success else np.full(n, np.nan),
        then,
        made_of,
    )


def _observation(block: Block, names: tuple[str, ...], where: str) -> tuple[np.ndarray, tuple[Part, ...]]:
    """Columns in order as one array: bytes alone stay as they are; with an image among several, rows become bytes."""
    columns = _columns(block, names, where)
    if len(names) == 1 and columns[0].dtype == np.uint8:
        return columns[0], ()
    if any(column.dtype == np.uint8 and column.ndim > 2 for column in columns):
        named = zip(names, columns)
        return together({k: c if c.dtype == np.uint8 else c.astype(np.float32) for k, c in named}, where)
    return _vector(block, names, where), ()


def _columns(block: Block, names: tuple[str, ...], where: str) -> list[np.ndarray]:
    """Columns of numbers (rows, ...), at least one in a row."""
    parts = []
    for name in names:
        array = block[name]
        if array.dtype.kind not in "fiub":
            raise SegueError(f"{where}: '{name}' has type {array.dtype}, not numbers; name another column")
        if array.size == 0:
            raise SegueError(f"{where}: '{name}' has shape {array.shape}, so its rows are empty; name another column")
        parts.append(array if array.ndim > 1 else array[:, None])
    return parts


def _vector(block: Block, names: tuple[str, ...], where: str) -> np.ndarray:
    """Columns (rows, size) in order as float32."""
    parts = _columns(block, names, where)
    with np.errstate(all="ignore"):
        floats = [part.astype(np.float32, copy=False) for part in parts]
    flat = [part.reshape(len(part), int(np.prod(part.shape[1:]))) for part in floats]
    return floats[0] if len(floats) == 1 else np.concatenate(flat, axis=1)


def _column(block: Block, name: str, where: str) -> np.ndarray:
    """A column of one float32 a row."""
    array = _vector(block, (name,), where)
    if array.ndim != 2 or array.shape[1] != 1:
        raise SegueError(f"{where}: '{name}' has shape {block[name].shape}; it needs one number per row")
    return array[:, 0]


def _flags(block: Block, name: str, n: int, first: int, where: str) -> np.ndarray:
    if not name:
        return np.zeros(n, bool)
    values = _column(block, name, where)
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise SegueError(f"{where}: '{name}' is {values[row]:g} in row {first + row}; a flag is 0 or 1")
    return values == 1


def _key(block: Block, name: str, n: int, first: int, where: str) -> np.ndarray:
    """The values that tell episodes apart: numbers or words (rows,)."""
    if not name:
        return np.zeros(n, np.int8)
    values = block[name].reshape(n, -1)
    if values.shape[1] != 1:
        raise SegueError(f"{where}: '{name}' has shape {block[name].shape}; it needs one value per row")
    values = values[:, 0]
    nothing = np.array([v is None for v in values]) if values.dtype.kind == "O" else values != values
    if np.any(nothing):
        raise SegueError(f"{where}: '{name}' is empty in row {first + int(np.argmax(nothing))}; give each row a value")
    return values


def _alike(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Whether rows (m, ...) are the same, where NaN is the same as NaN."""
    if one.shape != other.shape:
        return np.zeros(len(one), bool)
    equal = one == other
    if one.dtype.kind == "f":
        equal |= (one != one) & (other != other)
    return np.asarray(equal.all(axis=tuple(range(1, one.ndim))))
