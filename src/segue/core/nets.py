"""Networks as Equinox modules whose every leaf is an array; raw `jax` transformations only.

Two choices of this file are made for speed and never change a result beyond rounding: an ensemble is stored
stacked but computed member by member on a CPU (batched matrix products are slow there), and a critic evaluates
the first layer of an observation once for all actions that share it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from segue.core.layers import Initialiser, Layer, affine
from segue.core.networks import ACTIVATIONS, PUBLISHED, Network, Networks, Own, Role
from segue.core.observations import parts_seen
from segue.core.types import Array, Key, Spec

LOG_STD_MIN, LOG_STD_MAX = -20.0, 2.0


class MLP(Network):
    """Hidden layers and a linear output; with `layer_norm`, Dense -> LayerNorm -> activation in every hidden layer.

    With `norm_after`, Dense -> activation -> LayerNorm.
    """

    layers: tuple[Layer, ...]
    norm_after: bool = eqx.field(static=True, default=False)
    encoder: Any = None
    """Makes a vector of an observation that is none (`segue.core.encoders.EncoderNetwork`); None takes it as it is."""
    activation: str = eqx.field(static=True, default="relu")
    """Name of the function between the layers (`segue.core.networks.ACTIVATIONS`)."""

    @staticmethod
    def create(
        key: Key,
        sizes: Sequence[int],
        *,
        initialiser: Initialiser = "orthogonal",
        hidden_gain: float = 2.0**0.5,
        output_gain: float = 1e-2,
        layer_norm: bool = False,
        norm_after: bool = False,
        activation: str = "relu",
        encoder: Any = None,
    ) -> MLP:
        """Make a network with layer widths `sizes` (input first, output last), zero biases."""
        layers = []
        pairs = list(itertools.pairwise(sizes))
        for i, (k, shape) in enumerate(zip(jax.random.split(key, len(pairs)), pairs)):
            last = i == len(pairs) - 1
            start = affine(k, shape, initialiser, output_gain if last else hidden_gain, last)
            norm = (jnp.ones(shape[1]), jnp.zeros(shape[1])) if layer_norm and not last else (None, None)
            layers.append(Layer(*start, *norm))
        return MLP(tuple(layers), norm_after, encoder, activation)

    def __call__(self, x: Any, dropout: Array | float = 0.0, key: Key | None = None) -> Array:
        """Map (..., in) to (..., out); with a key, `dropout` is the share of hidden units that are left out."""
        x = x if self.encoder is None else self.encoder(x)
        return self.after_first(x @ self.layers[0].weight + self.layers[0].bias, dropout, key)

    def after_first(self, x: Array, dropout: Array | float = 0.0, key: Key | None = None) -> Array:
        """Finish the computation from the first layer's affine output (..., width)."""
        active = ACTIVATIONS[self.activation]
        for n, (layer, following) in enumerate(itertools.pairwise(self.layers)):
            x = layer.normalise(active(x)) if self.norm_after else active(layer.normalise(x))
            if key is not None and (isinstance(dropout, jax.Array) or dropout > 0):
                kept = jax.random.bernoulli(jax.random.fold_in(key, n), 1.0 - dropout, x.shape)
                x = jnp.where(kept, x / (1.0 - dropout), 0.0)
            x = x @ following.weight + following.bias
        return x

    def beside(self, observation: Array, more: Array) -> Array:
        """Outputs (B, out) of (B, M), or (B, N, out) of (B, N, M), with the observation's share computed once."""
        first = self.layers[0]
        size = observation.shape[-1]
        seen = observation @ first.weight[:size] + first.bias
        if more.ndim == 2:
            return self.after_first(seen + more @ first.weight[size:])
        # Rows are flattened before the wide layers: XLA's CPU backend runs the gradients of plain products faster.
        rows, count, _ = more.shape
        flat = (seen[:, None] + more @ first.weight[size:]).reshape(rows * count, -1)
        return self.after_first(flat).reshape(rows, count, -1)


