"""What is kept of a log that may not fit into memory: moments, bounded random samples, hashes."""

from __future__ import annotations

from functools import lru_cache

import numpy as np


class Moments:
    """Count, mean, standard deviation, least and greatest value of each column of rows (N, D), block by block."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean, self._square = np.zeros(size), np.zeros(size)
        self.least, self.most = np.full(size, np.inf), np.full(size, -np.inf)

    def add(self, rows: np.ndarray) -> None:
        """Add rows (T, D), by the rule of Chan, Golub and LeVeque."""
        block = rows.astype(np.float64)
        if not len(block):
            return
        mean, total = block.mean(0), self.count + len(block)
        apart = mean - self.mean
        self._square += ((block - mean) ** 2).sum(0) + apart**2 * self.count * len(block) / total
        self.mean += apart * len(block) / total
        self.least, self.most = np.minimum(self.least, block.min(0)), np.maximum(self.most, block.max(0))
        self.count = total

    @property
    def std(self) -> np.ndarray:
        """Standard deviation (D,)."""
        return np.sqrt(self._square / max(self.count, 1))


class Sample:
    """A uniform random sample of at most `size` rows of a stream: those with the smallest of random numbers.

    `draw` says which rows of a block may stay, `put` takes those rows' columns in the same order.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size, self._rng, self._limit = size, np.random.default_rng(seed), 1.0
        self._blocks: list[dict[str, np.ndarray]] = []
        self._waiting = np.zeros(0)
        self._held = 0

    def draw(self, count: int) -> np.ndarray:
        """Return rows (K,) of a block of `count` that are to be `put`."""
        numbers = self._rng.random(count)
        chosen = np.flatnonzero(numbers < self._limit)
        self._waiting = numbers[chosen]
        return chosen

    def put(self, columns: dict[str, np.ndarray]) -> None:
        """Keep the rows that were drawn last."""
        if not len(self._waiting):
            return
        self._blocks.append({**columns, "_": self._waiting})
        self._held += len(self._waiting)
        if self._held > 2 * self.size:
            self._shrink()

    def columns(self) -> dict[str, np.ndarray]:
        """The sample; empty if nothing was drawn."""
        if self._blocks:
            self._shrink()
        return {k: v for k, v in self._blocks[0].items() if k != "_"} if self._blocks else {}

    def _shrink(self) -> None:
        joined = {name: np.concatenate([b[name] for b in self._blocks]) for name in self._blocks[0]}
        order = np.argsort(joined["_"])[: self.size]
        if len(order) == self.size:
            self._limit = float(joined["_"][order[-1]])
        self._blocks = [{name: column[order] for name, column in joined.items()}]
        self._held = len(order)


class Repeats:
    """Which hashes were seen before, in bounded memory: of many, only those below a falling limit are kept.

    A row's hash decides whether it is looked at, so a row and its copy are looked at both or neither.
    """

    def __init__(self, size: int) -> None:
        self.size, self._limit, self._kept = size, 2**64 - 1, np.zeros(0, np.uint64)
        self._blocks: list[np.ndarray] = []
        self._held = 0

    def add(self, hashes: np.ndarray) -> None:
        """Add hashes (T,) uint64."""
        taken = hashes[hashes <= np.uint64(self._limit)]
        self._blocks.append(taken)
        self._held += len(taken)
        while self._held > self.size:
            joined = np.concatenate(self._blocks)
            self._limit //= 2
            self._blocks = [joined[joined <= np.uint64(self._limit)]]
            self._held = len(self._blocks[0])

    def share(self) -> tuple[float, int]:
        """Share of rows that repeat an earlier one, and how many rows were looked at."""
        joined = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.uint64)
        return (1.0 - len(np.unique(joined)) / len(joined) if len(joined) else 0.0), len(joined)


@lru_cache(64)
def _factors(place: int, size: int) -> np.ndarray:
    """Odd random factors (size,) uint64."""
    return np.random.default_rng(place).integers(1, 2**63, size, np.uint64) * np.uint64(2) + np.uint64(1)


def row_hashes(*columns: np.ndarray) -> np.ndarray:
    """64-bit hashes (T,) of rows: of the bits, so that only equal values are equal."""
    total = np.zeros(len(columns[0]), np.uint64)
    for place, column in enumerate(columns):
        if not len(column):
            continue
        octets = np.ascontiguousarray(column).reshape(len(column), -1).view(np.uint8)
        if octets.shape[1] % 4:
            octets = np.pad(octets, ((0, 0), (0, -octets.shape[1] % 4)))
        words = octets.view(np.uint32).astype(np.uint64)
        total += (words * _factors(place, words.shape[1])).sum(1, dtype=np.uint64)
    # The sum alone is linear, so that small differences of two columns could cancel in the low bits.
    total ^= total >> np.uint64(33)
    total *= np.uint64(0xFF51AFD7ED558CCD)
    return np.asarray(total ^ (total >> np.uint64(33)))
