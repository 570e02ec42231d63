"""Defaults of options as the API reference shows them: the value alone, without when it has an effect.

An extension of griffe, see mkdocs.yml.
"""

from __future__ import annotations

from typing import Any

import griffe


class Defaults(griffe.Extension):
    """`target_rate: float = option(0.005, when=...)` is shown as 0.005."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Leave the first argument of what makes an option."""
        made = attr.value
        if isinstance(made, griffe.ExprCall) and str(made.function) in ("option", "ours") and made.arguments:
            attr.value = made.arguments[0]
