"""NumPy's own files: an .npz file, or a folder of .npy files.

Arrays have a row a step, (N, ...), or a row an episode, (E, T, ...).  In the second form, `length` (E,) or `mask` (E,
T), 1 for steps and then 0, tells of episodes shorter than T.  Observations may be (E, T + 1, ...), with the final ones.
Flags may be (E,), one for each episode's end.  Rows of either form become episodes by `segue.data.readers.rows`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from segue.core.types import SegueError
from segue.data.readers import columns, npy
from segue.data.readers.columns import Roles
from segue.data.readers.reader import Options, Source
from segue.data.readers.rows import BLOCK, episodes

OPTIONS = (*columns.OPTIONS, "length", "mask")
_LENGTHS, _MASKS = ("length", "lengths", "episode_length", "episode_lengths"), ("mask", "valid", "valids")
_EPISODE, _NEXT = " episode", " next "  # columns that are made here; the space keeps them apart from a file's own


def source(where: str, options: Options) -> Source:
    """Open an .npz file or a folder of .npy files; nothing in it is unpickled.

    Options name arrays, as for every table (`columns.choose`).  `length=` and `mask=` name the arrays that tell how
    long an episode is, unless they have known names.
    """
    path = Path(where)
    there = npy.names(path)
    roles = columns.choose(there, options, str(path))
    found = npy.headers(path, roles.columns)
    reward, action = found[roles.reward], found[roles.action[0]]
    if len(action.shape) > 2 or (len(reward.shape) == 2 and reward.shape[1] > 1):
        return _padded(path, there, roles, found, options)
    if given := [name for name in ("length", "mask") if options.text(name)]:
        raise SegueError(f"{path}: {given[0]}= has no effect on arrays with one row per step; leave it out")
    rows, size = npy.count(found), sum(math.prod(found[name].shape[1:]) for name in roles.action)
    return Source(roles.facts(options.source, size), episodes(npy.blocks(found, BLOCK), roles, str(path)), rows)


def _padded(path: Path, there: list[str], roles: Roles, found: dict[str, npy.Array], options: Options) -> Source:
    """Episodes of arrays that have a row an episode."""
    if roles.episode:
        raise SegueError(f"{path}: each row is an episode, so episode={roles.episode} has no effect; leave it out")
    shape = found[roles.reward].shape
    if len(shape) < 2:
        raise SegueError(f"{path}: '{roles.reward}' is {shape} beside actions with a row an episode; (E, T) is needed")
    limit = shape[1]
    length = _chosen("length", _LENGTHS, there, options, path)
    mask = "" if length else _chosen("mask", _MASKS, there, options, path)
    found |= npy.headers(path, [name for name in (length, mask) if name])
    longer = set()
    for name, array in found.items():
        steps = array.shape[1] if len(array.shape) > 1 else None
        if name in roles.observation and steps == limit + 1 and not roles.next_observation:
            longer.add(name)
        elif steps is None and name in (roles.terminated, roles.truncated, roles.success, length):
            continue
        elif name == length or steps != limit:
            raise SegueError(f"{path}: '{name}' is {array.shape} and '{roles.reward}' {shape}; steps must correspond")
    if longer and longer != set(roles.observation):
        raise SegueError(f"{path}: {columns.listed(sorted(longer))} have a final step and other observations do not")
    if longer and roles.final != columns.FINAL[0]:
        raise SegueError(f"{path}: final={roles.final} has no effect beside final observations; leave it out")
    rows = npy.count(found)
    follows = tuple(_NEXT + name for name in roles.observation) if longer else roles.next_observation
    within = roles._replace(episode=_EPISODE, next_observation=follows, inside=roles.final != "row")

    def unpacked() -> Iterator[dict[str, np.ndarray]]:
        number = 0
        for block in npy.blocks(found, max(BLOCK // max(limit, 1), 1)):
            for e in range(len(block[roles.reward])):
                own = {name: column[e] for name, column in block.items()}
                steps = _steps(own.get(length), own.get(mask), limit, f"{path}, episode {number}")
                yield _unpacked(own, steps, number, longer, roles)
                number += 1

    known, size = (
        None if length or mask else rows * limit,
        sum(math.prod(found[name].shape[2:]) for name in roles.action),
    )
    return Source(roles.facts(options.source, size), episodes(unpacked(), within, str(path)), known)


def _unpacked(
    own: dict[str, np.ndarray], steps: int, number: int, longer: set[str], roles: Roles
) -> dict[str, np.ndarray]:
    """The rows of one episode."""
    out = {_EPISODE: np.full(steps, number)}
    for name in roles.columns:
        column = own[name]
        if column.ndim == 0:
            rows = np.zeros(steps, column.dtype)
            rows[slice(None) if name == roles.success else slice(-1, None)] = column
            out[name] = rows
        else:
            out[name] = column[:steps]
        if name in longer:
            out[_NEXT + name] = column[1 : steps + 1]
    return out


def _steps(length: np.ndarray | None, mask: np.ndarray | None, limit: int, where: str) -> int:
    """How many steps of an episode's row belong to it; the rest is padding."""
    if length is None and mask is None:
        return limit
    if length is not None:
        if length.dtype.kind not in "fiu" or not 0 <= length <= limit or length != np.floor(length):
            raise SegueError(f"{where}: a length of {length}; it is a whole number up to {limit}")
        return int(length)
    assert mask is not None
    flags = mask.reshape(limit, -1)
    if flags.dtype.kind not in "fiub" or flags.shape[1] != 1 or not np.isin(flags, (0, 1)).all():
        raise SegueError(f"{where}: its mask has values other than 0 and 1; repair it, or give length=")
    steps = int(flags.sum())
    if not flags[:steps].all():
        raise SegueError(f"{where}: there is a step after the mask's first 0; steps must come first, then the padding")
    return steps


def _chosen(option: str, known: tuple[str, ...], there: list[str], options: Options, path: Path) -> str:
    name = options.text(option)
    if name and name not in there:
        raise SegueError(f"{path}: no array '{name}' for {option}=; there are {columns.listed(there)}")
    return name or next((n for n in known if n in there), "")
