"""Compiled functions: updates, actions and hand-overs of one seed; `for_seeds` adds the axis of seeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from segue.bonuses.bonus import begun
from segue.core.encoders import lent
from segue.core.indices import chunked, fold, plans, uncut, window
from segue.core.look import shifted
from segue.core.options import alike
from segue.core.paths import part_at, with_part
from segue.core.replay import Replay, View
from segue.core.scaling import Scaling
from segue.core.types import (
    Acting,
    Array,
    Bonus,
    Handover,
    Key,
    Learned,
    Learner,
    Metrics,
    Sampler,
    Slot,
    Spec,
    State,
    Transition,
    policy_of,
)
from segue.engine.phase import Phase

UPDATE, ACT, HANDOVER = 1, 2, 3  # streams of random numbers of a seed


def trained(phase: Phase, scaling: Scaling, learned: Learned, before: Slot | None) -> Slot:
    """Return the slot that a phase trains, with its learned state; `before` is the slot before the hand-over."""
    batch: Sampler | None = phase.batch
    bonus: Bonus | None = phase.bonus
    if not phase.learns:
        batch, bonus = (None, None) if before is None else (before.batch, before.bonus)
    return Slot(phase.learner, learned, scaling, batch, bonus, phase.chunk, phase.replan)


def update_of(phase: Phase, scaling: Scaling) -> Update:
    """A phase's update."""
    more = phase.n_steps, phase.freeze_actor, phase.image_shift, phase.chunk, phase.listed < phase.chunk
    return Update(phase.learner, phase.batch, phase.bonus, scaling, *more)


def for_seeds(function: Callable[..., Any], *arguments: Any) -> Any:
    """Apply a function of one seed along the leading axis of `arguments`, for all at once.

    One seed alone stays without an axis: on a CPU, where batched matrix products are slow, a program has one seed
    (`segue.core.groups`).
    """
    if jax.tree.leaves(arguments)[0].shape[0] > 1:
        return jax.vmap(function)(*arguments)
    return jax.tree.map(lambda x: x[None], function(*jax.tree.map(lambda x: x[0], arguments)))


def keys_of(seeds: Sequence[int], stream: int) -> Array:
    """One key per seed (S,): a function of the seed's value, not of its place among the seeds."""
    return jnp.stack([jax.random.fold_in(jax.random.key(s), stream) for s in seeds])


@dataclass(frozen=True)
class Update:
    """What one update of one seed is made of: all that its program is compiled for."""

    learner: Learner
    sampler: Sampler
    bonus: Bonus
    scaling: Scaling
    n_steps: int = 1
    freeze_actor: int = 0
    image_shift: int = 0
    chunk: int = 1
    cut: bool = False
    """Whether windows that run over an episode's end are drawn too."""

    def __call__(
        self, learned: Learned, offline: Replay, online: Replay, lane: Array, key: Key, total: Array, step: Array
    ) -> tuple[Learned, Metrics]:
        """Sample, gather, put into the learner's scaling, add the bonus, shift images, learn.

        `total` and `step` count the updates before this one, in the run and in the phase.
        """
        k_sample, k_bonus, k_update = jax.random.split(jax.random.fold_in(key, total), 3)
        views = View(offline, jnp.int32(0), 0.0), View(online, lane, 1.0)
        sampler, indices, metrics = self.sampler.sample(learned.sampler, k_sample, *views)
        rows, there = window(indices, max(self.n_steps, self.chunk))
        seen, slot = [row.transition(self.scaling) for row in rows], Slot(self.learner, learned, self.scaling)
        if self.chunk > 1:
            seen = chunked(seen, there, *plans(indices, self.chunk))
        bonus, batch, more = returns(self.bonus, seen, there, k_bonus, slot)
        if self.cut:
            batch = batch._replace(weight=uncut(rows, there).astype(batch.reward.dtype))
        state, reported = self.learn(learned.learner, batch, k_update, step)
        metrics = metrics | more | reported
        if self.freeze_actor:
            frozen = step < self.freeze_actor
            state = held(policy_of(self.learner), learned.learner, state, frozen)
            metrics = metrics | {"actor_frozen": frozen.astype(jnp.float32)}
        return Learned(state, sampler, bonus), metrics

    def learn(self, state: State, batch: Transition, key: Key, step: Array) -> tuple[State, Metrics]:
        """Do one update of the learner; images of s and of s' are shifted before it, each for itself, and what its
        critics see with is lent to its other networks after it."""
        if parts := self.scaling.parts:
            k_now, k_next, key = jax.random.split(key, 3)  # without a shift too, so that the learner draws the same
            now, following = batch.observation, batch.next_observation
            batch = batch._replace(
                observation=shifted(parts, now, k_now, self.image_shift),
                next_observation=shifted(parts, following, k_next, self.image_shift),
            )
        state, metrics = self.learner.update(state, batch, key, step)
        return lent(state, type(self.learner).__name__), metrics


