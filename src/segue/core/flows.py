"""Flow matching: a velocity field that carries noise to actions along straight lines (Lipman et al. 2023, arXiv
2210.02747), as Flow Q-learning and Q-chunking clone policies with it.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from segue.core.nets import Conditional
from segue.core.types import Array


def flow_error(velocity: Conditional, observation: Any, action: Array, noise: Array, time: Array) -> Array:
    """(v(s, x_t, t) - (a - z))^2 at x_t = (1 - t) z + t a, (B, D); noise z (B, D), times t (B, 1) in [0, 1]."""
    between = (1.0 - time) * noise + time * action
    return jnp.square(velocity(observation, jnp.concatenate([between, time], axis=-1)) - (action - noise))


def flowed(velocity: Conditional, observation: Any, noise: Array, steps: int) -> Array:
    """Actions in [-1, 1] that noise (B, D) or (B, N, D) flows to, by `steps` steps of Euler's method and one clip."""
    seen = velocity.see(observation)

    def step(i: Array, x: Array) -> Array:
        time = jnp.full((*x.shape[:-1], 1), i / steps, x.dtype)
        return x + velocity.inner.beside(seen, jnp.concatenate([x, time], axis=-1)) / steps

    return jnp.clip(jax.lax.fori_loop(0, steps, step, noise), -1.0, 1.0)
