"""Primitives of JAX that are made of smaller ones here: each is a function of arrays that is traced in their place."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segue.core.types import Array, SegueError


def _hashed(key: Array, high: Any, low: Any) -> tuple[Array, Array]:
    """JAX's generator, Threefry-2x32 of 20 rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").

    Keys (..., 2) and two counters (...), all uint32.
    """
    keys = [key[..., 0], key[..., 1], key[..., 0] ^ key[..., 1] ^ np.uint32(0x1BD11BDA)]
    x, y = high + keys[0], low + keys[1]
    for group in range(5):
        for turn in ((13, 15, 26, 6), (17, 29, 16, 24))[group % 2]:
            x = x + y
            y = x ^ (y << np.uint32(turn) | y >> np.uint32(32 - turn))
        x, y = x + keys[(group + 1) % 3], y + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x, y


def _counted(key: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Two hashes of each place in an array, (..., *shape)."""
    places = np.arange(math.prod(shape), dtype=np.uint32)
    found = _hashed(key[..., None, :], np.zeros_like(places), places)
    x, y = (part.reshape(*key.shape[:-1], *shape) for part in found)
    return x, y


def split(key: Array, *, shape: tuple[int, ...]) -> Array:
    """New keys, as `jax.random.split` makes them of one."""
    return jnp.stack(_counted(key, shape), axis=-1)


def fold_in(key: Array, number: Array) -> Array:
    """As `jax.random.fold_in`."""
    return jnp.stack(_hashed(key, jnp.zeros_like(number), number), axis=-1)


def bits(key: Array, *, bit_width: int, shape: tuple[int, ...]) -> Array:
    """Random bits as `jax.random.bits` draws them, 32 in each number."""
    if bit_width != 32:
        raise SegueError(f"this policy draws numbers of {bit_width} bits; only those of 32 can be exported")
    x, y = _counted(key, shape)
    return x ^ y


NEAR = [2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503]
NEAR += [-0.00417768164, 0.246640727, 1.50140941]
FAR = [-0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613]
FAR += [0.00943887047, 1.00167406, 2.83297682]


def erf_inv(x: Array) -> Array:
    """Inverse error function as XLA has it (M. Giles 2012, "Approximating the erfinv function", GPU Computing Gems)."""
    w = -jnp.log1p(-x * x)
    below = w < 5.0
    u = jnp.where(below, w - 2.5, jnp.sqrt(jnp.maximum(w, 5.0)) - 3.0)
    total = jnp.where(below, NEAR[0], FAR[0])
    for a, b in zip(NEAR[1:], FAR[1:]):
        total = jnp.where(below, a, b) + total * u
    return total * x


def power(x: Array, *, y: int) -> Array:
    """A whole power, but not 0: JAX makes 1 of that."""
    total = x
    for _ in range(abs(y) - 1):
        total = total * x
    return 1.0 / total if y < 0 else total


def convolution(
    x: Array, weight: Array, *, window_strides: Any, padding: Any, dimension_numbers: Any, **more: Any
) -> Array:
    """A convolution of images (B, height, width, in) without padding, as one product of patches and weights."""
    usual = tuple(map(tuple, dimension_numbers)) == ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
    plain = all(more[k] in (1, (1, 1)) for k in ("lhs_dilation", "rhs_dilation", "feature_group_count"))
    if not usual or not plain or any(low or high for low, high in padding):
        raise SegueError("this policy has a convolution with padding or of another layout; export it --to stablehlo")
    high, wide = ((n - k) // s + 1 for n, k, s in zip(x.shape[1:3], weight.shape[:2], window_strides))
    down, right = window_strides
    cut = []
    for i, j in itertools.product(*map(range, weight.shape[:2])):
        stop = (x.shape[0], i + (high - 1) * down + 1, j + (wide - 1) * right + 1, x.shape[3])
        cut.append(jax.lax.slice(x, (0, i, j, 0), stop, (1, down, right, 1)))
    patches = jnp.concatenate(cut, axis=-1)
    return patches @ weight.reshape(-1, weight.shape[-1])


def unstack(x: Array, *, axis: int) -> tuple[Array, ...]:
    """An array as its slices along an axis (a primitive from JAX 0.11 on)."""
    return tuple(jax.lax.index_in_dim(x, place, axis, keepdims=False) for place in range(x.shape[axis]))


EXPANDED: dict[str, Callable[..., Array | tuple[Array, ...]]] = {
    "conv_general_dilated": convolution,
    "erf_inv": erf_inv,
    "integer_pow": power,
    "logistic": lambda x, **_: 1.0 / (1.0 + jnp.exp(-x)),
    "random_bits": bits,
    "random_fold_in": fold_in,
    "random_split": split,
    "rsqrt": lambda x, **_: 1.0 / jnp.sqrt(x),
    "square": lambda x, **_: x * x,
    "unstack": unstack,
}
"""By the primitive's name; each takes its parameters, and keys as (..., 2) uint32."""
