"""Compare a critic's values with returns at the end of a phase.

A critic's value has no time limit, but an episode is cut after T rows.  With n = T - t steps left until the cut, an
exact critic satisfies, on average over episodes,

    Q(s_t, a_t) = G_t + discount^n Q(s_T, pi(s_T)),        G_t the discounted rewards up to the cut,

and without the last term if the episode terminates.  The error of a row is

    Q(s_t, a_t) - discount^n Q(s_T, pi(s_T)) - G_t.

If a critic is too high by b everywhere, this error is b (1 - discount^n).  So the sum over rows is divided by the sum
of the weights 1 - discount^n, and rows shortly before the cut have nearly no weight.  If a critic is 20 % too high, the
error is 20 % of G_t.  An error that grows by 1 / discount with every step cannot be seen, because it is always beyond
the cut.

The episodes must be those of the policy that the critic evaluates.  If a backup samples actions (SAC, AWAC), the noise
has a cost that the critic includes.  So `Evaluator.lived` rolls out sampled actions and not the best ones; G_t then
includes the entropy, if the backup does.  On Pendulum, with the best actions, SAC's critics seemed too low by 5; with
sampled actions the error could not be told from chance.  The critic of an expectile (IQL) evaluates better actions than
the mean of its policy; this is not corrected.

A policy that plans chunks of h actions decides at rows 0, h, 2h, ..; there its values are compared, with the discounted
rewards of a chunk as one reward and discount^h as the discount.

Row t has the weight discount^t, as in the discounted state distribution of policy gradients.  With equal weights a few
long episodes would decide the result.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple

import jax
import numpy as np

from segue.core.groups import Group
from segue.core.log import Data
from segue.core.scaling import Scaling
from segue.core.types import Agent, Array, Slot, State
from segue.engine.evaluate import Evaluation, Trajectory, best_action, explored, of_seed, valued_action

PROBE = 1024  # rows that are looked at in one call, and logged rows that a hand-over looks at
POINTS = 300  # pairs of value and return that a report draws


@partial(jax.jit, static_argnames=("agent", "scaling"))
def _value(agent: Agent, scaling: Scaling, state: State, seed: Array, observation: Array, action: Array) -> Array:
    return agent.q(of_seed(state, seed), scaling.see(observation), action)


class Fresh(NamedTuple):
    """One fresh episode of T rows against the critic, in the slot's scaling; each (T,)."""

    value: np.ndarray
    """Q of the executed actions minus the discounted value beyond the cut."""
    came: np.ndarray
    """Discounted rewards until the episode's end or cut, with the entropy that the critic includes."""
    weight: np.ndarray
    """1 - discount^(steps to the cut); 1 where the episode terminates."""
    counts: np.ndarray
    """discount^t: weight of the row in sums over an episode."""

    def sums(self) -> dict[str, float]:
        """Of error, of what came, of weights and of rows, each row as much as it counts."""
        columns = {"error": self.value - self.came, "came": self.came, "weight": self.weight, "rows": 1.0}
        return {name: float(np.sum(self.counts * column)) for name, column in columns.items()}


def against(q: np.ndarray, beyond: float, reward: np.ndarray, cut: bool, discount: float) -> Fresh:
    """Values (T,) against rewards (T,) of one episode; `beyond` is the value where it was `cut` by a time limit."""
    came = np.array(list(accumulate(reward[::-1].tolist(), lambda following, r: r + discount * following)))[::-1]
    left = discount ** np.arange(len(reward), 0, -1) if cut else np.zeros(len(reward))
    return Fresh(np.asarray(q, np.float64) - left * beyond, came, 1.0 - left, discount ** np.arange(len(reward)))


