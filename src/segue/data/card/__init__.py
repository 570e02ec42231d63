"""The card of a dataset: numbers and pictures by which a reader can judge it."""

from segue.data.card.numbers import describe, numbers, summarise
from segue.data.card.pictures import pictures

__all__ = ["describe", "numbers", "pictures", "summarise"]
