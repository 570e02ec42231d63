"""The pages' structure: Jinja templates and one style sheet.  Text is escaped unless it is a drawing of `report.svg`.

page.html      head, style sheet, header and main part of every page
parts.html     what pages share: tables, figures, facts, legends
report.html    one run, or several of one task compared
study.html     runs of several tasks
card.html      one dataset
style.css      light, dark and paper; nothing is fetched
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from segue.report.notation import count, number, percent

if TYPE_CHECKING:
    from jinja2 import Environment


def fill(template: str, **values: object) -> str:
    """Return the page that a template makes of values; a name that the template does not know is an error."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined  # here, since only a page needs it

    loader = PackageLoader("segue.report", "templates")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"count": count, "number": number, "percent": percent}
    return made
