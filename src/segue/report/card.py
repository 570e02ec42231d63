"""The data card: one self-contained page about a dataset."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import numpy as np

from segue.report.figures import colour
from segue.report.notation import count, number, percent, short
from segue.report.svg import Figure, Frame, Scale, box, horizontal_axis, picture, points, vertical_axis
from segue.report.templates import fill


class Histogram(TypedDict):
    """A distribution as a card holds it."""

    edges: list[float]
    counts: list[int]
    not_finite: NotRequired[int]


def card_page(card: Mapping[str, Any], pictures: Mapping[str, Sequence[bytes]] | None = None) -> str:
    """Return the whole HTML page of a card (`segue.data.card.numbers` and a dataset's facts).

    `pictures`: PNG files by the name of the camera.
    """
    row = card["columns"]["observation"]
    parts = card.get("observation_parts") or [["", row["row"], np.dtype(row["dtype"])]]
    sampled = count(card["sampled_rows"])
    actions = [
        _bars(found, f"Action {i}, {percent(found['at_bounds'])} at the bounds", 3, small=True)
        for i, found in enumerate(card["actions"])
    ]
    observations = [
        _bars(found, f"Column {i}, mean {number(found['mean'])}", 0, small=True)
        for i, found in enumerate(card["observations"])
    ]
    return fill(
        "card.html",
        card=card,
        environment=(card.get("environment") or {}).get("env_id", "not named"),
        observation=", ".join(f"{n} {' × '.join(map(str, of)) or '1'} {kind}".strip() for n, of, kind in parts),
        findings=card.get("findings"),  # None: not checked yet
        left_out=card.get("left_out") or {},
        episodes=[
            _bars(card["returns"], "Episode returns, raw", 0),
            _bars(card["lengths"], "Episode lengths, steps", 1),
            _bars(card["rewards"], f"Rewards of {sampled} sampled rows, raw", 2),
        ],
        pictures={name: [b64encode(file).decode() for file in files] for name, files in (pictures or {}).items()},
        positions=card.get("positions"),
        map=_map(card["positions"], sampled) if card.get("positions") else None,
        actions=actions,
        observations=observations,
        facts={key: value for key, value in _facts(card).items() if value not in (None, "", [], {})},
    )


def _bars(found: Histogram, title: str, index: int, small: bool = False) -> Figure:
    """A histogram in the colour of an index."""
    frame = Frame(320, 150 if small else 190, left=46, top=10, bottom=26, right=10)
    edges, counts = np.asarray(found["edges"], float), np.asarray(found["counts"], float)
    across = Scale(edges[0], edges[-1], frame.x0, frame.x1)
    up = Scale(0.0, max(counts.max(), 1.0), frame.y0, frame.y1)
    bars = [
        box(left, top, max(right - left - 0.6, 0.6), frame.y0 - top, "bar")
        for left, right, top, height in zip(across(edges[:-1]), across(edges[1:]), up(counts), counts)
        if height
    ]
    said = f"{title}: {len(counts)} bins from {short(edges[0])} to {short(edges[-1])}"
    lost = found.get("not_finite", 0)
    body = [vertical_axis(frame, up, count=3), *bars, horizontal_axis(frame, across, count=4)]
    drawn = picture(frame, title, said, body, f"small {colour(index)}")
    return Figure(title + (f" ({count(lost)} not finite)" if lost else ""), drawn, "small")


def _map(found: Mapping[str, object], sampled: str) -> Figure:
    """Visited positions: cells shaded by visits, rings where episodes began, dots where they ended."""
    x, y, counts = (np.asarray(found[k], float) for k in ("x", "y", "counts"))
    frame = Frame(640.0, 0, left=50, top=12, bottom=40, right=12)
    height = (frame.x1 - frame.x0) * (y[-1] - y[0]) / (x[-1] - x[0])
    frame = Frame(640.0, height + 52, left=50, top=12, bottom=40, right=12)
    across, up = Scale(x[0], x[-1], frame.x0, frame.x1), Scale(y[0], y[-1], frame.y0, frame.y1)
    side = float(across(x[1]) - across(x[0])) + 0.3
    shade = 0.1 + 0.75 * np.log1p(counts) / np.log1p(counts.max())
    visited = np.argwhere(counts > 0)
    left, upper = across(x[:-1]), up(y[1:])
    cells = [box(left[i], upper[j], side, side, "cell", shade[i, j]) for i, j in visited]
    starts, ends = (np.asarray(found[k], float).reshape(-1, 2) for k in ("starts", "ends"))
    won = np.asarray(found["succeeded"]).astype(bool)
    marks = [points(across(starts[:, 0]), up(starts[:, 1]), "start", 3.4)]
    for style, chosen in (("end lost", ~won), ("end won", won)):
        marks.append(points(across(ends[chosen, 0]), up(ends[chosen, 1]), style, 2.0))
    said = f"{sampled} sampled rows visited {len(visited)} of {counts.size} cells"
    title = "Visited positions"
    body = [vertical_axis(frame, up), horizontal_axis(frame, across), *cells, *marks]
    return Figure(said, picture(frame, title, said, body, "map"), "")


def _facts(card: Mapping[str, Any]) -> dict[str, object]:
    """The provenance of a dataset; some entries may be empty."""
    return {
        "source": card.get("source"),
        "imported": card.get("imported"),
        "SHA-256": card["sha256"],
        "parts": ", ".join(part for part in card.get("parts", []) if part),
        **{f"environment: {k}": v for k, v in (card.get("environment") or {}).items()},
        **{f"notes: {k}": v for k, v in (card.get("notes") or {}).items()},
        **{f"version of {k}": v for k, v in (card.get("versions") or {}).items()},
        "mended": card.get("mended"),
    }