def handover(
    slot: Slot, data: Data | None, evaluation: Evaluation | None
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Diagnostics at the end of a phase: (values (S,), further entries of the row), in the scaling of the slot.

    On logged rows: Q of the logged action, its Monte-Carlo return in the learner's scaling, Q of the policy's action,
    the share of rows where the latter is below the return (`bound_rate`; a calibrated critic keeps it low), and the
    distance between the two actions (of a policy that draws, in distribution).  Returns are of the policies that made
    the log, so they do not measure the critic.

    On fresh episodes, see this module: `q_fresh`, `return_fresh`, and `fresh_share`, the mean weight, which is the
    share of the value before the cut.  `episodes` has, per seed and episode, sums over rows of errors, returns, weights
    and row weights, for intervals.  `evaluation` is the result of `Evaluator.lived`.

    A policy without values has only the returns of logged rows and the distance.
    """
    seeds = range(jax.tree.leaves(slot.state)[0].shape[0])
    values: dict[str, list[float]] = {}
    if data is not None:
        for s in seeds:
            for name, value in _on_data(slot, s, data).items():
                values.setdefault(name, []).append(value)
    more: dict[str, Any] = {}
    if evaluation is not None and isinstance(slot.learner, Agent):
        points: dict[str, list[float]] = {"q": [], "mc_return": []}
        sums: dict[str, list[list[float]]] = {k: [[] for _ in seeds] for k in ("error", "came", "weight", "rows")}
        for s in seeds:
            fresh = on_fresh(slot, s, evaluation.trajectories[s])
            for found in (f.sums() for f in fresh):
                for name in sums:
                    sums[name][s].append(found[name])
            error, came, weight, rows = (float(np.sum(sums[name][s])) for name in sums)
            for name, value in {
                "q_fresh": (error + came) / weight,
                "return_fresh": came / weight,
                "fresh_share": weight / rows,
            }.items():
                values.setdefault(name, []).append(value)
            q, mc_return = np.concatenate([f.value for f in fresh]), np.concatenate([f.came for f in fresh])
            drawn = np.random.default_rng(1).integers(0, len(q), max(POINTS // len(seeds), 1))
            points["q"] += [float(x) for x in q[drawn]]
            points["mc_return"] += [float(x) for x in mc_return[drawn]]
        more = {"points": points, "episodes": sums}
    return {k: np.asarray(v) for k, v in values.items()}, more


def _on_data(slot: Slot, s: int, data: Data) -> dict[str, float]:
    whole = None if slot.chunk == 1 else data.whole(slot.chunk)
    rows = np.random.default_rng(0).integers(0, len(data) if whole is None else len(whole), PROBE)
    rows = rows if whole is None else whole[rows]
    done = np.minimum(rows[:, None] + np.arange(slot.chunk), len(data) - 1).ravel()
    action = np.asarray(data.action[done]).reshape(PROBE, -1)
    observation, returns = data.observation[rows], data.mc_returns(slot.scaling)[rows]
    chosen = best_action(slot, s, observation[None])[0]
    found = {
        "mc_return_data": float(returns.mean()),
        "action_distance": _distance(slot, s, observation, chosen, action),
    }
    if not isinstance(agent := slot.learner, Agent):
        return found
    of = partial(_value, agent, slot.scaling, slot.state, np.int32(s), observation)
    q_policy = np.asarray(of(chosen))
    return found | {
        "q_data": float(np.mean(of(action))),
        "q_policy_data": float(q_policy.mean()),
        "bound_rate": float(np.mean(q_policy < returns)),
    }


def _distance(slot: Slot, s: int, observation: np.ndarray, chosen: np.ndarray, action: np.ndarray) -> float:
    """Mean distance between the policy's best actions (B, A) and logged ones; of a policy that has none and draws
    (`draws`), the energy score of its draws X, X' at each logged action a,

        E|X - a| - E|X - X'| / 2        (Gneiting and Raftery 2007),

    which is least where the policy draws as the log does, and is the distance where it draws one action alone.
    """
    if not getattr(slot.learner, "draws", False):
        return float(np.linalg.norm(chosen - action, axis=1).mean())
    here = Group(s, 1)
    one, other = (explored(slot, here, observation[None], (0, number))[0] for number in range(2))
    away, apart = (np.linalg.norm(one - beside, axis=1).mean() for beside in (action, other))
    return float(away - apart / 2.0)


def on_fresh(slot: Slot, s: int, episodes: tuple[Trajectory, ...]) -> list[Fresh]:
    """Episodes of the policy at place `s` against its critic: one row for each decision of the policy.

    Values are NaN where it has none.
    """
    agent: Any = slot.learner
    scaling: Scaling = slot.scaling
    step, discount = slot.taken, slot.scaling.discount**slot.taken
    observation = np.concatenate([*(e.observation[::step] for e in episodes), np.stack([e.last for e in episodes])])
    draws = lambda number, seen: tuple(x[0] for x in valued_action(slot, s, seen[None], number))  # noqa: E731
    taken, added = _in_blocks(draws, observation)
    action = np.concatenate([*(e.plan for e in episodes), taken[-len(episodes) :]])
    of = partial(_value, agent, scaling, slot.state, np.int32(s))
    q = np.full(len(observation), np.nan)
    if isinstance(agent, Agent):
        (q,) = _in_blocks(lambda _, seen, done: (np.asarray(of(seen, done)),), observation, action)
    q, added = q.astype(np.float64), added.astype(np.float64)
    out, start, n_rows = [], 0, len(observation) - len(episodes)
    for number, episode in enumerate(episodes):
        size, cut, beyond = len(episode.plan), not episode.terminated[-1], n_rows + number
        padded = np.zeros(size * step)
        padded[: len(episode.reward)] = scaling.reward_scale * episode.reward + scaling.reward_shift
        reward = padded.reshape(size, step) @ scaling.discount ** np.arange(step)
        following = start + size
        if cut and size > 1 and len(episode.reward) % step:  # cut in the middle of a plan: it is valued where it begins
            size, beyond = size - 1, following - 1
        stop = start + size
        entropy = np.append(added[start + 1 : stop], added[beyond] if cut else 0.0)
        out.append(against(q[start:stop], float(q[beyond]), reward[:size] + discount * entropy, cut, discount))
        start = following
    return out


def _in_blocks(function: Callable[..., tuple[np.ndarray, ...]], *rows: np.ndarray) -> tuple[np.ndarray, ...]:
    """A function of a block's number and rows, in calls of one shape: compiled once, however long the episodes are."""
    out = []
    for number, start in enumerate(range(0, len(rows[0]), PROBE)):
        parts = [x[start : start + PROBE] for x in rows]
        size = len(parts[0])
        padded = [np.concatenate([x, np.repeat(x[-1:], PROBE - size, axis=0)]) for x in parts]
        out.append([x[:size] for x in function(number, *padded)])
    return tuple(np.concatenate(x) for x in zip(*out))
