"""PEX, policy expansion (Zhang, Xu and Yu 2023, arXiv 2302.00935), with IQL below it, as in the authors' code
(Haichao-Zhang/PEX, commit 0cd4b04).

The offline policy is frozen; a new policy learns beside it.  In every state both propose an action, and one of the two
is chosen with a probability that grows with its value: softmax over min_j Q_j(s, a) of the critics that
learn (not of their targets).  The old policy proposes its mean, the new one a sample.

Critics and V learn from the batch as IQL's do.  Then the new policy repeats actions of the composite policy in the
batch's states, weighted by their advantage under the new targets and the new V (`imitate="batch"` leaves it at IQL's
own loss).  Another program describes a form of the paper's with SAC in the place of IQL; the authors' code has none,
and it is not here.

Difference of ours: the critics evaluate proposals clipped to [-1, 1], as they are executed and stored.  The authors
execute, store and evaluate unclipped samples and leave the bounds to the environment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from segue.agents import iql
from segue.agents.iql import IQL
from segue.core.draws import keys_of_states
from segue.core.nets import Gaussian, rows_of
from segue.core.networks import Network
from segue.core.optim import APART, Trained, descend
from segue.core.options import require
from segue.core.schedules import START
from segue.core.types import Array, Handover, Key, Metrics, Spec, Transition


def authors() -> IQL:
    """IQL as the authors run it below PEX (their README's numbers); they give V and critics PyTorch's weights."""
    return IQL(initialiser="xavier", mean_over_critics=True, stale_value=True)


class State(NamedTuple):
    """IQL's state, in which `actor` is the new policy, and the old policy."""

    iql: iql.State
    old: Gaussian

    @property
    def critic(self) -> Trained:
        """The critics that learn, IQL's."""
        return self.iql.critic


@dataclass(frozen=True)
class PEX:
    """Hyper-parameters of PEX; the defaults are those of the authors' program."""

    policy: ClassVar[tuple[str, ...]] = ("iql.actor",)
    base: IQL = field(default_factory=authors)
    choice_inverse_temperature: float = 10.0
    """Inverse temperature of the choice between the two proposals: 0 chooses at random, infinity the better one.

    The authors' program has one value for all domains; RPEX (arXiv 2509.24748) takes 3 for locomotion.
    """
    evaluation_epsilon: float = 0.1
    """In evaluation: share of states in which the new policy proposes a sample instead of its mean, and, independently,
    share of states in which the choice is random instead of greedy."""
    imitate: Literal["composite", "batch"] = "composite"
    """Whose actions the new policy learns to repeat; with "batch" an update is IQL's."""

    def __post_init__(self) -> None:
        require(
            self,
            choice_inverse_temperature=self.choice_inverse_temperature >= 0,
            evaluation_epsilon=0 <= self.evaluation_epsilon <= 1,
        )

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state; its old policy has learned nothing, see `expand`."""
        k_new, k_old = jax.random.split(key)
        return State(self.base.init(k_new, spec), self.base.init(k_old, spec).actor.params)

    def update(self, state: State, batch: Transition, key: Key, step: Array) -> tuple[State, Metrics]:
        """Do one update of critics, target and V as IQL does, then of the new policy."""
        learned, metrics = self.base.update(state.iql, batch, key, step)
        if self.imitate == "batch":
            return state._replace(iql=learned), metrics
        # IQL's own step of the actor goes unused: compiled, it is not computed either.
        state = state._replace(iql=learned._replace(actor=state.iql.actor))
        k_noise, k_choice, k_dropout = jax.random.split(jax.random.fold_in(key, APART), 3)
        noise = jax.random.normal(k_noise, batch.action.shape)
        choice = jax.random.uniform(k_choice, noise.shape[:1])
        state, own = self.improve(state, batch, noise, choice, k_dropout, step)
        return state, metrics | own

    def improve(
        self, state: State, batch: Transition, noise: Array, choice: Array, dropout: Key, step: Array = START
    ) -> tuple[State, Metrics]:
        """Move the new policy towards actions of the composite one, with the draws of `compose` given."""
        action, new = self.compose(state, batch.observation, noise, choice)
        advantage = self.advantage(state, batch.observation, action)
        weight = self.base.weight(advantage, step)
        loss, gradient = jax.value_and_grad(self.base.actor_loss)(
            state.iql.actor.params, batch._replace(action=action), weight, dropout
        )
        actor = descend(state.iql.actor, self.base.actor_learning_rate, gradient, self.base.actor_decay or 0)
        return state._replace(iql=state.iql._replace(actor=actor)), {
            "actor_loss": loss,
            "advantage": jnp.mean(advantage),
            "weight": jnp.mean(weight),
            "new_policy_share": jnp.mean(new, dtype=loss.dtype),
        }

    # -- losses ------------------------------------------------------------------------------------------------

    def advantage(self, state: State, observation: Array, action: Array) -> Array:
        """min_j target_j(s, a) - V(s), (B,)."""
        value: Network = state.iql.value.params
        return jnp.min(state.iql.target(observation, bounded(action)), axis=0) - value(observation)[..., 0]

    def new_probability(self, old: Array, new: Array) -> Array:
        """Probability that the new policy's proposal is taken, from the values of both: softmax's second entry."""
        # The sigmoid of a difference and not softmax itself: with an infinite temperature it is defined, ties included.
        gap = new - old
        return jax.nn.sigmoid(jnp.where(gap == 0.0, 0.0, self.choice_inverse_temperature * gap))

    def compose(self, state: State, observation: Array, noise: Array, choice: Array) -> tuple[Array, Array]:
        """Return the composite policy's action (B, A), not kept in [-1, 1], and whether the new policy made it (B,).

        `noise` (B, A) is standard normal; `choice` (B,) is uniform in [0, 1), and 1/2 takes the better proposal.
        """
        actor: Gaussian = state.iql.actor.params
        std = self.base.std(actor) if self.base.stochastic else self.base.exploration_noise
        old, new = state.old.mean(observation), actor.mean(observation) + std * noise
        q = self.q(state, observation, jnp.stack([old, bounded(new)], axis=1))
        taken = choice < self.new_probability(q[:, 0], q[:, 1])
        return jnp.where(taken[:, None], new, old), taken

    # -- use ---------------------------------------------------------------------------------------------------

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """Action of the composite policy, kept in [-1, 1]: (B, A).  Without `explore` it ignores the key."""
        shape = (rows_of(observation), state.old.log_std.shape[-1])
        if explore:
            k_noise, k_choice = jax.random.split(key)
            noise, choice = jax.random.normal(k_noise, shape), jax.random.uniform(k_choice, shape[:1])
        else:
            noise, choice = self.evaluation_draws(observation, shape[1])
        return bounded(self.compose(state, observation, noise, choice)[0])

    def evaluation_draws(self, observation: Array, actions: int) -> tuple[Array, Array]:
        """Draws for `compose`, (B, A) and (B,), that are greedy in all but a share of the states."""
        if not self.evaluation_epsilon:
            rows = rows_of(observation)
            return jnp.zeros((rows, actions)), jnp.full(rows, 0.5)

        def draws(key: Key) -> tuple[Array, Array]:
            k_noise, k_choice, k_exceptions = jax.random.split(key, 3)
            drawn, chosen = jax.random.uniform(k_exceptions, (2,)) < self.evaluation_epsilon
            noise = jnp.where(drawn, jax.random.normal(k_noise, (actions,)), 0.0)
            return noise, jnp.where(chosen, jax.random.uniform(k_choice), 0.5)

        return jax.vmap(draws)(keys_of_states(observation))

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Smallest of the critics' values, (B,), or (B, N) of N actions per observation (B, N, A)."""
        return self.base.q(state.iql, observation, action)


def bounded(action: Array) -> Array:
    """Actions within [-1, 1]."""
    return jnp.clip(action, -1.0, 1.0)


@dataclass(frozen=True)
class expand:
    """Start PEX beside the policy that IQL has learned in another slot: `init_from=expand("offline")`.

    Critics, their targets and V go on from the slot's, each with a fresh optimiser (the authors' checkpoints hold
    parameters only); the new policy starts from fresh parameters.
    """

    slot: str = "offline"

    @property
    def reads(self) -> tuple[str, ...]:
        """Slots that must be there, for `check_handovers`."""
        return (self.slot,)

    def __call__(self, handover: Handover, state: State) -> State:
        """Return the fresh state with what the slot has learned."""
        offline: iql.State = handover.slots[self.slot].state
        new = state.iql._replace(
            critic=state.iql.critic._replace(params=offline.critic.params),
            target=offline.target,
            value=state.iql.value._replace(params=offline.value.params),
        )
        return State(new, offline.actor.params)
