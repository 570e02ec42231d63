"""Drawing by hand: scales with nice ticks, lines that break at gaps, bands, points, framed axes.

Colours and strokes are classes of `style.py`, so that one drawing serves light, dark and paper.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from segue.report.markup import Markup, element, join, short
from segue.report.statistics import Floats


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


def vertical_axis(frame: Frame, scale: Scale, label: Callable[[float], str] = short, count: int = 5) -> Markup:
    """Horizontal grid lines with their labels on the left."""
    parts = []
    for tick in scale.ticks(count):
        y = float(scale(tick))
        parts.append(rule(frame.x0, y, frame.x1, y, "grid"))
        parts.append(words(frame.x0 - 8, y + 4, label(tick), "tick end"))
    return join(parts)


def horizontal_axis(frame: Frame, scale: Scale, count: int = 5) -> Markup:
    """Tick marks with their labels below."""
    parts = [rule(frame.x0, frame.y0, frame.x1, frame.y0, "axis")]
    for tick in scale.ticks(count):
        x = float(scale(tick))
        parts += [rule(x, frame.y0, x, frame.y0 + 4, "axis"), words(x, frame.y0 + 17, short(tick), "tick mid")]
    return join(parts)


def rule(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=f"{x1:.1f}", y1=f"{y1:.1f}", x2=f"{x2:.1f}", y2=f"{y2:.1f}", class_=style)


def words(x: float, y: float, text: str, style: str) -> Markup:
    """Text with its base line at y; `style` names start, mid or end as anchor."""
    return element("text", text, x=f"{x:.1f}", y=f"{y:.1f}", class_=style)


def line(x: Floats, y: Floats, style: str) -> Markup:
    """Return a polyline (T,) in pixels that breaks where a value is not finite; a lone point becomes a short dash."""
    pieces = []
    for part in _unbroken(np.isfinite(x) & np.isfinite(y)):
        first, *rest = [f"{a:.1f} {b:.1f}" for a, b in zip(x[part], y[part])]
        pieces.append("M" + first + ("L" + "L".join(rest) if rest else "h0.1"))
    return element("path", d="".join(pieces), class_=style)


def band(x: Floats, low: Floats, high: Floats, style: str) -> Markup:
    """Area between two curves (T,) in pixels."""
    pieces = []
    for part in _unbroken(np.isfinite(x) & np.isfinite(low) & np.isfinite(high)):
        there = [f"{a:.1f} {b:.1f}" for a, b in zip(x[part], low[part])]
        back = [f"{a:.1f} {b:.1f}" for a, b in zip(x[part][::-1], high[part][::-1])]
        pieces.append("M" + "L".join(there + back) + "Z")
    return element("path", d="".join(pieces), class_=style)


def points(x: Floats, y: Floats, style: str, radius: float = 2.4) -> Markup:
    """Return a cloud of dots (P,) in pixels."""
    return join([element("circle", cx=f"{a:.1f}", cy=f"{b:.1f}", r=radius, class_=style) for a, b in zip(x, y)])


def picture(frame: Frame, title: str, description: str, body: list[Markup], style: str = "") -> Markup:
    """Return a whole SVG with its name and description for those who cannot see it."""
    inside = join(body)
    mark = "f" + hashlib.sha1(f"{title}{description}{style}{inside}".encode(), usedforsecurity=False).hexdigest()[:10]
    return element(
        "svg",
        element("title", title, id=f"{mark}-t"),
        element("desc", description, id=f"{mark}-d"),
        inside,
        viewBox=f"0 0 {frame.width:g} {frame.height:g}",
        role="img",
        aria_labelledby=f"{mark}-t {mark}-d",
        class_=f"figure {style}".strip(),
    )


def _unbroken(finite: np.ndarray) -> Iterator[slice]:
    """Slices of consecutive True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], finite.astype(int), [0]])))
    for start, end in edges.reshape(-1, 2):
        yield slice(int(start), int(end))
