"""What stands under each picture: the critic's value and the return that followed, as far as the film has come."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from segue.data.extras import need
from segue.report.notation import short
from segue.report.svg import Scale, nice_ticks

# Colours of the report's light page.
PAGE, INK, SOFT, GRID, VALUE, CAME = "#ffffff", "#1d2327", "#5b656d", "#e4e6e6", "#0b6aa8", "#cc5200"
WIDE = 480  # sizes below are those of a picture of this width
SMOOTH = 2  # drawn so much larger, and then made smaller: lines without steps


@dataclass(frozen=True)
class Curves:
    """One episode of T steps: what the critic said at each, and what followed (T,), both up to the episode's end."""

    value: np.ndarray
    came: np.ndarray
    reward: np.ndarray
    """Raw rewards (T,)."""
    success: float
    cut: bool
    """Whether a time limit ended it."""
    title: str
    caption: str


@dataclass(frozen=True)
class Panel:
    """Draws the curves of an episode in a picture of so many pixels."""

    curves: Curves
    width: int
    height: int
    cache: dict[int, Any] = field(default_factory=dict, compare=False)
    """Fonts by their size."""

    def draw(self, step: int) -> np.ndarray:
        """The picture (height, width, 3) after `step` steps; what comes later is not in it."""
        image_of = need("PIL.Image", "video", "a film")
        image = image_of.new("RGB", (SMOOTH * self.width, SMOOTH * self.height), PAGE)
        pen = need("PIL.ImageDraw", "video", "a film").Draw(image)
        self._frame(pen)
        self._words(pen, step)
        seen = min(step + 1, len(self.curves.value))
        for values, colour in ((self.curves.came, CAME), (self.curves.value, VALUE)):
            self._line(pen, values[:seen], colour)
        return np.asarray(image.resize((self.width, self.height), image_of.Resampling.LANCZOS))

    @cached_property
    def _scales(self) -> tuple[Scale, Scale]:
        both = np.concatenate([self.curves.value, self.curves.came, [0.0]])
        low, high = float(np.nanmin(both)), float(np.nanmax(both))
        room = 0.06 * (high - low) or 1.0
        left, right, top, bottom = 46, WIDE - 10, 46, WIDE * self.height / self.width - 20
        steps = Scale(0.0, float(len(self.curves.value)), self._size(left), self._size(right))
        return steps, Scale(low - room, high + room, self._size(bottom), self._size(top))

    def _frame(self, pen: Any) -> None:
        x, y = self._scales
        for tick in nice_ticks(y.low, y.high, 4):
            pen.line([(x.start, float(y(tick))), (x.end, float(y(tick)))], fill=GRID, width=SMOOTH)
            self._text(pen, (x.start - self._size(5), float(y(tick))), short(tick), SOFT, 10, "rm")
        for tick in nice_ticks(x.low, x.high, 5):
            self._text(pen, (float(x(tick)), y.start + self._size(4)), short(tick), SOFT, 10, "mt")

    def _words(self, pen: Any, step: int) -> None:
        c = self.curves
        earned = f"step {step}, return {_number(c.reward[:step].sum())}"
        won = ", success" if step == len(c.reward) and c.success == 1.0 else ""
        self._text(pen, (self._size(8), self._size(5)), f"{c.title} · {earned}{won}", INK, 12, "lt")
        place = self._size(8)
        name = "critic's value up to the cut" if c.cut else "critic's value"
        for text, values, colour in ((name, c.value, VALUE), ("return that followed", c.came, CAME)):
            if np.isnan(values).all():  # a policy without a critic
                continue
            said = f"{text} {_number(_newest(values[: step + 1]))}"
            self._text(pen, (place, self._size(25)), said, colour, 12, "lt")
            place += self._font(12).getlength(said) + self._size(16)
        self._text(pen, (self._size(WIDE - 8), self._size(7)), c.caption, SOFT, 10, "rt")

    def _line(self, pen: Any, values: np.ndarray, colour: str) -> None:
        x, y = self._scales
        there = np.flatnonzero(np.isfinite(values))
        points = [(float(x(n)), float(y(values[n]))) for n in there]
        if len(points) > 1:
            pen.line(points, fill=colour, width=2 * SMOOTH, joint="curve")
        if points:
            (a, b), r = points[-1], self._size(3)
            pen.ellipse([a - r, b - r, a + r, b + r], fill=colour)

    def _text(self, pen: Any, place: tuple[float, float], text: str, colour: str, size: int, anchor: str) -> None:
        plain = text.replace("−", "-")  # Pillow's font has no other minus
        pen.text(place, plain, fill=colour, font=self._font(size), anchor=anchor)

    def _font(self, size: int) -> Any:
        if size not in self.cache:
            self.cache[size] = need("PIL.ImageFont", "video", "a film").load_default(self._size(size))
        return self.cache[size]

    def _size(self, pixels: float) -> int:
        """Pixels of the drawing for those of a picture as wide as `WIDE`."""
        return round(SMOOTH * pixels * self.width / WIDE)


def _newest(values: np.ndarray) -> float:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else np.nan


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4g}".replace("-", "−")