def before(key: Key, spec: Spec, networks: Networks, *, critic: bool) -> tuple[Any, int, Key]:
    """What stands before a network's first layer, the width of what it gives, and the key for the layers behind it.

    Where observations are vectors, nothing does, and the layers have the whole key.
    """
    if not parts_seen(spec):
        return None, spec.observation[0], key
    k_sight, k_layers = jax.random.split(key)
    encoder, width = networks.encoder.create(k_sight, spec, critic)
    return encoder, width, k_layers


def network(
    key: Key, spec: Spec, sizes: Sequence[int], role: Role = "actor", *, networks: Networks = PUBLISHED, **nets: Any
) -> Network:
    """Make a network of a task's observations with layer widths `sizes` (output last); `nets` as in `MLP.create`.

    Where `networks` names one of the user's own for the role, only the output's size counts.
    """
    encoder, width, k_layers = before(key, spec, networks, critic=False)
    if (own := networks.own(role)) is not None:
        return Own.create(own, k_layers, width, sizes[-1], encoder)
    return MLP.create(k_layers, (width, *sizes), activation=networks.activation, encoder=encoder, **nets)


class Conditional(eqx.Module):
    """A network of an observation and of a vector beside it: a flow's velocity, a policy with noise as an input."""

    inner: Network
    actions: int = eqx.field(static=True)
    """Size of the output."""
    encoder: Any = None

    @staticmethod
    def create(
        key: Key,
        spec: Spec,
        hidden: Sequence[int],
        more: int,
        *,
        networks: Networks = PUBLISHED,
        **nets: Any,
    ) -> Conditional:
        """Make a network of an observation and `more` numbers, with an action as its output; `nets` as in `MLP`."""
        encoder, width, k_layers = before(key, spec, networks, critic=False)
        if (own := networks.own("actor")) is not None:
            return Conditional(Own.create(own, k_layers, width + more, spec.action), spec.action, encoder)
        sizes = (width + more, *hidden, spec.action)
        inner = MLP.create(k_layers, sizes, activation=networks.activation, **nets)
        return Conditional(inner, spec.action, encoder)

    def see(self, observation: Any) -> Array:
        """The observation as a vector (B, O)."""
        seen: Array = observation if self.encoder is None else self.encoder(observation)
        return seen

    def __call__(self, observation: Any, more: Array) -> Array:
        """Outputs (B, A) for (B, M), or (B, N, A) for (B, N, M)."""
        return self.inner.beside(self.see(observation), more)


def rows_of(observation: Any) -> int:
    """How many observations a batch of them holds, whatever they are made of."""
    count: int = jax.tree.leaves(observation)[0].shape[0]
    return count


class Critics(eqx.Module):
    """An ensemble of E state-action values, stored stacked (every leaf has a leading axis E) behind one encoder."""

    members: Network
    encoder: Any = None

    @staticmethod
    def create(
        key: Key,
        spec: Spec,
        hidden: Sequence[int],
        count: int,
        *,
        networks: Networks = PUBLISHED,
        **nets: Any,
    ) -> Critics:
        """Make `count` independent critics with hidden widths `hidden`; `nets` as in `MLP.create`."""
        encoder, width, k_layers = before(key, spec, networks, critic=True)
        size, own = width + spec.action, networks.own("critic")
        make: Callable[[Key], Network]
        if own is None:
            make = partial(MLP.create, sizes=(size, *hidden, 1), activation=networks.activation, **nets)
        else:
            make = partial(Own.create, own, inputs=size, outputs=1)
        # One after the other and not by vmap: jaxlib's batched QR, which orthogonal matrices are made with, waits on
        # a CPU for tasks of the thread pool that it runs in.  Two at once on two cores wait for ever.
        return Critics(jax.tree.map(lambda *x: jnp.stack(x), *map(make, jax.random.split(k_layers, count))), encoder)

    def only(self, members: Array) -> Critics:
        """Some of the critics, by their indices (M,)."""
        return Critics(jax.tree.map(lambda x: x[members], self.members), self.encoder)

    def first(self, observation: Any, action: Array) -> Array:
        """Values of the first critic alone, (B,)."""
        observation = observation if self.encoder is None else self.encoder(observation)
        return jax.tree.map(lambda x: x[0], self.members).value(observation, action)

    def __call__(self, observation: Any, action: Array) -> Array:
        """Values (E, B) of actions (B, A), or (E, B, N) of N actions per observation (B, N, A); observations (B, O)."""
        observation = observation if self.encoder is None else self.encoder(observation)
        if jax.default_backend() == "cpu":
            leaves, structure = jax.tree.flatten(self.members)
            count = leaves[0].shape[0]
            # Split and not indexed: the gradient of an index is a whole array of zeros for each member.
            apart = zip(*([x[0] for x in jax.lax.split(leaf, (1,) * count)] for leaf in leaves))
            return jnp.stack([jax.tree.unflatten(structure, m).value(observation, action) for m in apart])
        return jax.vmap(lambda member: member.value(observation, action))(self.members)


