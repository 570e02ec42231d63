"""The first pass over a log: one line for each episode, moments of columns, and bounded random samples of rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

from segue.core.observations import reals
from segue.data.doctor.sample import Moments, Sample, row_hashes
from segue.data.recorded import Recorded

# Sizes are defaults of ours.
ROWS = 20_000  # sampled rows, fewer where they are large
ROOM = 64 * 2**20  # bytes of sampled observations
STARTS = 2_000
ENDS = 128  # sampled last rows of each kind, and rows of the best reward
EARLY = 5  # first steps of an episode, whose rewards are compared with those of the environment's first steps
VALUES = 32  # distinct rewards that are told apart; more are dense
WIDEST = 1_024  # numbers of an observation that are looked at column by column

_EPISODE: dict[str, type[np.generic]] = {
    "length": np.int64,
    "total": np.float64,
    "terminated": np.bool_,
    "success": np.float64,
    "part": np.int64,
    "odd": np.bool_,  # other shapes than the first episode
    "broken": np.bool_,  # NaN or infinity
    "first": np.uint64,  # hashes of the first observation, the last one, and the whole
    "final": np.uint64,
    "digest": np.uint64,
    "best": np.float64,
    "hits": np.int64,  # rows of the best reward
    "reward_first": np.float64,
    "reward_before_last": np.float64,
    "reward_last": np.float64,
}


class Log:
    """The first pass over a log.

    `index` has a value of each of `_EPISODE` for every episode, as arrays (E,).  Samples hold `observation`,
    `following` (K, O), `action` (K, A), `reward` (K,), `before_*` and `after_*` of the rows beside (NaN if the episode
    has none), `episode`, `step`, `length`, `terminated`.  Do not compare `following` of an episode's last row: it is
    often another episode's first observation.  Odd and broken episodes are in the index alone.
    """

    def __init__(self, episodes: Iterator[Recorded]) -> None:
        self.shape: tuple[tuple[int, ...], int, str] | None = None
        """Shape of an observation, size of an action, type of an observation; None where there is no step."""
        self.values: dict[float, int] | None = {}
        self.rows = 0
        self._lists: dict[str, list[float | np.generic]] = {name: [] for name in _EPISODE}
        self._parts: dict[str, int] = {}
        for number, episode in enumerate(episodes):
            self._add(number, episode)
        self.index = {name: np.asarray(self._lists[name], kind) for name, kind in _EPISODE.items()}

    def __len__(self) -> int:
        return len(self.index["length"])

    @property
    def flat(self) -> bool:
        """Whether observations are looked at column by column: real numbers in one row, and not too many."""
        return (
            self.shape is not None and self.shape[2] == "f" and len(self.shape[0]) == 1 and self.shape[0][0] <= WIDEST
        )

    @property
    def sound(self) -> np.ndarray:
        """Episodes (E,) that are neither odd nor broken nor empty."""
        return ~self.index["odd"] & ~self.index["broken"] & (self.index["length"] > 0)

    def _begin(self, episode: Recorded) -> None:
        shape, size = episode.observation.shape[1:], episode.action.shape[1]
        self.shape = (shape, size, episode.observation.dtype.kind)
        width = int(np.prod(shape)) if self.flat else 1
        self.seen, self.acted, self.rewarded = Moments(width), Moments(size), Moments(1)
        room = ROOM // max(2 * int(np.prod(shape)) * episode.observation.dtype.itemsize, 1)
        self.sample = Sample(int(np.clip(room, 64, ROWS)), 0)
        self.starts, self.early = Sample(int(np.clip(room, 64, STARTS)), 1), Sample(STARTS, 2)
        some = int(np.clip(room, 16, ENDS))
        self.ended, self.cut, self.hit = Sample(some, 3), Sample(some, 4), Sample(some, 5)

    def _add(self, number: int, episode: Recorded) -> None:
        steps = len(episode)
        line: dict[str, float | np.generic] = dict.fromkeys(_EPISODE, 0)
        line |= {"length": steps, "terminated": episode.terminated, "success": episode.success, "hits": 0}
        line |= {"part": self._parts.setdefault(episode.source, len(self._parts))}
        line |= dict.fromkeys(("best", "reward_first", "reward_before_last", "reward_last"), np.nan)
        if steps:
            if self.shape is None:
                self._begin(episode)
            self.rows += steps
            seen = episode.observation
            line["odd"] = (seen.shape[1:], episode.action.shape[1], seen.dtype.kind) != self.shape
            both = (reals(episode.made_of, rows) for rows in (seen, episode.following))
            numbers = (*both, episode.action, episode.reward)
            line["broken"] = not all(finite(x).all() for x in numbers)
            if not line["odd"]:
                line["first"], line["final"] = row_hashes(episode.current[:1])[0], row_hashes(episode.following[-1:])[0]
                line["digest"] = _digest(episode)
                if not line["broken"]:
                    line |= self._rewards(episode.reward)
                    self._statistics(number, episode)
        for name, value in line.items():
            self._lists[name].append(value)

    def _rewards(self, reward: np.ndarray) -> dict[str, float]:
        """What the index keeps of an episode's rewards, and the distinct ones of the log while they are few."""
        if self.values is not None:
            found, counts = np.unique(reward, return_counts=True)
            if len(found) > VALUES:
                self.values = None
            else:
                for value, count in zip(found.tolist(), counts.tolist()):
                    self.values[value] = self.values.get(value, 0) + count
                self.values = self.values if len(self.values) <= VALUES else None
        best = float(reward.max())
        return {
            "total": float(reward.sum(dtype=np.float64)),
            "best": best,
            "hits": int(np.sum(reward == best)),
            "reward_first": float(reward[0]),
            "reward_before_last": float(reward[-2]) if len(reward) > 1 else np.nan,
            "reward_last": float(reward[-1]),
        }

    def _statistics(self, number: int, episode: Recorded) -> None:
        steps, reward = len(episode), episode.reward
        if self.flat:
            self.seen.add(episode.current)
        self.acted.add(episode.action)
        self.rewarded.add(reward[:, None])
        _keep(self.starts, number, episode, np.zeros(1, np.int64))
        early = self.early.draw(min(EARLY, steps))
        self.early.put({"reward": reward[early], "step": early})
        _keep(self.sample, number, episode, np.arange(steps))
        _keep(self.ended if episode.terminated else self.cut, number, episode, np.full(1, steps - 1))
        best = np.flatnonzero(reward == reward.max())
        if len(best) <= steps // 10 + 1:
            _keep(self.hit, number, episode, best)


