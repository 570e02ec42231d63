"""Safe mends, which need no other knowledge than the report.  They make copies.

A mend is `(episode, marked) -> episode, episodes, or None`; `marked` (K, 2 or 3) are the report's rows of this
episode: episode, step, flag.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from segue.core.types import SegueError
from segue.data.doctor.finding import Report
from segue.data.recorded import Recorded

Mended = Recorded | list[Recorded] | None


def drop(episode: Recorded, marked: np.ndarray) -> Mended:
    """Drop the episode."""
    return None


def clip_actions(episode: Recorded, marked: np.ndarray) -> Mended:
    """Clip actions to [-1, 1]."""
    return replace(episode, action=np.clip(episode.action, np.float32(-1.0), np.float32(1.0)))


def to_cut(episode: Recorded, marked: np.ndarray) -> Mended:
    """Mark the episode as cut; drop its last row if the flag says that its final observation is another episode's."""
    episode = replace(episode, terminated=False)
    return piece(episode, 0, len(episode) - 1) if marked[:, 2].any() else episode


def split(episode: Recorded, marked: np.ndarray) -> Mended:
    """End an episode at each marked step, and drop that step if the flag says so.

    The pieces are cut, but for the last, which ends as the episode did.  The log's flag of success is the whole
    episode's: no piece keeps it.
    """
    pieces, start = [], 0
    for step, gone in sorted({(int(s), bool(f)) for _, s, f in marked}):
        pieces.append(piece(episode, start, step if gone else step + 1))
        start = step + 1
    pieces.append(piece(episode, start, len(episode)))
    return [p for p in pieces if p is not None]


def piece(episode: Recorded, start: int, stop: int) -> Recorded | None:
    """Rows `start` to `stop` of an episode as one of its own, or None if there is none."""
    if stop <= start:
        return None
    whole, last = (start, stop) == (0, len(episode)), stop == len(episode)
    apart = episode.next_observation
    return replace(
        episode,
        observation=episode.observation[start : stop if apart is not None else stop + 1],
        action=episode.action[start:stop],
        reward=episode.reward[start:stop],
        terminated=episode.terminated and last,
        success=episode.success if whole else np.nan,
        next_observation=None if apart is None else apart[start:stop],
    )


MENDS: dict[str, Callable[[Recorded, np.ndarray], Mended]] = {  # in the order in which they are made
    "drop-broken": drop,
    "drop-duplicates": drop,
    "clip-actions": clip_actions,
    "terminals-to-cuts": to_cut,
    "split-stitched": split,
}


def mend(report: Report, episodes: Iterable[Recorded], only: Iterable[str] | None = None) -> Iterator[Recorded]:
    """The episodes, mended as the report says, one at a time; `only` names some of its `fixes`.

    `episodes` are those that were examined, in the same order.  Raises `SegueError` if there are fewer or more, or if
    `only` names a mend that the report does not offer.
    """
    chosen = tuple(report.fixes if only is None else only)
    if strange := [name for name in chosen if name not in report.fixes]:
        raise SegueError(
            f"mend: the report has no fix {strange[0]}, only {', '.join(report.fixes) or 'none'}; leave it out"
        )
    marked = {name: _marked(report, name) for name in MENDS if name in chosen}
    seen = 0
    for number, episode in enumerate(episodes):
        seen += 1
        yield from _made(number, episode, marked)
    if seen != report.episodes:
        raise SegueError(f"mend: {seen} episodes instead of the {report.episodes} examined; give the same log")


def _marked(report: Report, name: str) -> np.ndarray:
    """All rows of a mend (K, 3), in the order of the log."""
    found = [f.marked for f in report.findings if f.fix == name and f.marked is not None]
    rows = np.concatenate([np.pad(m, ((0, 0), (0, 3 - m.shape[1]))) for m in found])
    return np.asarray(rows[np.lexsort(rows.T[::-1])])


def _made(number: int, episode: Recorded, marked: dict[str, np.ndarray]) -> Iterator[Recorded]:
    pieces: list[Recorded] = [episode]
    for name, rows in marked.items():
        here = rows[np.searchsorted(rows[:, 0], number) : np.searchsorted(rows[:, 0], number, side="right")]
        if not len(here):
            continue
        # `to_cut` may take the last row: a mark on it has then been dealt with.
        made = MENDS[name](pieces[0], here[here[:, 1] < len(pieces[0])] if name == "split-stitched" else here)
        if made is None:
            return
        pieces = made if isinstance(made, list) else [made]
    yield from pieces
