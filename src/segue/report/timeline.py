"""The horizontal axis of a run: offline updates left of the switch, environment steps right of it, two scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from segue.report.notation import short
from segue.report.run import Curve, Run
from segue.report.statistics import Floats, bootstrap_band, interquartile_mean, resampling
from segue.report.svg import Frame, Scale, box, rule, words

MOST = 240  # moments drawn per curve; more are averaged in bins
BINS = 20  # spans in which training episodes are averaged


@dataclass(frozen=True)
class Series:
    """One quantity of one run, ready to draw: every seed, the interquartile mean, the bootstrap band."""

    label: str
    colour: str  # class of its colour in the style sheet
    x: Floats  # (T,)
    online: np.ndarray  # (T,) bool
    seeds: Floats  # (S, T)
    centre: Floats  # (T,)
    low: Floats  # (T,)
    high: Floats  # (T,)


def series(curve: Curve, name: str, label: str, colour: str) -> Series | None:
    """Quantity `name` of a run's curve, or None where it has no finite number."""
    if not curve.known(name):
        return None
    table = np.where(np.isfinite(curve.values[name]), curve.values[name], np.nan)
    kept = np.isfinite(table).any(axis=0)
    return _series(label, colour, *_thin(curve.x[kept], curve.online[kept], table[:, kept]))


def episode_series(run: Run, name: str, label: str, colour: str) -> Series | None:
    """Training episodes averaged in BINS equal spans of environment steps, or None where none is known."""
    episodes = run.episodes
    value = episodes.values.get(name, np.zeros(0))
    if not np.isfinite(value).any():
        return None
    edges = np.linspace(0.0, float(episodes.environment_step.max()) + 1.0, BINS + 1)
    place = np.digitize(episodes.environment_step, edges) - 1
    inside = [[value[(episodes.seed == seed) & (place == k)] for k in range(BINS)] for seed in range(len(run.seeds))]
    table = np.array([[_mean(found) for found in of_seed] for of_seed in inside])
    kept = np.isfinite(table).any(axis=0)
    middles = (edges[1:] + edges[:-1]) / 2
    return _series(label, colour, middles[kept], np.ones(kept.sum(), bool), table[:, kept])


def _series(label: str, colour: str, x: Floats, online: np.ndarray, table: Floats) -> Series:
    low, high = bootstrap_band(table, resampling(), resamples=1000)
    return Series(label, colour, x, online, table, interquartile_mean(table), low, high)


@dataclass(frozen=True)
class Timeline:
    """Pixels of both halves; a half that no run has is None."""

    offline: Scale | None
    online: Scale | None

    def __call__(self, x: Floats, online: np.ndarray) -> Floats:
        """Pixels (T,) of moments; the last offline and the first online moment meet at the switch."""
        out = np.full(len(x), np.nan)
        for scale, chosen in ((self.offline, ~online), (self.online, online)):
            if scale is not None:
                out[chosen] = scale(x[chosen])
        return out


def timeline(frame: Frame, drawn: Sequence[Series]) -> Timeline:
    """Return the axis that holds all series: a third for the offline part where both parts exist."""
    before = [item.x[~item.online] for item in drawn if (~item.online).any()]
    after = [item.x[item.online] for item in drawn if item.online.any()]
    start = min((float(x.min()) for x in before), default=0.0)
    end = max((float(x.max()) for x in after), default=0.0)
    has_before, has_after = bool(before), bool(after)
    share = 0.32 if has_before and has_after else float(has_before)
    switch = frame.x0 + share * (frame.x1 - frame.x0)
    return Timeline(
        Scale(min(start, -1.0), 0.0, frame.x0, switch) if has_before else None,
        Scale(0.0, max(end, 1.0), switch, frame.x1) if has_after else None,
    )


def draw_timeline(frame: Frame, axis: Timeline, names: bool = True) -> str:
    """Ticks and units of both halves, the tint of the offline one, and the rule at the switch."""
    parts: list[str] = []
    if axis.offline is not None:
        parts.append(box(frame.x0, frame.y1, axis.offline.end - frame.x0, frame.y0 - frame.y1, "offline"))
    for scale, name in ((axis.offline, "offline updates"), (axis.online, "environment steps")):
        if scale is None:
            continue
        width = scale.end - scale.start
        parts += _ticks(frame, scale, width, shared=axis.offline is not None and axis.online is not None)
        if names:
            text = name if width > 7 * len(name) else name.split()[0]
            parts.append(words(scale.start + width / 2, frame.y0 + 34, text, "axis-name mid"))
    parts.append(rule(frame.x0, frame.y0, frame.x1, frame.y0, "axis"))
    if axis.offline is not None and axis.online is not None:
        parts.append(rule(axis.online.start, frame.y1 - 4, axis.online.start, frame.y0, "switch"))
        if names:
            parts.append(words(axis.online.start, frame.y1 - 8, "switch", "switch-name mid"))
    return "".join(parts)


def _ticks(frame: Frame, scale: Scale, width: float, shared: bool) -> list[str]:
    parts = []
    ticks = scale.ticks(max(1, int(width / 64)))
    for tick in ticks or [scale.low]:
        if shared and tick == 0 and scale.high == 0:
            continue  # the online half labels the switch
        x = float(scale(tick))
        near_edge = x > frame.x1 - 14
        at, anchor = (frame.width - 2, "end") if near_edge else (x, "mid")
        parts.append(rule(x, frame.y0, x, frame.y0 + 4, "axis"))
        parts.append(words(at, frame.y0 + 17, short(tick), f"tick {anchor}"))
    return parts


def _thin(x: Floats, online: np.ndarray, table: Floats) -> tuple[Floats, np.ndarray, Floats]:
    """Average neighbouring moments until at most MOST are left on each side of the switch."""
    pieces = []
    for side in (False, True):
        chosen = np.flatnonzero(online == side)
        groups = np.array_split(chosen, min(MOST, len(chosen))) if len(chosen) else []
        pieces += [(x[group].mean(), side, _mean(table[:, group])) for group in groups]
    return (
        np.array([piece[0] for piece in pieces]),
        np.array([piece[1] for piece in pieces], bool),
        np.stack([piece[2] for piece in pieces], axis=1),
    )


def _mean(table: Floats) -> Floats:
    """Mean over the last axis of what is known; NaN where nothing is."""
    known = np.isfinite(table)
    total = np.where(known, table, 0.0).sum(axis=-1)
    return np.asarray(np.where(known.any(axis=-1), total / np.maximum(known.sum(axis=-1), 1), np.nan))
