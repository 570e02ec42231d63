"""A hand-over that starts afresh within what the rewards of the data allow values to be (OOO)."""

from __future__ import annotations

import jax.numpy as jnp

from segue.core.bounds import Bounds, within
from segue.core.types import Array, Door, SegueError, State
from segue.samplers.subset import First, counts, first_rows


def measured(door: Door, state: State) -> State:
    """Start over as `fresh` does, with bootstrap values bounded by the rewards of the dataset and of the own rows that
    the phase's sampler shows: all of them, or those of `First`.

    In the phase's units the bounds are min r / (1 - discount) and max r / (1 - discount) where rewards have both signs
    (Mark et al. 2023).  Where all have one sign an episode that ends is worth less than that: the bound on the other
    side is one reward (default of ours).  Raises `SegueError` for an agent that keeps no bounds.
    """
    low, high, batch = jnp.asarray(jnp.inf), jnp.asarray(-jnp.inf), door.batch
    shown: Array | None = first_rows(door, batch.share, batch.rows) if isinstance(batch, First) else None
    for view, until in ((door.offline, None), (door.online, shown)):
        count, reward = counts(view), view.replay.reward[view.world]
        there = (count >= 0) & (True if until is None else count < until)
        low = jnp.minimum(low, jnp.min(jnp.where(there, reward, jnp.inf)))
        high = jnp.maximum(high, jnp.max(jnp.where(there, reward, -jnp.inf)))
    low, high = jnp.sort(door.units.reward(jnp.stack([low, high])))
    ever = 1.0 / (1.0 - door.units.discount)
    bounded = within(state, Bounds(jnp.minimum(low, low * ever), jnp.maximum(high, high * ever)))
    if bounded is None:
        raise SegueError("measured: the agent keeps no bounds of its values; give its phase enter=fresh")
    return bounded
