"""The verdict on a critic, tried both ways: one that is exactly right is not accused, one that is 20 % wrong is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import RLPD, SAC, TD3
from segue.core.log import Data
from segue.core.scaling import Scaling
from segue.core.types import Learned, Slot, valued
from segue.engine.diagnostics import against, handover
from segue.engine.evaluate import Evaluation, Evaluator, Trajectory
from segue.report.run import Handover
from segue.report.statistics import fall, value_error
from segue.report.summary import judgement
from tests.toys import SPEC, Corridor, CorridorTask

TRIALS, SEEDS, EPISODES, DISCOUNT, HORIZON = 100, 4, 10, 0.99, 200
Episode = tuple[np.ndarray, np.ndarray, float, bool]  # exact values (T,), rewards (T,), value beyond the cut, cut


def endless(rng: np.random.Generator) -> Episode:
    """Reward 1 and some noise for ever, cut by a time limit: Q is 100."""
    return np.full(HORIZON, 100.0), 1.0 + rng.normal(0, 1, HORIZON), 100.0, True


def drifting(rng: np.random.Generator) -> Episode:
    """Rewards that grow to 1 while the pendulum swings up: values before the cut are not those beyond it."""
    means = np.arange(HORIZON) / HORIZON
    q = np.append(means, 1 / (1 - DISCOUNT))
    for t in range(HORIZON - 1, -1, -1):
        q[t] += DISCOUNT * q[t + 1]
    return q[:HORIZON], means + rng.normal(0, 0.5, HORIZON), q[HORIZON], True


def walking(rng: np.random.Generator) -> Episode:
    """A reward of -1 a step until a goal 20 to 60 steps away, where one step in five slips."""
    value = np.zeros(61)
    for k in range(1, 61):
        value[k] = (-1 + DISCOUNT * 0.8 * value[k - 1]) / (1 - DISCOUNT * 0.2)
    left, q = int(rng.integers(20, 60)), []
    while left > 0 and len(q) < HORIZON:
        q.append(value[left])
        left -= rng.random() > 0.2
    return np.array(q), -np.ones(len(q)), float(value[left]), left > 0


def falling(rng: np.random.Generator) -> Episode:
    """Reward 1 until a fall that comes with a chance of 1 in 50: nothing is as skewed as this."""
    length = min(int(rng.geometric(0.02)), HORIZON)
    q = 1 / (1 - DISCOUNT * 0.98)
    over = length < HORIZON or bool(rng.random() < 0.02)
    return np.full(length, q), np.ones(length), q, not over


def soft(rng: np.random.Generator) -> Episode:
    """A reward of 0.5 and an entropy of 0.5 at every next state, as `handover` adds it: Q is 0.5 + 99 * 1."""
    q = 0.5 / (1 - DISCOUNT) + DISCOUNT * 0.5 / (1 - DISCOUNT)
    return np.full(HORIZON, q), 0.5 + rng.normal(0, 1, HORIZON) + DISCOUNT * 0.5, q, True


def verdict(make: Any, factor: float, seed: int, episodes: int = EPISODES) -> str:
    """What a report says of critics that are wrong by `factor`, on episodes made by `make`."""
    rng = np.random.default_rng(seed)
    sums: dict[str, list[np.ndarray]] = {"error": [], "came": [], "weight": []}
    for _ in range(SEEDS):
        made = [make(rng) for _ in range(episodes)]
        found = [against(factor * q, factor * beyond, reward, cut, DISCOUNT).sums() for q, reward, beyond, cut in made]
        for name in sums:
            sums[name].append(np.array([f[name] for f in found]))
    came = np.array([c.sum() / w.sum() for c, w in zip(sums["came"], sums["weight"])])
    q = came + np.array([e.sum() / w.sum() for e, w in zip(sums["error"], sums["weight"])])
    values = {"q_fresh": q, "return_fresh": came, "fresh_share": np.ones(SEEDS)}
    nothing = np.zeros(0)
    return judgement(Handover(0, values, nothing, nothing, {k: tuple(v) for k, v in sums.items()}, False), "at the end")


@pytest.mark.parametrize(
    ("make", "episodes"), [(endless, 10), (drifting, 10), (walking, 10), (soft, 10), (falling, 150)]
)
def test_a_critic_is_accused_if_and_only_if_it_is_wrong(make: Any, episodes: int) -> None:
    """With the ten episodes of an evaluation; where falls come by chance, 600 tell 20 % from nothing, and 40 do not."""
    sign = float(make(np.random.default_rng(0))[0][0] > 0)
    exact = [verdict(make, 1.0, n) for n in range(TRIALS)]
    high = [verdict(make, 0.8 + 0.4 * sign, TRIALS + n, episodes) for n in range(TRIALS)]
    low = [verdict(make, 1.2 - 0.4 * sign, 2 * TRIALS + n, episodes) for n in range(TRIALS)]
    assert sum("estimated" in said for said in exact) <= 5, exact[:3]
    assert sum("overestimated" in said for said in high) >= 95, high[:3]
    assert sum("underestimated" in said for said in low) >= 95, low[:3]


def test_returns_of_both_signs_do_not_make_a_small_error_large() -> None:
    """Episodes of -10 and of 10 add up to nothing: an error of 0.3 is small beside them, one of 3 is not."""
    came, nothing = np.array([-10.0, 10.0] * 5), np.zeros(0)
    for off, said in ((0.3, "agreed"), (3.0, "overestimated")):
        error = off + np.random.default_rng(0).normal(0, 0.1, 10)
        values = {"q_fresh": np.array([off]), "return_fresh": np.zeros(1), "fresh_share": np.ones(1)}
        sums = {"error": (error,), "came": (came,), "weight": (np.ones(10),)}
        assert said in judgement(Handover(0, values, nothing, nothing, sums, False), "at the end")


def test_a_row_of_an_earlier_version_accuses_nobody() -> None:
    values = {"mc_return_fresh": np.full(3, 57.0)}  # and Q was 100
    said = judgement(Handover(0, values, np.zeros(0), np.zeros(0), {}, False), "at the switch")
    assert "no verdict" in said
    assert "estimated" not in said


def test_a_horizon_of_200_does_not_accuse_a_value_of_100() -> None:
    fresh = against(np.full(200, 100.0), 100.0, np.ones(200), True, 0.99)
    np.testing.assert_allclose(fresh.value, fresh.came)
    np.testing.assert_allclose(fresh.came / fresh.weight, 100.0)


def test_an_interval_holds_the_error_about_as_often_as_it_says() -> None:
    held = 0
    for n in range(TRIALS):
        rng = np.random.default_rng(n)
        weight = rng.uniform(50, 100, (SEEDS, EPISODES))
        found = value_error(list(3.0 * weight + rng.normal(0, 200, weight.shape)), list(weight), rng)
        held += found.low <= 3.0 <= found.high
    assert held >= 90


@pytest.mark.parametrize(("seeds", "depth", "said"), [(4, 0.0, 5), (10, 0.0, 5), (4, 0.4, 95), (10, 0.4, 95)])
def test_a_minimum_of_noisy_evaluations_is_no_drop(seeds: int, depth: float, said: int) -> None:
    """Twelve evaluations with noise of 0.1; the drop lasts for three of them."""
    found, naive = 0, 0
    for n in range(TRIALS):
        rng = np.random.default_rng(n)
        curves = 0.6 + rng.normal(0, 0.1, (seeds, 12))
        curves[:, 1:4] -= depth
        found += fall(curves).low > 0
        naive += curves.mean(axis=0)[1:].min() < curves.mean(axis=0)[0] - 0.02
    assert found <= said if depth == 0 else found >= said
    assert naive >= 60  # what the minimum alone would have said


def test_too_few_seeds_have_no_interval() -> None:
    assert np.isnan(fall([[0.8, 0.2]]).point)
    assert np.isnan(fall([[0.8, 0.2], [0.8, 0.3]]).low)
    np.testing.assert_allclose(fall([[0.8, 0.2], [0.8, 0.3]]).point, 0.55)


@pytest.mark.parametrize("backup_entropy", [False, True])
@pytest.mark.parametrize("make", [lambda b: SAC(actor_hidden=(4,), critic_hidden=(4,), backup_entropy=b),
                                  lambda b: RLPD(actor_hidden=(4,), critic_hidden=(4,), backup_entropy=b)])  # fmt: skip
def test_the_draw_and_the_entropy_of_a_backup_are_said(make: Any, backup_entropy: bool) -> None:
    """-log pi of a nearly uniform action in [-1, 1] is about log 2; alpha is 1 here."""
    agent = make(backup_entropy)
    state = agent.init(jax.random.key(0), SPEC)
    action, bonus = (np.asarray(x) for x in valued(agent, state, jnp.zeros((400, 2)), jax.random.key(1)))
    assert action.shape == (400, 1)
    assert action.std() > 0.1
    assert bonus.shape == (400,)
    assert (abs(bonus.mean()) < 3.0 and bonus.std() > 0) if backup_entropy else not bonus.any()


def test_sums_over_blocks_are_those_of_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Episodes of different lengths, cut and terminated, in the slot's scaling, by hand."""
    monkeypatch.setattr("segue.engine.diagnostics.PROBE", 8)
    agent = TD3(actor_hidden=(4,), critic_hidden=(4,))
    state = jax.tree.map(lambda x: x[None], agent.init(jax.random.key(0), SPEC))
    scaling = Scaling(reward_scale=2.0, reward_shift=-1.0, discount=0.9)
    rng = np.random.default_rng(0)

    def episode(length: int, cut: bool) -> Trajectory:
        ends = np.zeros(length, np.bool_)
        ends[-1] = not cut
        seen = rng.normal(size=(length + 1, 2)).astype(np.float32)
        act = rng.uniform(-1, 1, (length, 1)).astype(np.float32)
        return Trajectory(seen[:-1], act, rng.normal(size=length), ends, 0.0, seen[-1], act)

    episodes = (episode(5, True), episode(9, False))
    table = np.zeros((1, 2))
    slot = Slot(agent, Learned(state), scaling)
    values, more = handover(slot, None, Evaluation(table, table, table, table, (episodes,)))
    alone = agent.init(jax.random.key(0), SPEC)
    for n, e in enumerate(episodes):
        q = np.asarray(agent.q(alone, e.observation, e.action))
        cut = not e.terminated[-1]
        last = e.last[None]
        beyond = float(agent.q(alone, last, agent.act(alone, last, jax.random.key(0), False))[0]) if cut else 0.0
        left = 0.9 ** np.arange(len(q), 0, -1) if cut else np.zeros(len(q))
        came = [sum(0.9**k * (2 * r - 1) for k, r in enumerate(e.reward[t:])) for t in range(len(q))]
        counts = 0.9 ** np.arange(len(q))
        np.testing.assert_allclose(more["episodes"]["error"][0][n], counts @ (q - left * beyond - came), rtol=1e-5)
        np.testing.assert_allclose(more["episodes"]["weight"][0][n], counts @ (1 - left))
    assert set(values) == {"q_fresh", "return_fresh", "fresh_share"}


