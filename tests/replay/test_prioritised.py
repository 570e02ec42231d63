"""Balanced replay: one step in numpy, the optimum of its density, and who has which priority when."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import segue
from segue.core.indices import gather
from segue.core.optim import descend
from segue.core.replay import View
from segue.core.scaling import Scaling
from segue.core.types import SegueError, Spec
from segue.engine.envs import here
from segue.runs import checkpoint
from segue.samplers import Subset, sum_tree
from segue.samplers.prioritised import Balanced
from segue.samplers.uniform import at_leaves, uniform
from tests.replay.made import handover, logged, numbers, own, sample, start
from tests.toys import SPEC as TOY
from tests.toys import UNITS, Corridor, CorridorTask, corridor_data

SMALL = Balanced(8, 8, (4,), learning_rate=1e-2)
KEY = jax.random.key(3)


def by_hand(network: Any, batch: Any, xp: Any = np) -> Any:
    """w of rows, for a network of one hidden layer."""
    first, last = network.layers
    x = xp.concatenate([xp.asarray(batch.observation), xp.asarray(batch.action)], axis=1)
    hidden = xp.maximum(x @ xp.asarray(first.weight) + xp.asarray(first.bias), 0.0)
    return xp.maximum(hidden @ xp.asarray(last.weight) + xp.asarray(last.bias), 0.0)[:, 0]


def start_tree(ones: int, count: int) -> sum_tree.Tree:
    return sum_tree.make((jnp.arange(count) < ones).astype(jnp.float32))


def test_one_step_by_hand() -> None:
    """The normaliser is of w before the step's update, the priorities are of w after it."""
    offline, online = logged(6), own(5, 8)
    state = start(SMALL, KEY, offline, online)
    k_offline, k_online, k_rows = jax.random.split(jax.random.key(7), 3)
    rows = jax.jit(lambda *of: gather(uniform(*of)), static_argnums=(2, 3))
    past, recent = rows(k_offline, offline, 8, False), rows(k_online, online, 8, False)

    def loss(network: Any) -> Any:
        p, q = by_hand(network, past, jnp), by_hand(network, recent, jnp)
        return jnp.mean(-jnp.log(2 / (p + 1) + 1e-10)) - jnp.mean(jnp.log(2 * q / (q + 1) + 1e-10))

    network = jax.jit(lambda d: descend(d, 1e-2, jax.grad(loss)(d.params)))(state.density).params
    scale = np.mean(by_hand(state.density.params, past) ** 0.2)
    assert scale > 0
    drawn = np.asarray(jax.jit(sum_tree.draw, static_argnums=2)(start_tree(11, 14), k_rows, 8))

    after, batch, metrics = sample(SMALL, state, jax.random.key(7), offline, online)
    for new, want in zip(jax.tree.leaves(after.density.params), jax.tree.leaves(network), strict=True):
        np.testing.assert_allclose(new, want, rtol=1e-4, atol=1e-6)
    assert [*numbers(batch, False), *(numbers(batch, True) + 6)] == list(drawn)
    w = by_hand(network, batch)
    priority = np.clip(w**0.2 / (scale + 1e-10), 1e-3, 1e3)
    leaves = np.concatenate([np.ones(11), np.zeros(3)])
    leaves[drawn] = priority
    np.testing.assert_allclose(after.tree[0][:14], leaves, rtol=1e-4)
    assert len(set(drawn)) < 11  # rows that were not drawn keep theirs
    assert float(after.highest) == pytest.approx(max(1.0, priority.max()), rel=1e-4)
    np.testing.assert_allclose(
        [metrics[k] for k in ("density_loss", "density_ratio", "priority", "offline_share")],
        [float(loss(state.density.params)), w.mean(), priority.mean(), np.mean(drawn < 6)],
        rtol=1e-4,
    )


