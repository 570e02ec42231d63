"""What stands before a network that sees more than a vector: convolutions for images, as DrQ and RLPD have them.

Each image goes through convolutions, then a dense layer, layer normalisation and tanh; vectors pass as they are
(default of ours), and all parts are put side by side.  The convolutions are the critics' and learn from their loss
alone; an actor borrows a copy and sends no gradient into it (Kostrikov et al. 2021, DrQ, arXiv 2004.13649; Ball et al.
2023, RLPD, arXiv 2302.02948).  The dense layers are each network's own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from segue.core.layers import Layer
from segue.core.observations import image_shape, is_image, parts_seen
from segue.core.optim import Trained
from segue.core.options import require
from segue.core.types import CURE, Array, Key, Part, SegueError, Spec, State


class Filter(eqx.Module):
    """A convolution without padding, `weight` (k, k, in, out), then ReLU."""

    weight: Array
    bias: Array
    stride: int = eqx.field(static=True)

    def __call__(self, x: Array) -> Array:
        """Map images (B, height, width, in) to (B, height', width', out)."""
        if jax.default_backend() == "cpu" and self.stride > 1:
            return jax.nn.relu(self._patches(x) + self.bias)
        numbers = ("NHWC", "HWIO", "NHWC")
        strides = (self.stride, self.stride)
        moved = jax.lax.conv_general_dilated(x, self.weight, strides, "VALID", dimension_numbers=numbers)
        return jax.nn.relu(moved + self.bias)

    def _patches(self, x: Array) -> Array:
        """The convolution as one matrix product: with its gradient 1.2 to 1.4 times as fast (benchmarks/encoder.py)."""
        kernel, rows = self.weight.shape[0], x.shape[0]
        high, wide = ((n - kernel) // self.stride + 1 for n in x.shape[1:3])
        step = (1, self.stride, self.stride, 1)
        cut = []
        for i, j in itertools.product(range(kernel), repeat=2):
            stop = (rows, i + (high - 1) * self.stride + 1, j + (wide - 1) * self.stride + 1, x.shape[3])
            cut.append(jax.lax.slice(x, (0, i, j, 0), stop, step))
        patches = jnp.concatenate(cut, axis=-1).reshape(rows * high * wide, -1)
        return (patches @ self.weight.reshape(patches.shape[1], -1)).reshape(rows, high, wide, -1)


class EncoderNetwork(eqx.Module):
    """Maps the parts of observations (B, *shape), by name, to one vector (B, size)."""

    convolutions: dict[str, tuple[Filter, ...]]
    trunks: dict[str, Layer]
    names: tuple[str, ...] = eqx.field(static=True)
    borrows: bool = eqx.field(static=True)
    """The convolutions are a copy of another network's; no gradient reaches them."""

    def __call__(self, observation: dict[str, Array]) -> Array:
        """Look at all parts in order."""
        return jnp.concatenate([self._part(name, observation[name]) for name in self.names], axis=-1)

    def _part(self, name: str, x: Array) -> Array:
        octets = x.dtype == jnp.uint8
        if name not in self.convolutions:
            return (x.astype(jnp.float32) if octets else x).reshape(x.shape[0], -1)
        x = x.astype(jnp.float32) / 255.0 - 0.5 if octets else x
        for look in self.convolutions[name]:
            x = look(x)
        seen = x.reshape(x.shape[0], -1)
        seen, trunk = jax.lax.stop_gradient(seen) if self.borrows else seen, self.trunks[name]
        return jnp.tanh(trunk.normalise(seen @ trunk.weight + trunk.bias))


