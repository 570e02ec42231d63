"""A hand-over that starts afresh within what the rewards of the data allow values to be (OOO)."""

from __future__ import annotations

import jax.numpy as jnp

from segue.core.bounds import Bounds, within
from segue.core.types import Array, Handover, SegueError, State
from segue.samplers.subset import Prefix, counts, prefix_rows


def measured(handover: Handover, state: State) -> State:
    """Start over as `fresh` does, with bootstrap values bounded by the rewards of the dataset and of the own rows that
    the phase's sampler shows: all of them, or those of `Prefix`.

    In the phase's scaling the bounds are min r / (1 - discount) and max r / (1 - discount) where rewards have both
    signs (Mark et al. 2023). Where all have one sign an episode that ends is worth less than that: the bound on the
    other side is one reward (default of ours). Raises `SegueError` for an agent that keeps no bounds.
    """
    low, high, batch = jnp.asarray(jnp.inf), jnp.asarray(-jnp.inf), handover.batch
    shown: Array | None = prefix_rows(handover, batch.share, batch.rows) if isinstance(batch, Prefix) else None
    for view, until in ((handover.offline, None), (handover.online, shown)):
        count, reward = counts(view), view.replay.reward[view.lane]
        there = (count >= 0) & (True if until is None else count < until)
        low = jnp.minimum(low, jnp.min(jnp.where(there, reward, jnp.inf)))
        high = jnp.maximum(high, jnp.max(jnp.where(there, reward, -jnp.inf)))
    low, high = jnp.sort(handover.scaling.reward(jnp.stack([low, high])))
    ever = 1.0 / (1.0 - handover.scaling.discount)
    bounded = within(state, Bounds(jnp.minimum(low, low * ever), jnp.maximum(high, high * ever)))
    if bounded is None:
        raise SegueError("measured: the agent keeps no bounds of its values; give its phase init_from=fresh")
    return bounded
