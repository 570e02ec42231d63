"""One phase while it runs: environment steps, updates, and a record whenever something is due."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segue.core.replay import Replay
from segue.core.scaling import Scaling, returns_to_go
from segue.core.types import EnvError, Learned, Spec, State, Task
from segue.engine import steps
from segue.engine.actors import Actors
from segue.engine.checks import check_phase, check_windows
from segue.engine.envs import VALIDATION, Envs, Episode, Simulator
from segue.engine.evaluate import Evaluator
from segue.engine.offline import Offline
from segue.engine.phase import Phase, next_stop, passes
from segue.engine.state import (
    Record,
    RunState,
    check_finite,
    not_finite,
    validated,
)
from segue.engine.steps import HANDOVER, keys_of, trained
from segue.engine.training import Actions, Training, acts_alone

PULSE = 0.4  # seconds between records when nothing else is due
LEAST = 8  # updates of all seeds together in a dispatch: its scratch memory is mapped anew each time
Following = tuple[tuple[Phase, Scaling], ...]


def hand_over(
    state: RunState,
    phase: Phase,
    index: int,
    spec: Spec,
    scaling: Scaling,
    offline: Sequence[Replay],
    program: Any = None,
) -> None:
    """Hand over to a phase, for all seeds; `program` is the compiled hand-over, if there is one."""
    program = program or jax.jit(steps.handing_over(phase, index, spec, scaling, state.slots))
    groups, tried = state.experience.groups, validated(state.history)
    there = groups.split(({name: slot.learned for name, slot in state.slots.items()}, tried))
    made = [
        program(g.place(keys_of(state.seeds[g.lanes], HANDOVER)), *there[n], offline[n], state.experience.given(n))
        for n, g in enumerate(groups.members)
    ]
    learned = groups.join(made)
    state.held = state.held | {phase.slot: trained(phase, scaling, learned, state.held.get(phase.slot))}
    state.entered, state.step, state.counted = True, 0, {}
    state.facts = {"phase": phase.name, "steps": phase.steps}
    if phase.validation.steps:
        before = [len(f.get("validations", ())) * f.get("validation_episodes", 0) for f in state.history]
        state.facts |= {
            "validation_steps": phase.validation.steps,
            "validation_episodes": phase.validation.episodes,
            "validation_keep": phase.validation.keep,
            "validated_before": sum(before),
        }


class Running:
    """One phase while it runs; everything that must outlive a kill is in `state`."""

    def __init__(
        self,
        phase: Phase,
        state: RunState,
        task: Task,
        scaling: Scaling,
        source: Offline,
        handovers: dict[int, Any],
        keep_rows: bool,
        simulators: Callable[[], Simulator],
    ) -> None:
        self.phase, self.state, self.task, self.scaling, self.keep_rows = phase, state, task, scaling, keep_rows
        self.source, self.handovers, self.index = source, handovers, len(state.history)
        self.simulators = simulators
        self.offline = source.given
        self.finished: list[Episode] = []
        tries = phase.validation.after(task.horizon, phase.steps // phase.round)
        self.validates = tuple(turn * phase.round for turn in tries)
        self.resumed = state.entered
        self.actors = Actors(phase, state, task)

    def begin(self) -> None:
        """Check the phase, write returns in its scaling, make the simulators and hand over."""
        phase, state, task, scaling, source = self.phase, self.state, self.task, self.scaling, self.source
        source.within(scaling, phase.listed)
        self.offline = source.given
        new, own = scaling != state.scaling, state.experience
        if own.ledger.count and (new or phase.listed != own.chunk):
            jax.block_until_ready([slot.learned for slot in state.slots.values()])
        if own.ledger.count and new:
            own.rewrite(scaling)
        own.windows(phase.listed)
        state.scaling = scaling
        logged = 0 if source.data is None else len(source.data)
        rows = logged, int(own.written.min()), int(own.closed.min()), own.capacity
        check_phase(phase, state.slots, task.spec, task.horizon, *rows, own.envs)
        check_windows(phase, source.data)
        if phase.moves and state.envs is None:
            state.envs = Envs(self.simulators, state.seeds, own.envs, state.begun)
        if not self.resumed:
            hand_over(state, phase, self.index, task.spec, scaling, self.offline, self.handovers.pop(self.index, None))
        self.train()
        self.actors.begin(self.resumed)

    def train(self) -> None:
        """Give the slot to its training, if the phase learns."""
        phase, state = self.phase, self.state
        if phase.learns:
            known = state.held[phase.slot], state.seeds, self.task.spec, self.offline, state.experience
            state.training, state.counted = Training(phase, *known, state.counted), {}

    def records(self, following: Following) -> Iterator[Record]:
        """Run to the end of the phase and yield a record whenever something is due.

        `following` are the phases, with their scaling, that begin while one of its episodes may be open.
        """
        phase, state = self.phase, self.state
        if not self.resumed:
            nothing = phase.steps == 0
            yield self.record(begins=True, ends=nothing, evaluates=self.index == 0 or nothing)
        if phase.moves and state.step < phase.steps:
            self.compile()
            self.rehearse(following)
        pace, spoke = 1, time.monotonic()
        while state.step < phase.steps:
            before = state.step
            if phase.collects:
                try:
                    self.turn()
                except EnvError:
                    yield self.record()  # of the episodes that were finished before
                    raise
            else:
                stop = min(next_stop(phase, before), *(t for t in self.validates if t > before), phase.steps)
                pace = self.updates(min(pace, stop - before), pace)
            if state.step in self.validates:
                self.validate()
            ends = state.step == phase.steps
            logs = ends or passes(phase.log_every, before, state.step)
            # A phase that only collects leaves its policy as it was evaluated before.
            due = ends or passes(phase.evaluate_every, before, state.step)
            evaluates = due and phase.updates > 0
            if logs or evaluates or time.monotonic() - spoke > PULSE:
                metrics = state.training.take_metrics() if logs and state.training is not None else {}
                yield self.record(metrics=metrics, logs=logs, evaluates=evaluates, ends=ends)
                spoke = time.monotonic()
        state.history, state.queue = (*state.history, state.facts), {}
        state.held, state.training, state.counted = state.slots, None, state.sums

    def validate(self) -> None:
        """Try the policy on the task; each seed keeps it where it is the best of the phase so far."""
        state, wanted = self.state, self.phase.validation
        slot, known = state.slots[self.phase.slot], state.facts.setdefault("validations", [])
        evaluator = Evaluator(self.task, state.seeds, wanted.episodes, VALIDATION, self.simulators)
        first = state.facts["validated_before"] + len(known) * wanted.episodes
        found = evaluator(slot, first)
        evaluator.close()
        value = found.raw_return.mean(axis=1)
        best = np.max([v["return"] for v in known], axis=0) if known else np.full(len(value), -np.inf)
        known.append(
            {"phase_step": state.step, "return": value.tolist(), "steps": found.length.sum(axis=1).astype(int).tolist()}
        )
        better = jnp.asarray(value > best)
        kept = state.slots[wanted.keep].state if len(known) > 1 else slot.state
        pick = lambda new, old: jnp.where(better.reshape(-1, *(1,) * (new.ndim - 1)), new, old)  # noqa: E731
        # A copy: the phase's own state is given away at its next update.
        learned = Learned(jax.tree.map(pick, slot.state, kept))
        state.held[wanted.keep] = slot._replace(learned=learned, batch=None, bonus=None)

    def record(self, **events: Any) -> Record:
        """Return a record, after a check that all numbers are finite."""
        state = self.state
        check_finite(state, self.phase)
        episodes, self.finished = tuple(self.finished), []
        return Record(
            self.phase,
            self.index,
            state.step,
            state.environment_steps,
            state.updates,
            state,
            episodes=episodes,
            **events,
        )

    def updates(self, count: int, pace: int) -> int:
        """Do `count` updates in one dispatch; return how many fit into the time between two records."""
        began = time.monotonic()
        self.learn(count)
        self.wait()
        self.state.step += count
        seconds = time.monotonic() - began
        least = -(-LEAST // len(self.state.seeds))
        return max(least, min(4 * pace, int(count * PULSE / max(seconds, 1e-4))))

    def turn(self) -> None:
        """Take the environment steps up to the next updates, and do these."""
        phase, state = self.phase, self.state
        if phase.overlap and phase.updates and not state.learned:
            # The first action is computed before the update is launched; the simulator steps while it runs.
            policy = self.before()
            action = list(self.actors.act(self.seen(), self.alone, policy))
            self.learn(phase.updates)
            state.learned = True
            self.move(action)
            while state.moved < phase.train_every:
                self.move(self.actors.act(self.seen(), self.alone, policy))
        while state.moved < phase.train_every:
            self.move(self.actors.act(self.seen(), self.alone))
        if phase.updates and not state.learned:
            goes_on = acts_alone(phase) and state.step + phase.train_every < phase.steps
            # An episode begins before the updates here, so that their dispatch chooses its first action too.
            chosen = self.learn(phase.updates, self.seen() if goes_on else None)
            self.actors.chosen = (state.environment_steps, chosen) if goes_on else None
        state.moved, state.learned = 0, False
        state.step += phase.train_every

    def compile(self) -> None:
        """Compile all that the phase calls, before its environment moves: a robot does not wait for a compiler.

        Each program is called once and changes nothing: no update is done, and no action is taken.
        """
        phase, state = self.phase, self.state
        if phase.learns:
            self.learn(0)
        self.actors.compile(self.before() if phase.overlap and not acts_alone(phase) else None)
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
        there, facts = replace(self.state, held=dict(self.state.slots), training=None), self.state.facts
        for phase, scaling in following:
            if phase.listed != self.phase.listed:  # its windows are listed at its hand-over, and it is compiled there
                return
            there.history = (*there.history, facts)
            later = Running(phase, there, self.task, scaling, self.source, self.handovers, False, self.simulators)
            if later.index in self.handovers:
                return
            known = {name: slot._replace(learned=Learned(())) for name, slot in there.slots.items()}
            handover = self.handovers[later.index] = jax.jit(
                steps.handing_over(phase, later.index, spec, scaling, known)
            )
            hand_over(there, phase, later.index, spec, scaling, self.offline, handover)
            slot, facts = there.held[phase.slot], there.facts
            # A copy: what a hand-over carries on may be the arrays that go on here, and updates give theirs away.
            there.held[phase.slot] = slot._replace(learned=jax.tree.map(jnp.copy, slot.learned))
            later.train()
            later.compile()
            there.held, there.training = there.slots, None

    def seen(self) -> np.ndarray:
        """Observations (W, *observation) of the environments; a new episode begins where the last one is over."""
        assert self.state.envs is not None
        self.state.envs.begin()
        return self.state.envs.observation

    def learn(self, count: int, observation: np.ndarray | None = None) -> Actions:
        """Launch `count` updates of the phase's slot; return its policy's actions for observations (W, *observation)
        after them."""
        phase, state = self.phase, self.state
        assert state.training is not None
        step = (state.step // phase.round + state.learned) * phase.updates
        seen = None if observation is None else self.actors.apart(observation)
        action = state.training.advance(state.experience, state.updates, step, count, state.environment_steps, seen)
        state.updates += count
        return action

    def alone(self, observation: np.ndarray) -> Actions:
        """The own policy's actions for observations (W, *observation), without an update."""
        return self.learn(0, observation)

    def wait(self) -> None:
        """Wait until no update reads experience."""
        if self.state.training is not None:
            self.state.training.wait()

    def before(self) -> list[State]:
        """The policy, for each group, as it is before the updates that are launched next; they give its arrays away."""
        states = [part.learner for part in self.state.parts(self.state.actor(self.phase))]
        return jax.tree.map(jnp.copy, states) if self.phase.train_every > self.state.experience.envs else states

    def move(self, actions: Iterable[np.ndarray]) -> None:
        """Step all environments and write what happened; returns are written when an episode closes."""
        state = self.state
        assert state.envs is not None
        step, ended = state.envs.step(actions)
        # Taken is what has been stepped: an environment that fails leaves the plan as it stands.
        state.queue = {w: plan[1:] for w, plan in state.queue.items() if len(plan) > 1 and w not in ended}
        state.environment_steps += state.envs.each
        state.moved += state.envs.each
        state.experience.append(step, self.wait)
        if self.keep_rows:
            state.unsaved.append(step)
        for w, episode in ended.items():
            length = len(episode.rewards)
            terminated = np.zeros(length, np.bool_)
            terminated[-1] = step.terminated[w]
            value = returns_to_go(np.asarray(episode.rewards, np.float32), terminated, self.scaling)
            state.experience.close(w, value, self.wait)
            done = float(episode.success), state.environment_steps, self.actors.ended(w, length)
            self.finished.append(Episode(state.envs.seeds[w], sum(episode.rewards), length, *done))
