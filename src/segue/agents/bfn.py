"""Best-of-N flow policies: a flow clones the data's policy, and the best of N of its actions by Q is taken, when acting
and in the target.

Where a phase learns from chunks of actions this is QC, Q-chunking (Li, Zhou and Levine 2025, arXiv 2507.07969); with
single actions its control, BFN.  As in the official code.
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
from segue.core.optim import Trained
from segue.core.options import require, usual
from segue.core.types import Array, Key, Metrics, Spec, Transition


class State(NamedTuple):
    """State of BFN."""

    actor: Trained  # Conditional: the flow's velocity, (s, x, t) -> v
    critic: Trained  # Critics
    target: Critics


class Noise(NamedTuple):
    """Draws of one update; D is the size of an action, or of a chunk."""

    following: Array  # (B, N, D), standard normal: proposals at s'
    flow: Array  # (B, D), standard normal: where the flow begins
    time: Array  # (B, 1), uniform in [0, 1]


@dataclass(frozen=True)
class BFN:
    """Hyper-parameters of best-of-N; the defaults are those of Q-chunking."""

    weighs: ClassVar[bool] = True  # `Transition.weight`
    draws: ClassVar[bool] = True  # its best action is a draw too
    policy: ClassVar[tuple[str, ...]] = ("actor",)
    base: Flow = field(default_factory=Flow)
    samples: int = 32
    """N, the actions of which the best is taken; the paper has 4 for single actions and 16 to 64 for chunks."""

    def __post_init__(self) -> None:
        require(self, **usual(self))

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state; targets start as copies of the critics."""
        return State(*self.base.init(key, spec))

    def update(self, state: State, batch: Transition, key: Key, step: Array) -> tuple[State, Metrics]:
        """Do one update of flow and critics, each along its own loss at the parameters from before it."""
        k_following, k_flow, k_time = jax.random.split(key, 3)
        rows, size = batch.action.shape
        following = jax.random.normal(k_following, (rows, self.samples, size))
        noise = Noise(following, jax.random.normal(k_flow, (rows, size)), jax.random.uniform(k_time, (rows, 1)))
        return self.learn(state, batch, noise)

    def learn(self, state: State, batch: Transition, noise: Noise) -> tuple[State, Metrics]:
        """Do one update with the noise given (a deterministic function)."""
        following = self.best(state, batch.next_observation, noise.following)
        target = self.base.bellman_target(state.target, batch, following)
        critic, moved, metrics = self.base.improve_critics(state.critic, state.target, batch, target)
        flow, more = self.base.improve_flow(state.actor, batch, noise.flow, noise.time)
        return State(flow, critic, moved), metrics | more

    def clone(self, state: State, batch: Transition, key: Key) -> tuple[State, Metrics]:
        """Do one update of the flow alone."""
        k_flow, k_time = jax.random.split(key)
        time = jax.random.uniform(k_time, (len(batch.action), 1))
        flow, metrics = self.base.improve_flow(state.actor, batch, jax.random.normal(k_flow, batch.action.shape), time)
        return state._replace(actor=flow), metrics

    def best(self, state: State, observation: Array, noise: Array) -> Array:
        """Of N actions that noise (B, N, D) flows to, the one that the learning critics value most, (B, D)."""
        actions = flowed(state.actor.params, observation, noise, self.base.flow_steps)
        chosen = jnp.argmax(self.base.value(state.critic.params, observation, actions), axis=1)
        return jnp.take_along_axis(actions, chosen[:, None, None], 1)[:, 0]

    def next_action(self, state: State, batch: Transition, key: Key) -> Array:
        """Draw the actions (B, D) that a bootstrap takes at s'."""
        return self.act(state, batch.next_observation, key, True)

    # -- use ---------------------------------------------------------------------------------------------------

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """The best of N actions, (B, D); without `explore` their noise comes from the state (`segue.core.draws`).

        The official program draws fresh noise in evaluations too: there is no mean and no added noise.
        """
        actor: Conditional = state.actor.params
        return self.best(state, observation, drawn(observation, key, explore, (self.samples, actor.actions)))

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Mean or least of the critics' values, as the target has them, (B,)."""
        return self.base.value(state.critic.params, observation, action)

    def valued(self, state: State, observation: Array, key: Key) -> tuple[Array, Array]:
        """The action that a backup takes, (B, D), and 0: no entropy counts."""
        return self.act(state, observation, key, True), jnp.zeros(rows_of(observation))
