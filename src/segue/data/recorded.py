"""One recorded episode: readers yield them, the store keeps them, `Data` is made of them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from segue.core.log import TOLERANCE, Data
from segue.core.observations import is_image, pack
from segue.core.types import Part, SegueError

CLIP_ACTION = 0.99999  # Cal-QL's and WSRL's; keeps the log-density of a tanh policy finite


@dataclass(frozen=True)
class Recorded:
    """An episode of T steps in raw rewards.

    `observation` (T + 1, ...) with the final one; or (T, ...) beside `next_observation` (T, ...), if next observations
    are not simply the following rows.  `action` (T, A) in [-1, 1], `reward` (T,).  An episode that does
    not end `terminated` was cut.  `success` is 1 or 0, a share if a task has parts, NaN if the log does not say.
    `source` names the part of a log that it is from, if there are several.  `made_of`: the parts of observations that
    are rows of bytes (`segue.core.observations`).
    """

    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: bool
    success: float = math.nan
    next_observation: np.ndarray | None = None
    source: str = ""
    made_of: tuple[Part, ...] = ()

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def current(self) -> np.ndarray:
        """Observations (T, ...) in which the actions were taken."""
        return self.observation if self.next_observation is not None else self.observation[:-1]

    @property
    def following(self) -> np.ndarray:
        """Observations (T, ...) that followed them."""
        return self.next_observation if self.next_observation is not None else self.observation[1:]


def recorded(given: Mapping[str, object], where: str, made_of: tuple[Part, ...] = ()) -> Recorded | None:
    """Checked `Recorded` of a mapping with T steps, or None if it has no step.

    Keys: `action` (T, A) in [-1, 1], `reward` (T,), `observation` (T + 1, ...) with the final one, or (T, ...) beside
    `next_observation` (T, ...).  An observation of several parts is a mapping of such arrays by name.  Optional:
    `terminated` (one bool, or (T,) flags of which only the last may be set), `success`, `source`.  `made_of`: the parts
    of observations that are rows of bytes already.  Values are not judged here, because a log with faults must be
    readable to be mended: `Data.check` and the doctor judge them.  Raises `SegueError` that begins with `where` and
    names the array that does not fit.
    """
    missing = [key for key in ("observation", "action", "reward") if key not in given]
    if missing:
        raise SegueError(f"{where}: no '{missing[0]}'; it has {', '.join(sorted(given)) or 'nothing'}")
    reward, action = numbers(given["reward"], "reward", where), numbers(given["action"], "action", where)
    seen, parts = observations(given["observation"], "observation", where)
    then, alike = None, parts
    if given.get("next_observation") is not None:
        then, alike = observations(given["next_observation"], "next_observation", where)
    if alike != parts:
        raise SegueError(f"{where}: 'observation' has other parts than 'next_observation'; give both the same")
    if reward.ndim != 1 or action.ndim != 2:
        raise SegueError(f"{where}: need action (T, A) and reward (T,); have {action.shape} and {reward.shape}")
    steps = len(reward)
    if steps == 0:
        return None
    wanted = steps if then is not None else steps + 1
    if len(action) != steps or len(seen) != wanted or (then is not None and then.shape != seen.shape):
        raise SegueError(
            f"{where}: {steps} rewards, {len(action)} actions and {len(seen)} steps of observations; "
            "give one more observation than actions, or as many beside 'next_observation'"
        )
    ends = np.asarray(given.get("terminated", False))
    if ends.ndim > 1 or (ends.ndim == 1 and len(ends) != steps):
        raise SegueError(f"{where}: 'terminated' is {ends.shape}; give one bool, or one for each of {steps} steps")
    flags = np.atleast_1d(ends).astype(bool)
    if flags[:-1].any():
        row = int(np.argmax(flags))
        raise SegueError(f"{where}: 'terminated' at step {row} of {steps}; an episode ends there, so split it")
    try:
        success = float(np.asarray(given.get("success", math.nan), np.float64).reshape(()))
    except (TypeError, ValueError) as error:
        raise SegueError(f"{where}: 'success' is not one number; give 1 or 0, or nothing") from error
    if not math.isnan(success) and not 0.0 <= success <= 1.0:
        raise SegueError(f"{where}: 'success' is {success:g}; give 1 or 0, a share between them, or nothing")
    return Recorded(
        seen, action, reward, bool(flags[-1]), success, then, str(given.get("source", "")), made_of or parts
    )


def numbers(value: object, name: str, where: str) -> np.ndarray:
    """Float32 array; `SegueError` if it does not hold numbers."""
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TypeError
    except (TypeError, ValueError) as error:
        raise SegueError(f"{where}: '{name}' is not an array of numbers") from error
    return array.astype(np.float32, copy=False)


def observations(value: object, name: str, where: str) -> tuple[np.ndarray, tuple[Part, ...]]:
    """Return observations as one array, and the parts of its rows if those are bytes, else ().

    Images (uint8) alone stay as they are, all else is float32; several arrays with an image among them become rows of
    bytes.  Raises `SegueError` if an array does not hold numbers with a row a step.
    """
    if isinstance(value, Mapping):
        return together({str(key): array(part, f"{name}/{key}", where) for key, part in value.items()}, where)
    return array(value, name, where), ()


def together(arrays: Mapping[str, np.ndarray], where: str) -> tuple[np.ndarray, tuple[Part, ...]]:
    """Arrays (T, ...) by name as one: vectors side by side, in order; with images, rows of bytes and their parts."""
    if not arrays or len({len(value) for value in arrays.values()}) > 1:
        steps = ", ".join(f"{key} {len(value)}" for key, value in arrays.items()) or "none"
        raise SegueError(f"{where}: parts of observations need as many steps each; there are {steps}")
    rows = {key: value if value.ndim > 1 else value[:, None] for key, value in arrays.items()}
    parts = tuple(
        Part(key, value.shape[1:], "uint8" if value.dtype == np.uint8 else "float32") for key, value in rows.items()
    )
    if any(is_image(part) for part in parts):
        return pack(parts, rows), parts
    flat = [value.reshape(len(value), -1).astype(np.float32, copy=False) for value in rows.values()]
    return np.concatenate(flat, axis=1), ()


def array(value: object, name: str, where: str) -> np.ndarray:
    """Float32, but images (uint8) as they are; `SegueError` unless there are numbers with a row a step."""
    found = value if isinstance(value, np.ndarray) and value.dtype == np.uint8 else numbers(value, name, where)
    if found.ndim == 0:
        raise SegueError(f"{where}: '{name}' is one number; give an array with a row for each step")
    return found


def bounded(action: np.ndarray, clip: float = CLIP_ACTION) -> np.ndarray:
    """Keep actions within +-`clip`; leave those outside [-1, 1] as they are, for the doctor to find."""
    return np.where(np.abs(action) <= 1.0 + TOLERANCE, np.clip(action, np.float32(-clip), np.float32(clip)), action)


def scaled(action: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Actions (T, A) of an environment with bounds (A,) as float32 in [-1, 1]."""
    return np.asarray(2.0 * (np.asarray(action, np.float64) - low) / (high - low) - 1.0, np.float32)


