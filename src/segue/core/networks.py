"""What an agent's networks are made of: the options of every agent's field `networks`, and networks of one's own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax

from segue.core.encoders import Encoder
from segue.core.named import is_named, named
from segue.core.optim import OPTIMISERS, Trained, trained
from segue.core.options import for_images, option, unknown
from segue.core.parts import word_of
from segue.core.types import Array, Key, SegueError

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

Role = Literal["actor", "critic"]
Maker = Callable[[Key, int, int], Any]
"""(key, inputs, outputs) -> an Equinox module that maps a vector (inputs,) to a vector (outputs,)."""
Optimiser = Callable[[Any], optax.GradientTransformation]
"""Learning rate (a number, or optax's schedule where the agent has one) -> optimiser."""


def ours(default: Any, *roles: Role) -> Any:
    """Declare an agent's option that only Segue's own networks have: those of one of `roles` at least."""
    which = " or ".join(f"networks.{role}=none" for role in roles)
    return option(default, when=lambda a: any(a.networks.own(role) is None for role in roles), why=which)


@dataclass(frozen=True)
class Networks:
    """Options of an agent's networks; the defaults are what the agents are published with."""

    activation: str = option(
        "relu", when=lambda n: None in (n.actor, n.critic), why="a network of Segue's (actor=none or critic=none)"
    )
    """Between layers: elu, gelu, leaky_relu, mish, relu, selu, silu, softplus or tanh, as in `jax.nn`."""
    optimiser: str | Optimiser = "adam"
    """adam, adamw, lion, rmsprop or sgd with optax's defaults, or module:name of a function that makes an optimiser of
    a learning rate (optax:nadam)."""
    actor: str | Maker | None = None
    """module:name of a function (key, inputs, outputs) that makes an Equinox module; none is Segue's own MLP."""
    critic: str | Maker | None = None
    """The same for each of the critics (observation and action in, one number out) and for V (observation in)."""
    encoder: Encoder = for_images(Encoder())
    """What stands before each network where observations are no vectors."""

    def __post_init__(self) -> None:
        for name in ("optimiser", "actor", "critic"):
            value = getattr(self, name)
            if callable(value):
                object.__setattr__(self, name, word_of(value))
            elif value is not None and not is_named(value):
                if name == "optimiser" and value not in OPTIMISERS:
                    unknown("networks.optimiser", value, [*OPTIMISERS, "module:name"])
                elif name != "optimiser":
                    raise SegueError(f"networks.{name}: '{value}' names no function; write module:name")
        if self.activation not in ACTIVATIONS:
            unknown("networks.activation", self.activation, ACTIVATIONS)

    def own(self, role: Role) -> str | None:
        """Where the user's network for a role stands, module:name; None is Segue's."""
        value = {"actor": self.actor, "critic": self.critic}[role]
        return None if value is None else str(value)

    def trained(self, params: Any, learning_rate: float, decay: int = 0, weight_decay: float = 0.0) -> Trained:
        """Wrap fresh parameters with the state of this optimiser, see `segue.core.optim.optimiser`."""
        return trained(params, learning_rate, decay, weight_decay, str(self.optimiser))


PUBLISHED = Networks()


class Network(eqx.Module):
    """What an agent calls: a function of observations, or of observations and actions."""

    @abstractmethod
    def __call__(self, x: Any, dropout: Array | float = 0.0, key: Key | None = None) -> Array:
        """Map (..., in) to (..., out); with a key, `dropout` is the share of hidden units that are left out."""

    @abstractmethod
    def beside(self, observation: Array, more: Array) -> Array:
        """Outputs (B, out) for vectors (B, M) beside observations (B, O), or (B, N, out) for N each, (B, N, M)."""

    def value(self, observation: Array, action: Array) -> Array:
        """Values (B,) of actions (B, A), or (B, N) of N actions per observation (B, N, A); observations (B, O)."""
        return self.beside(observation, action)[..., 0]


class Own(Network):
    """A network of the user's: an Equinox module for one vector, what it learns apart from all else that it holds."""

    arrays: Any
    rest: tuple[Any, ...] = eqx.field(static=True)
    encoder: Any = None
    """What makes a vector of an observation that is none; None takes it as it is."""

    @staticmethod
    def create(word: str, key: Key, inputs: int, outputs: int, encoder: Any = None) -> Own:
        """Call the function that `word` names.  Raises `SegueError` for what cannot learn, or has other outputs."""
        make = named(word, "a function (key, inputs, outputs) that makes a network")
        try:
            (arrays, rest), (other, unlike) = (_apart(make(key, inputs, outputs)) for _ in range(2))
            out = jax.eval_shape(lambda: _whole(arrays, rest)(jnp.zeros(inputs)))
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            raise SegueError(f"{word}: no network for {inputs} inputs and {outputs} outputs ({said})") from error
        if not jax.tree.leaves(arrays):
            raise SegueError(f"{word}: its network holds no floating-point arrays, so it could not learn")
        shown = eqx.tree_pformat(out, struct_as_array=True)
        if not isinstance(out, jax.ShapeDtypeStruct) or out.shape != (outputs,):
            raise SegueError(f"{word}: its network maps ({inputs},) to {shown}; return ({outputs},)")
        if (jax.tree.structure(arrays), rest) != (jax.tree.structure(other), unlike):
            raise SegueError(
                f"{word}: makes another network at each call; define the functions that it hands over (a lambda?) "
                "outside it"
            )
        return Own(arrays, rest, encoder)

    def __call__(self, x: Any, dropout: Array | float = 0.0, key: Key | None = None) -> Array:
        """Map (..., in) to (..., out), vector by vector."""
        if key is not None and (isinstance(dropout, jax.Array) or dropout > 0):
            raise SegueError("dropout: is of Segue's own networks only; set dropout=0 beside networks.actor")
        x = x if self.encoder is None else self.encoder(x)
        out = jax.vmap(_whole(self.arrays, self.rest))(x.reshape(-1, x.shape[-1]))
        return out.reshape(*x.shape[:-1], -1)

    def beside(self, observation: Array, more: Array) -> Array:
        """Outputs (B, out) or (B, N, out), both side by side."""
        if more.ndim == 3:
            observation = jnp.broadcast_to(observation[:, None], (*more.shape[:2], observation.shape[-1]))
        return self(jnp.concatenate([observation, more], axis=-1))


def _missing(x: Any) -> bool:
    return x is None


def _apart(module: Any) -> tuple[Any, tuple[Any, ...]]:
    """The module with its floating-point arrays alone, and its other leaves in order."""
    leaves, structure = jax.tree.flatten(module, is_leaf=_missing)
    arrays = [x if eqx.is_inexact_array(x) else None for x in leaves]
    rest = tuple(None if eqx.is_inexact_array(x) else x for x in leaves)
    if any(isinstance(x, (np.ndarray, jax.Array)) for x in rest):
        raise TypeError("it holds an array of whole numbers, or NumPy's; make such arrays inside __call__")
    hash((structure, rest))  # both are keys of compiled programs
    return jax.tree.unflatten(structure, arrays), rest


def _whole(arrays: Any, rest: tuple[Any, ...]) -> Any:
    leaves, structure = jax.tree.flatten(arrays, is_leaf=_missing)
    return jax.tree.unflatten(structure, [r if x is None else x for x, r in zip(leaves, rest, strict=True)])
