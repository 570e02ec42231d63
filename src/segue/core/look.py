"""Observations with named parts on the device: what learners see of rows of bytes (`segue.core.observations`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from segue.core.observations import WHOLE, image_shape, is_image, size_of
from segue.core.types import Array, Key, Part


def unpack(parts: Sequence[Part], rows: Array) -> dict[str, Array]:
    """Return arrays (..., *shape) by name from rows (..., bytes) of uint8 on the device."""
    out, start = {}, 0
    for part in parts:
        octets = rows[..., start : start + size_of(part)]
        start += size_of(part)
        if part.dtype != "uint8":
            octets = jax.lax.bitcast_convert_type(octets.reshape(*rows.shape[:-1], -1, 4), jnp.float32)
        out[part.name] = octets.reshape(*rows.shape[:-1], *part.shape)
    return out


def look(parts: Sequence[Part], raw: Array) -> dict[str, Array]:
    """Return arrays (B, *shape) by name from raw observations: rows (B, bytes), or one array (B, ...) that is whole.

    Images come as (B, height, width, channels), with several frames side by side as channels.
    """
    values = unpack(parts, raw) if raw.ndim == 2 else {WHOLE: raw}
    return {part.name: side_by_side(part, values[part.name]) for part in parts}


def side_by_side(part: Part, x: Array) -> Array:
    """Images (B, height, width, channels) of a part (B, *shape), its frames as channels; what is no image stays."""
    if not is_image(part) or len(part.shape) == 3:
        return x
    if len(part.shape) == 2:
        return x[..., None]
    return jnp.moveaxis(x, 1, -2).reshape(x.shape[0], *image_shape(part))


def shifted(parts: Sequence[Part], observation: Any, key: Key, most: int) -> Any:
    """What `look` returned, each image moved by up to `most` pixels either way, its edge repeated (DrQ: Kostrikov et
    al. 2021, arXiv 2004.13649)."""
    out = dict(observation)
    for n, part in enumerate(parts):
        if most and is_image(part):
            out[part.name] = _moved(jax.random.fold_in(key, n), out[part.name], most)
    return out


def _moved(key: Key, x: Array, most: int) -> Array:
    rows, high, wide, depth = x.shape
    padded = jnp.pad(x, ((0, 0), (most, most), (most, most), (0, 0)), mode="edge")
    corner = jax.random.randint(key, (rows, 2), 0, 2 * most + 1)
    cut = lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), (high, wide, depth))  # noqa: E731
    return jax.vmap(cut)(padded, corner)
