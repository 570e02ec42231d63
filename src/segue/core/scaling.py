"""What turns raw experience into the learner's: scale and shift of rewards, discount, normalised observations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from segue.core.options import internal
from segue.core.types import Array, Part, SegueError

BLOCK = 65_536  # rows of a dataset that are looked at together
LEAST_STD = 1e-3  # added to the observations' standard deviations, as in TD3+BC's code


@dataclass(frozen=True)
class Scaling:
    """Written once, applied to dataset and own experience alike; replay and evaluation stay raw.

    The learner sees rewards `reward_scale * raw + reward_shift`, bootstraps with `discount`, and sees observations
    `(raw - observation_mean) / observation_std`, number by number (empty: as they are). `failure` is the raw reward of
    a step that has not succeeded in a sparse task: an episode that holds nothing else is valued as if it went on
    forever, `(reward_scale * failure + reward_shift) / (1 - discount)` (Cal-QL's rule); "task" takes the task's own,
    None values no episode so. `continuing` values a truncated episode as if its last reward went on forever (the
    kitchen rule). Both act on Monte-Carlo returns only.

    Two things can be left to the dataset, see `settled`: with `reward_span`, rewards are multiplied by it and divided
    by the difference between the best and the worst return of the dataset's episodes (IQL's rule for locomotion, with
    1000); with `standardise`, mean and standard deviation are those of the dataset's observations (TD3+BC's rule).
    """

    reward_scale: float = 1.0
    reward_shift: float = 0.0
    discount: float = 0.99
    failure: float | Literal["task"] | None = "task"
    continuing: bool = False
    reward_span: float | None = None
    standardise: bool = False
    observation_mean: tuple[float, ...] = ()
    observation_std: tuple[float, ...] = ()
    parts: tuple[Part, ...] = internal(())
    """What the learner sees of observations that are no vectors (`observations.parts_seen`); see `settled`."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.discount < 1.0:
            raise SegueError(f"scaling.discount is {self.discount}; it must be at least 0 and below 1")
        if len(self.observation_mean) != len(self.observation_std):
            raise SegueError(
                "scaling: observation_mean and observation_std differ in length; give both of one length, or none"
            )
        if any(not s > 0 for s in self.observation_std):
            raise SegueError("scaling.observation_std: every number must be above 0")
        if self.parts and self.observation_mean:
            raise SegueError("scaling.observation_mean: takes flat observations of real numbers; leave it out")

    def reward(self, raw: Array) -> Array:
        """Rewards (...) in the learner's scaling."""
        return raw * self.reward_scale + self.reward_shift

    def see(self, raw: Array) -> Any:
        """Observations (..., O) in the learner's scaling; where they have `parts`, arrays (B, ...) by name."""
        import jax.numpy as jnp  # whoever only reads a log does without

        from segue.core.look import look

        if self.parts:
            return look(self.parts, raw)
        if not self.observation_mean:
            return raw
        mean, std = (jnp.asarray(x, raw.dtype) for x in (self.observation_mean, self.observation_std))
        return (raw - mean) / std


def moments(rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of rows (N, ...) of floats, float64; block by block where they are on the disk."""
    if isinstance(rows, np.ndarray):
        return rows.mean(0, np.float64), rows.std(0, np.float64)
    total, square = (np.zeros(rows.shape[1:]) for _ in range(2))
    blocks = range(0, len(rows), BLOCK)
    for start in blocks:
        total += rows[start : start + BLOCK].sum(0, np.float64)
    mean = total / len(rows)
    for start in blocks:
        square += ((rows[start : start + BLOCK] - mean) ** 2).sum(0)
    return mean, np.sqrt(square / len(rows))


def returns_to_go(reward: np.ndarray, terminated: np.ndarray, scaling: Scaling) -> np.ndarray:
    """Discounted return-to-go (T,) float32 of one episode of raw rewards (T,), in the learner's scaling.

    Cal-QL's rules: a terminal inside the episode cuts the recursion; a truncation is treated as the end
    and nothing is bootstrapped, unless `scaling.continuing`; all-failure episodes of sparse tasks get the value of
    failing forever.
    """
    raw = np.asarray(reward, np.float64)
    if len(raw) == 0:
        return np.zeros(0, np.float32)
    scaled = raw * scaling.reward_scale + scaling.reward_shift
    if scaling.failure is not None and scaling.failure != "task" and np.all(raw == scaling.failure):
        return np.full(
            len(raw),
            (scaling.failure * scaling.reward_scale + scaling.reward_shift) / (1.0 - scaling.discount),
            np.float32,
        )
    following = scaled[-1] / (1.0 - scaling.discount) if scaling.continuing else 0.0
    out = np.empty(len(raw), np.float64)
    for t in range(len(raw) - 1, -1, -1):
        following = scaled[t] + scaling.discount * following * (1.0 - float(terminated[t]))
        out[t] = following
    return out.astype(np.float32)


def settled(scaling: Scaling, failure: float | None, data: Any, parts: tuple[Part, ...] = ()) -> Scaling:
    """Return scaling with nothing left open: the task's failure reward, the parts of its observations, and what is to
    be read off `log.Data`.

    Raises `SegueError` where the dataset does not say it.
    """
    scaling = replace(scaling, parts=parts)
    if scaling.failure == "task":
        scaling = replace(scaling, failure=failure)
    if scaling.reward_span is not None:
        scaling = replace(
            scaling, reward_scale=scaling.reward_scale * scaling.reward_span / _return_span(data), reward_span=None
        )
    if scaling.standardise:
        if data is None:
            raise SegueError("scaling.standardise: the task has no dataset to compute means from; set it to false")
        if data.observation.ndim != 2 or data.observation.dtype.kind != "f":
            raise SegueError("scaling.standardise: takes flat observations of real numbers; set it to false")
        mean, std = moments(data.observation)
        std = std + LEAST_STD
        scaling = replace(
            scaling, standardise=False, observation_mean=tuple(mean.tolist()), observation_std=tuple(std.tolist())
        )
    return scaling


def _return_span(data: Any) -> float:
    """Difference between the best and the worst undiscounted raw return of a dataset's episodes."""
    if data is None:
        raise SegueError("scaling.reward_span: the task has no dataset to compute returns from; set it to none")
    ends = data.ends()
    total = np.concatenate([[0.0], np.cumsum(data.reward, dtype=np.float64)])[np.concatenate([[0], ends])]
    returns = np.diff(total)
    span = float(returns.max() - returns.min())
    if not span > 0:
        raise SegueError("scaling.reward_span: all episodes of the dataset have the same return; set it to none")
    return span


def plain_scaling(scaling: Scaling) -> dict[str, Any]:
    """Scaling as JSON, without the parts of observations, which the task's Spec says."""
    return {name: value for name, value in asdict(scaling).items() if name != "parts"}


def scaling_of(plain: Mapping[str, Any], parts: tuple[Part, ...] = ()) -> Scaling:
    """Return the scaling that `plain_scaling` described (tuples as lists), for observations of these parts."""
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
    return replace(Scaling(**values), parts=parts)
