"""The only file that loops: dataset, worlds -> replay -> sampler -> augmentation -> learner -> slot -> act -> worlds.

`run` is a generator of Records; the caller logs, evaluates, saves and prints.  It never returns to the host inside
a dispatch, and what it computes depends on the seeds and the clocks only: not on how updates are grouped into
dispatches, not on which other seeds run beside one, not on when the caller saved or resumed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segue.core import replay
from segue.core.replay import Data, Replay
from segue.core.scaling import Units, returns_to_go, settled
from segue.core.types import Array, Slot, Spec, Task, WorldError
from segue.engine import steps
from segue.engine.envs import VALIDATION, Episode, Fleet
from segue.engine.evaluate import Evaluator
from segue.engine.phase import RANDOM, Phase, check_doors
from segue.engine.sharing import Standing
from segue.engine.state import Carry, Record, check_finite, check_phase, new_carry, take_metrics, validated
from segue.engine.steps import ACT, DOOR, UPDATE, keys_of, learning_of, slot_of

PULSE = 0.4  # seconds between records when nothing else is due
LEAST = 8  # updates of all seeds together in a dispatch: its scratch memory is mapped anew each time
LAST = 1_000_000  # rows of own experience that are kept where nothing else is said
Plan = Callable[[tuple[dict[str, Any], ...]], Phase | None]


def run(
    plan: Plan | Sequence[Phase],
    task: Task,
    seeds: Sequence[int],
    units: Units,
    *,
    capacity: int | None = None,
    carry: Carry | None = None,
    keep_rows: bool = False,
) -> Generator[Record, None, None]:
    """Run phases on a task with all seeds side by side and yield where they stand.

    `plan` is a tuple of phases, or a function from the facts of the finished phases to the next phase (None: done).
    The task's dataset is shared by all seeds; each seed gets a world of its own when a phase first collects.  Where
    `units.failure` is "task", the task's own failure reward stands; what units leave to the dataset is read off it.
    `capacity` bounds own experience per seed (oldest out first); by default all that the phases collect is kept, and
    the last million rows for a function, which does not say beforehand.  `carry` continues a run.  With `keep_rows`,
    environment steps are kept in `carry.unsaved` until the caller takes them.

    Raises `SegueError` before anything compiles when the parts do not fit, `Diverged` when a number stops being finite,
    and `WorldError` when an environment fails: `carry` then holds every completed step, and may be saved.
    """
    following, spec = as_plan(plan), task.spec
    if carry is None:
        if not callable(plan):
            check_doors(plan, units)
        most = sum(p.ticks * p.collect for p in plan) if not callable(plan) else LAST if capacity is None else capacity
        carry = new_carry(seeds, spec, most if capacity is None else min(capacity, most))
    source = _Offline(task.dataset(), spec)
    try:
        while (phase := following(carry.history)) is not None:
            here = settled(phase.units or units, task.failure, source.data)
            yield from _Running(phase, carry, task, here, source, keep_rows).records()
            carry.entered = False
    finally:
        if carry.fleet is not None:
            carry.fleet.close()


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


def enter(carry: Carry, phase: Phase, index: int, spec: Spec, units: Units, offline: Replay) -> None:
    """Take all seeds through a phase's door."""
    states = {name: learning_of(slot) for name, slot in carry.slots.items()}
    program = jax.jit(steps.entering(phase, index, spec, units, carry.slots))
    learning = program(keys_of(carry.seeds, DOOR), states, validated(carry.history), offline, carry.online)
    old = carry.slots.get(phase.slot)
    carry.slots = carry.slots | {phase.slot: slot_of(phase, units, learning, old)}
    carry.entered, carry.tick, carry.sums = True, 0, {}
    carry.facts = {"phase": phase.name, "ticks": phase.ticks}
    if phase.validation.steps:
        before = [len(f.get("validations", ())) * f.get("validation_episodes", 0) for f in carry.history]
        carry.facts |= {
            "validation_steps": phase.validation.steps,
            "validation_episodes": phase.validation.episodes,
            "validation_keep": phase.validation.keep,
            "validated_before": sum(before),
        }


