"""Wrappers of agents, for changes at a hand-over.  Their state is the inner agent's own."""

from __future__ import annotations

import copy
import functools
import math
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.interpreters.partial_eval import dce_jaxpr

from segue.core.nets import Maximise, own_critics
from segue.core.options import assign, reachable, require, unknown
from segue.core.types import Agent, Array, Door, Key, Metrics, SegueError, Spec, State, Transition, policy_of, valued


@dataclass(frozen=True)
class Decay:
    """Decay numbers of an agent linearly: value * max(floor, 1 - u / over), where u counts this update.

    For weights in losses (CQL's `conservative_weight`, SPOT's `weight`, ReBRAC's `actor_cloning`); `u` counts the
    phase's updates.  The form is that of SPOT's and ReBRAC's fine-tuning code.
    """

    agent: Agent
    options: tuple[str, ...]
    """Names of real-valued options of the agent, at any depth."""
    over: int = 1_000_000
    """Updates until the numbers would be 0."""
    floor: float = 0.0
    """The numbers do not fall below this share."""

    def __post_init__(self) -> None:
        require(self, over=self.over > 0, floor=0 <= self.floor <= 1)
        for name in self.options:
            value = option_of(self.agent, name)
            if not isinstance(value, float) or not math.isfinite(value):
                who = type(self.agent).__name__
                raise SegueError(f"Decay: option '{name}' of {who} is {value!r}; {_CURE}")
            try:
                assign(self.agent, [name], value * self.floor, name)
            except SegueError as error:
                raise SegueError(f"Decay: {error} at the end; give a floor above {self.floor:g}") from error

    @property
    def policy(self) -> tuple[str, ...]:
        """The agent's."""
        return policy_of(self.agent)

    def share(self, step: Array) -> Array:
        """Remaining share of the numbers in the update after `step` others."""
        return jnp.maximum(self.floor, 1.0 - (step + 1.0) / self.over)

    def at(self, step: Array) -> Any:
        """Return the agent as it is in the update after `step` others."""
        agent: Any = self.agent
        for name in self.options:
            agent = _with(agent, name, option_of(agent, name) * self.share(step))
        return agent

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state of the agent.

        Raises `SegueError` if an option cannot change, or an update does not read it.
        """
        for name in self.options:
            agent: Any = self.agent
            _refuse_idle(agent, name, spec)
        return self.agent.init(key, spec)

    def update(
        self, state: State, batch: Transition, key: Key, step: Array, maximise: Maximise = own_critics
    ) -> tuple[State, Metrics]:
        """Do one update of the agent as it is now."""
        agent = self.at(step)
        more = {} if maximise is own_critics else {"maximise": maximise}
        state, metrics = agent.update(state, batch, key, step, **more)
        return state, metrics | {"decay": self.share(step)}

    def next_action(self, state: State, batch: Transition, key: Key) -> Array:
        """Draw the actions (B, A) that the agent's bootstrap takes at s'."""
        agent: Any = self.agent
        return agent.next_action(state, batch, key)

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """Act as the agent does."""
        return self.agent.act(state, observation, key, explore)

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Values of the agent, (B,)."""
        return self.agent.q(state, observation, action)

    def valued(self, state: State, observation: Array, key: Key) -> tuple[Array, Array]:
        """What the agent's backup takes: (B, A) and (B,)."""
        return valued(self.agent, state, observation, key)


_CURE = "name the weight of a term in a loss"


@functools.cache
def _refuse_idle(agent: Any, name: str, spec: Spec) -> None:
    """Raise `SegueError` unless an update depends on the option and lets it change."""
    state = jax.eval_shape(lambda: agent.init(jax.random.key(0), spec))
    rows = 2 * (option_of(agent, "critic_updates") if "critic_updates" in reachable(agent) else 1)
    shape: Any = jax.ShapeDtypeStruct
    number, action = shape((rows,), jnp.float32), shape((rows, spec.action), jnp.float32)
    seen = shape((rows, *spec.observation), spec.dtype)
    batch = Transition(seen, action, number, number, seen, number, number, action)

    def learned(value: Array, state: State, batch: Transition, key: Key, step: Array) -> State:
        return _with(agent, name, value).update(state, batch, key, step)[0]

    who = f"Decay: option '{name}' of {type(agent).__name__}"
    try:
        traced = jax.make_jaxpr(learned)(jnp.float32(0), state, batch, jax.random.key(0), jnp.int32(0)).jaxpr
    except TypeError as error:  # what JAX raises where a number must be known when a program is compiled
        raise SegueError(f"{who} stays as it is for a whole phase; {_CURE}") from error
    _, used = dce_jaxpr(traced, [True] * len(traced.outvars))
    if not used[0]:
        raise SegueError(f"{who} has no effect on an update here; {_CURE}")


class BoundedState(NamedTuple):
    """The inner agent's state, and the bounds of its values."""

    agent: State
    low: Array
    high: Array