@dataclass(frozen=True)
class Encoder:
    """Hyper-parameters of a network's encoder; the sizes are those of RLPD's pixel experiments (`pixel_config.py`)."""

    channels: tuple[int, ...] = (32, 64, 128, 256)
    kernel: int = 3
    strides: tuple[int, ...] = (2, 2, 2, 2)
    latent: int = 50
    """Width of the dense layer behind the convolutions."""
    shared: bool = True
    """Actors and values borrow the critics' convolutions; otherwise each network has and trains its own."""

    def __post_init__(self) -> None:
        require(
            self,
            channels=len(self.channels) > 0 and min(self.channels) > 0,
            kernel=self.kernel > 0,
            strides=len(self.strides) > 0 and min(self.strides) > 0,
            latent=self.latent > 0,
        )

    def create(self, key: Key, spec: Spec, critic: bool) -> tuple[EncoderNetwork, int]:
        """Make the encoder of a network for a task's observations, and say how wide a vector it gives."""
        parts = parts_seen(spec)
        convolutions: dict[str, tuple[Filter, ...]] = {}
        trunks: dict[str, Layer] = {}
        width = 0
        for part, k_part in zip(parts, jax.random.split(key, len(parts))):
            if not is_image(part):
                width += math.prod(part.shape)
                continue
            k_eyes, k_trunk = jax.random.split(k_part)
            convolutions[part.name], seen = self._eyes(k_eyes, part)
            weight = jax.nn.initializers.orthogonal(2.0**0.5)(k_trunk, (seen, self.latent))
            trunks[part.name] = Layer(weight, *(f(self.latent) for f in (jnp.zeros, jnp.ones, jnp.zeros)))
            width += self.latent
        return EncoderNetwork(convolutions, trunks, tuple(p.name for p in parts), self.shared and not critic), width

    def _eyes(self, key: Key, part: Part) -> tuple[tuple[Filter, ...], int]:
        """Convolutions of an image, orthogonal (default of ours), and how many numbers they give."""
        high, wide, depth = image_shape(part)
        if len(self.strides) != len(self.channels):  # here, because settings change one after the other
            raise SegueError(
                f"encoder: channels={self.channels} and strides={self.strides} are not as many; give a stride for each"
            )
        filters = []
        for k, channels, stride in zip(jax.random.split(key, len(self.channels)), self.channels, self.strides):
            high, wide = ((n - self.kernel) // stride + 1 for n in (high, wide))
            if min(high, wide) < 1:
                raise SegueError(
                    f"encoder: image '{part.name}' {part.shape} is too small for {len(self.channels)} convolutions; "
                    f"set encoder.channels and encoder.strides to fewer than {len(self.channels)} numbers"
                )
            weight = jax.nn.initializers.orthogonal(2.0**0.5)(k, (self.kernel, self.kernel, depth, channels))
            filters.append(Filter(weight, jnp.zeros(channels), stride))
            depth = channels
        return tuple(filters), high * wide * depth


def lent(state: State, who: str = "") -> State:
    """A learner's state in which the networks that borrow see with the convolutions that its critics have learned.

    Those are the networks that it trains; targets move as they always do.  The state stays as it is where nothing
    borrows, and where several learners have their convolutions each (a choice between two policies).

    `who` names a learner that is about to learn: `SegueError` unless exactly one of its networks lends.
    """
    own = [s for network in _found(Trained, state) for s in _found(EncoderNetwork, network.params) if not s.borrows]
    borrow = any(s.borrows and s.convolutions for s in _found(EncoderNetwork, state))
    if borrow and who and len(own) != 1:
        why = f"its networks borrow from one that learns to, and {len(own)} do"
        raise SegueError(f"{who} cannot see images: {why}{CURE}")
    if not borrow or len(own) != 1:
        return state
    lend = lambda encoder: replace(encoder, convolutions=own[0].convolutions) if encoder.borrows else encoder  # noqa: E731
    return _each(Trained, lambda network: network._replace(params=_each(EncoderNetwork, lend, network.params)), state)


def _found(kind: type, tree: Any) -> list[Any]:
    """All that is of a kind in a pytree."""
    return [x for x in jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, kind)) if isinstance(x, kind)]


def _each(kind: type, change: Callable[[Any], Any], tree: Any) -> Any:
    """A pytree with all that is of a kind changed."""
    return jax.tree.map(lambda x: change(x) if isinstance(x, kind) else x, tree, is_leaf=lambda x: isinstance(x, kind))
