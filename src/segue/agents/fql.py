"""FQL, flow Q-learning (Park, Li and Levine 2025, arXiv 2502.02538), as in its official code.

A flow clones the data's policy, in several steps.  A policy of one step maps the same noise to the action that the flow
arrives at, and climbs the critics:

    L_actor = weight |mu(s, z) - flow(s, z)|^2 - Q(s, mu(s, z))

Where a phase learns from chunks of actions it is QC-FQL (Li, Zhou and Levine 2025, Q-chunking, arXiv 2507.07969).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from segue.agents.flow import Flow
from segue.core.draws import drawn
from segue.core.flows import flowed
from segue.core.nets import Conditional, Critics, rows_of
from segue.core.optim import Trained, descend
from segue.core.options import require, usual
from segue.core.schedules import Schedule, at, ends, reported
from segue.core.types import Array, Key, Metrics, Spec, Transition


class State(NamedTuple):
    """State of FQL."""

    actor: Trained  # Conditional: the policy of one step, (s, z) -> a
    flow: Trained  # Conditional: the velocity, (s, x, t) -> v
    critic: Trained  # Critics
    target: Critics


class Noise(NamedTuple):
    """Draws of one update; D is the size of an action, or of a chunk."""

    following: Array  # (B, D), standard normal: actions at s'
    flow: Array  # (B, D), standard normal: where the flow begins
    time: Array  # (B, 1), uniform in [0, 1]
    actor: Array  # (B, D), standard normal: both policies begin here


@dataclass(frozen=True)
class FQL:
    """Hyper-parameters of FQL; the defaults are the official ones."""

    weighs: ClassVar[bool] = True  # `Transition.weight`
    draws: ClassVar[bool] = True  # its best action is a draw too
    policy: ClassVar[tuple[str, ...]] = ("actor", "flow")
    base: Flow = field(default_factory=Flow)
    cloning_weight: Schedule = 10.0
    """alpha, the weight of the distance to the flow; the papers choose it for each task, from 3 to 30,000."""
    normalise_q: bool = False
    """Divide Q in the actor's loss by mean |Q|; the authors advise it for new tasks, with a weight from 0.03 to 10."""

    def __post_init__(self) -> None:
        require(self, **usual(self), cloning_weight=min(ends(self.cloning_weight)) >= 0)

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state; targets start as copies of the critics."""
        k_base, k_actor = jax.random.split(key)
        actor = Conditional.create(k_actor, spec, self.base.actor_hidden, spec.action, **self.base.nets("actor"))
        return State(self.base.networks.trained(actor, self.base.actor_learning_rate), *self.base.init(k_base, spec))

    def update(self, state: State, batch: Transition, key: Key, step: Array) -> tuple[State, Metrics]:
        """Do one update of all networks, each along its own loss at the parameters from before it."""
        keys, shape = jax.random.split(key, 4), batch.action.shape
        normal = lambda k: jax.random.normal(k, shape)  # noqa: E731
        time = jax.random.uniform(keys[2], (shape[0], 1))
        return self.learn(state, batch, Noise(normal(keys[0]), normal(keys[1]), time, normal(keys[3])), step)

    def learn(self, state: State, batch: Transition, noise: Noise, step: Array) -> tuple[State, Metrics]:
        """Do one update with the noise given (a deterministic function)."""
        base, following = self.base, self.one_step(state.actor.params, batch.next_observation, noise.following)
        target = base.bellman_target(state.target, batch, following)
        critic, moved, metrics = base.improve_critics(state.critic, state.target, batch, target)
        flow, more = base.improve_flow(state.flow, batch, noise.flow, noise.time)
        arrived = flowed(state.flow.params, batch.observation, noise.actor, base.flow_steps)

        def actor_loss(actor: Conditional) -> tuple[Array, Metrics]:
            raw = actor(batch.observation, noise.actor)
            q = jnp.mean(state.critic.params(batch.observation, jnp.clip(raw, -1.0, 1.0)), axis=0)
            scale = jax.lax.stop_gradient(1.0 / jnp.mean(jnp.abs(q))) if self.normalise_q else 1.0
            # Not clipped: what lies outside [-1, 1], where Q has no gradient, is pulled back by this term alone.
            distance, climbing = jnp.mean(jnp.square(raw - arrived)), -scale * jnp.mean(q)
            said = {"distillation_loss": distance, "q_loss": climbing, "q_policy": jnp.mean(q)}
            return at(self.cloning_weight, step) * distance + climbing, said

        (loss, said), gradient = jax.value_and_grad(actor_loss, has_aux=True)(state.actor.params)
        actor = descend(state.actor, base.actor_learning_rate, gradient)
        metrics = metrics | more | said | {"actor_loss": loss} | reported(step, cloning_weight=self.cloning_weight)
        return State(actor, flow, critic, moved), metrics

    def clone(self, state: State, batch: Transition, key: Key) -> tuple[State, Metrics]:
        """Do one update of the flow towards a batch's actions, and of the policy towards where the flow arrives."""
        k_flow, k_time, k_actor = jax.random.split(key, 3)
        base, shape = self.base, batch.action.shape
        time, noise = jax.random.uniform(k_time, (shape[0], 1)), jax.random.normal(k_actor, shape)
        flow, metrics = base.improve_flow(state.flow, batch, jax.random.normal(k_flow, shape), time)
        arrived = flowed(state.flow.params, batch.observation, noise, base.flow_steps)
        distance = lambda actor: jnp.mean(jnp.square(actor(batch.observation, noise) - arrived))  # noqa: E731
        loss, gradient = jax.value_and_grad(distance)(state.actor.params)
        actor = descend(state.actor, base.actor_learning_rate, gradient)
        return state._replace(actor=actor, flow=flow), metrics | {"distillation_loss": loss}

    def one_step(self, actor: Conditional, observation: Array, noise: Array) -> Array:
        """The policy's actions (B, D) in [-1, 1] for noise (B, D)."""
        return jnp.clip(actor(observation, noise), -1.0, 1.0)

    def next_action(self, state: State, batch: Transition, key: Key) -> Array:
        """Draw the actions (B, D) that a bootstrap takes at s'."""
        return self.act(state, batch.next_observation, key, True)

    # -- use ---------------------------------------------------------------------------------------------------

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """An action for fresh noise, (B, D); without `explore` the noise comes from the state (`segue.core.draws`).

        The official program draws fresh noise in evaluations too: there is no mean and no added noise.
        """
        actor: Conditional = state.actor.params
        return self.one_step(actor, observation, drawn(observation, key, explore, (actor.actions,)))

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Mean or least of the critics' values, as the target has them, (B,)."""
        return self.base.value(state.critic.params, observation, action)

    def valued(self, state: State, observation: Array, key: Key) -> tuple[Array, Array]:
        """The action that a backup takes, (B, D), and 0: no entropy counts."""
        return self.act(state, observation, key, True), jnp.zeros(rows_of(observation))
