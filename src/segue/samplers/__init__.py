"""Samplers choose the rows of an update."""

from segue.samplers.oversample import Oversample
from segue.samplers.prioritised import Balanced
from segue.samplers.subset import Last, Prefix, Subset
from segue.samplers.uniform import Blend, Halves, Mix, Union

__all__ = ["Balanced", "Blend", "Halves", "Last", "Mix", "Oversample", "Prefix", "Subset", "Union"]
