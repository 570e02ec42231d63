"""The only file that loops: dataset, worlds -> replay -> sampler -> augmentation -> learner -> slot -> act -> worlds.

`run` is a generator of Records; the caller logs, evaluates, saves and prints.  It never returns to the host inside
a dispatch, and what it computes depends on the seeds and the clocks only: not on how updates are grouped into
dispatches, not on which other seeds run beside one, not on when the caller saved or resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segue import replay
from segue.fleet import Episode, Fleet, Step
from segue.optim import first_not_finite
from segue.phases import Phase
from segue.replay import Data, Ledger, Replay, Units, View
from segue.types import Agent, Array, Augmentation, Door, Learner, Sampler, SegueError, Slot, Spec, State, Task

INIT, UPDATE, ACT, DOOR = range(4)  # streams of random numbers of a seed
PULSE = 0.4  # seconds between records when nothing else is due
Plan = Callable[[tuple[dict[str, Any], ...]], Phase | None]


class Learning(NamedTuple):
    """What the updates of a phase carry; every leaf has a leading axis of seeds."""

    learner: State
    sampler: State
    augment: State


@dataclass
class Carry:
    """Everything that a run needs to go on from where it stands."""

    seeds: tuple[int, ...]
    online: Replay
    ledger: Ledger
    slots: dict[str, Slot] = field(default_factory=dict)
    history: tuple[dict[str, Any], ...] = ()
    """Facts of the finished phases, in order (JSON); a plan decides from them, so a resumed run decides alike."""
    entered: bool = False
    """Whether the current phase has begun."""
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON about the current phase, which the caller may add to; it becomes the phase's entry in `history`."""
    tick: int = 0
    environment_steps: int = 0
    updates: int = 0
    sums: dict[str, tuple[Array, Array]] = field(default_factory=dict)
    """Sums and counts (S,) of each metric since the last log."""
    fleet: Fleet | None = None
    units: Units | None = None
    """Units that the returns in `online` are written in; None when they are not written (after loading)."""
    unsaved: list[Step] = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """Where a run stands.  `carry` is complete and may be saved; it must not be kept beyond the next record."""

    phase: Phase
    index: int
    tick: int
    environment_step: int
    update: int
    carry: Carry
    begins: bool = False
    logs: bool = False
    evaluates: bool = False
    ends: bool = False
    metrics: dict[str, np.ndarray] = field(default_factory=dict)
    """Means (S,) since the last log; NaN where nothing was computed."""
    episodes: tuple[Episode, ...] = ()

    @property
    def facts(self) -> dict[str, Any]:
        """JSON about the phase, which the caller may add to: a plan sees it in its history once the phase is over."""
        return self.carry.facts

    @property
    def units(self) -> Units:
        """The phase's reward units, with the task's failure reward filled in."""
        assert self.carry.units is not None
        return self.carry.units

    @property
    def slot(self) -> Slot:
        """The slot that the phase trains."""
        return self.carry.slots[self.phase.slot]


def for_seeds(function: Callable[..., Any], *arguments: Any) -> Any:
    """Apply a function of one seed along the leading axis of `arguments`.

    One after the other on a CPU, where batched matrix products are slow and seeds would fight for the cache; all at
    once by `vmap` elsewhere.  Measured in benchmarks/updates.py.
    """
    if jax.default_backend() == "cpu":
        return jax.lax.map(lambda xs: function(*xs), arguments)
    return jax.vmap(function)(*arguments)


def keys_of(seeds: Sequence[int], stream: int) -> Array:
    """One key per seed (S,): a function of the seed's value, not of its place among the seeds."""
    return jnp.stack([jax.random.fold_in(jax.random.key(s), stream) for s in seeds])


