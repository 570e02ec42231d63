"""Numbers as a report writes them: a real minus sign, thousands separated, a dash for what is missing."""

from __future__ import annotations

import math

import numpy as np

MISSING = "–"


def number(value: float | None) -> str:
    """A number for a table: about three digits, a real minus sign, a dash where there is none."""
    if value is None or math.isnan(value):
        return MISSING
    size = abs(value)
    if math.isinf(size):
        text = "∞"
    elif size >= 1e7 or 0 < size < 1e-3:
        text = f"{size:.2e}".replace("-", "−")
    elif size >= 100:
        text = f"{size:,.0f}" if float(size).is_integer() or size >= 1000 else f"{size:.1f}"
    elif size >= 10:
        text = f"{size:.1f}"
    else:
        text = "0" if size == 0 else f"{size:.3f}" if size < 1 else f"{size:.2f}"
    return f"−{text}" if value < 0 else text


def percent(value: float | None) -> str:
    """A fraction as a percentage with at most one decimal."""
    if value is None or math.isnan(value):
        return MISSING
    text = f"{abs(100 * value):.1f}".removesuffix(".0")
    return f"{'−' if value < 0 and text != '0' else ''}{text} %"


def count(value: float | None) -> str:
    """A whole number with thousands separated."""
    return MISSING if value is None or math.isnan(value) else f"{value:,.0f}".replace("-", "−")


def short(value: float) -> str:
    """A tick label: 250k, 1.5M, −0.25."""
    if value == 0:
        return "0"
    if abs(value) >= 1e12:
        return f"{value:.0e}".replace("e+", "e").replace("-", "−")
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9999:
            return f"{np.format_float_positional(value / size, 4, fractional=False, trim='-')}{suffix}".replace(
                "-", "−"
            )
    if abs(value) < 1e-3:
        return f"{value:.0e}".replace("e-0", "e-").replace("-", "−")
    return np.format_float_positional(value, 4, fractional=False, trim="-").replace("-", "−")
