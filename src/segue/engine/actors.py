"""Who acts in a phase: its own policy, other slots', a guide's, or chance; and whose turn an episode is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import jax
import numpy as np

from segue.core.foreign import Foreign, is_foreign
from segue.core.types import State, Task
from segue.engine import steps
from segue.engine.envs import Envs
from segue.engine.phase import RANDOM, Phase
from segue.engine.sharing import Standing, Turn
from segue.engine.state import RunState, validated
from segue.engine.steps import ACT, Explore, keys_of
from segue.engine.training import Actions, acts_alone, each

Alone = Callable[[np.ndarray], Actions]


class Actors:
    """The policies that act in a phase; everything that must outlive a kill is in `state`.

    `alone`, where it is asked for, gives the actions of the phase's own policy where no other acts: one dispatch then
    does updates too.  It is not kept: who runs a phase would keep its simulators alive in a circle.
    """

    def __init__(self, phase: Phase, state: RunState, task: Task) -> None:
        self.phase, self.state, self.task = phase, state, task
        self.keys = keys_of(state.seeds, ACT)
        self.chosen: tuple[int, Actions] | None = None
        """What the last dispatch has chosen, and after which environment step that is to be taken."""
        self.worlds = len(state.seeds) * state.experience.envs
        self.shared = len(phase.actors) > 1
        self.guides: dict[str, Foreign] = {}
        """Policies that act here and that Segue did not train."""

    def begin(self, resumed: bool) -> None:
        """Make the guides, and say whose the first episodes are; `resumed` in the middle of the phase."""
        phase, state, task = self.phase, self.state, self.task
        if self.shared and phase.moves and not resumed:
            state.facts["turns"] = [list(self.first_turn(w)) for w in range(self.worlds)]
        foreign = [name for name in phase.actors if is_foreign(name)]
        self.guides = {name: Foreign(name, task.spec, task.action_bounds, self.worlds) for name in foreign}
        for guide in self.guides.values():
            for w in range(self.worlds):
                guide.reset(w)
        if self.guides and resumed and state.envs is not None:
            self.remind(state.envs)

    def compile(self, policy: list[State] | None) -> None:
        """Call each program once, and change nothing; `policy` as in `decide`."""
        phase, spec = self.phase, self.task.spec
        if self.shared:
            self.whose(0)
        nothing = np.zeros((self.worlds, *spec.observation), spec.dtype)
        if phase.actors == (RANDOM,):
            self.at_random()
        elif not acts_alone(phase):
            for name in phase.actors:
                if not is_foreign(name):
                    self.of_slot(name, nothing, policy if name == phase.actors[0] else None)

    def ended(self, w: int, length: int) -> float | None:
        """Note that a world's episode has ended; the share of it in which the own policy acted, where others may."""
        if not self.shared:
            return None
        own = self.turn_of(w).own(length)
        self.state.facts["turns"][w] = list(self.whose(w))
        return own

    def remind(self, envs: Envs) -> None:
        """Let guides see again what they have seen of the open episodes: they may remember it."""
        here = (self.state.step + self.state.moved) // envs.each
        for w, episode in enumerate(envs.open):
            for step in range(max(len(episode.seen) - here, 0), len(episode.seen)):
                if (name := self.acts(w, step)) in self.guides:
                    self.guided(self.guides[name], w, step, episode.seen[step])

    def first_turn(self, w: int) -> Turn:
        """Whose the episode is that a world is in when the phase begins; one that is open already has begun."""
        turn = self.whose(w)
        return Turn(0) if turn.steps is not None and self.length(w) else turn

    def whose(self, w: int) -> Turn:
        """Whose an environment's next episode is."""
        state, sharing = self.state, self.phase.actor
        assert state.envs is not None
        seed, each, ledger = w // state.envs.each, state.envs.each, state.experience.ledger
        worlds = slice(seed * each, (seed + 1) * each)
        assert sharing is not None
        assert not isinstance(sharing, str)
        standing = Standing(
            [v["return"][seed] for v in state.facts.get("validations", ())],
            {name: float(value[seed]) for name, value in validated(state.history).items()},
            lambda count: ledger.first_returns(count, worlds),
            lambda: ledger.returns(ledger.count - (state.step + state.moved) // each, worlds),
            state.step / max(self.phase.steps, 1),
            self.task.horizon,
        )
        return sharing.turn(state.seeds[seed], state.envs.episodes[w], standing)

    def act(self, observation: np.ndarray, alone: Alone, policy: list[State] | None = None) -> Iterable[np.ndarray]:
        """An action (A,) of each world for observations (W, *observation): what a chunk has planned, or what is decided
        now."""
        slot = self.state.held.get(self.phase.actors[0])
        if slot is None or slot.chunk == 1:
            return self.decide(observation, alone, policy)
        queue, size = self.state.queue, self.task.spec.action
        if waiting := [w for w in range(len(observation)) if w not in queue]:
            plan = [action.reshape(-1, size)[: slot.taken] for action in self.decide(observation, alone, policy)]
            queue.update((w, plan[w]) for w in waiting)
        return [queue[w][0] for w in range(len(observation))]

    def decide(self, observation: np.ndarray, alone: Alone, policy: list[State] | None = None) -> Iterable[np.ndarray]:
        """An action (A,), or a chunk (chunk * A,), of each world for observations (W, *observation).

        `policy` are states of the groups' first actor, where they are not those that stand now.
        """
        state, phase = self.state, self.phase
        if phase.actors == (RANDOM,):
            return self.at_random()
        if acts_alone(phase):
            if self.chosen is None or self.chosen[0] != state.environment_steps:
                self.chosen = state.environment_steps, alone(observation)
            return each(self.chosen[1])
        whose = [self.acts(w) for w in range(len(observation))]
        actions: dict[str, np.ndarray] = {}
        for name in phase.actors:  # the given states are the first one's
            if name in whose and name not in self.guides:
                actions[name] = self.of_slot(name, observation, policy if name == phase.actors[0] else None)
        guide = lambda w: self.guided(self.guides[whose[w]], w, self.length(w), observation[w])  # noqa: E731
        return [guide(w) if name in self.guides else actions[name][w] for w, name in enumerate(whose)]

    def at_random(self) -> np.ndarray:
        """Actions (W, A), uniform in [-1, 1]."""
        each_seed, step = (self.state.experience.envs, self.task.spec.action), np.int32(self.state.environment_steps)
        return np.concatenate(np.asarray(steps.act_at_random(each_seed, self.keys, step)))

    def of_slot(self, name: str, observation: np.ndarray, policy: list[State] | None = None) -> np.ndarray:
        """Actions (W, A), or chunks, of a slot's policy for observations (W, *observation)."""
        state, phase, seen = self.state, self.phase, self.apart(observation)
        slot, parts = state.held[name], policy or [part.learner for part in state.parts(name)]
        explore, step = Explore(phase.greedy, phase.epsilon), np.int32(state.environment_steps)
        lanes = [
            steps.act(slot.learner, slot.scaling, explore, part, seen[g.lanes], g.place(self.keys[g.lanes]), step)
            for g, part in zip(state.experience.groups.members, parts)
        ]
        return np.concatenate([seed for lane in jax.device_get(lanes) for seed in lane])

    def length(self, w: int) -> int:
        """Steps that a world's open episode has."""
        assert self.state.envs is not None
        return len(self.state.envs.open[w].actions)

    def acts(self, w: int, step: int | None = None) -> str:
        """Who acts in a world, at a step of its open episode (the next one for None)."""
        if not self.shared:
            return self.phase.actors[0]
        return self.phase.actors[self.turn_of(w).at(self.length(w) if step is None else step)]

    def turn_of(self, w: int) -> Turn:
        """Whose a world's open episode is; an older checkpoint has a number."""
        found = self.state.facts["turns"][w]
        return Turn(*found) if isinstance(found, list) else Turn(found)

    def guided(self, guide: Foreign, w: int, step: int, observation: np.ndarray) -> np.ndarray:
        """The action (A,) of a policy that may remember the steps of the episode before."""
        if step == 0:
            guide.reset(w)
        return guide.act(w, observation)

    def apart(self, observation: np.ndarray) -> np.ndarray:
        """Observations (W, *observation) by seed, (S, envs, *observation)."""
        return observation.reshape(len(self.state.seeds), -1, *observation.shape[1:])