def test_the_density_sees_what_the_learner_sees() -> None:
    """With units that standardise, an update is that of standardised rows: network, priorities and all."""
    scaling = Scaling(observation_mean=(3.0, 0.5), observation_std=(2.0, 0.1))
    seen = lambda view: view._replace(replay=view.replay._replace(observation=scaling.see(view.replay.observation)))  # noqa: E731
    views = logged(6), own(5, 8)
    after = []
    for one, rows in ((scaling, views), (Scaling(), tuple(map(seen, views)))):
        state = SMALL.init(KEY, handover(*rows)._replace(scaling=one))
        state, _, metrics = sample(SMALL, state, jax.random.key(7), *rows)
        after.append(((state.density, state.tree, state.highest), metrics))
    for a, b in zip(*map(jax.tree.leaves, after), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_priorities_are_clipped() -> None:
    dead = Balanced(16, 8, (4,), last_bias=-50.0)
    offline, online = logged(6), own(5, 8)
    state, _, metrics = sample(dead, start(dead, KEY, offline, online), KEY, offline, online)
    assert float(metrics["density_ratio"]) == 0.0
    assert float(metrics["priority"]) == pytest.approx(1e-3)
    assert float(state.highest) == 1.0


def test_the_density_learns_p_online_over_p_offline() -> None:
    """Two cells with shares 3/4, 1/4 logged and 1/4, 3/4 own: w is 1/3 and 3, priorities go with their fifth roots."""
    sampler = Balanced(64, 256, (16,), learning_rate=3e-3)
    cell = lambda view, cells: view._replace(  # noqa: E731
        replay=view.replay._replace(
            observation=jnp.asarray(cells, jnp.float32)[None, :, None] * jnp.ones(2),
            action=jnp.zeros_like(view.replay.action),
        )
    )
    offline, online = cell(logged(8), [-1] * 6 + [1] * 2), cell(own(8, 8), [-1] * 2 + [1] * 6)
    state = start(sampler, KEY, offline, online)

    @jax.jit
    def learn(state: Any) -> Any:
        update = lambda u, s: sampler.sample(s, jax.random.fold_in(KEY, u), offline, online)[0]  # noqa: E731
        return jax.lax.fori_loop(0, 1000, update, state)

    state = learn(state)
    w = sampler.ratio(state.density.params, offline.take(jnp.asarray([0, 7])))
    np.testing.assert_allclose(w, [1 / 3, 3], rtol=0.15)
    leaves = np.asarray(state.tree[0][:16])
    in_one = np.asarray([0, 1, 2, 3, 4, 5, 8, 9])
    in_two = np.asarray([6, 7, 10, 11, 12, 13, 14, 15])
    np.testing.assert_allclose(leaves[in_two].mean() / leaves[in_one].mean(), 9**0.2, rtol=0.1)


@partial(jax.jit, static_argnums=(0, 2))
def hand_over(sampler: Balanced, state: Any, first: int, online: View) -> Any:
    return sampler.hand_over(state, first, online)


@pytest.mark.parametrize("visible", ["all", "closed"])
def test_new_rows_enter_at_the_highest_priority(visible: Any) -> None:
    """A ring of 4 behind 3 logged rows; episodes end at counts 1, 4 and 9."""
    sampler, ends, offline = Balanced(8, 8, (4,), visible=visible), [1, 4, 9], logged(3)
    state = start(sampler, KEY, offline, own(0, 4))
    wants = {
        "all": {0: [0, 0, 0, 0], 3: [2, 2, 2, 0], 4: [2, 2, 2, 3], 6: [4, 4, 2, 3], 10: [5, 5, 5, 5]},
        "closed": {0: [0, 0, 0, 0], 3: [2, 2, 0, 0], 4: [2, 2, 0, 0], 6: [4, 0, 4, 4], 10: [5, 5, 5, 5]},
    }
    for highest, (written, want) in enumerate(wants[visible].items(), start=1):
        online = own(written, 4, ended=[e for e in ends if e < written])
        state = hand_over(sampler, state._replace(highest=jnp.float32(highest)), 3, online)
        np.testing.assert_array_equal(state.tree[0][:7], [1, 1, 1, *want])
        if written == 6:
            batch = gather(at_leaves(offline, online, jnp.arange(7)))
            assert list(numbers(batch, True)) == [4, 5, 2, 3]
            np.testing.assert_allclose(batch.next_action[3:5, 0], [np.nan, np.nan])  # an end, and the newest row
            np.testing.assert_allclose(batch.next_action[5:, 0], [0.003, 0.004], rtol=1e-6)


def test_a_warm_up_enters_at_once() -> None:
    online = own(5000, 4096)
    state = start(SMALL, KEY, logged(9), own(0, 4096))
    state = hand_over(SMALL, state, 9, online)
    assert float(sum_tree.total(state.tree)) == 9 + 4096
    assert int(state.entered) == int(state.written) == 5000


def test_without_own_rows_the_dataset_is_uniform_and_nothing_is_learned() -> None:
    offline, online = logged(6), own(0, 8)
    before = start(SMALL, KEY, offline, online)
    after, batch, metrics = sample(SMALL, before, KEY, offline, online)
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(numbers(batch, False)) == 8
    assert np.isnan(metrics["density_loss"])
    assert float(metrics["offline_share"]) == 1.0


def test_start_share() -> None:
    offline, online = logged(40), own(10, 20)
    sampler = Balanced(8, 8, (4,), start_share=0.75)
    state = hand_over(sampler, start(sampler, KEY, offline, online), 40, online)
    assert float(state.tree[0][40:50].sum() / sum_tree.total(state.tree)) == pytest.approx(0.75)
    assert float(state.highest) == pytest.approx(12.0)


def test_images_are_refused() -> None:
    with pytest.raises(SegueError, match="flat observations"):
        Balanced().init(KEY, handover(logged(3), own(0, 4))._replace(spec=Spec((8, 8, 3), 1, "uint8")))


@dataclass(frozen=True)
class Idle:
    """Acts at random and learns nothing."""

    def init(self, key: Any, spec: Spec) -> Any:
        return jnp.zeros(spec.action)

    def update(self, state: Any, batch: Any, key: Any, step: Any) -> Any:
        return state, {}

    def act(self, state: Any, observation: Any, key: Any, explore: bool) -> Any:
        return jax.random.uniform(key, (len(observation), len(state)), minval=-1.0)

    def q(self, state: Any, observation: Any, action: Any) -> Any:
        return jnp.zeros(len(action))


def test_it_serves_a_run(tmp_path: Path) -> None:
    """Through the engine, two seeds: rows enter as they are collected, and a resumed run goes on bit for bit."""
    batch, data = Subset(0.5, Balanced(16, 8, (8,), visible="closed")), corridor_data()
    phases = (segue.Phase("online", Idle(), environment_steps=20, batch=batch, log_every=10),)
    for record in segue.run(phases, CorridorTask(data), (0, 1), UNITS, keep_rows=True):
        if record.phase_step == 10 and record.logs:
            checkpoint.save(tmp_path, record.state)
    state = record.slot.learned.sampler
    for name in ("density_loss", "density_ratio", "priority"):
        assert np.isfinite(record.metrics[name]).all()
    assert np.all((record.metrics["offline_share"] < 1) & (record.metrics["offline_share"] > 0))
    assert list(state.inner.written) == [20, 20]
    np.testing.assert_array_equal(state.inner.entered, record.state.experience.replay.closed)

    resumed, _ = checkpoint.load(tmp_path, phases, TOY, len(data), here(Corridor))
    *_, last = segue.run(phases, CorridorTask(data), (0, 1), UNITS, state=resumed)
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(last.slot.learned.sampler), strict=True):
        np.testing.assert_array_equal(a, b)
