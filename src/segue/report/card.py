"""The data card: what a dataset is, on one page that needs nothing else."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segue.report.markup import Markup, count, element, join, number, percent, short
from segue.report.style import STYLE
from segue.report.svg import Frame, Scale, horizontal_axis, picture, vertical_axis

# Beside the report's own style: bars, a map's cells and points, and findings by severity.
CARD_STYLE = """
.bar { fill: var(--c); fill-opacity: .72; } .cell { fill: var(--c0); }
.start { fill: none; stroke: var(--c2); stroke-width: 1.3; }
.end { stroke: none; } .won { fill: var(--c1); } .lost { fill: var(--soft); fill-opacity: .5; }
.severity { font-weight: 600; } .error .severity { color: var(--bad); } .warning .severity { color: var(--c4); }
.note .severity { color: var(--soft); } .findings td { width: 30%; } .findings td:first-child { width: 10%; }
.findings td small { white-space: normal; }
.seen { display: flex; flex-wrap: wrap; gap: 6px; } .seen img { width: 96px; image-rendering: pixelated; }
"""


def card_page(card: Mapping[str, Any], pictures: Mapping[str, Sequence[bytes]] | None = None) -> str:
    """Return the whole HTML page of a card (`segue.data.card.numbers` and a dataset's facts).

    `pictures`: PNG files by the name of the camera.
    """
    title = str(card["name"])
    sections = [_findings(card), _shape(card), _pictures(pictures or {}), _positions(card), _actions(card)]
    sections += [_observations(card), _facts(card)]
    page = element(
        "html",
        element(
            "head",
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", f"{title}: data card"),
            element("style", Markup(STYLE + CARD_STYLE)),
        ),
        element("body", _header(card, title), element("main", [s for s in sections if s])),
        lang="en",
    )
    return f"<!doctype html>\n{page}\n"


def _section(title: str, *body: object) -> Markup:
    return element("section", element("h2", title), *body)


def _header(card: Mapping[str, Any], title: str) -> Markup:
    environment = (card.get("environment") or {}).get("env_id", "not named")
    row = card["columns"]["observation"]
    parts = card.get("observation_parts") or [["", row["row"], np.dtype(row["dtype"])]]
    facts = {
        "environment": environment,
        "transitions": count(card["transitions"]),
        "episodes": count(card["episodes"]),
        "observation": ", ".join(f"{n} {' × '.join(map(str, of)) or '1'} {kind}".strip() for n, of, kind in parts),
        "actions": str(card["columns"]["action"]["row"][0]),
        "SHA-256": str(card["sha256"])[:16],
    }
    below = element(
        "dl", [element("div", element("dt", k), element("dd", v)) for k, v in facts.items()], class_="facts"
    )
    return element("header", element("p", "Segue data card", class_="over"), element("h1", title), below)


def _findings(card: Mapping[str, Any]) -> Markup:
    found = card.get("findings")
    if found is None:
        return _section("What the doctor says", element("p", f"Not examined yet: segue data check {card['name']}"))
    left = card.get("left_out") or {}
    note = element("p", "Not checked: " + "; ".join(f"{k} ({v})" for k, v in left.items()), class_="note-text")
    if not found:
        return _section("What the doctor says", element("p", "Nothing was found."), note if left else Markup(""))
    rows = [
        element(
            "tr",
            element("td", element("span", f["severity"], class_="severity"), element("small", f["code"])),
            element("td", element("strong", f["title"]), element("small", _where(f))),
            element("td", f["why"]),
            element("td", f["cure"]),
            class_=f["severity"],
        )
        for f in found
    ]
    head = element("tr", [element("th", x, scope="col") for x in ("", "what", "why it matters", "what to do")])
    table = element("table", element("thead", head), element("tbody", rows), class_="findings")
    return _section("What the doctor says", element("div", table, class_="scroll"), note if left else Markup(""))


def _where(finding: Mapping[str, Any]) -> str:
    rows = ", ".join(f"episode {e} step {s}" for e, s in finding["rows"][:3])
    return f"{count(finding['count'])} {finding['of']}" + (f": {rows}" if rows else "")


def _shape(card: Mapping[str, Any]) -> Markup:
    of = card["episode_return"]
    known = card["success_fraction"]
    tiles = {
        "mean return": (number(of["mean"]), f"{number(of['min'])} to {number(of['max'])}"),
        "mean length": (number(card["episode_length"]["mean"]), f"up to {count(card['episode_length']['max'])}"),
        "ended, not cut": (percent(card["terminated_fraction"]), "of the episodes"),
        "successes": ("not logged" if known is None else percent(known), "of the episodes that say"),
    }
    cells = [element("div", element("dt", k), element("dd", v, element("small", s))) for k, (v, s) in tiles.items()]
    drawn = [
        _bars(card["returns"], "Episode returns, raw", 0),
        _bars(card["lengths"], "Episode lengths, steps", 1),
        _bars(card["rewards"], f"Rewards of {count(card['sampled_rows'])} sampled rows, raw", 2),
    ]
    return _section("Episodes", element("dl", cells, class_="tiles"), element("div", drawn, class_="grid-of-figures"))


def _pictures(pictures: Mapping[str, Sequence[bytes]]) -> Markup:
    """Rows of pictures, one for each camera, from the log's first row to its last."""
    if not pictures:
        return Markup("")
    rows = []
    for name, files in pictures.items():
        addresses = (f"data:image/png;base64,{b64encode(file).decode()}" for file in files)
        shown = [element("img", src=a, alt=f"{name}, {n + 1} of {len(files)}") for n, a in enumerate(addresses)]
        rows.append(element("figure", element("figcaption", name), element("div", shown, class_="seen")))
    return _section("What was seen", element("p", "Some rows, from the first to the last.", class_="soft"), *rows)


def _actions(card: Mapping[str, Any]) -> Markup:
    drawn = [
        _bars(h, f"Action {i}, {percent(h['at_bounds'])} at the bounds", 3, small=True)
        for i, h in enumerate(card["actions"])
    ]
    note = element("p", f"In [−1, 1], of {count(card['sampled_rows'])} sampled rows.", class_="soft")
    return _section("How actions are used", note, element("div", drawn, class_="grid-of-figures"))


def _observations(card: Mapping[str, Any]) -> Markup:
    if not card["observations"]:
        return Markup("")
    drawn = [
        _bars(h, f"Column {i}, mean {number(h['mean'])}", 0, small=True) for i, h in enumerate(card["observations"])
    ]
    return element(
        "section",
        element("h2", "What observations hold"),
        element(
            "details", element("summary", f"{len(drawn)} columns"), element("div", drawn, class_="grid-of-figures")
        ),
    )


def _bars(found: Mapping[str, Any], title: str, colour: int, small: bool = False) -> Markup:
    """A histogram under its title."""
    frame = Frame(320, 150 if small else 190, left=46, top=10, bottom=26, right=10)
    edges, counts = np.asarray(found["edges"], float), np.asarray(found["counts"], float)
    across = Scale(edges[0], edges[-1], frame.x0, frame.x1)
    up = Scale(0.0, max(counts.max(), 1.0), frame.y0, frame.y1)
    bars = []
    for left, right, height in zip(across(edges[:-1]), across(edges[1:]), counts):
        if height:
            top = float(up(height))
            wide = max(float(right - left) - 0.6, 0.6)
            bars.append(
                element(
                    "rect",
                    x=f"{left:.1f}",
                    y=f"{top:.1f}",
                    width=f"{wide:.1f}",
                    height=f"{frame.y0 - top:.1f}",
                    class_="bar",
                )
            )
    said = f"{title}: {len(counts)} bins from {short(edges[0])} to {short(edges[-1])}"
    lost = found.get("not_finite", 0)
    body = [vertical_axis(frame, up, count=3), *bars, horizontal_axis(frame, across, count=4)]
    drawn = picture(frame, title, said, body, f"small run{colour}")
    caption = title + (f" ({count(lost)} not finite)" if lost else "")
    return element("figure", element("figcaption", caption), drawn, class_="small")


def _positions(card: Mapping[str, Any]) -> Markup:
    found = card.get("positions")
    if not found:
        return Markup("")
    x, y, counts = (np.asarray(found[k], float) for k in ("x", "y", "counts"))
    wide, high = x[-1] - x[0], y[-1] - y[0]
    width = 640.0
    frame = Frame(width, 0, left=50, top=12, bottom=40, right=12)
    frame = Frame(width, (frame.x1 - frame.x0) * high / wide + 52, left=50, top=12, bottom=40, right=12)
    across, up = Scale(x[0], x[-1], frame.x0, frame.x1), Scale(y[0], y[-1], frame.y0, frame.y1)
    side = float(across(x[1]) - across(x[0]))
    most = np.log1p(counts.max())
    cells = [
        element(
            "rect",
            x=f"{float(across(x[i])):.1f}",
            y=f"{float(up(y[j + 1])):.1f}",
            width=f"{side + 0.3:.1f}",
            height=f"{side + 0.3:.1f}",
            fill_opacity=f"{0.1 + 0.75 * np.log1p(counts[i, j]) / most:.2f}",
            class_="cell",
        )
        for i, j in np.argwhere(counts > 0)
    ]
    frames = [vertical_axis(frame, up), horizontal_axis(frame, across)]
    marks = [_dots(across, up, found["starts"], ["start"] * len(found["starts"]), 3.4)]
    won = ["end won" if s else "end lost" for s in found["succeeded"]]
    marks.append(_dots(across, up, found["ends"], won, 2.0))
    title = "Where the log has been"
    said = (
        f"{int((counts > 0).sum())} of {counts.size} cells were visited by {count(card['sampled_rows'])} sampled rows"
    )
    drawn = picture(frame, title, said, [*frames, *cells, *marks], "wide map")
    note = (
        f"{said}; darker is more often, on a logarithmic scale.  Rings: where {len(found['starts'])} of the episodes "
        "began; dots: where they ended, in colour where the log says that they succeeded."
    )
    return _section(title, element("figure", drawn), element("p", note, class_="note-text"))


def _dots(across: Scale, up: Scale, places: Sequence[Sequence[float]], styles: Sequence[str], radius: float) -> Markup:
    dots = []
    for (px, py), style in zip(places, styles):
        if np.isfinite(px) and np.isfinite(py):
            dots.append(
                element("circle", cx=f"{float(across(px)):.1f}", cy=f"{float(up(py)):.1f}", r=radius, class_=style)
            )
    return join(dots)


def _facts(card: Mapping[str, Any]) -> Markup:
    shown = {
        "source": card.get("source"),
        "imported": card.get("imported"),
        "SHA-256": card["sha256"],
        "parts": ", ".join(p for p in card.get("parts", []) if p) or None,
        **{f"environment: {k}": v for k, v in (card.get("environment") or {}).items()},
        **{f"notes: {k}": v for k, v in (card.get("notes") or {}).items()},
        **{f"version of {k}": v for k, v in (card.get("versions") or {}).items()},
        "mended": card.get("mended"),
    }
    rows = [
        element("tr", element("th", k, scope="row"), element("td", str(v), class_="value"))
        for k, v in shown.items()
        if v not in (None, "", [], {})
    ]
    return _section("Where it is from", element("table", element("tbody", rows)))