def numbered(episodes: Iterable[Mapping[str, object]], source: str) -> Iterator[Recorded]:
    """Yield mappings as `Recorded`, but for those without a step; an error names the episode's number."""
    for number, episode in enumerate(episodes):
        if (found := recorded(episode, f"{source}, episode {number}")) is not None:
            yield found


def episodes_of(data: Data) -> Iterator[Recorded]:
    """The episodes of checked `Data`, in order."""
    start = 0
    for stop in data.ends().tolist():
        seen, then = np.asarray(data.observation[start:stop]), np.asarray(data.next_observation[start:stop])
        joined = np.array_equal(seen[1:], then[:-1])
        yield Recorded(
            np.concatenate([seen, then[-1:]]) if joined else seen,
            np.asarray(data.action[start:stop]),
            np.asarray(data.reward[start:stop]),
            bool(data.terminated[stop - 1]),
            next_observation=None if joined else then,
            made_of=data.made_of,
        )
        start = stop


def data_of(episodes: Iterable[Recorded], source: str) -> Data:
    """Checked `Data` of episodes, all in memory; `SegueError` if there are none, or none to learn from."""
    return joined(episodes, source).check()


def joined(episodes: Iterable[Recorded], source: str) -> Data:
    """The same, but values are not checked."""
    kept = [e for e in episodes if len(e)]
    if not kept:
        raise SegueError(f"{source}: no episode with at least one step; give some")
    shapes = {(e.observation.shape[1:], e.action.shape[1:], e.made_of) for e in kept}
    if len(shapes) > 1:
        first, second = sorted(shapes, key=str)[:2]
        raise SegueError(f"{source}: episodes of different shapes, {first} and {second}; every step needs the same")
    if not kept[0].action.size:
        raise SegueError(f"{source}: actions are {kept[0].action.shape}: nothing in a row; give actions (T, A)")
    seen, then = (np.concatenate(rows) for rows in zip(*((e.current, e.following) for e in kept)))
    action, reward = (np.concatenate(rows) for rows in zip(*((e.action, e.reward) for e in kept)))
    last, over = np.cumsum([len(e) for e in kept]) - 1, np.array([e.terminated for e in kept])
    terminated, truncated = np.zeros((2, len(reward)), bool)
    terminated[last], truncated[last] = over, ~over
    return Data(seen, action, reward, terminated, truncated, then, source, made_of=kept[0].made_of)
