"""The nouns of Segue: transitions, learners, samplers, bonuses, slots, hand-overs and tasks.

Everything here is a contract; nothing here learns.  Arrays carry no seed axis in these signatures:
one seed per function, and the engine supplies the axis of seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, runtime_checkable

if TYPE_CHECKING:
    import jax
    import numpy as np

    Array = jax.Array
else:
    Array = Any  # who only speaks of tasks and errors does not import JAX
Key = Array
State = Any
S = TypeVar("S")
Seen = TypeVar("Seen", contravariant=True)
Metrics = dict[str, Array]


class SegueError(Exception):
    """A mistake that the user can fix.  The message is one line: what is wrong, where, and what to do."""


class EnvError(SegueError):
    """An environment raised an exception, or returned an invalid value.  Nothing of the failed step is kept."""


class NoRoom(SegueError):
    """The disk is full: another machine may go on."""


class Interrupted(Exception):
    """A signal, `number`, asked the run to stop; everything is saved."""

    def __init__(self, number: int) -> None:
        self.number = number


class Transition(NamedTuple):
    """A row of experience or a batch of rows, as a learner sees it (rewards and discount in the learner's scaling).

    Shapes with batch size B: `observation` and `next_observation` (B, *observation), `action` and `next_action` (B, A)
    in [-1, 1], all others (B,).  Where a task has images, observations are arrays (B, ...) by name (`Scaling.see`).
    Where a phase learns from chunks of h actions, A is h times the task's, in the order of time; rewards are summed
    over the chunk, and the next observation and action are those after it.
    """

    observation: Array
    action: Array
    reward: Array  # scale * raw reward + shift, then augmented
    continues: Array  # weight of the bootstrap term: discount * (1 - terminated)
    next_observation: Array
    mc_return: Array  # discounted return-to-go of the row's episode in the learner's scaling; NaN while it is open
    online: Array  # 1 where the row is the run's own experience, 0 where it is the dataset's
    next_action: Array  # (B, A): what the episode's next row did; NaN where there is none (yet)
    valid: Array | None = None  # (B, h): 1 where no episode ended before step k of a chunk; None for single actions
    weight: Array | None = None  # (B,): of a row in the critics' loss; None is 1 for all (`Phase.windows`)


class Part(NamedTuple):
    """A named part of an observation: an image of bytes, "uint8", or real numbers, "float32"."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Spec:
    """Facts of a task for an agent: shape and dtype of observations, and the number of actions (in [-1, 1])."""

    observation: tuple[int, ...]
    action: int
    dtype: str = "float32"
    parts: tuple[Part, ...] = ()
    """The parts of a dictionary observation with images, whose rows are bytes (`segue.core.observations`); else ()."""

    def chunks(self, length: int) -> Spec:
        """Return the facts for an agent that plans `length` actions at once."""
        return replace(self, action=length * self.action)


CURE = "; leave it out here, or take a task whose observations are vectors"


def refused(spec: Spec, who: str) -> str | None:
    """Why what takes vectors cannot take a task's observations, or None."""
    if spec.parts:
        return (
            f"{who} takes flat observations; the task's have the parts {', '.join(p.name for p in spec.parts)}" + CURE
        )
    if len(spec.observation) != 1:
        return f"{who} takes flat observations; the task's have the shape {spec.observation}" + CURE
    return None


def flat(spec: Spec, who: str) -> int:
    """Size of a flat observation; `SegueError` where observations have another shape."""
    if (reason := refused(spec, who)) is not None:
        raise SegueError(reason)
    return spec.observation[0]


class Learned(NamedTuple):
    """What updates carry (pytrees; leading axis = seeds): states of a learner, of its sampler and of its bonus."""

    learner: State
    sampler: State = ()
    bonus: State = ()


class Slot(NamedTuple):
    """A named place in a run: a learner, its learned state, and its scaling.

    The sampler and the bonus of the slot have states too.  A later phase that trains the slot with equal ones
    (`options.alike`: a weight may differ, the width of a network may not) continues from their states, also after
    phases that only collect.  `init_from` resets the state of the sampler, but not that of the bonus.
    """

    learner: Learner
    learned: Learned
    scaling: Any  # scaling.Scaling
    batch: Sampler | None = None
    bonus: Bonus | None = None
    chunk: int = 1  # actions of the task in one of the learner's
    replan: int | None = None  # of which so many are taken before the next are planned; None: all

    @property
    def taken(self) -> int:
        """Actions that are taken of each plan."""
        return self.replan or self.chunk

    @property
    def state(self) -> State:
        """The learner's state."""
        return self.learned.learner

    def moved(self, state: State) -> Slot:
        """The slot with another state of its learner."""
        return self._replace(learned=self.learned._replace(learner=state))


class Handover(NamedTuple):
    """The state of a run when a phase begins, for one seed; other slots' states can be read only here."""

    spec: Spec  # what the phase's learner is built with
    slots: Mapping[str, Slot]
    offline: Any  # replay.View of the dataset
    online: Any  # replay.View of the seed's own experience
    scaling: Any  # scaling.Scaling of the phase
    slot: str  # the one that the phase trains
    validated: Mapping[str, Array] = MappingProxyType({})  # raw return of what validation has kept, by slot
    batch: Any = None  # the phase's sampler
    n_steps: int = 1  # rows in a row that the phase looks at
    chunk: int = 1  # actions of the task in one of the learner's


@runtime_checkable
class Learner(Protocol[S]):
    """Frozen, hashable hyper-parameters with pure methods over an explicit state, S."""

    def init(self, key: Key, spec: Spec) -> S:
        """Return a fresh state (a pytree whose leaves are all arrays)."""
        ...

    def update(self, state: S, batch: Transition, key: Key, step: Array) -> tuple[S, Metrics]:
        """Do one gradient update.  `step` counts the phase's updates and is shared by all seeds."""
        ...


@runtime_checkable
class Acting(Learner[S], Protocol[S]):
    """A learner that acts."""

    def act(self, state: S, observation: Array, key: Key, explore: bool) -> Array:
        """Return actions (B, A) in [-1, 1] for observations (B, *observation)."""
        ...


@runtime_checkable
class Agent(Acting[S], Protocol[S]):
    """A learner that acts and knows what actions are worth."""

    def q(self, state: S, observation: Array, action: Array) -> Array:
        """Return values (B,) of actions, in the learner's reward scaling: for bonuses, mixtures and diagnostics."""
        ...


@runtime_checkable
class Drawing(Protocol[Seen]):
    """An agent whose critics evaluate a policy with sampled actions, and may include its entropy."""

    def valued(self, state: Seen, observation: Array, key: Key) -> tuple[Array, Array]:
        """Return what a backup takes at next observations (B, *observation).

        Actions (B, A), and what is added to their values (B,), without the discount.
        """
        ...


@runtime_checkable
class Freezable(Protocol):
    """A learner that says which parts of its state are its policy."""

    @property
    def policy(self) -> tuple[str, ...]:
        """Their paths in the state: ("actor",)."""
        ...


@runtime_checkable
class Remarking(Protocol):
    """A learner that says in one line what the last numbers of its phase mean for the next one."""

    def remark(self, metrics: Mapping[str, np.ndarray]) -> str | None:
        """Return the line, or None, for the last training metrics of the phase, each (S,)."""
        ...


class Sampler(Protocol):
    """Chooses the rows of a batch; may have a learned state (`()` if it has none)."""

    def init(self, key: Key, handover: Handover) -> State:
        """Return the sampler's state at the beginning of a phase."""
        ...

    def sample(self, state: State, key: Key, offline: Any, online: Any) -> tuple[State, Any, Metrics]:
        """Return (state, `segue.core.indices.Indices` of the rows, metrics)."""
        ...

    def validate(self, offline: int, written: int, closed: int) -> str | None:
        """Return why a phase's first update could not be served by so many rows of dataset and experience, or None."""
        ...


class Bonus(Protocol):
    """Changes the rewards of a batch between replay and learner; may have a learned state."""

    def validate(self, phase: Any, slots: Mapping[str, Slot], spec: Spec, offline: int) -> str | None:
        """Return why a phase (`segue.Phase`) cannot have it, or None.

        `slots` are those that stand when the phase begins, `offline` is the number of logged rows.
        """
        ...

    def init(self, key: Key, handover: Handover) -> State:
        """Return the bonus's state at the beginning of a phase (SERA copies a critic from `handover.slots`)."""
        ...

    def reward(self, state: State, batch: Transition, key: Key, slot: Slot) -> tuple[State, Transition, Metrics]:
        """Learn from a batch and rewrite it.  `slot` is the learner that will see the batch, as it stands now."""
        ...


class Env(Protocol):
    """One simulator in the learner's coordinates: flat or array observations, actions in [-1, 1], raw rewards."""

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode that is a deterministic function of `seed` and the actions."""
        ...

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, float]:
        """Return (next observation, raw reward, terminated, truncated, success so far in this episode).

        Success is 1 or 0, a share where a task has parts, and NaN where the task does not say what success is.
        """
        ...

    def close(self) -> None:
        """Release the simulator."""
        ...


class Task(Protocol):
    """A task: its dataset, its simulators, and the score of a return."""

    @property
    def name(self) -> str:
        """The task's name; recipes may have a preset under it."""
        ...

    @property
    def domain(self) -> str:
        """The key of recipes' presets."""
        ...

    @property
    def presets(self) -> tuple[str, ...]:
        """More such keys, from the general to the particular: what kind of log it is."""
        ...

    @property
    def horizon(self) -> int:
        """Longest episode, in environment steps."""
        ...

    @property
    def real(self) -> bool:
        """Whether the environment exists once, as a robot does: it moves only in phases that collect."""
        ...

    @property
    def absent(self) -> bool:
        """Whether there is a log and no environment: nothing can be collected or evaluated."""
        ...

    @property
    def failure(self) -> float | None:
        """Raw reward of a step of a sparse task that has not succeeded; None where rewards are dense."""
        ...

    @property
    def source(self) -> str:
        """Source of the data, in words."""
        ...

    @property
    def spec(self) -> Spec:
        """Shapes that agents and replay are built with."""
        ...

    @property
    def action_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest action (A,) of the environment itself; the learner's are -1 and 1."""
        ...

    def card(self) -> dict[str, Any]:
        """Everything that defines the task and its data, JSON-ready."""
        ...

    def dataset(self) -> Any:
        """Return the logged data as `segue.Data`, or None where a task has none."""
        ...

    def make_env(self) -> Env:
        """Make one new simulator."""
        ...

    def score(self, raw_return: np.ndarray, success: np.ndarray) -> np.ndarray:
        """Map raw episode returns and successes (any shape) to normalised scores, 100 = expert."""
        ...


def valued(agent: Acting[S], state: S, observation: Array, key: Key) -> tuple[Array, Array]:
    """What a backup takes at next observations, see `Drawing`; the best action and 0 where an agent does not say."""
    import jax
    import jax.numpy as jnp

    if isinstance(agent, Drawing):
        return agent.valued(state, observation, key)
    return agent.act(state, observation, key, False), jnp.zeros(jax.tree.leaves(observation)[0].shape[:1])


def policy_of(learner: Learner) -> tuple[str, ...]:
    """Parts of a learner's state that are its policy, by their paths; none for what does not act."""
    return learner.policy if isinstance(learner, Freezable) else ()


Seeds = Sequence[int]