@partial(jax.jit, static_argnames=("learner", "sampler", "augment", "units"), donate_argnames=("learning", "sums"))
def advance(
    learner: Learner,
    sampler: Sampler,
    augment: Augmentation,
    units: Units,
    learning: Learning,
    sums: dict[str, tuple[Array, Array]],
    offline: Replay,
    online: Replay,
    keys: Array,
    total: Array,
    step: Array,
    count: Array,
) -> tuple[Learning, dict[str, tuple[Array, Array]]]:
    """Do `count` updates of every seed; `total` and `step` count updates before them in the run and in the phase."""

    def seed(world: Array, key: Array, learning: Learning, sums: dict[str, tuple[Array, Array]]) -> Any:
        def update(u: Array, carry: tuple[Learning, dict[str, tuple[Array, Array]]]) -> Any:
            learning, sums = carry
            learning, metrics = one_update(
                learner, sampler, augment, units, learning, offline, online, world, key, total + u, step + u
            )
            return learning, {k: _add(*sums[k], value) for k, value in metrics.items()}

        return jax.lax.fori_loop(0, count, update, (learning, sums))

    return for_seeds(seed, jnp.arange(keys.shape[0]), keys, learning, sums)


def _add(total: Array, count: Array, value: Array) -> tuple[Array, Array]:
    seen = ~jnp.isnan(value)
    return total + jnp.where(seen, value, 0.0), count + seen


def one_update(
    learner: Learner,
    sampler: Sampler,
    augment: Augmentation,
    units: Units,
    learning: Learning,
    offline: Replay,
    online: Replay,
    world: Array,
    key: Array,
    total: Array,
    step: Array,
) -> tuple[Learning, dict[str, Array]]:
    """One update of one seed: sample, put into the learner's units, augment, learn."""
    k_sample, k_augment, k_update = jax.random.split(jax.random.fold_in(key, total), 3)
    sampler_state, rows, sampled = sampler.sample(
        learning.sampler, k_sample, View(offline, jnp.int32(0), 0.0), View(online, world, 1.0)
    )
    augment_state, batch, augmented = augment.relabel(
        learning.augment, rows.transition(units), k_augment, learning.learner
    )
    state, learned = learner.update(learning.learner, batch, k_update, step)
    return Learning(state, sampler_state, augment_state), sampled | augmented | learned


@partial(jax.jit, static_argnames=("agent", "explore"))
def act(agent: Agent, explore: bool, state: State, observation: Array, keys: Array, step: Array) -> Array:
    """One action per seed (S, A) for observations (S, *observation); `step` is the seeds' environment step."""

    def seed(state: State, observation: Array, key: Array) -> Array:
        return agent.act(state, observation[None], jax.random.fold_in(key, step), explore)[0]

    return for_seeds(seed, state, observation, keys)


def entering(phase: Phase, index: int, spec: Spec, slots: dict[str, Slot]) -> Callable[..., Learning]:
    """Return the program of a phase's door: (keys, slots' states, offline, online) -> what its slot holds."""

    def doors(keys: Array, states: dict[str, Learning], offline: Replay, online: Replay) -> Learning:
        def seed(world: Array, key: Array, states: dict[str, Learning]) -> Learning:
            k_learner, k_sampler, k_augment = jax.random.split(jax.random.fold_in(key, index), 3)
            here = {
                name: slots[name]._replace(state=s.learner, batch_state=s.sampler, augment_state=s.augment)
                for name, s in states.items()
            }
            door = Door(spec, here, View(offline, jnp.int32(0), 0.0), View(online, world, 1.0))
            old = here.get(phase.slot) if phase.enter is None else None
            same_batch = old is not None and old.batch == phase.batch
            same_augment = old is not None and old.augment == phase.augment
            if phase.enter is not None:
                state = phase.enter(here, phase.learner.init(k_learner, spec))
            else:
                state = phase.learner.init(k_learner, spec) if old is None else old.state
            return Learning(
                state,
                old.batch_state if old is not None and same_batch else phase.batch.init(k_sampler, door),
                old.augment_state if old is not None and same_augment else phase.augment.init(k_augment, door),
            )

        return for_seeds(seed, jnp.arange(keys.shape[0]), keys, states)

    return doors