class Wobble(Corridor):
    """An action costs its square, for ever, cut after 12 steps."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, bool]:
        seen, *_ = super().step(np.zeros(1))
        return seen, -(float(action[0]) ** 2), False, self.t >= 12, False


class WobbleTask(CorridorTask):
    def make_env(self) -> Corridor:
        return Wobble()


@dataclass(frozen=True)
class Exact:
    """Draws -0.6 or 0.6, at best 0, counts an entropy of 0.2 at next decisions, and knows what that is worth."""

    chunk: int = 1

    def init(self, key: Any, spec: Any) -> Any:
        return jnp.zeros(1)

    def update(self, state: Any, batch: Any, key: Any, step: Any) -> Any:
        return state, {}

    def act(self, state: Any, observation: Any, key: Any, explore: bool) -> Any:
        return self.valued(state, observation, key)[0] * float(explore)

    def q(self, state: Any, observation: Any, action: Any) -> Any:
        weights, later = 0.9 ** np.arange(self.chunk), 0.9**self.chunk
        v = (-0.36 * weights.sum() + later * 0.2) / (1 - later)
        return -jnp.square(action) @ weights + later * (0.2 + v)

    def valued(self, state: Any, observation: Any, key: Any) -> Any:
        rows = len(observation)
        return 0.6 * jax.random.rademacher(key, (rows, self.chunk), np.float32), jnp.full(rows, 0.2)


@pytest.mark.parametrize("chunk", [1, 4, 5])  # the time limit cuts the last plan of 5
def test_a_critic_of_a_policy_that_draws_is_judged_by_its_draws(chunk: int) -> None:
    slot = Slot(Exact(chunk), Learned(jnp.zeros((1, 1))), Scaling(discount=0.9), chunk=chunk)
    evaluator = Evaluator(WobbleTask(), (0,), 3)
    best = evaluator(slot)
    np.testing.assert_array_equal(best.raw_return, 0.0)
    lived = evaluator.lived(slot, best)
    np.testing.assert_allclose(lived.raw_return, -0.36 * 12, rtol=1e-5)
    signs = np.stack([t.action[:, 0] > 0 for t in lived.trajectories[0]])
    assert len({tuple(x) for x in signs}) > 1  # the noise of one episode is not another's
    _, more = handover(slot, None, lived)
    np.testing.assert_allclose(more["episodes"]["error"], 0.0, atol=1e-4)
    wrong, _ = handover(slot, None, best)
    least = 2.0 if chunk == 1 else 1.0
    assert wrong["return_fresh"][0] - wrong["q_fresh"][0] > least  # what the best actions would have accused it of
    silent = Slot(TD3(actor_hidden=(4,), critic_hidden=(4,)), Learned(()), Scaling())
    assert evaluator.lived(silent, best) is best
    evaluator.close()


@dataclass(frozen=True)
class Coin(TD3):
    """Draws -1 or 1 with equal chances; its best action is a draw too."""

    draws: Any = True

    def act(self, state: Any, observation: Any, key: Any, explore: bool) -> Any:
        chosen = jnp.sign(jax.random.bernoulli(key, 0.5, observation.shape[:1]) - 0.5)
        return jnp.broadcast_to(chosen[:, None], (observation.shape[0], 1))


def test_a_policy_that_draws_is_compared_in_distribution() -> None:
    """Against a log of the same coin the energy score is a half; a policy that stands in the middle scores worse."""
    rng = np.random.default_rng(0)
    seen, action = rng.normal(size=(4000, 2)), np.sign(rng.normal(size=(4000, 1)))
    ends = np.arange(4000) % 40 == 39
    log = Data(seen, action, np.zeros(4000), np.zeros(4000, bool), ends, seen)
    found = []
    for agent in (Coin(actor_hidden=(8,), critic_hidden=(8,)), TD3(actor_hidden=(8,), critic_hidden=(8,))):
        state = jax.tree.map(lambda x: x[None], agent.init(jax.random.key(0), SPEC))
        found.append(float(handover(Slot(agent, Learned(state), Scaling()), log, None)[0]["action_distance"][0]))
    assert abs(found[0] - 0.5) < 0.06  # E|X - a| = 1 and E|X - X'| = 1
    assert found[1] > 0.9
