"""What an agent's networks are made of: options of every agent, under the field `networks`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax

from segue.core.encoders import Encoder
from segue.core.options import for_images, unknown
from segue.core.types import Array

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "leaky_relu": jax.nn.leaky_relu,
    "mish": jax.nn.mish,
    "relu": jax.nn.relu,
    "selu": jax.nn.selu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jax.nn.tanh,
}
"""By their names in `jax.nn`, with its defaults: `gelu` is the approximation by tanh."""


@dataclass(frozen=True)
class Networks:
    """Options of an agent's networks; the defaults are what the agents are published with."""

    activation: str = "relu"
    """Between the layers of Segue's networks: elu, gelu, leaky_relu, mish, relu, selu, silu, softplus or tanh."""

    encoder: Encoder = for_images(Encoder())
    """What stands before each network where observations are no vectors."""

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            unknown("networks.activation", self.activation, ACTIVATIONS)


PUBLISHED = Networks()
