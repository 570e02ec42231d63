"""Samplers choose the rows of an update."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.core.lazy import face

if TYPE_CHECKING:
    from segue.samplers.oversample import Oversample
    from segue.samplers.prioritised import Balanced
    from segue.samplers.subset import Last, Prefix, Subset
    from segue.samplers.uniform import Blend, Halves, Mix, Union
else:
    __getattr__, __dir__ = face(__name__)

__all__ = ["Balanced", "Blend", "Halves", "Last", "Mix", "Oversample", "Prefix", "Subset", "Union"]
