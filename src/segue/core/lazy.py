"""Names that are imported when they are first used: what only lists or checks words does not wait for JAX."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from typing import Any


@dataclass(frozen=True)
class Later:
    """A class or function of Segue's by where it stands, "module:name"; calling it imports it and calls it."""

    word: str

    def load(self) -> Any:
        """Import it."""
        module, _, name = self.word.partition(":")
        return getattr(importlib.import_module(module), name)

    def __call__(self, *given: Any, **named: Any) -> Any:
        """Import it and call it."""
        return self.load()(*given, **named)


def face(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package whose imports stand under `if TYPE_CHECKING:`.

    Each of these imports is done when its name is first used.  They are read from the package's own text: a name stands
    once, where type checkers look for it.
    """

    @cache
    def places() -> dict[str, tuple[str, str]]:
        loader: Any = sys.modules[package].__loader__
        blocks = [node for node in ast.parse(loader.get_source(package)).body if isinstance(node, ast.If)]
        imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
        return {alias.asname or alias.name: (str(node.module), alias.name) for node in imports for alias in node.names}

    def get(name: str) -> Any:
        if name.startswith("__") or name not in places():
            near = "" if name.startswith("_") else "".join(get_close_matches(name, places(), n=1))
            hint = f"; did you mean {near}?" if near else ""
            raise AttributeError(f"module '{package}' has no attribute '{name}'{hint}")
        module, original = places()[name]
        room = module == package  # "from segue import data": a package inside this one
        found = importlib.import_module(f"{module}.{original}") if room else Later(f"{module}:{original}").load()
        setattr(sys.modules[package], name, found)
        return found

    return get, lambda: sorted({*vars(sys.modules[package]), *places()})
