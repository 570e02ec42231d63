"""A drawing of a page as a file of its own: colours written out, title and legend inside; as SVG, PDF and PNG."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from segue.core import files as disk
from segue.core.types import SegueError
from segue.data.extras import need
from segue.report.svg import Figure, words

FONT = "Helvetica, Arial, 'DejaVu Sans', sans-serif"
LETTER = 6.9  # pixels of a letter of 12 pixels, on average and a little more
SAMPLE = 34  # pixels of a legend's piece of line
LINE = 20  # pixels of a legend's line
RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
PIXELS = 3.0  # of a PNG, for each of the drawing


def standalone(figure: Figure, legend: Mapping[str, str]) -> str:
    """A figure as a whole SVG file; `legend` maps names to the classes of their colours, in the order of the lines."""
    drawing = figure.drawing.split("</svg>")[0]  # of two for wide and narrow windows, the wide one
    head, _, inside = drawing.partition(">")
    found = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', head)
    if found is None:
        raise ValueError("a drawing without a viewBox")
    width, height = float(found[1]), float(found[2])
    rows, below = _legend(legend, width)
    top = 26.0
    whole = height + top + below
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="figure" viewBox="0 0 {width:g} {whole:g}" '
        f'width="{width:g}" height="{whole:g}">{inside.partition("</title>")[0]}</title>'
        f'<style>svg {{ font-family: {FONT}; }}\n{_rules()}</style><rect width="{width:g}" height="{whole:g}" '
        f'fill="#ffffff"/>{words(12, 18, figure.title, "switch-name")}<g transform="translate(0 {top:g})">'
        f'{inside.partition("</desc>")[2]}</g><g transform="translate(0 {height + top:g})">{rows}</g></svg>\n'
    )


def _legend(names: Mapping[str, str], width: float) -> tuple[str, float]:
    """Names beside pieces of their lines, in as many rows as they need; and the height of these."""
    parts: list[str] = []
    x, y = 12.0, 14.0
    for name, colour in names.items():
        wide = SAMPLE + 8 + LETTER * len(name)
        if x > 12 and x + wide > width - 12:
            x, y = 12.0, y + LINE
        parts.append(f'<path d="M{x:.1f} {y - 4:.1f}h{SAMPLE}" class="centre {colour}"/>')
        parts.append(words(x + SAMPLE + 6, y, name, "row-name"))
        x += wide + 16
    return "".join(parts), y + 10 if names else 8.0


@cache
def _rules() -> str:
    """The style sheet's rules for drawings in light colours, without variables: not every program knows them."""
    sheet = re.sub(r"/\*.*?\*/", "", (files("segue.report") / "templates" / "style.css").read_text("utf-8"), flags=re.S)
    light = dict(re.findall(r"--(\w+): (#\w+)", sheet.partition("@media")[0]))
    drawn = (files("segue.report") / "templates" / "style.css").read_text("utf-8").partition("/* Drawings */")[2]
    lines = []
    for selector, body in RULE.findall(drawn.partition("/*")[0]):
        name = selector.strip()
        told = re.sub(r"var\(--(?!c\))(\w+)\)", lambda match: light[match[1]], body.strip())
        if name in (".figure", ".narrow"):  # about the size and which of two is shown on a page
            continue
        if "var(--c)" not in told:
            lines.append(f"{name} {{ {told} }}")
            continue
        lines += [f"{name}.run{n} {{ {told.replace('var(--c)', light[f'c{n}'])} }}" for n in range(8)]
    return "\n".join(lines)


def convert(svg: str, path: Path) -> None:
    """Write an SVG as what the path's ending says, PDF or PNG; raises SegueError where the extra `figures` is missing.

    CairoSVG calls the system's library Cairo.
    """
    try:
        cairo = need("cairosvg", "figures", "a figure as PDF or PNG")
    except OSError as error:
        raise SegueError(
            "a figure as PDF or PNG needs the library Cairo, which is not installed: apt-get install libcairo2, "
            "brew install cairo, or conda install cairo"
        ) from error
    if path.suffix == ".pdf":
        disk.write(path, cairo.svg2pdf(bytestring=svg.encode()))
    else:
        disk.write(path, cairo.svg2png(bytestring=svg.encode(), scale=PIXELS))
