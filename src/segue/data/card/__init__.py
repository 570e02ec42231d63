"""What a dataset holds, in numbers and pictures by which a reader can judge it."""

from segue.data.card.numbers import describe, numbers, summarise
from segue.data.card.pictures import pictures

__all__ = ["describe", "numbers", "pictures", "summarise"]
