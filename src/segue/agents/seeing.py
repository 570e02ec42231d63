"""Images and dictionaries of observations for agents whose losses know of neither (DrQ: Kostrikov et al. 2021, arXiv
2004.13649; as RLPD has it, Ball et al. 2023, arXiv 2302.02948).

One update: the images of the batch are shifted at random, s and s' each for itself.  The agent does its own update, its
networks seeing through convolutions (`segue.core.encoders`).  The others then borrow the convolutions that its critics
have learned.  Its state is the agent's own, so that doors between agents stay what they are.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import jax

from segue.agents.around import Decay, OneOf
from segue.core.encoders import WHOLE, Encoder, shifted, side_by_side, with_eyes
from segue.core.observations import is_image, parts_of, unpack
from segue.core.optim import Trained
from segue.core.options import require
from segue.core.types import (
    CURE,
    Agent,
    Array,
    Key,
    Metrics,
    Part,
    SegueError,
    Spec,
    State,
    Transition,
    policy_of,
    refused,
    valued,
)


@dataclass(frozen=True)
class Seeing:
    """An agent that sees images, or several named parts."""

    agent: Agent
    encoder: Encoder = field(default_factory=Encoder)
    shift: int = 4
    """Pixels by which images of a batch are shifted at most; 0 leaves them."""
    parts: tuple[Part, ...] = ()
    """What a row of the task's observations is made of; () where it is one image.  The task says it."""

    def __post_init__(self) -> None:
        require(self, shift=self.shift >= 0)
        object.__setattr__(self, "parts", parts_of(self.parts, "Seeing"))

    @property
    def policy(self) -> tuple[str, ...]:
        """The agent's."""
        return policy_of(self.agent)

    def init(self, key: Key, spec: Spec) -> State:
        """Return a fresh state of the agent, whose other networks see as its critics do.

        Raises `SegueError` for an agent without critics of its own.
        """
        state = self.agent.init(key, replace(spec, encoder=self.encoder))
        if not hasattr(state, "critic"):
            raise SegueError(f"{type(self.agent).__name__} cannot see images: it has no 'critic' that learns to{CURE}")
        return _lend(state)

    def update(self, state: State, batch: Transition, key: Key, step: Array) -> tuple[State, Metrics]:
        """Shift, do one update of the agent, and lend what its critics see with."""
        k_now, k_next, k_update = jax.random.split(key, 3)
        shown = batch._replace(
            observation=self.look(batch.observation, k_now), next_observation=self.look(batch.next_observation, k_next)
        )
        moved, metrics = self.agent.update(state, shown, k_update, step)
        return _lend(moved), metrics

    def look(self, observation: Array, key: Key | None = None) -> Any:
        """Parts (B, ...) by name, frames side by side; with a key, images are shifted."""
        parts = self.parts or (Part(WHOLE, observation.shape[1:], str(observation.dtype)),)
        values = unpack(parts, observation) if self.parts else {WHOLE: observation}
        out = {}
        for n, part in enumerate(parts):
            out[part.name] = side_by_side(part, values[part.name])
            if key is not None and self.shift and is_image(part):
                out[part.name] = shifted(jax.random.fold_in(key, n), out[part.name], self.shift)
        return out

    def act(self, state: State, observation: Array, key: Key, explore: bool) -> Array:
        """Act as the agent does."""
        return self.agent.act(state, self.look(observation), key, explore)

    def q(self, state: State, observation: Array, action: Array) -> Array:
        """Values of the agent, (B,)."""
        return self.agent.q(state, self.look(observation), action)

    def valued(self, state: State, observation: Array, key: Key) -> tuple[Array, Array]:
        """What the agent's backup takes: (B, A) and (B,)."""
        return valued(self.agent, state, self.look(observation), key)


def _lend(state: Any) -> Any:
    """Let all networks that an agent trains, but its critics, see with what the critics have learned."""
    eyes = state.critic.params.sight.eyes
    trains = lambda x: isinstance(x, Trained)  # noqa: E731
    lend = lambda x: x._replace(params=with_eyes(x.params, eyes)) if trains(x) else x  # noqa: E731
    return jax.tree.map(lend, state, is_leaf=trains)


def seeing(learner: Any, spec: Spec) -> Any:
    """Return a learner as a task's observations need it: itself where they are flat, else one that sees."""
    if refused(spec, "") is None or isinstance(learner, Seeing):
        return learner
    if isinstance(learner, Decay):
        return replace(learner, agent=seeing(learner.agent, spec))
    if isinstance(learner, OneOf):
        return replace(learner, first=seeing(learner.first, spec), second=seeing(learner.second, spec))
    return Seeing(learner, parts=spec.parts)
