"""What agents have in common whose policy is a cloned flow: networks, the flow's loss, the critics' loss.

As in the official code of FQL (arXiv 2502.02538) and of Q-chunking (arXiv 2507.07969), whose agents are one class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp

from segue.core.flows import flow_error
from segue.core.indices import mean_error
from segue.core.layers import Initialiser
from segue.core.nets import Conditional, Critics
from segue.core.networks import Networks, Role, ours
from segue.core.optim import Trained, descend, polyak
from segue.core.options import require, usual
from segue.core.types import Array, Key, Metrics, Spec, Transition


@dataclass(frozen=True)
class Flow:
    """Networks and losses of a flow and of critics beside it; the defaults are the official ones."""

    actor_hidden: tuple[int, ...] = ours((512, 512, 512, 512), "actor")
    critic_hidden: tuple[int, ...] = ours((512, 512, 512, 512), "critic")
    critics: int = 2
    actor_layer_norm: bool = ours(False, "actor")
    critic_layer_norm: bool = ours(True, "critic")
    norm_after: bool = ours(True, "actor", "critic")
    """Layer normalisation after the activation instead of before it."""
    networks: Networks = Networks(activation="gelu")
    initialiser: Initialiser = ours("xavier", "actor", "critic")
    actor_learning_rate: float = 3e-4
    """Of all networks that act."""
    critic_learning_rate: float = 3e-4
    target_rate: float = 5e-3
    target_value: Literal["mean", "min"] = "mean"
    """What a target and a choice take of the critics."""
    flow_steps: int = 10
    """Steps of Euler's method from noise to an action."""

    def __post_init__(self) -> None:
        require(self, **usual(self), flow_steps=self.flow_steps > 0)

    def nets(self, role: Role) -> dict[str, Any]:
        """Options of networks that act, or of critics."""
        norm = self.actor_layer_norm if role == "actor" else self.critic_layer_norm
        return {
            "networks": self.networks,
            "initialiser": self.initialiser,
            "norm_after": self.norm_after,
            "layer_norm": norm,
        }

    def init(self, key: Key, spec: Spec) -> tuple[Trained, Trained, Critics]:
        """Return a fresh flow, critics and their targets, which start as copies."""
        k_flow, k_critic = jax.random.split(key)
        flow = Conditional.create(k_flow, spec, self.actor_hidden, spec.action + 1, **self.nets("actor"))
        critic = Critics.create(k_critic, spec, self.critic_hidden, self.critics, **self.nets("critic"))
        return (
            self.networks.trained(flow, self.actor_learning_rate),
            self.networks.trained(critic, self.critic_learning_rate),
            jax.tree.map(jnp.copy, critic),
        )

    def value(self, critic: Critics, observation: Array, action: Array) -> Array:
        """Mean or least of the critics' values, (B,) of (B, D) or (B, N) of (B, N, D)."""
        values = critic(observation, action)
        return jnp.mean(values, axis=0) if self.target_value == "mean" else jnp.min(values, axis=0)

    def bellman_target(self, target: Critics, batch: Transition, following: Array) -> Array:
        """y = r + gamma (1 - d) Q'(s', a') with the actions (B, D) at s' given, (B,)."""
        value = self.value(target, batch.next_observation, following)
        return jax.lax.stop_gradient(batch.reward + batch.continues * value)

    def improve_critics(
        self, critic: Trained, target: Critics, batch: Transition, aim: Array
    ) -> tuple[Trained, Critics, Metrics]:
        """One step along mean over members and rows of weight (Q_j(s, a) - y)^2; the targets follow the critics from
        before it."""

        def loss(params: Critics) -> tuple[Array, Array]:
            q = params(batch.observation, batch.action)
            error = jnp.square(q - aim)
            return jnp.mean(error if batch.weight is None else error * batch.weight), q

        (value, q), gradient = jax.value_and_grad(loss, has_aux=True)(critic.params)
        metrics = {"critic_loss": value, "q_data": jnp.mean(q), "td_target": jnp.mean(aim)}
        moved = polyak(target, critic.params, self.target_rate)
        return descend(critic, self.critic_learning_rate, gradient), moved, metrics

    def improve_flow(self, flow: Trained, batch: Transition, noise: Array, time: Array) -> tuple[Trained, Metrics]:
        """One step of the flow towards the data; of a chunk, only the actions before an episode's end are cloned."""

        def loss(velocity: Conditional) -> Array:
            return mean_error(flow_error(velocity, batch.observation, batch.action, noise, time), batch)

        value, gradient = jax.value_and_grad(loss)(flow.params)
        return descend(flow, self.actor_learning_rate, gradient), {"flow_loss": value}
