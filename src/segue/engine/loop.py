"""The training loop: dataset, envs -> replay -> sampler -> augmentation -> learner -> slot -> act -> envs.

`run` is a generator of Records; the caller logs, evaluates, saves and prints.  It never returns to the host inside
a dispatch.  Its results depend only on the seeds and the clocks: not on how updates are grouped into dispatches, not on
the other seeds of the run, and not on when the caller saved or resumed.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segue.core import replay
from segue.core.replay import Data, Replay
from segue.core.scaling import Units, returns_to_go, settled
from segue.core.types import Array, Learned, Slot, Spec, Task, World, WorldError
from segue.engine import steps
from segue.engine.envs import VALIDATION, Envs, Episode
from segue.engine.evaluate import Evaluator
from segue.engine.phase import RANDOM, Phase
from segue.engine.sharing import Standing
from segue.engine.state import (
    Record,
    RunState,
    check_finite,
    new_state,
    not_finite,
    take_metrics,
    validated,
)
from segue.engine.steps import ACT, DOOR, UPDATE, Explore, keys_of, trained, update_of
from segue.engine.validate import check_phase, validate

PULSE = 0.4  # seconds between records when nothing else is due
LEAST = 8  # updates of all seeds together in a dispatch: its scratch memory is mapped anew each time
LAST = 1_000_000  # rows of own experience that are kept where nothing else is said
Plan = Callable[[tuple[dict[str, Any], ...]], Phase | None]
Following = tuple[tuple[Phase, Units], ...]


def run(
    plan: Plan | Sequence[Phase],
    task: Task,
    seeds: Sequence[int],
    units: Units,
    *,
    capacity: int | None = None,
    state: RunState | None = None,
    keep_rows: bool = False,
    checked: bool = False,
    world: Callable[[], World] | None = None,
) -> Generator[Record, None, None]:
    """Run phases on a task with all seeds side by side and yield Records.

    `plan` is a tuple of phases, or a function from the facts of the finished phases to the next phase (None: done).
    All seeds share the task's dataset; each seed gets its own simulator when a phase first collects.  If
    `units.failure` is "task", it is the task's failure reward; units that depend on the dataset are computed from it.
    `capacity` is the number of own rows kept per seed (the oldest go first); by default all rows that the phases
    collect, or a million rows if `plan` is a function.  `state` continues a run.  With `keep_rows`, environment steps
    are kept in `state.unsaved` until the caller takes them.  `checked` says that `validate` has checked the phases.
    `world` makes the simulators; the task's own by default.

    Raises `SegueError` before anything compiles if the parts do not fit, `Diverged` if a number is not finite, and
    `WorldError` if an environment fails: `state` then holds every completed step, and may be saved.
    """
    following, spec, world = as_plan(plan), task.spec, world or task.world
    if state is None:
        if not callable(plan) and not checked:
            validate(plan, task, seeds, units)
        most = sum(p.ticks * p.collect for p in plan) if not callable(plan) else LAST if capacity is None else capacity
        state = new_state(seeds, spec, most if capacity is None else min(capacity, most))
    source = _Offline(task.dataset(), spec)
    doors: dict[int, Any] = {}
    try:
        while (phase := following(state.history)) is not None:
            after = () if callable(plan) else tuple(_goes_on(plan[len(state.history) + 1 :]))
            here, *later = (settled(p.units or units, task.failure, source.data) for p in (phase, *after))
            running = _Running(phase, state, task, here, source, doors, keep_rows)
            running.begin(world)
            yield from running.records(tuple(zip(after, later)))
            state.entered = False
    finally:
        if state.envs is not None:
            state.envs.close()


def as_plan(plan: Plan | Sequence[Phase]) -> Plan:
    """Return a plan that goes through phases in order, or the plan itself."""
    if callable(plan):
        return plan
    phases = tuple(plan)
    return lambda history: phases[len(history)] if len(history) < len(phases) else None


def _goes_on(after: Sequence[Phase]) -> Iterator[Phase]:
    """The phases that begin while an episode of the one before may be open."""
    return itertools.takewhile(lambda phase: phase.collect and phase.ticks, after)


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


def enter(
    state: RunState, phase: Phase, index: int, spec: Spec, units: Units, offline: Replay, program: Any = None
) -> None:
    """Hand over to a phase, for all seeds; `program` is the compiled hand-over, if there is one."""
    there = {name: slot.learned for name, slot in state.slots.items()}
    program = program or jax.jit(steps.entering(phase, index, spec, units, state.slots))
    keys, tried = keys_of(state.seeds, DOOR), validated(state.history)
    learned = program(keys, there, tried, offline, state.experience.replay)
    state.slots = state.slots | {phase.slot: trained(phase, units, learned, state.slots.get(phase.slot))}
    state.entered, state.tick, state.sums = True, 0, {}
    state.facts = {"phase": phase.name, "ticks": phase.ticks}
    if phase.validation.steps:
        before = [len(f.get("validations", ())) * f.get("validation_episodes", 0) for f in state.history]
        state.facts |= {
            "validation_steps": phase.validation.steps,
            "validation_episodes": phase.validation.episodes,
            "validation_keep": phase.validation.keep,
            "validated_before": sum(before),
        }


class _Running:
    """One phase while it runs; everything that must outlive a kill is in `state`."""

    def __init__(
        self,
        phase: Phase,
        state: RunState,
        task: Task,
        units: Units,
        source: _Offline,
        doors: dict[int, Any],
        keep_rows: bool,
    ) -> None:
        self.phase, self.state, self.task, self.units, self.keep_rows = phase, state, task, units, keep_rows
        self.source, self.doors, self.index = source, doors, len(state.history)
        self.update = update_of(phase, units)
        self.offline = source.replay
        self.update_keys, self.act_keys = keys_of(state.seeds, UPDATE), keys_of(state.seeds, ACT)
        self.finished: list[Episode] = []
        self.validates = phase.validation.ticks(task.horizon, phase.ticks)
        self.shared = len(phase.actors) > 1
        self.resumed = state.entered

    def begin(self, world: Callable[[], World]) -> None:
        """Check the phase, write returns in its units, make the simulators and hand over."""
        phase, state, task, units, source = self.phase, self.state, self.task, self.units, self.source
        self.offline = source.within(units)
        if units != state.units and state.experience.ledger.count:
            jax.block_until_ready([slot.learned for slot in state.slots.values()])
            state.experience.rewrite(units)
        state.units = units
        logged, own = 0 if source.data is None else len(source.data), state.experience
        rows = logged, int(own.written.min()), int(own.closed.min())
        check_phase(phase, state.slots, task.spec, task.horizon, *rows)
        if phase.collect and phase.ticks and state.envs is None:
            state.envs = Envs(world, state.seeds, state.begun)
        if not self.resumed:
            enter(state, phase, self.index, task.spec, units, self.offline, self.doors.pop(self.index, None))
        if self.shared and phase.collect and phase.ticks and not self.resumed:
            state.facts["turns"] = [self.turn(w) for w in range(len(state.seeds))]

    def records(self, following: Following) -> Iterator[Record]:
        """Run to the end of the phase and yield a record whenever something is due.

        `following` are the phases, with their units, that begin while one of its episodes may be open.
        """
        phase, state = self.phase, self.state
        if not self.resumed:
            nothing = phase.ticks == 0
            yield self.record(begins=True, ends=nothing, evaluates=self.index == 0 or nothing)
        if phase.collect and state.tick < phase.ticks:
            self.compile()
            self.rehearse(following)
        pace, spoke = 1, time.monotonic()
        while state.tick < phase.ticks:
            if phase.collect:
                try:
                    self.tick()
                except WorldError:
                    yield self.record()  # of the episodes that were finished before
                    raise
            else:
                stop = min(next_stop(phase, state.tick), *(t for t in self.validates if t > state.tick), phase.ticks)
                pace = self.ticks(min(pace, stop - state.tick), pace)
            if state.tick in self.validates:
                self.validate()
            ends = state.tick == phase.ticks
            logs = ends or state.tick % phase.log_every == 0
            # A phase that only collects leaves its policy as it was evaluated before.
            due = ends or (bool(phase.evaluate_every) and state.tick % phase.evaluate_every == 0)
            evaluates = due and phase.updates > 0
            if logs or evaluates or time.monotonic() - spoke > PULSE:
                metrics = take_metrics(state) if logs else {}
                yield self.record(metrics=metrics, logs=logs, evaluates=evaluates, ends=ends)
                spoke = time.monotonic()
        state.history = (*state.history, state.facts)

    def validate(self) -> None:
        """Try the policy on the task; each seed keeps it where it is the best of the phase so far."""
        state, wanted = self.state, self.phase.validation
        slot, known = state.slots[self.phase.slot], state.facts.setdefault("validations", [])
        evaluator = Evaluator(self.task, state.seeds, wanted.episodes, VALIDATION)
        first = state.facts["validated_before"] + len(known) * wanted.episodes
        found = evaluator(slot, first)
        evaluator.close()
        value = found.raw_return.mean(axis=1)
        best = np.max([v["return"] for v in known], axis=0) if known else np.full(len(value), -np.inf)
        known.append(
            {"tick": state.tick, "return": value.tolist(), "steps": found.length.sum(axis=1).astype(int).tolist()}
        )
        better = jnp.asarray(value > best)
        kept = state.slots[wanted.keep].state if len(known) > 1 else slot.state
        pick = lambda new, old: jnp.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old)  # noqa: E731
        # A copy: the phase's own state is given away at its next update.
        state.slots[wanted.keep] = Slot(slot.learner, Learned(jax.tree.map(pick, slot.state, kept)), slot.units)

    def record(self, **events: Any) -> Record:
        """Return a record, after a check that all numbers are finite."""
        state = self.state
        check_finite(state, self.phase)
        episodes, self.finished = tuple(self.finished), []
        return Record(
            self.phase,
            self.index,
            state.tick,
            state.environment_steps,
            state.updates,
            state,
            episodes=episodes,
            **events,
        )

    def ticks(self, count: int, pace: int) -> int:
        """Do `count` ticks that only learn, in one dispatch; return how many fit into the time between two records."""
        began = time.monotonic()
        self.learn(count * self.phase.updates)
        jax.block_until_ready(self.state.sums)
        self.state.tick += count
        seconds = time.monotonic() - began
        least = -(-LEAST // (max(self.phase.updates, 1) * len(self.state.seeds)))
        return max(least, min(4 * pace, int(count * PULSE / max(seconds, 1e-4))))

    def tick(self) -> None:
        """Take a tick's environment steps and do its updates."""
        phase, state = self.phase, self.state
        slot = state.acting(phase)
        if phase.overlap and phase.updates and not state.learned:
            # The first action is computed before the update is launched; the simulator steps while it runs.
            frozen = jax.tree.map(jnp.copy, slot.state) if phase.collect > 1 else slot.state
            slot = slot.moved(frozen)
            action = self.act(slot, self.seen())
            self.learn(phase.updates)
            state.learned = True
            self.move(action)
        while state.moved < phase.collect:
            self.move(self.act(slot, self.seen()))
        if phase.updates and not state.learned:
            self.learn(phase.updates)
        state.moved, state.learned = 0, False
        state.tick += 1

    def compile(self) -> None:
        """Compile all that the phase's ticks call, before its world moves: a robot does not wait for a compiler.

        Each program is called once and changes nothing: no update is done, and no action is taken.
        """
        phase, state, spec = self.phase, self.state, self.task.spec
        if phase.updates:
            self.learn(0)
            jax.tree.map(jnp.zeros_like, state.sums)
        if self.shared:
            self.turn(0)
        slot = state.acting(phase)
        if phase.overlap and phase.collect > 1:
            slot = slot.moved(jax.tree.map(jnp.copy, slot.state))
        self.act(slot, np.zeros((len(state.seeds), *spec.observation), spec.dtype))
        state.experience.compile(self.task.horizon)
        not_finite(state, phase)

    def rehearse(self, following: Following) -> None:
        """Compile the programs of the following phases too: an episode may be open at their hand-overs.

        Each hand-over is done from the current slots and its result is dropped.  Not if a phase validates (later
        hand-overs then read slots that do not exist yet), or if an episode is open already: such a simulator can wait.
        """
        envs, spec = self.state.envs, self.task.spec
        validates = self.phase.validation.steps or any(phase.validation.steps for phase, _ in following)
        if validates or (envs is not None and not envs.over.all()):
            return
        there, facts = replace(self.state), self.state.facts
        for phase, units in following:
            there.history = (*there.history, facts)
            later = _Running(phase, there, self.task, units, self.source, self.doors, False)
            if later.index in self.doors:
                return
            known = {name: slot._replace(learned=Learned(())) for name, slot in there.slots.items()}
            door = self.doors[later.index] = jax.jit(steps.entering(phase, later.index, spec, units, known))
            enter(there, phase, later.index, spec, units, self.offline, door)
            slot, facts = there.slots[phase.slot], there.facts
            # A copy: what a door carries on may be the arrays that go on here, and updates give theirs away.
            there.slots = there.slots | {phase.slot: slot._replace(learned=jax.tree.map(jnp.copy, slot.learned))}
            later.compile()

    def seen(self) -> np.ndarray:
        """Observations (S, *observation) where the worlds stand; an episode begins where the last one is over."""
        assert self.state.envs is not None
        self.state.envs.begin()
        return self.state.envs.observation

    def turn(self, w: int) -> int:
        """Which of the phase's actors has a world's next episode."""
        state, sharing = self.state, self.phase.actor
        assert state.envs is not None
        assert sharing is not None
        assert not isinstance(sharing, str)
        standing = Standing(
            [v["return"][w] for v in state.facts.get("validations", ())],
            {name: float(value[w]) for name, value in validated(state.history).items()},
            lambda count: float(state.experience.ledger.first_returns(count)[w]),
        )
        return sharing.turn(state.seeds[w], state.envs.episodes[w], standing)

    def learn(self, count: int) -> None:
        """Launch `count` updates of the phase's slot."""
        phase, state = self.phase, self.state
        slot = state.slots[phase.slot]
        online = state.experience.replay
        if not state.sums:
            state.sums = steps.no_sums(self.update, slot.learned, self.offline, online, self.update_keys)
        learned, state.sums = steps.advance(
            self.update,
            slot.learned,
            state.sums,
            self.offline,
            online,
            self.update_keys,
            np.int32(state.updates),
            np.int32((state.tick + state.learned) * phase.updates),
            np.int32(count),
        )
        state.slots[phase.slot] = trained(phase, self.units, learned, slot)
        state.updates += count

    def act(self, slot: Slot, observation: np.ndarray) -> Array:
        """Actions (S, A) of a slot's policy for observations (S, *observation)."""
        observed, step = observation, np.int32(self.state.environment_steps)
        if self.phase.actors == (RANDOM,):
            return steps.act_at_random(self.task.spec.action, self.act_keys, step)
        explore = Explore(self.phase.greedy, self.phase.epsilon)
        slots = [slot, *(self.state.slots[name] for name in self.phase.actors[1:])]
        actions = [steps.act(s.learner, s.units, explore, s.state, observed, self.act_keys, step) for s in slots]
        if not self.shared:
            return actions[0]
        turns = jnp.asarray(self.state.facts["turns"])
        return jnp.take_along_axis(jnp.stack(actions), turns[None, :, None], axis=0)[0]

    def move(self, action: Array) -> None:
        """Step all worlds and write what happened; returns are written when an episode closes."""
        state = self.state
        assert state.envs is not None
        step, ended = state.envs.step(np.asarray(action))
        state.environment_steps += 1
        state.moved += 1
        readers = state.slots[self.phase.slot].learned
        state.experience.append(step, readers)
        if self.keep_rows:
            state.unsaved.append(step)
        for w, episode in ended.items():
            length = len(episode.rewards)
            terminated = np.zeros(length, np.bool_)
            terminated[-1] = step.terminated[w]
            value = returns_to_go(np.asarray(episode.rewards, np.float32), terminated, self.units)
            state.experience.close(w, value, readers)
            own = None
            if self.shared:
                own, state.facts["turns"][w] = state.facts["turns"][w] == 0, self.turn(w)
            done = float(episode.success), state.environment_steps, own
            self.finished.append(Episode(state.seeds[w], sum(episode.rewards), length, *done))


def next_stop(phase: Phase, tick: int) -> int:
    """Return the next tick at which the phase must speak."""
    intervals = [i for i in (phase.log_every, phase.evaluate_every) if i]
    return min([phase.ticks, *((tick // i + 1) * i for i in intervals)])