def held(paths: Sequence[str], before: State, after: State, frozen: Array) -> State:
    """The state after an update, with the parts at `paths` as they were before it where `frozen` holds."""
    for path in paths:
        stays = jax.tree.map(lambda old, new: jnp.where(frozen, old, new), part_at(before, path), part_at(after, path))
        after = with_part(after, path, stays)
    return after


class Sums(NamedTuple):
    """Sums of metrics (S, M) and how many numbers each is of."""

    total: Array
    terms: Array


@dataclass(frozen=True)
class Explore:
    """How an agent acts: with its exploration noise, or greedily but for a share `epsilon` of uniform actions."""

    greedy: bool = False
    epsilon: float = 0.0

    def __call__(self, agent: Acting, state: State, observation: Array, key: Key) -> Array:
        """Actions (B, A) for observations (B, *observation) in the learner's scaling."""
        action = agent.act(state, observation, key, not self.greedy)
        if not (self.greedy and self.epsilon):
            return action
        k_whether, k_action = jax.random.split(key)
        uniform = jax.random.uniform(k_action, action.shape, minval=-1.0, maxval=1.0)
        return jnp.where(jax.random.bernoulli(k_whether, self.epsilon, action.shape[:1])[:, None], uniform, action)


@dataclass(frozen=True)
class Turn:
    """What one dispatch does: updates of a slot, and then the next action of its policy."""

    update: Update
    explore: Explore = Explore()

    @classmethod
    def of(cls, phase: Phase, scaling: Scaling) -> Turn:
        """A phase's turn.  One that does not act, or whose actions are another's, has that of one that does: the
        program is the same, and is compiled once."""
        own = phase.collects and phase.actors == (phase.slot,)
        return cls(update_of(phase, scaling), Explore(phase.greedy, phase.epsilon) if own else Explore())

    def act(self, learned: Learned, observation: Array, key: Key) -> Array:
        """Actions (envs, A) for raw observations (envs, *observation); (0,) where the learner does not act."""
        agent, scaling = self.update.learner, self.update.scaling
        if not isinstance(agent, Acting):
            return jnp.zeros(0)
        return self.explore(agent, learned.learner, scaling.see(observation), key)


@partial(jax.jit, static_argnames="update", inline=True)
def once(update: Update, *arguments: Any) -> tuple[Learned, Metrics]:
    """One update of one seed.  It is traced once, which takes as long as all else of a start: for the checks of a plan,
    for the names of its metrics and in `advance`."""
    return update(*arguments)


ADVANCE: Any = {"static_argnames": ("turn", "tree"), "donate_argnames": ("leaves", "sums")}


@partial(jax.jit, **ADVANCE)
def advance(
    turn: Turn,
    tree: Any,
    leaves: list[Array],
    sums: Sums,
    offline: Replay,
    online: Replay,
    keys: Array,
    act_keys: Array,
    clocks: Array,
    observation: Array,
) -> tuple[list[Array], Sums, Array]:
    """Do updates of every seed, and choose its next actions for observations (S, envs, *observation).

    `leaves` are those of the slot's `Learned`, whose structure is `tree`.  `clocks` are the updates before these in the
    run and in the phase, how many there are, and the environment steps before the action.
    """
    total, step, count, moved = clocks

    def seed(lane: Array, key: Array, act_key: Array, leaves: list[Array], sums: Sums, seen: Array) -> Any:
        def one(u: Array, moving: tuple[Learned, Sums]) -> Any:
            learned, sums = moving
            learned, metrics = once(turn.update, learned, offline, online, lane, key, total + u, step + u)
            return learned, added(sums, metrics)

        learned, sums = jax.lax.fori_loop(0, count, one, (jax.tree.unflatten(tree, leaves), sums))
        return jax.tree.leaves(learned), sums, turn.act(learned, seen, jax.random.fold_in(act_key, moved))

    return for_seeds(seed, jnp.arange(keys.shape[0]), keys, act_keys, leaves, sums, observation)