def finite(array: np.ndarray) -> np.ndarray:
    """Whether each number is finite; images always are."""
    return np.isfinite(array) if array.dtype.kind == "f" else np.ones(array.shape, bool)


def _digest(episode: Recorded) -> int:
    whole = hashlib.blake2b(digest_size=8)
    for array in (episode.current, episode.following[-1:], episode.action, episode.reward):
        whole.update(np.ascontiguousarray(array).data)
    return int.from_bytes(whole.digest(), "little")


def _keep(sample: Sample, number: int, episode: Recorded, rows: np.ndarray) -> None:
    """Let a sample choose among rows (K,) of an episode."""
    chosen = sample.draw(len(rows))
    if len(chosen):
        sample.put(_part(number, episode, rows[chosen]))


def _part(number: int, episode: Recorded, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Rows of an episode with the columns of the rows beside them."""
    steps = len(episode)
    out = {
        "observation": episode.current[rows],
        "following": episode.following[rows],
        "episode": np.full(len(rows), number),
        "step": rows,
        "length": np.full(len(rows), steps),
        "terminated": (rows == steps - 1) & episode.terminated,
    }
    for name, column in (("action", episode.action), ("reward", episode.reward)):
        out[name] = column[rows]
        for side, shift in (("before", -1), ("after", 1)):
            at = rows + shift
            there = (at >= 0) & (at < steps)
            beside = column[np.minimum(np.maximum(at, 0), steps - 1)]
            beside[~there] = np.nan
            out[f"{side}_{name}"] = beside
    return out
