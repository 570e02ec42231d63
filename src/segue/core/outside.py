"""Rows that stay with the host."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from segue.core.types import Array


@jax.tree_util.register_static
class Outside:
    """Rows (1, N, ...) of a dataset that is larger than the device: they stay with the host, which is asked for them.

    `rows` gives rows for arrays of integers (`segue.data.store.DiskRows`).  Each batch costs a call to the host.
    """

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    @property
    def dtype(self) -> np.dtype:
        """Type of the numbers."""
        return np.dtype(self.rows.dtype)

    @property
    def shape(self) -> tuple[int, ...]:
        """(1, N, ...)."""
        return (1, *self.rows.shape)

    def __getitem__(self, at: tuple[Array, Array]) -> Array:
        found = jax.ShapeDtypeStruct((*at[1].shape, *self.rows.shape[1:]), self.dtype)
        return jax.pure_callback(lambda wanted: self.rows[np.asarray(wanted)], found, at[1], vmap_method="expand_dims")