def added(sums: Sums, metrics: Metrics) -> Sums:
    """Sums (M,) with an update's metrics, in the order of their names, where they are numbers."""
    if not metrics:
        return sums
    value = jnp.stack([jnp.asarray(metrics[name], sums.total.dtype) for name in sorted(metrics)])
    there = ~jnp.isnan(value)
    return Sums(sums.total + jnp.where(there, value, 0.0), sums.terms + there)


def returns(
    bonus: Bonus, rows: list[Transition], there: Array, key: Key, slot: Slot
) -> tuple[State, Transition, Metrics]:
    """Add the bonus to every row of a window, and fold the rows into one.

    A bonus learns from the first rows, as it does where there are no others.  Each of the others is paid what it would
    be as a first row: with those that stand at the same place in their windows, from the state before this update.
    """
    before = slot.learned.bonus
    state, first, metrics = bonus.reward(before, rows[0], key, slot)
    others = [bonus.reward(before, row, jax.random.fold_in(key, n), slot)[1] for n, row in enumerate(rows[1:], 1)]
    return state, fold([first, *others], there), metrics


@partial(jax.jit, static_argnames=("agent", "scaling", "explore"))
def act(
    agent: Acting, scaling: Scaling, explore: Explore, state: State, observation: Array, keys: Array, step: Array
) -> Array:
    """Actions (or chunks) (S, envs, A) for raw observations (S, envs, *observation); `step` is the seeds' environment
    step."""

    def seed(state: State, observation: Array, key: Array) -> Array:
        return explore(agent, state, scaling.see(observation), jax.random.fold_in(key, step))

    return for_seeds(seed, state, observation, keys)


@partial(jax.jit, static_argnames="shape")
def act_at_random(shape: tuple[int, int], keys: Array, step: Array) -> Array:
    """Actions (S, envs, A) of a shape (envs, A) for each seed, uniform in [-1, 1]."""
    draw = lambda key: jax.random.uniform(jax.random.fold_in(key, step), shape, minval=-1.0, maxval=1.0)  # noqa: E731
    return jax.vmap(draw)(keys)


def handing_over(
    phase: Phase, index: int, spec: Spec, scaling: Scaling, slots: dict[str, Slot]
) -> Callable[..., Learned]:
    """Return the program of a hand-over: (keys, slots' states and kept returns, rows) -> learned state of the slot."""

    def handovers(
        keys: Array, states: dict[str, Learned], validated: dict[str, Array], offline: Replay, online: Replay
    ) -> Learned:
        def seed(lane: Array, key: Array, states: dict[str, Learned], validated: dict[str, Array]) -> Learned:
            k_learner, k_sampler, k_bonus = jax.random.split(jax.random.fold_in(key, index), 3)
            here = {name: slots[name]._replace(learned=learned) for name, learned in states.items()}
            rows = View(offline, jnp.int32(0), 0.0), View(online, lane, 1.0)
            wide = spec.chunks(phase.chunk)
            handover = Handover(
                wide, here, *rows, scaling, phase.slot, validated, phase.batch, phase.n_steps, phase.chunk
            )
            # The sampler sees single rows, and windows of which none is listed as n-step returns are.
            rowwise = handover._replace(spec=spec, chunk=phase.listed)
            if phase.listed < phase.chunk:
                rowwise = rowwise._replace(n_steps=phase.chunk)
            old = here.get(phase.slot)
            if phase.init_from is not None:
                state = phase.init_from(handover, phase.learner.init(k_learner, wide))
            else:
                state = phase.learner.init(k_learner, wide) if old is None else old.state
            state = lent(state, type(phase.learner).__name__ if phase.learns else "")
            if not phase.learns:
                return Learned(state) if old is None else old.learned._replace(learner=state)
            goes_on = old is not None and phase.init_from is None and alike(old.batch, phase.batch)
            return Learned(
                state,
                old.learned.sampler if old is not None and goes_on else phase.batch.init(k_sampler, rowwise),
                begun(phase.bonus, k_bonus, handover),
            )

        return jax.tree.map(lasting, for_seeds(seed, jnp.arange(keys.shape[0]), keys, states, validated))

    return handovers


def lasting(x: Array) -> Array:
    """An array whose type does not give way (JAX's weak types): an update would return another, and compile again."""
    return jax.lax.convert_element_type(x, x.dtype) if jnp.issubdtype(x.dtype, jnp.number) else x


def metrics_of(update: Update, learned: Learned, offline: Replay, online: Replay, keys: Array) -> tuple[str, ...]:
    """Names of the metrics that an update reports, sorted."""
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), learned)
    number, key = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), keys.dtype)
    _, metrics = once.eval_shape(update, one, offline, online, number, key, number, number)
    return tuple(sorted(metrics))
