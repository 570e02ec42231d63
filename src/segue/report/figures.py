"""The pictures of a report, each a self-contained SVG: one colour and one dash pattern per run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from segue.report.notation import percent, short
from segue.report.statistics import Floats
from segue.report.svg import (
    Figure,
    Frame,
    Scale,
    Svg,
    band,
    fitted,
    horizontal_axis,
    line,
    picture,
    points,
    rule,
    vertical_axis,
    words,
)
from segue.report.timeline import Series, draw_timeline, timeline

COLOURS = 8  # that the style sheet has
FRACTIONS = {"success"}  # drawn as percentages from 0 to 100

NAMES = {
    "success": "Success",
    "score": "Normalised score",
    "return": "Return",
    "length": "Episode length",
    "critic_loss": "Critic loss",
    "actor_loss": "Actor loss",
    "q_data": "Q on data",
    "temperature": "Temperature",
    "conservative_gap": "Conservative gap",
    "bound_rate_current": "Bound rate, current action",
    "bound_rate_next": "Bound rate, next action",
    "bound_rate": "Bound rate",
}


def name_of(quantity: str) -> str:
    """A quantity's name for readers."""
    return NAMES.get(quantity) or quantity.replace("_", " ").capitalize()


def is_fraction(quantity: str) -> bool:
    """Whether a quantity is a fraction, shown in per cent."""
    shares = quantity.startswith("bound_rate") or quantity.endswith(("_bonus_share", "_saturation"))
    return quantity in FRACTIONS or shares


def colour(index: int) -> str:
    """Return the class of the run at `index`."""
    return f"run{index % COLOURS}"


def learning_curve(drawn: Sequence[Series], quantity: str, of: str, single: bool = True) -> Figure:
    """Evaluations over a whole run, twice: for wide and for narrow windows (the style sheet shows one of them).

    Without `single`, single seeds are not drawn.
    """
    title = f"{name_of(quantity)} in {of}"
    wide = _over_time(Frame(940, 380, left=56, top=28, bottom=46), drawn, quantity, title, "wide", single=single)
    narrow = _over_time(Frame(400, 300, left=46, top=28, bottom=46), drawn, quantity, title, "narrow", single=single)
    return Figure(name_of(quantity), Svg(wide + narrow), "big")


def middle_curve(drawn: Sequence[Series], quantity: str, title: str) -> Figure:
    """Return one of a few pictures of half the page's width."""
    frame = Frame(460, 250, left=50, top=24, bottom=44, right=14)
    return Figure(title, _over_time(frame, drawn, quantity, title), "middle")


def small_curve(drawn: Sequence[Series], quantity: str) -> Figure:
    """Return one of many small pictures."""
    frame, title = Frame(320, 178, left=46, top=12, bottom=24, right=14), name_of(quantity)
    return Figure(title, _over_time(frame, drawn, quantity, title, names=False), "small")


def _over_time(
    frame: Frame,
    drawn: Sequence[Series],
    quantity: str,
    title: str,
    style: str = "",
    names: bool = True,
    single: bool = True,
) -> Svg:
    parts = [(item.seeds,) if single else (item.centre, item.low, item.high) for item in drawn]
    extent = np.concatenate([np.ravel(part) for of in parts for part in of])
    fraction = is_fraction(quantity)
    scale = Scale(-0.02, 1.02, frame.y0, frame.y1) if fraction else fitted(extent, frame.y0, frame.y1)
    axis = timeline(frame, drawn)
    label: Callable[[float], str] = percent if fraction else short
    body = [draw_timeline(frame, axis, names), vertical_axis(frame, scale, label, 5 if names else 4)]
    pixels = [axis(item.x, item.online) for item in drawn]
    for item, x in zip(drawn, pixels):
        if len(item.seeds) > 1:
            body.append(band(x, scale(item.low), scale(item.high), f"band {item.colour}"))
            body += [line(x, scale(seed), f"seed {item.colour}") for seed in item.seeds] if single else []
    body += [line(x, scale(item.centre), f"centre {item.colour}") for item, x in zip(drawn, pixels)]
    if names and len(drawn) == 1 and len(pixels[0]) <= 60:
        body.append(points(pixels[0], scale(drawn[0].centre), f"dot {drawn[0].colour}"))
    return picture(frame, title, _in_words(drawn, fraction), body, style)


def _in_words(drawn: Sequence[Series], fraction: bool) -> str:
    show = percent if fraction else short
    ends = [
        f"{item.label}: {len(item.seeds)} seeds, interquartile mean from {show(float(item.centre[0]))} at "
        f"{_when(item, 0)} to {show(float(item.centre[-1]))} at {_when(item, -1)}"
        for item in drawn
    ]
    return "; ".join(ends) + "."


def _when(item: Series, index: int) -> str:
    at = float(item.x[index])
    return f"environment step {at:,.0f}" if item.online[index] else f"{-at:,.0f} updates before the switch"


def calibration(q: Floats, mc_return: Floats, run: str, colour: str, title: str) -> Figure:
    """Q (P,) over Monte-Carlo return (P,) of fresh episodes; above the identity line Q is too high."""
    frame = Frame(320, 320, left=50, top=28, bottom=46)
    both = np.concatenate([q, mc_return])
    reach = fitted(both, 0.0, 1.0)
    low, high = (reach.low, reach.high) if not reach.log else (0.0, float(both.max()) * 1.06)
    across, up = Scale(low, high, frame.x0, frame.x1), Scale(low, high, frame.y0, frame.y1)
    body = [
        vertical_axis(frame, up),
        horizontal_axis(frame, across, 4),
        rule(frame.x0, frame.y0, frame.x1, frame.y1, "identity"),
        words(frame.x0 + 8, frame.y1 + 14, "Q too high", "note"),
        words(frame.x1 - 6, frame.y0 - 8, "Q too low", "note end"),
        points(across(mc_return), up(q), f"cloud {colour}", 2.6),
        words((frame.x0 + frame.x1) / 2, frame.y0 + 36, "Monte-Carlo return", "axis-name mid"),
        words(frame.x0 - 8, frame.y1 - 14, "Q", "axis-name end"),
    ]
    above = float(np.mean(q > mc_return))
    description = f"{run}: {len(q)} pairs, {percent(above)} of them above the identity line."
    return Figure(title, picture(frame, title, description, body), "small square")
