"""Dense layers: how they start, and layer normalisation."""

from __future__ import annotations

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp

from segue.core.types import Array, Key

Initialiser = Literal["orthogonal", "lecun", "torch", "xavier"]


def affine(key: Key, shape: tuple[int, int], kind: Initialiser, gain: float, last: bool) -> tuple[Array, Array]:
    """Weight and bias of a layer; "torch" is PyTorch's default, uniform in +-1 / sqrt(inputs) for both."""
    if kind == "torch":
        k_weight, k_bias = jax.random.split(key)
        limit = gain * shape[0] ** -0.5 if last else shape[0] ** -0.5
        uniform = lambda k, s: jax.random.uniform(k, s, minval=-limit, maxval=limit)  # noqa: E731
        return uniform(k_weight, shape), uniform(k_bias, shape[1:])
    if kind == "orthogonal":
        weight = jax.nn.initializers.orthogonal(gain)(key, shape)
    elif kind == "xavier":
        weight = jax.nn.initializers.glorot_uniform()(key, shape)
    elif last:
        weight = jax.nn.initializers.variance_scaling(gain, "fan_in", "uniform")(key, shape)
    else:
        weight = jax.nn.initializers.lecun_normal()(key, shape)
    return weight, jnp.zeros(shape[1])


class Layer(eqx.Module):
    """A dense layer `x @ weight + bias`, `weight` (in, out), optionally followed by layer normalisation."""

    weight: Array
    bias: Array
    scale: Array | None = None
    shift: Array | None = None

    def normalise(self, x: Array) -> Array:
        """Layer normalisation over the last axis (eps 1e-6), or the identity."""
        if self.scale is None or self.shift is None:
            return x
        mean = jnp.mean(x, -1, keepdims=True)
        variance = jnp.mean(jnp.square(x - mean), -1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-6) * self.scale + self.shift
