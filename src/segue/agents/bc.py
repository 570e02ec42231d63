"""Behaviour cloning: the policy of an agent is trained to do what the data's did, and nothing else of it moves.

Its state is the agent's own, so that the agent goes on from a cloned policy without a conversion:

    Phase("clone", BC(TD3()), gradient_steps=100_000), Phase("online", TD3(), environment_steps=100_000)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from segue.agents.td3 import TD3
from segue.core.indices import mean_error
from segue.core.optim import Trained, descend
from segue.core.options import require
from segue.core.paths import part_at, with_part
from segue.core.types import Acting, Array, Key, Metrics, SegueError, Spec, State, Transition, policy_of

TARGET = "target_actor"  # a slow copy of a policy, beside it in its agent's state


@runtime_checkable
class Cloner(Protocol):
    """An agent whose policy is not cloned by its best action alone: a flow."""

    def clone(self, state: State, batch: Transition, key: Key) -> tuple[State, Metrics]:
        """Do one update of the policy towards a batch's actions."""
        ...


@dataclass(frozen=True)
class BC:
    """Hyper-parameters of behaviour cloning; the defaults are those of CORL's BC.

    A flow is trained by its own loss, every other policy by mean (pi(s) - a)^2 over batch and dimensions, where pi(s)
    is the action without exploration noise.  Of a chunk only the actions before an episode's end count.  A slow copy of
    the policy is copied again at each update.  It has no values, and critics stay as they were made.
    """

    weighs: ClassVar[bool] = True  # there is no loss of critics
    base: Acting = field(default_factory=TD3)
    """The agent whose policy is cloned."""
    learning_rate: float = 3e-4
    """Of the policy; a flow has its agent's own."""

    def __post_init__(self) -> None:
        require(self, learning_rate=self.learning_rate >= 0)
        if not policy_of(self.base):
            raise SegueError(f"BC: {type(self.base).__name__} does not say which parts of its state are its policy")

    @property
    def draws(self) -> bool:
        """Whether the agent's best action is a draw."""
        return bool(getattr(self.base, "draws", False))

    @property
    def policy(self) -> tuple[str, ...]:
        """The agent's."""
        return policy_of(self.base)

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state, the agent's."""
        return self.base.init(key, spec)

    def update(self, state: State, batch: Transition, key: Key, step: Array) -> tuple[State, Metrics]:
        """Do one update of the policy."""
        if isinstance(self.base, Cloner):
            return self.base.clone(state, batch, key)

        def loss(params: dict[str, Any]) -> Array:
            there = state
            for path, new in params.items():
                there = with_part(there, path, part_at(state, path)._replace(params=new))
            error = jnp.square(self.base.act(there, batch.observation, key, False) - batch.action)
            return mean_error(error, batch)

        parts: dict[str, Trained] = {path: part_at(state, path) for path in self.policy}
        value, gradient = jax.value_and_grad(loss)({path: part.params for path, part in parts.items()})
        for path, part in parts.items():
            moved = descend(part, self.learning_rate, gradient[path])
            state = with_part(state, path, moved)
            inside, _, _ = path.rpartition(".")
            if hasattr(part_at(state, inside) if inside else state, TARGET):
                state = with_part(state, f"{inside}.{TARGET}" if inside else TARGET, moved.params)
        return state, {"cloning_error": value}

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """Act as the agent does."""
        return self.base.act(state, observation, key, explore)
