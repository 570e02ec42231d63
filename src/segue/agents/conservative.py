"""Values of sampled actions, as CQL's conservative term and Cal-QL's bound see them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from segue.core.types import Array

BLOCKS = 8


def blocks(rows: int) -> int:
    """How many parts the critics' loss is computed in: on a CPU so many that a part's activations stay in its cache."""
    return BLOCKS if jax.default_backend() == "cpu" and rows % BLOCKS == 0 and rows >= 16 * BLOCKS else 1


class Candidates(NamedTuple):
    """Values (E, B, N) of sampled actions at the current observation, or the actions (B, N, A) themselves."""

    random: Array
    next: Array
    current: Array


Calibration = Callable[[Candidates, Array], Candidates]
"""From sampled values (E, B, N) and the rows' Monte-Carlo returns (B, 1), -inf where they are not known, to the values
that the soft maximum sees."""


def uncalibrated(values: Candidates, mc_return: Array) -> Candidates:
    """CQL's: the values as they are."""
    return values


def soft_maximum(
    q_data: Array, values: Candidates, log_densities: Candidates, temperature: float, importance_sampling: bool
) -> Array:
    """T log sum exp(x / T), (E, B); x: 3N values less log-densities, or 3N raw values and the data's."""
    if importance_sampling:
        x = jnp.concatenate([v - d for v, d in zip(values, log_densities)], axis=-1)
    else:
        x = jnp.concatenate([*values, q_data[..., None]], axis=-1)
    return temperature * jax.nn.logsumexp(x / temperature, axis=-1)