def enter(carry: Carry, phase: Phase, index: int, spec: Spec, offline: Replay) -> None:
    """Take all seeds through a phase's door."""
    states = {name: learning_of(slot) for name, slot in carry.slots.items()}
    program = jax.jit(entering(phase, index, spec, carry.slots))
    learning = program(keys_of(carry.seeds, DOOR), states, offline, carry.online)
    carry.slots = carry.slots | {phase.slot: slot_of(phase, learning)}
    carry.entered, carry.tick, carry.sums = True, 0, {}


def learning_of(slot: Slot) -> Learning:
    """What a slot has learned."""
    return Learning(slot.state, slot.batch_state, slot.augment_state)


def slot_of(phase: Phase, learning: Learning) -> Slot:
    """Return the slot that a phase trains, with what it has learned."""
    return Slot(phase.learner, learning.learner, phase.batch, learning.sampler, phase.augment, learning.augment)


def run(
    plan: Plan | Sequence[Phase],
    task: Task,
    seeds: Sequence[int],
    units: Units,
    *,
    capacity: int = 1_000_000,
    carry: Carry | None = None,
    keep_rows: bool = False,
) -> Iterator[Record]:
    """Run phases on a task with all seeds side by side and yield where they stand.

    `plan` is a tuple of phases, or a function from the facts of the finished phases to the next phase (None: done).
    The task's dataset is shared by all seeds; each seed gets a world of its own when a phase first collects.  Where
    `units.failure` is None, the task's own failure reward stands.
    `capacity` bounds own experience per seed (oldest out first).  `carry` continues a run.  With `keep_rows`,
    environment steps are kept in `carry.unsaved` until the caller takes them.

    Raises `SegueError` before anything compiles when the parts do not fit, and when a number stops being finite.
    """
    following, spec = as_plan(plan), task.spec
    if carry is None:
        longest = capacity if callable(plan) else sum(p.ticks * p.collect for p in plan)
        carry = new_carry(seeds, spec, min(capacity, longest))
    source = _Offline(task.dataset(), spec)
    while (phase := following(carry.history)) is not None:
        here = phase.units or units
        here = replace(here, failure=task.failure) if here.failure is None else here
        yield from _phase(phase, carry, task, here, source, keep_rows)
        carry.entered = False


def new_carry(seeds: Sequence[int], spec: Spec, capacity: int) -> Carry:
    """Return a carry before its first phase."""
    if len(set(seeds)) != len(seeds) or not seeds:
        raise SegueError(f"seeds {list(seeds)}: give at least one seed, none twice")
    own = replay.empty(len(seeds), capacity, spec.observation, spec.action, spec.dtype)
    return Carry(tuple(seeds), own, Ledger(len(seeds)))


def as_plan(plan: Plan | Sequence[Phase]) -> Plan:
    """Return a plan that goes through phases in order, or the plan itself."""
    if callable(plan):
        return plan
    phases = tuple(plan)
    return lambda history: phases[len(history)] if len(history) < len(phases) else None


class _Offline:
    """The dataset on the device, its returns written in the units asked for last."""

    def __init__(self, data: Data | None, spec: Spec) -> None:
        self.data, self.spec = data, spec
        self.units: Units | None = None
        self.replay = replay.empty(1, 0, spec.observation, spec.action, spec.dtype)

    def within(self, units: Units) -> Replay:
        if self.data is not None and self.units is None:
            self.replay = replay.from_data(self.data, units)
        elif self.data is not None and units != self.units:
            self.replay = self.replay._replace(mc_return=jnp.asarray(self.data.mc_returns(units))[None])
        self.units = units
        return self.replay