class TanhGaussian(eqx.Module):
    """A tanh-squashed Gaussian policy; `log_std = clip(multiplier * raw + offset, -20, 2)`, both scalars learned."""

    network: Network
    log_std_multiplier: Array
    log_std_offset: Array

    @staticmethod
    def create(
        key: Key,
        spec: Spec,
        hidden: Sequence[int],
        *,
        log_std_multiplier: float = 1.0,
        log_std_offset: float = -1.0,
        **nets: Any,
    ) -> TanhGaussian:
        """Make a policy; one network puts out the mean and the raw log standard deviation, A numbers each."""
        inner = network(key, spec, (*hidden, 2 * spec.action), **nets)
        return TanhGaussian(inner, jnp.asarray(log_std_multiplier, float), jnp.asarray(log_std_offset, float))

    def __call__(self, observation: Array) -> tuple[Array, Array]:
        """Mean and standard deviation (..., A) of the Gaussian under the tanh."""
        mean, raw = jnp.split(self.network(observation), 2, axis=-1)
        log_std = self.log_std_multiplier * raw + self.log_std_offset
        return mean, jnp.exp(jnp.clip(log_std, LOG_STD_MIN, LOG_STD_MAX))


class Gaussian(eqx.Module):
    """A Gaussian policy with mean tanh(network), or the bare network, and one learned log standard deviation (A,)."""

    network: Network
    log_std: Array

    @staticmethod
    def create(key: Key, spec: Spec, hidden: Sequence[int], **nets: Any) -> Gaussian:
        """Make a policy whose log standard deviation starts at 0; `nets` as in `network`."""
        return Gaussian(network(key, spec, (*hidden, spec.action), **nets), jnp.zeros(spec.action))

    def mean(self, observation: Array, dropout: Array | float = 0.0, key: Key | None = None) -> Array:
        """tanh of the network's output, (..., A)."""
        return jnp.tanh(self.network(observation, dropout, key))


Maximise = Callable[[Any], Any]
"""What an actor maximises, given its critics: the critics themselves, or something that is called as they are."""


def own_critics(critics: Any) -> Any:
    """Let the actor maximise its own critics."""
    return critics


def log_normal(x: Array, mean: Array | float, std: Array | float) -> Array:
    """Log-density of a Gaussian, element by element."""
    return -0.5 * jnp.square((x - mean) / std) - jnp.log(std) - 0.5 * jnp.log(2.0 * jnp.pi)


def normal_log_density(mean: Array, std: Array, action: Array) -> Array:
    """Log-density of a Gaussian that nothing squashes, summed over the last axis."""
    return jnp.sum(log_normal(action, mean, std), axis=-1)


def squash(mean: Array, std: Array, noise: Array) -> tuple[Array, Array]:
    """Reparameterised actions tanh(mean + std * noise) and their log-densities (summed over the last axis)."""
    before = mean + std * noise
    return jnp.tanh(before), squashed_log_density(mean, std, before)


def squashed_log_density(mean: Array, std: Array, before: Array) -> Array:
    """Log-density of tanh(`before`), `before` ~ N(mean, std); exact for any size of `before` (no epsilon)."""
    jacobian = 2.0 * (jnp.log(2.0) - before - jax.nn.softplus(-2.0 * before))
    return jnp.sum(log_normal(before, mean, std) - jacobian, axis=-1)
