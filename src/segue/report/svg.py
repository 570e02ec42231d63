"""Drawing by hand: scales with nice ticks, lines that break at gaps, bands, points, framed axes.

A chart is coordinates from end to end, so code writes it and no template does; a plotting library would bring colours
of its own.  Here colours and strokes are classes of templates/style.css: one drawing serves light, dark and paper.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from segue.report.notation import short
from segue.report.statistics import Floats


class Svg(str):
    """A drawing; its text has been escaped, so templates take it as it is."""

    __slots__ = ()

    def __html__(self) -> str:
        return self


class Figure(NamedTuple):
    """A drawing under its title; `style` is a class of the style sheet."""

    title: str
    drawing: Svg
    style: str


@dataclass(frozen=True)
class Scale:
    """Maps data from `low`..`high` to pixels from `start`..`end`, linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: ArrayLike) -> Floats:
        """Pixels of values of any shape."""
        data, low, high = np.asarray(value, np.float64), self.low, self.high
        if self.log:
            data, low, high = np.log10(data), math.log10(low), math.log10(high)
        return self.start + (data - low) / (high - low) * (self.end - self.start)

    def ticks(self, count: int) -> list[float]:
        """About `count` round values within the scale."""
        if not self.log:
            return nice_ticks(self.low, self.high, count)
        decades = range(math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9) + 1)
        return [10.0**power for power in decades][:: max(1, round(len(decades) / count))]


def nice_ticks(low: float, high: float, count: int) -> list[float]:
    """Multiples of 1, 2, 2.5 or 5 times a power of ten within [low, high], about `count` of them."""
    rough = (high - low) / max(count, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * power >= rough * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(np.round(index * step, 12)) for index in range(first, last + 1)]


def fitted(values: Floats, start: float, end: float) -> Scale:
    """Return a scale around all finite values; logarithmic where they are positive and span three decades."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    if low > 0 and high / low > 1e3:
        return Scale(low / 1.3, high * 1.3, start, end, log=True)
    pad = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return Scale(low - pad, high + pad, start, end)


@dataclass(frozen=True)
class Frame:
    """The plotting area inside a picture of `width` by `height`."""

    width: float
    height: float
    left: float = 52.0
    right: float = 12.0
    top: float = 16.0
    bottom: float = 40.0

    @property
    def x0(self) -> float:
        """Left edge."""
        return self.left

    @property
    def x1(self) -> float:
        """Right edge."""
        return self.width - self.right

    @property
    def y0(self) -> float:
        """Lower edge, where the horizontal axis is."""
        return self.height - self.bottom

    @property
    def y1(self) -> float:
        """Upper edge."""
        return self.top


def vertical_axis(frame: Frame, scale: Scale, label: Callable[[float], str] = short, count: int = 5) -> str:
    """Horizontal grid lines with their labels on the left."""
    parts = []
    for tick in scale.ticks(count):
        y = float(scale(tick))
        parts += [rule(frame.x0, y, frame.x1, y, "grid"), words(frame.x0 - 8, y + 4, label(tick), "tick end")]
    return "".join(parts)


def horizontal_axis(frame: Frame, scale: Scale, count: int = 5) -> str:
    """Tick marks with their labels below."""
    parts = [rule(frame.x0, frame.y0, frame.x1, frame.y0, "axis")]
    for tick in scale.ticks(count):
        x = float(scale(tick))
        parts += [rule(x, frame.y0, x, frame.y0 + 4, "axis"), words(x, frame.y0 + 17, short(tick), "tick mid")]
    return "".join(parts)


def rule(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """Return a straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{style}"/>'


def box(x: float, y: float, width: float, height: float, style: str, opacity: float = 1.0) -> str:
    """Return a filled rectangle with (x, y) as its upper left corner."""
    clear = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{clear} class="{style}"/>'


def words(x: float, y: float, text: str, style: str) -> str:
    """Text with its base line at y; `style` names start, mid or end as anchor."""
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{style}">{escape(text)}</text>'


def line(x: Floats, y: Floats, style: str) -> str:
    """Return a polyline (T,) in pixels that breaks where a value is not finite; a lone point becomes a short dash."""
    pieces = []
    for part in _unbroken(np.isfinite(x) & np.isfinite(y)):
        first, *rest = [f"{a:.1f} {b:.1f}" for a, b in zip(x[part], y[part])]
        pieces.append("M" + first + ("L" + "L".join(rest) if rest else "h0.1"))
    return f'<path d="{"".join(pieces)}" class="{style}"/>'


def band(x: Floats, low: Floats, high: Floats, style: str) -> str:
    """Area between two curves (T,) in pixels."""
    pieces = []
    for part in _unbroken(np.isfinite(x) & np.isfinite(low) & np.isfinite(high)):
        there = [f"{a:.1f} {b:.1f}" for a, b in zip(x[part], low[part])]
        back = [f"{a:.1f} {b:.1f}" for a, b in zip(x[part][::-1], high[part][::-1])]
        pieces.append("M" + "L".join(there + back) + "Z")
    return f'<path d="{"".join(pieces)}" class="{style}"/>'


def points(x: Floats, y: Floats, style: str, radius: float = 2.4) -> str:
    """Return a cloud of dots (P,) in pixels, without those that are not finite."""
    known = np.isfinite(x) & np.isfinite(y)
    return "".join(
        f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{radius}" class="{style}"/>' for a, b in zip(x[known], y[known])
    )


def picture(frame: Frame, title: str, description: str, body: Sequence[str], style: str = "") -> Svg:
    """Return a whole SVG, with a name and a description for screen readers."""
    inside, kind = "".join(body), f"figure {style}".strip()
    mark = "f" + hashlib.sha1(f"{title}{description}{style}{inside}".encode(), usedforsecurity=False).hexdigest()[:10]
    return Svg(
        f'<svg viewBox="0 0 {frame.width:g} {frame.height:g}" role="img" aria-labelledby="{mark}-t {mark}-d" '
        f'class="{kind}"><title id="{mark}-t">{escape(title)}</title><desc id="{mark}-d">{escape(description)}</desc>'
        f"{inside}</svg>"
    )


def _unbroken(finite: np.ndarray) -> Iterator[slice]:
    """Slices of consecutive True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], finite.astype(int), [0]])))
    for start, end in edges.reshape(-1, 2):
        yield slice(int(start), int(end))
