"""Random numbers that come from a state: what an evaluated policy draws with, so that it stays a function of the state.

One key serves all steps of an evaluation, a saved policy is asked without one, and an exported one has none.  So draws
that a policy needs also where it does not explore are a hash of the observation's bits: they differ from state to
state as fresh ones do, and are the same wherever the state is the same.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from segue.core.nets import rows_of
from segue.core.types import Array, Key


def keys_of_states(observation: Any) -> Array:
    """A key for each observation of a batch, (B,)."""
    numbers = [x.reshape(x.shape[0], -1).astype(jnp.float32) for x in jax.tree.leaves(observation)]
    bits = jax.lax.bitcast_convert_type(jnp.concatenate(numbers, axis=-1), jnp.uint32)
    odd = jnp.uint32(0x9E3779B1) * (2 * jnp.arange(bits.shape[-1], dtype=jnp.uint32) + 1)
    hashed = jnp.sum(bits * odd, axis=-1, dtype=jnp.uint32)
    return jax.vmap(lambda number: jax.random.fold_in(jax.random.key(0), number))(hashed)


def drawn(observation: Any, key: Key, explore: bool, shape: tuple[int, ...]) -> Array:
    """Standard normal draws (B, *shape): fresh ones where a policy explores, else functions of the observations."""
    if explore:
        return jax.random.normal(key, (rows_of(observation), *shape))
    return jax.vmap(lambda own: jax.random.normal(own, shape))(keys_of_states(observation))