def _phase(phase: Phase, carry: Carry, task: Task, units: Units, source: _Offline, keep_rows: bool) -> Iterator[Record]:
    index = len(carry.history)
    offline = source.within(units)
    if units != carry.units and carry.ledger.count:
        carry.online = replay.with_returns(carry.online, carry.ledger, units)
    carry.units = units
    check_phase(phase, carry, 0 if source.data is None else len(source.data))
    if phase.collect and carry.fleet is None:
        carry.fleet = Fleet(task.world, carry.seeds)
    resumed = carry.entered
    if not resumed:
        enter(carry, phase, index, task.spec, offline)
    if not resumed:
        carry.facts = {"phase": phase.name, "ticks": phase.ticks}
    record = partial(Record, phase, index, carry=carry)
    updates_before = carry.updates - carry.tick * phase.updates
    update_keys, act_keys = keys_of(carry.seeds, UPDATE), keys_of(carry.seeds, ACT)
    finished: list[Episode] = []

    def here(**events: Any) -> Record:
        check_finite(carry, phase)
        episodes = tuple(finished)
        finished.clear()
        return record(carry.tick, carry.environment_steps, carry.updates, episodes=episodes, **events)

    def learn(count: int) -> None:
        learning = learning_of(carry.slots[phase.slot])
        if not carry.sums:
            carry.sums = no_sums(phase, units, learning, offline, carry.online, update_keys)
        learning, carry.sums = advance(
            phase.learner,
            phase.batch,
            phase.augment,
            units,
            learning,
            carry.sums,
            offline,
            carry.online,
            update_keys,
            jnp.int32(carry.updates),
            jnp.int32(carry.updates - updates_before),
            jnp.int32(count),
        )
        carry.slots[phase.slot] = slot_of(phase, learning)
        carry.updates += count

    def policy(state: State, actor: Any) -> Array:
        fleet = carry.fleet
        assert fleet is not None
        return act(actor, True, state, jnp.asarray(fleet.observation), act_keys, jnp.int32(carry.environment_steps))

    def move(action: Array) -> None:
        fleet = carry.fleet
        assert fleet is not None
        step, ended = fleet.step(np.asarray(action))
        carry.environment_steps += 1
        carry.online = replay.append(
            carry.online,
            step.observation,
            step.action,
            step.reward,
            step.terminated.astype(np.float32),
            step.next_observation,
        )
        carry.ledger.add(step.reward, step.terminated, step.terminated | step.truncated)
        if keep_rows:
            carry.unsaved.append(step)
        for w, episode in ended.items():
            length = len(episode.rewards)
            padded = np.zeros(max(task.horizon, length), np.float32)
            terminated = np.zeros(length, np.bool_)
            terminated[-1] = step.terminated[w]
            padded[:length] = replay.returns_to_go(np.asarray(episode.rewards, np.float32), terminated, units)
            carry.online = replay.close(carry.online, jnp.int32(w), padded, jnp.int32(length))
            finished.append(
                Episode(carry.seeds[w], sum(episode.rewards), length, float(episode.success), carry.environment_steps)
            )

    def tick() -> None:
        slot = carry.slots[phase.actor or phase.slot]
        if phase.overlap and phase.updates:
            # The first action is computed before the update is launched; the simulator steps while it runs.
            frozen = jax.tree.map(jnp.copy, slot.state) if phase.collect > 1 else slot.state
            action = policy(frozen, slot.learner)
            learn(phase.updates)
            move(action)
            for _ in range(phase.collect - 1):
                move(policy(frozen, slot.learner))
        else:
            for _ in range(phase.collect):
                move(policy(slot.state, slot.learner))
            if phase.updates:
                learn(phase.updates)
        carry.tick += 1

    if not resumed:
        nothing = phase.ticks == 0
        yield here(begins=True, ends=nothing, evaluates=index == 0 or nothing)
    pace, spoke = 1, time.monotonic()
    while carry.tick < phase.ticks:
        due = next_stop(phase, carry.tick)
        if phase.collect:
            tick()
        else:
            count = min(pace, due - carry.tick)
            began = time.monotonic()
            learn(count * phase.updates)
            jax.block_until_ready(carry.sums)
            carry.tick += count
            seconds = time.monotonic() - began
            pace = max(1, min(4 * pace, int(count * PULSE / max(seconds, 1e-4))))
        events = {
            "logs": carry.tick % phase.log_every == 0 or carry.tick == phase.ticks,
            "evaluates": bool(phase.evaluate_every) and carry.tick % phase.evaluate_every == 0,
            "ends": carry.tick == phase.ticks,
        }
        if any(events.values()) or time.monotonic() - spoke > PULSE:
            metrics = take_metrics(carry) if events["logs"] else {}
            events["evaluates"] |= events["ends"]
            yield here(metrics=metrics, **events)
            spoke = time.monotonic()
    carry.history = (*carry.history, carry.facts)