class _Running:
    """One phase while it runs; everything that must outlive a kill is in `carry`."""

    def __init__(self, phase: Phase, carry: Carry, task: Task, units: Units, source: _Offline, keep_rows: bool) -> None:
        self.phase, self.carry, self.task, self.units, self.keep_rows = phase, carry, task, units, keep_rows
        self.index = len(carry.history)
        self.offline = source.within(units)
        if units != carry.units and carry.ledger.count:
            carry.online = replay.with_returns(carry.online, carry.ledger, units)
        carry.units = units
        check_phase(phase, carry, task.spec, 0 if source.data is None else len(source.data), task.horizon)
        if phase.collect and phase.ticks and carry.fleet is None:
            carry.fleet = Fleet(task.world, carry.seeds, carry.begun)
        self.resumed = carry.entered
        if not self.resumed:
            enter(carry, phase, self.index, task.spec, units, self.offline)
        self.updates_before = carry.updates - (carry.tick + carry.learned) * phase.updates
        self.update_keys, self.act_keys = keys_of(carry.seeds, UPDATE), keys_of(carry.seeds, ACT)
        self.finished: list[Episode] = []
        self.validates = phase.validation.ticks(task.horizon, phase.ticks)
        self.shared = len(phase.actors) > 1
        if self.shared and phase.collect and phase.ticks and not self.resumed:
            carry.facts["turns"] = [self.turn(w) for w in range(len(carry.seeds))]

    def records(self) -> Iterator[Record]:
        """Go on to the end of the phase and say where it stands whenever something is due."""
        phase, carry = self.phase, self.carry
        if not self.resumed:
            nothing = phase.ticks == 0
            yield self.record(begins=True, ends=nothing, evaluates=self.index == 0 or nothing)
        pace, spoke = 1, time.monotonic()
        while carry.tick < phase.ticks:
            if phase.collect:
                try:
                    self.tick()
                except WorldError:
                    yield self.record()  # of the episodes that were finished before
                    raise
            else:
                stop = min(next_stop(phase, carry.tick), *(t for t in self.validates if t > carry.tick), phase.ticks)
                pace = self.ticks(min(pace, stop - carry.tick), pace)
            if carry.tick in self.validates:
                self.validate()
            ends = carry.tick == phase.ticks
            logs = ends or carry.tick % phase.log_every == 0
            # A phase that only collects leaves its policy as it was evaluated before.
            due = ends or (bool(phase.evaluate_every) and carry.tick % phase.evaluate_every == 0)
            evaluates = due and phase.updates > 0
            if logs or evaluates or time.monotonic() - spoke > PULSE:
                metrics = take_metrics(carry) if logs else {}
                yield self.record(metrics=metrics, logs=logs, evaluates=evaluates, ends=ends)
                spoke = time.monotonic()
        carry.history = (*carry.history, carry.facts)

    def validate(self) -> None:
        """Try the policy on the task; each seed keeps it where it is the best of the phase so far."""
        carry, wanted = self.carry, self.phase.validation
        slot, known = carry.slots[self.phase.slot], carry.facts.setdefault("validations", [])
        evaluator = Evaluator(self.task, carry.seeds, wanted.episodes, VALIDATION)
        first = carry.facts["validated_before"] + len(known) * wanted.episodes
        found = evaluator(slot, first)
        evaluator.close()
        value = found.raw_return.mean(axis=1)
        best = np.max([v["return"] for v in known], axis=0) if known else np.full(len(value), -np.inf)
        known.append(
            {"tick": carry.tick, "return": value.tolist(), "steps": found.length.sum(axis=1).astype(int).tolist()}
        )
        better = jnp.asarray(value > best)
        kept = carry.slots[wanted.keep].state if len(known) > 1 else slot.state
        pick = lambda new, old: jnp.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old)  # noqa: E731
        # A copy: the phase's own state is given away at its next update.
        carry.slots[wanted.keep] = Slot(slot.learner, jax.tree.map(pick, slot.state, kept), slot.units)

    def record(self, **events: Any) -> Record:
        """Return where the run stands, after a look at whether its numbers are finite."""
        carry = self.carry
        check_finite(carry, self.phase)
        episodes, self.finished = tuple(self.finished), []
        return Record(
            self.phase,
            self.index,
            carry.tick,
            carry.environment_steps,
            carry.updates,
            carry,
            episodes=episodes,
            **events,
        )

    def ticks(self, count: int, pace: int) -> int:
        """Do `count` ticks that only learn, in one dispatch; return how many fit into the time between two records."""
        began = time.monotonic()
        self.learn(count * self.phase.updates)
        jax.block_until_ready(self.carry.sums)
        self.carry.tick += count
        seconds = time.monotonic() - began
        least = -(-LEAST // (max(self.phase.updates, 1) * len(self.carry.seeds)))
        return max(least, min(4 * pace, int(count * PULSE / max(seconds, 1e-4))))

    def tick(self) -> None:
        """Take a tick's environment steps and do its updates."""
        phase, carry = self.phase, self.carry
        slot = carry.acting(phase)
        if phase.overlap and phase.updates and not carry.learned:
            # The first action is computed before the update is launched; the simulator steps while it runs.
            frozen = jax.tree.map(jnp.copy, slot.state) if phase.collect > 1 else slot.state
            slot = slot._replace(state=frozen)
            self.ready()
            action = self.act(slot)
            self.learn(phase.updates)
            carry.learned = True
            self.move(action)
        while carry.moved < phase.collect:
            self.ready()
            self.move(self.act(slot))
        if phase.updates and not carry.learned:
            self.learn(phase.updates)
        carry.moved, carry.learned = 0, False
        carry.tick += 1

    def ready(self) -> None:
        """Begin the episodes of worlds whose last one is over."""
        assert self.carry.fleet is not None
        self.carry.fleet.begin()

    def turn(self, w: int) -> int:
        """Which of the phase's actors has a world's next episode."""
        carry, sharing = self.carry, self.phase.actor
        assert carry.fleet is not None
        assert sharing is not None
        assert not isinstance(sharing, str)
        standing = Standing(
            [v["return"][w] for v in carry.facts.get("validations", ())],
            {name: float(value[w]) for name, value in validated(carry.history).items()},
            lambda count: float(carry.ledger.first_returns(count)[w]),
        )
        return sharing.turn(carry.seeds[w], carry.fleet.episodes[w], standing)

    def learn(self, count: int) -> None:
        """Launch `count` updates of the phase's slot."""
        phase, carry = self.phase, self.carry
        slot = carry.slots[phase.slot]
        learning = learning_of(slot)
        if not carry.sums:
            carry.sums = steps.no_sums(phase, self.units, learning, self.offline, carry.online, self.update_keys)
        learning, carry.sums = steps.advance(
            phase.learner,
            phase.batch,
            phase.augment,
            self.units,
            learning,
            carry.sums,
            self.offline,
            carry.online,
            self.update_keys,
            jnp.int32(carry.updates),
            jnp.int32(carry.updates - self.updates_before),
            jnp.int32(count),
        )
        carry.slots[phase.slot] = slot_of(phase, self.units, learning, slot)
        carry.updates += count

    def act(self, slot: Slot) -> Array:
        """Actions (S, A) of a slot's policy where the worlds stand."""
        assert self.carry.fleet is not None
        observation, step = jnp.asarray(self.carry.fleet.observation), jnp.int32(self.carry.environment_steps)
        if self.phase.actors == (RANDOM,):
            return steps.act_at_random(self.task.spec.action, self.act_keys, step)
        policy = lambda of: steps.act(of.learner, of.units, True, of.state, observation, self.act_keys, step)  # noqa: E731
        actions = [policy(slot), *(policy(self.carry.slots[name]) for name in self.phase.actors[1:])]
        if not self.shared:
            return actions[0]
        turns = jnp.asarray(self.carry.facts["turns"])
        return jnp.take_along_axis(jnp.stack(actions), turns[None, :, None], axis=0)[0]

    def move(self, action: Array) -> None:
        """Step all worlds and write what happened; returns are written when an episode closes."""
        carry = self.carry
        assert carry.fleet is not None
        step, ended = carry.fleet.step(np.asarray(action))
        carry.environment_steps += 1
        carry.moved += 1
        carry.online = replay.append(
            carry.online,
            step.observation,
            step.action,
            step.reward,
            step.terminated,
            step.truncated,
            step.next_observation,
        )
        carry.ledger.add(step.reward, step.terminated, step.terminated | step.truncated)
        if self.keep_rows:
            carry.unsaved.append(step)
        for w, episode in ended.items():
            length = len(episode.rewards)
            padded = np.zeros(max(self.task.horizon, length), np.float32)
            terminated = np.zeros(length, np.bool_)
            terminated[-1] = step.terminated[w]
            padded[:length] = returns_to_go(np.asarray(episode.rewards, np.float32), terminated, self.units)
            carry.online = replay.close(carry.online, jnp.int32(w), padded, jnp.int32(length))
            own = None
            if self.shared:
                own, carry.facts["turns"][w] = carry.facts["turns"][w] == 0, self.turn(w)
            done = float(episode.success), carry.environment_steps, own
            self.finished.append(Episode(carry.seeds[w], sum(episode.rewards), length, *done))


def next_stop(phase: Phase, tick: int) -> int:
    """Return the next tick at which the phase must speak."""
    intervals = [i for i in (phase.log_every, phase.evaluate_every) if i]
    return min([phase.ticks, *((tick // i + 1) * i for i in intervals)])
