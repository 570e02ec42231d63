"""The figures of a study: scores with intervals, performance profiles, sample efficiency, curves of each task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from segue.report.figures import learning_curve, name_of
from segue.report.notation import percent, short
from segue.report.over_tasks import Band, performance_profile, stratified_band
from segue.report.run import stand_in_words
from segue.report.statistics import Floats, Interval, resampling
from segue.report.study import OnTask, Study
from segue.report.study_tables import over
from segue.report.svg import (
    Figure,
    Frame,
    Scale,
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
from segue.report.timeline import series

THRESHOLDS = 101
ROW = 40  # pixels of a method in the figure of intervals


class Curve(NamedTuple):
    """A line with its band, ready to draw."""

    label: str
    colour: str
    x: Floats
    band: Band


def overview(study: Study) -> dict[str, Figure]:
    """The figures over tasks, by a short name; none without a complete method."""
    labels = [label for label in study.complete if label in study.shown]
    if not labels:
        return {}
    return {
        "scores": _intervals(study, labels),
        "profiles": _profiles(study, labels),
        "sample efficiency": _efficiency(study, labels),
    }


def of_task(study: Study, one: OnTask) -> Figure | None:
    """Learning curves of a task: interquartile means and bands, without single seeds."""
    quantity = one.members[0].summary.quantity
    found = [
        series(member.run.evaluation, quantity, member.label, member.colour)
        for member in one.members
        if member.label in study.shown
    ]
    drawn = [item for item in found if item is not None]
    judged = dict.fromkeys(stand_in_words(m.run) if m.run.stand_in else "evaluation episodes" for m in one.members)
    if not drawn:
        return None
    made = learning_curve(drawn, quantity, ", and in ".join(judged), single=False)
    return Figure(f"{name_of(quantity)} on {one.task}", made.drawing, made.style)


def _intervals(study: Study, labels: Sequence[str]) -> Figure:
    found = [over(study, label, "final") for label in labels]
    frame = Frame(460, 62 + ROW * len(labels), left=14, top=12, bottom=46, right=14)
    reach = fitted(np.array([[*x] for x in found]).ravel(), frame.x0, frame.x1)
    scale = Scale(reach.low, reach.high, frame.x0, frame.x1)
    body = [_upright(frame, scale), horizontal_axis(frame, scale)]
    for place, (label, interval) in enumerate(zip(labels, found)):
        y, style = frame.y1 + ROW * (place + 1) - 8, study.shown[label]
        body += [words(frame.x0, y - 12, label, "row-name"), _whisker(scale, interval, y, style)]
    body.append(words((frame.x0 + frame.x1) / 2, frame.y0 + 36, "score at the end", "axis-name mid"))
    told = "; ".join(f"{label}: {short(x.point)}" for label, x in zip(labels, found))
    title = "Scores over all tasks"
    return Figure(title, picture(frame, title, f"Interquartile means with 95 % intervals. {told}.", body), "middle")


def _whisker(scale: Scale, interval: Interval, y: float, style: str) -> str:
    low, high = (interval.point if np.isnan(end) else end for end in interval[1:])
    at = np.array([float(scale(interval.point))])
    bar = rule(float(scale(low)), y, float(scale(high)), y, f"whisker {style}")
    return bar + points(at, np.array([y]), f"mark {style}", 4.5)


def _upright(frame: Frame, scale: Scale) -> str:
    return "".join(rule(float(x), frame.y1, float(x), frame.y0, "grid") for x in scale(scale.ticks(5)))


def _profiles(study: Study, labels: Sequence[str]) -> Figure:
    finals = {label: study.over_tasks(label, "final") for label in labels}
    every = np.concatenate([scores for of in finals.values() for scores in of])
    low, high = min(0.0, float(np.nanmin(every))), max(100.0, float(np.nanmax(every)))
    grid = np.linspace(low, high, THRESHOLDS)
    drawn = [
        Curve(label, study.shown[label], grid, performance_profile(of, grid, resampling()))
        for label, of in finals.items()
    ]
    return _lines(drawn, "Performance profiles", "score τ", "share of runs above τ", fraction=True)


def _efficiency(study: Study, labels: Sequence[str]) -> Figure:
    grid = study.grid()
    drawn = [
        Curve(label, study.shown[label], grid, stratified_band(study.curves(label, grid), resampling()))
        for label in labels
    ]
    return _lines(drawn, "Sample efficiency over all tasks", "environment steps since the switch", "score")


def _lines(drawn: Sequence[Curve], title: str, x_name: str, y_name: str, fraction: bool = False) -> Figure:
    frame = Frame(460, 280, left=50, top=26, bottom=46, right=14)
    ends = np.concatenate([np.concatenate(item.band) for item in drawn])
    up = Scale(-0.02, 1.02, frame.y0, frame.y1) if fraction else fitted(ends, frame.y0, frame.y1)
    x = np.concatenate([item.x for item in drawn])
    across = Scale(float(x.min()), max(float(x.max()), float(x.min()) + 1.0), frame.x0, frame.x1)
    body = [vertical_axis(frame, up, percent if fraction else short), horizontal_axis(frame, across)]
    body += [band(across(item.x), up(item.band.low), up(item.band.high), f"band {item.colour}") for item in drawn]
    body += [line(across(item.x), up(item.band.centre), f"centre {item.colour}") for item in drawn]
    body += [
        words((frame.x0 + frame.x1) / 2, frame.y0 + 36, x_name, "axis-name mid"),
        words(frame.x0 - 42, frame.y1 - 12, y_name, "axis-name"),
    ]
    show = percent if fraction else short
    told = [f"{i.label}: from {show(float(i.band.centre[0]))} to {show(float(i.band.centre[-1]))}" for i in drawn]
    return Figure(title, picture(frame, title, f"{x_name} and {y_name}. {'; '.join(told)}.", body), "middle")