@dataclass(frozen=True)
class Bounded:
    """Keep an agent's bootstrap values within what the rewards of its data allow (OOO).

    For agents with the options `value_minimum` and `value_maximum` (IQL, SAC, CQL).  The bounds are
    min r / (1 - discount) and max r / (1 - discount) over the rows at the beginning of the phase; set
    `enter=segue.samplers.subset.measured`.
    """

    agent: Agent

    def __post_init__(self) -> None:
        for name in ("value_minimum", "value_maximum"):
            option_of(self.agent, name)

    @property
    def policy(self) -> tuple[str, ...]:
        """The agent's, whose state stands inside."""
        return tuple(f"agent.{path}" for path in policy_of(self.agent))

    def init(self, key: Key, spec: Spec) -> BoundedState:
        """Return a fresh state without bounds: the largest finite numbers, because states must be finite."""
        most = float(jnp.finfo(jnp.float32).max)
        return BoundedState(self.agent.init(key, spec), jnp.asarray(-most), jnp.asarray(most))

    def update(self, state: BoundedState, batch: Transition, key: Key, step: Array) -> tuple[BoundedState, Metrics]:
        """Do one update of the agent within the bounds."""
        agent: Any = _with(_with(self.agent, "value_minimum", state.low), "value_maximum", state.high)
        moved, metrics = agent.update(state.agent, batch, key, step)
        return state._replace(agent=moved), metrics

    def act(self, state: BoundedState, observation: Array, key: Key, explore: bool) -> Array:
        """Act as the agent does."""
        return self.agent.act(state.agent, observation, key, explore)

    def q(self, state: BoundedState, observation: Array, action: Array) -> Array:
        """Values of the agent, (B,)."""
        return self.agent.q(state.agent, observation, action)

    def valued(self, state: BoundedState, observation: Array, key: Key) -> tuple[Array, Array]:
        """What the agent's backup takes: (B, A) and (B,)."""
        return valued(self.agent, state.agent, observation, key)


class OneOfState(NamedTuple):
    """Two agents' states, and 1 where the second acts, 0 where the first does."""

    first: State
    second: State
    second_acts: Array


@dataclass(frozen=True)
class OneOf:
    """The better of two finished policies, for each seed its own, as `better` chooses.  Learns nothing."""

    first: Agent
    second: Agent
    slots: tuple[str, str]
    """Slots of the two agents; a setting for one of these slots changes the agent here too."""

    def init(self, key: Key, spec: Spec) -> OneOfState:
        """Return fresh states of both, the first acting."""
        k_first, k_second = jax.random.split(key)
        return OneOfState(self.first.init(k_first, spec), self.second.init(k_second, spec), jnp.zeros(()))

    def update(self, state: OneOfState, batch: Transition, key: Key, step: Array) -> tuple[OneOfState, Metrics]:
        """Refuse: `SegueError`."""
        raise SegueError("OneOf chooses between finished policies and learns nothing; give its phase ticks=0")

    def act(self, state: OneOfState, observation: Array, key: Key, explore: bool) -> Array:
        """Act as the chosen agent does."""
        first = self.first.act(state.first, observation, key, explore)
        return jnp.where(state.second_acts > 0, self.second.act(state.second, observation, key, explore), first)

    def valued(self, state: OneOfState, observation: Array, key: Key) -> tuple[Array, Array]:
        """What the backup of the agent that acts takes: (B, A) and (B,)."""
        first = valued(self.first, state.first, observation, key)
        second = valued(self.second, state.second, observation, key)
        return jax.tree.map(lambda a, b: jnp.where(state.second_acts > 0, b, a), first, second)

    def q(self, state: OneOfState, observation: Array, action: Array) -> Array:
        """Values of the chosen agent, (B,)."""
        first = self.first.q(state.first, observation, action)
        return jnp.where(state.second_acts > 0, self.second.q(state.second, observation, action), first)


@dataclass(frozen=True)
class better:
    """Take each seed's better one of two slots that validation has filled, for a `OneOf` of their agents; the first of
    equals.  Both must have learned in the phase's units: `check_doors` sees to it before the run begins.
    """

    first: str
    second: str

    @property
    def judges(self) -> tuple[str, str]:
        """Slots that validation must have filled, for `segue.engine.phase.check_doors`."""
        return self.first, self.second

    def __call__(self, door: Door, state: OneOfState) -> OneOfState:
        """Return both slots' states and which of them acts."""
        known = door.validated
        second = known[self.second] > known[self.first]
        return OneOfState(
            door.slots[self.first].state, door.slots[self.second].state, jnp.asarray(second, state.second_acts.dtype)
        )


def parts_of(learner: Any) -> dict[str, str]:
    """Other slots whose agents a learner holds, with the names of its fields that do."""
    return dict(zip(learner.slots, ("first", "second"))) if isinstance(learner, OneOf) else {}


def option_of(owner: Any, name: str) -> Any:
    """Value of an option at any depth; `SegueError` suggests the nearest name where there is none."""
    if name in owner.__dataclass_fields__:
        return getattr(owner, name)
    inner = [getattr(owner, f.name) for f in fields(owner) if name in reachable(getattr(owner, f.name))]
    if len(inner) != 1:
        unknown(f"an option of {type(owner).__name__}", name, reachable(owner))
    return option_of(inner[0], name)


def _with(owner: Any, name: str, value: Any) -> Any:
    """Return a copy with an option set, unchecked: the value may be traced."""
    changed = copy.copy(owner)
    if name in owner.__dataclass_fields__:
        object.__setattr__(changed, name, value)
        return changed
    for f in fields(owner):
        part = getattr(owner, f.name)
        if is_dataclass(part) and name in reachable(part):
            object.__setattr__(changed, f.name, _with(part, name, value))
    return changed
