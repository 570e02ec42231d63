"""A dataset in numbers, JSON-ready."""

from __future__ import annotations

import numpy as np

from segue.core.log import Data
from segue.core.observations import reals
from segue.data.store.dataset import Stored
from segue.data.store.rows import DiskRows

SAMPLE = 20_000  # rows that distributions are read off; all of them where there are fewer
COLUMNS = 60  # observation and action columns that a card draws
POINTS = 400  # starts and ends that a card draws
BINS = 40
CELLS = 60  # of a map's longer side


def describe(data: Data, failure: float | None = None) -> dict[str, object]:
    """Sizes, raw episode returns, lengths (rows), ends and content hash of a dataset, as JSON-ready values.

    `failure` is the raw reward of a step without success.  An episode succeeds if any of its rows has another reward
    (None: success is not known).  Episodes are those of `Data.ends()`.
    """
    ends = data.ends()
    starts = np.concatenate([[0], ends[:-1]])
    returns = np.add.reduceat(data.reward.astype(np.float64), starts)
    success = None
    if failure is not None:
        success = float(np.mean(np.logical_or.reduceat(data.reward != np.float32(failure), starts)))
    return {
        "transitions": len(data),
        "episodes": len(ends),
        "observation": list(data.observation.shape[1:]),
        "action": int(data.action.shape[1]),
        "terminated_fraction": float(np.mean(data.terminated[ends - 1])),
        "success_fraction": success,
        "episode_length": spread(ends - starts),
        "episode_return": spread(returns),
        "sha256": data.sha256(),
    }


def summarise(stored: Stored) -> dict[str, object]:
    """Raw episode returns, lengths, ends and successes of a dataset, JSON-ready; reads no observation."""
    ends, returns, success = _episodes(stored)
    known = success[~np.isnan(success)]
    return {
        "terminated_fraction": float(np.mean(stored.column("terminated"))),
        "success_fraction": float(known.mean()) if len(known) else None,
        "episode_length": spread(np.diff(ends, prepend=0)),
        "episode_return": spread(returns),
    }


def numbers(stored: Stored, positions: tuple[int, int] | None = None) -> dict[str, object]:
    """Everything that a card draws, JSON-ready.

    `positions`: columns of x and y in a flat observation, if it has a place.  Distributions of observations and
    actions are of SAMPLE rows, which are drawn from a fixed seed.  Numbers that are not finite are counted apart.
    """
    ends, returns, success = _episodes(stored)
    rows = np.arange(len(stored))
    if len(rows) > SAMPLE:
        rows = np.sort(np.random.default_rng(0).choice(len(rows), SAMPLE, replace=False))
    action = DiskRows(stored.column("action"))[rows]
    reward = np.asarray(stored.column("reward")[rows], np.float64)
    seen = stored.current()
    flat = len(seen.shape) == 2
    sampled = reals(stored.made_of, seen[rows]).astype(np.float64) if flat else np.zeros((len(rows), 0))
    card: dict[str, object] = {
        **summarise(stored),
        "sampled_rows": len(rows),
        "returns": histogram(returns),
        "lengths": histogram(np.diff(ends, prepend=0).astype(np.float64)),
        "rewards": histogram(reward),
        "actions": [
            histogram(column, (-1.0, 1.0)) | {"at_bounds": float(np.mean(np.abs(column) > 0.999))}
            for column in action.T[:COLUMNS].astype(np.float64)
        ],
        "observations": [histogram(column) | spread(column[np.isfinite(column)]) for column in sampled.T[:COLUMNS]],
    }
    if positions is not None and flat and not stored.made_of and max(positions) < seen.shape[1]:
        first = np.concatenate([[0], ends[:-1]])
        few = np.linspace(0, len(ends) - 1, min(POINTS, len(ends))).astype(int)
        starts, last = (seen[at[few]][:, positions] for at in (first, ends - 1))
        card["positions"] = {
            "columns": list(positions),
            **_map(sampled[:, positions]),
            "starts": starts.tolist(),
            "ends": last.tolist(),
            "succeeded": [None if np.isnan(s) else bool(s > 0.5) for s in success[few]],
        }
    return card


def histogram(values: np.ndarray, within: tuple[float, float] | None = None) -> dict[str, object]:
    """Edges (B + 1,) and counts (B,) of the finite values, in BINS bins over their range or over `within`."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return {"edges": [0.0, 1.0], "counts": [0], "not_finite": len(values)}
    low, high = (float(finite.min()), float(finite.max())) if within is None else within
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(np.clip(finite, low, high), BINS, (low, high))
    return {"edges": edges.tolist(), "counts": counts.tolist(), "not_finite": int(len(values) - len(finite))}


def spread(values: np.ndarray) -> dict[str, float]:
    """Least, mean, median and largest value, and the standard deviation; 0 where there is none."""
    values = values if len(values) else np.zeros(1)
    with np.errstate(invalid="ignore", over="ignore"):  # of values that are not finite
        deviation = float(values.std())
    return {
        "min": float(values.min()),
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "max": float(values.max()),
        "std": deviation,
    }


def _episodes(stored: Stored) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ends, raw returns and successes of all episodes, (E,)."""
    ends = np.array(stored.column("end"))
    reward, success = stored.column("reward"), np.array(stored.column("success"), np.float64)
    return ends, np.add.reduceat(np.asarray(reward, np.float64), np.concatenate([[0], ends[:-1]])), success


def _map(place: np.ndarray) -> dict[str, object]:
    """How many sampled rows lie in each square cell of a map: edges of x and y, counts (X, Y)."""
    place = place[np.isfinite(place).all(axis=1)]
    low, high = (place.min(axis=0), place.max(axis=0)) if len(place) else (np.zeros(2), np.ones(2))
    side = max(float((high - low).max()) / CELLS, 1e-9)
    shape = np.maximum(np.ceil((high - low) / side).astype(int), 1)
    edges = [low[i] + side * np.arange(shape[i] + 1) for i in (0, 1)]
    at = np.minimum(((place - low) / side).astype(int), shape - 1)
    counts = np.zeros(shape, int)
    np.add.at(counts, (at[:, 0], at[:, 1]), 1)
    return {"x": edges[0].tolist(), "y": edges[1].tolist(), "counts": counts.tolist()}