def next_stop(phase: Phase, tick: int) -> int:
    """Return the next tick at which the phase must speak."""
    intervals = [i for i in (phase.log_every, phase.evaluate_every) if i]
    return min([phase.ticks, *((tick // i + 1) * i for i in intervals)])


def take_metrics(carry: Carry) -> dict[str, np.ndarray]:
    """Means since the last call, (S,), NaN where a metric was never computed."""
    sums = jax.device_get(carry.sums)
    carry.sums = jax.tree.map(jnp.zeros_like, carry.sums)
    return {k: np.where(count > 0, total / np.maximum(count, 1), np.nan) for k, (total, count) in sums.items()}


def no_sums(
    phase: Phase, units: Units, learning: Learning, offline: Replay, online: Replay, keys: Array
) -> dict[str, tuple[Array, Array]]:
    """Zero sums of the metrics that the phase's updates report."""
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), learning)
    body = partial(one_update, phase.learner, phase.batch, phase.augment, units)
    zero = jnp.int32(0)
    _, metrics = jax.eval_shape(body, one, offline, online, zero, keys[0], zero, zero)
    # Two buffers for each metric: donated arguments must not share one.
    return {k: (jnp.zeros(len(keys)), jnp.zeros(len(keys), jnp.int32)) for k in metrics}


def check_phase(phase: Phase, carry: Carry, n_offline: int) -> None:
    """Fail at the door: refuse a phase whose parts do not fit, naming both sides."""
    where = f"phase '{phase.name}'"
    if phase.ticks < 0 or phase.collect < 0 or phase.updates < 0 or phase.log_every < 1 or phase.evaluate_every < 0:
        raise SegueError(f"{where}: ticks, collect, updates and intervals must not be negative (log_every at least 1)")
    if phase.actor is not None and phase.actor not in carry.slots:
        known = ", ".join(sorted(carry.slots)) or "none yet"
        raise SegueError(
            f"{where} acts with slot '{phase.actor}', which no phase has trained before it (slots: {known})"
        )
    if phase.updates and phase.ticks:
        ready = 0 if phase.overlap else phase.collect
        refusal = phase.batch.refuse(n_offline, int(carry.online.written.min()) + ready, int(carry.online.closed.min()))
        if refusal:
            raise SegueError(f"{where}: {refusal}")


class Diverged(SegueError):
    """A number stopped being finite."""


_probe = jax.jit(first_not_finite)


def check_finite(carry: Carry, phase: Phase) -> None:
    """Raise `Diverged` with the name of the first array of the phase's slot that is not finite."""
    state = carry.slots[phase.slot].state
    bad = int(_probe(state))
    if bad >= 0:
        path, leaf = jax.tree_util.tree_leaves_with_path(state)[bad]
        rows = np.flatnonzero(~np.isfinite(np.asarray(leaf)).reshape(len(carry.seeds), -1).all(axis=1))
        who = ", ".join(str(carry.seeds[r]) for r in rows)
        raise Diverged(
            f"phase '{phase.name}', update {carry.updates}: {phase.slot}{jax.tree_util.keystr(path)} is not finite "
            f"(seeds {who}); lower the learning rate or check the rewards' scale, then resume from the last checkpoint"
        )
