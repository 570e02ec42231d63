"""The engine: clocks, replay, independence of seeds, of dispatches and of interruptions."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import IQL, RLPD, SAC, TD3, CalQL
from segue.agents.from_cql import from_cql
from segue.bonuses import RND, SERA, VCSE, Both, StateEntropy
from segue.core import experience
from segue.core.groups import Group, Groups, cores
from segue.core.replay import View
from segue.core.scaling import Scaling
from segue.core.types import Learned, SegueError, Slot
from segue.engine import running, steps
from segue.engine.envs import TRAINING, episode_seed
from segue.engine.evaluate import Evaluator
from segue.engine.loop import run
from segue.engine.phase import Phase, fresh
from segue.engine.state import Diverged, RunState
from segue.engine.steps import keys_of
from segue.engine.validate import validate
from segue.samplers.subset import Last, Prefix, Subset
from segue.samplers.uniform import Mix, Union
from tests.toys import HORIZON, UNITS, Corridor, CorridorTask, corridor_data, small_cql

pytestmark = pytest.mark.xdist_group("engine")  # they compile the same programs
DATA = corridor_data()
TASK = CorridorTask(DATA)


def plan(offline: int = 7, online: int = 30, envs: int = 1) -> tuple[Phase, ...]:
    agent, often = TD3((16,), (16,)), {"train_every": envs, "batch": Mix(8, 8, "closed"), "log_every": 10}
    return (
        Phase("offline", agent, gradient_steps=offline, batch=Mix(16), log_every=4),
        Phase("online", agent, environment_steps=online, **often),  # type: ignore[arg-type]
    )


def finish(phases: Any, seeds: tuple[int, ...], **options: Any) -> tuple[RunState, list[Any]]:
    records, state = [], None
    for record in run(phases, TASK, seeds, UNITS, **options):
        state = record.state
        records.append(record)
    assert state is not None
    return state, records


def test_clocks_and_events() -> None:
    _, records = finish(plan(), (0, 1))
    spoken = [(r.phase.name, r.phase_step, r.logs, r.ends) for r in records if r.begins or r.logs or r.ends]
    assert spoken == [
        ("offline", 0, False, False),
        ("offline", 4, True, False),
        ("offline", 7, True, True),
        ("online", 0, False, False),
        ("online", 10, True, False),
        ("online", 20, True, False),
        ("online", 30, True, True),
    ]
    assert (records[-1].environment_step, records[-1].update) == (30, 37)
    assert all(np.isfinite(records[-1].metrics[k]).all() for k in ("critic_loss", "actor_loss"))


def test_a_seed_does_not_notice_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit on a CPU, however many threads there are; on other devices up to rounding.

    Two devices, one of them with two seeds in one program, stand for accelerators.
    """
    alone, _ = finish(plan(), (5,))
    together, _ = finish(plan(), (3, 5, 8))
    assert together.experience.groups.threads == min(3, cores())
    one, two = jax.devices()[:2]
    monkeypatch.setattr(Groups, "of", lambda seeds: Groups((Group(0, 2, one), Group(2, 1, two))))
    spread, _ = finish(plan(), (3, 5, 8))
    assert {d for x in spread.experience._device for c in x.values() for d in c.devices()} == {one, two}
    leaves = [jax.tree.leaves(state.slots["agent"].state) for state in (alone, together, spread)]
    for a, b, c in zip(*leaves, strict=True):
        np.testing.assert_array_equal(np.asarray(b)[1], np.asarray(a)[0])
        np.testing.assert_array_equal(np.asarray(b)[2], np.asarray(c)[2])
        np.testing.assert_allclose(np.asarray(b), np.asarray(c), rtol=1e-3, atol=1e-5)
    rows = [state.experience.replay.observation for state in (alone, together, spread)]
    np.testing.assert_array_equal(rows[1][1], rows[0][0])
    np.testing.assert_allclose(rows[1], rows[2], atol=1e-4)


def test_seeds_of_one_program_are_evaluated_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their episodes, from the same start states, are those of one seed after the other."""
    seeds = (3, 5, 8)
    agent = small_cql()
    states = jax.vmap(lambda key: agent.init(key, TASK.spec))(keys_of(seeds, 0))
    slot = Slot(agent, Learned(states), UNITS)
    alone = Evaluator(TASK, seeds, 3)(slot)
    monkeypatch.setattr(Groups, "of", lambda _: Groups((Group(0, 2), Group(2, 1))))
    together = Evaluator(TASK, seeds, 3)(slot)
    for one, other in zip(jax.tree.leaves(alone.trajectories), jax.tree.leaves(together.trajectories), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_replay_holds_the_truth() -> None:
    """Raw rewards, real successors, no row across episodes, returns exactly where the episode is closed."""
    state, records = finish(plan(0, 40), (0, 1))
    online = jax.device_get(state.experience.replay)
    _, _, ended = state.experience.ledger.columns()
    episodes = [e for r in records for e in r.episodes]
    assert len(episodes) == ended.sum() > 0
    for w in range(2):
        rows = jax.device_get(View(state.experience.replay, jnp.int32(w), 1.0).take(jnp.arange(40)))
        assert set(np.unique(rows.reward)) <= {0.0, 1.0}
        for t in range(40):
            if not ended[t, w] and t < 39:
                np.testing.assert_array_equal(rows.next_observation[t], rows.observation[t + 1])
            step = rows.next_observation[t] - rows.observation[t]
            np.testing.assert_allclose(step[1], 1 / HORIZON, rtol=1e-5)
        closed = np.flatnonzero(ended[:, w])[-1] + 1
        assert online.closed[w] == closed
        assert np.isfinite(online.mc_return[w, :closed]).all()
        assert np.isnan(online.mc_return[w, closed:]).all()
    failing = next(e for e in episodes if e.raw_return == 0)
    row = failing.environment_step - 1
    w = state.seeds.index(failing.seed)
    assert online.mc_return[w, row] == pytest.approx(-5 / 0.1)


def test_several_simulators_of_a_seed() -> None:
    """Each has episodes of its own, which follow from their seeds and actions; clocks count the steps of all."""
    envs, seeds = 3, (0, 1)
    state, records = finish(plan(3, 60, envs), seeds, envs=envs, keep_rows=True)
    assert (records[-1].environment_step, records[-1].update, int(state.experience.written[0])) == (60, 63, 60)
    steps, world, begun = state.unsaved, Corridor(), []
    assert len(steps) == 20
    for w in range(len(seeds) * envs):
        number, over = w % envs, True
        for step in steps:
            if over:
                begun.append((seeds[w // envs], number))
                seen, number = world.reset(episode_seed(seeds[w // envs], TRAINING, number)), number + envs
            np.testing.assert_array_equal(step.observation[w], seen)
            seen, reward, terminated, truncated, _ = world.step(step.action[w])
            np.testing.assert_array_equal(step.next_observation[w], seen)
            assert (float(step.reward[w]), bool(step.terminated[w])) == (reward, terminated)
            over = terminated or truncated
    assert len(set(begun)) == len(begun)
    ended = [e for r in records for e in r.episodes]
    assert {e.seed for e in ended} == set(seeds)
    assert len(ended) == sum(int((s.terminated | s.truncated).sum()) for s in steps)
    assert all(e.environment_step % envs == 0 for e in ended)


def test_dispatches_do_not_change_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    usual, _ = finish(plan(), (0,))
    monkeypatch.setattr(running, "PULSE", 0.0)
    monkeypatch.setattr(running, "LEAST", 1)
    single, _ = finish(plan(), (0,))
    same(usual, single)


def same(a: RunState, b: RunState) -> None:
    for x, y in zip(jax.tree.leaves(a.slots["agent"].state), jax.tree.leaves(b.slots["agent"].state), strict=True):
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


def test_a_later_program_is_compiled_while_the_first_phase_learns() -> None:
    """Each is compiled once: that of the phase that is there by its thread, the next one by another."""
    seen: list[str] = []

    def heard(name: str, _: float, **more: Any) -> None:
        if "backend_compile" in name and "advance" in str(more.get("fun_name")):
            seen.append(threading.current_thread().name.partition("_")[0])

    steps.advance.clear_cache()
    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        finish(plan(11, 23), (0, 1))
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    assert sorted(seen) == ["MainThread", "segue-compile"]


def test_nothing_recompiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """One program for each distinct (learner, sampler, bonus, units), however long the phases are."""
    steps.advance.clear_cache()
    finish(plan(9, 31), (0, 1))
    assert steps.advance._cache_size() == 2
    finish(plan(13, 47)[:1], (0, 1))
    assert steps.advance._cache_size() <= 3  # another capacity of replay is another shape


@pytest.mark.parametrize(("chunk", "envs"), [(1, 1), (2, 2)])
def test_nothing_is_compiled_once_the_world_has_moved(chunk: int, envs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A robot does not wait for a compiler: not in a phase, and not at a hand-over where its episode is open.

    With rows that go to the device, where writing them needs programs too.
    """
    agent, seen = TD3((16,), (16,)), list[str]()
    phases = (
        Phase("offline", agent, gradient_steps=2, batch=Mix(4), chunk=chunk),
        Phase(
            "warm_up",
            agent,
            environment_steps=envs * (HORIZON + 3),
            train_every=envs,
            utd_ratio=0,
            actor="random",
            chunk=chunk,
        ),
        Phase(
            "online",
            agent,
            environment_steps=6 * envs,
            train_every=2 * envs,
            utd_ratio=1 / 2,
            batch=Mix(4, 4),
            overlap=True,
            log_every=2,
            n_steps=3 - chunk,
            chunk=chunk,
        ),
        Phase(
            "other",
            SAC((16,), (16,)),
            environment_steps=2 * envs * HORIZON,
            train_every=envs,
            batch=Mix(4, 4),
            slot="other",
            log_every=2,
            chunk=chunk,
        ),
    )

    class Watched(Corridor):
        def reset(self, seed: int) -> np.ndarray:
            seen.append("reset")
            return super().reset(seed)

    def heard(name: str, _: float, **more: Any) -> None:
        if "backend_compile" in name:
            seen.append(str(more.get("fun_name")))

    class Watching(CorridorTask):
        def make_env(self) -> Corridor:
            return Watched()

    monkeypatch.setattr(experience, "_same_memory", lambda *_: False)
    jax.clear_caches()
    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        records = list(run(phases, Watching(DATA), (0, 1), UNITS, envs=envs))
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    moving = seen.index("reset")
    assert moving > 10
    assert set(seen[moving:]) == {"reset"}
    assert records[-1].ends
    assert sum(len(r.episodes) for r in records) >= 4 * envs


def test_fresh_units_and_slots() -> None:
    """A second slot starts fresh, in other scaling; its returns follow them and the first slot is left alone."""
    agent = small_cql()
    other = Scaling(reward_scale=1.0, reward_shift=-1.0, discount=0.5, failure=0.0)
    phases = (
        Phase("online", agent, environment_steps=30, batch=Mix(8, 8, "closed")),
        Phase("retrain", agent, gradient_steps=3, batch=Union(16), slot="exploiter", init_from=fresh, scaling=other),
    )
    state, records = finish(phases, (0,))
    before = next(r for r in records if r.ends and r.index == 0)
    assert before.environment_step == records[-1].environment_step == 30
    online = jax.device_get(state.experience.replay)
    assert np.nanmin(online.mc_return) >= -2.0 - 1e-6
    assert set(state.slots) == {"agent", "exploiter"}


def test_plan_decides_from_facts() -> None:
    agent = small_cql()

    def decide(history: tuple[dict[str, Any], ...]) -> Phase | None:
        if len(history) == 3 or (history and history[-1].get("good")):
            return None
        return Phase(f"try{len(history)}", agent, gradient_steps=2, batch=Mix(8))

    names = []
    for record in run(decide, TASK, (0,), UNITS, capacity=10):
        if record.ends:
            names.append(record.phase.name)
            record.facts["good"] = len(names) == 2
    assert names == ["try0", "try1"]


def test_overlap_only_delays_rows() -> None:
    strict, _ = finish(plan(3, 20), (0,))
    phases = plan(3, 20)
    late, records = finish((phases[0], replace(phases[1], overlap=True)), (0,))
    assert records[-1].update == 23
    np.testing.assert_array_equal(strict.experience.replay.observation[0, 0], late.experience.replay.observation[0, 0])


@pytest.mark.parametrize(
    ("phase", "says"),
    [
        (Phase("p", small_cql(), gradient_steps=3, batch=Mix(0, 8)), "own experience, but there is none"),
        (Phase("p", small_cql(), environment_steps=3, actor="ghost"), "'ghost'"),
        (Phase("p", small_cql(), gradient_steps=-1), "negative"),
        (Phase("p", small_cql(), gradient_steps=3, batch=Mix(0, 0)), "empty"),
    ],
)
def test_doors_refuse(phase: Phase, says: str) -> None:
    with pytest.raises(SegueError, match=says):
        finish((phase,), (0,))


def test_divergence_is_named() -> None:
    bad = replace(DATA, reward=np.full_like(DATA.reward, 1e25))
    with pytest.raises(Diverged, match=r"agent\.\w+.*not finite"):
        for _ in run(plan(), CorridorTask(bad), (0, 1), UNITS):
            pass


@pytest.mark.parametrize(
    ("phases", "says"),
    [
        (
            (
                Phase("offline", IQL((4,), (4,)), gradient_steps=2),
                Phase("online", SAC((4,), (4,)), environment_steps=2),
            ),
            "phase 'online': SAC cannot continue from the state of IQL in slot 'agent'",
        ),
        (
            (
                Phase("offline", CalQL(), gradient_steps=2),
                Phase("online", SAC(), environment_steps=2, init_from=from_cql("other")),
            ),
            "phase 'online' reads slot 'other', but no earlier phase fills it",
        ),
        (
            (Phase("offline", CalQL(), gradient_steps=2), Phase("online", SAC(), environment_steps=2)),
            "SAC cannot continue from the state of CalQL in slot 'agent'.*or a hand-over that converts the state",
        ),
        (
            (Phase("online", RLPD((4,), (4,), critic_updates=3), environment_steps=2, batch=Mix(0, 8)),),
            "phase 'online': a batch of 8 rows cannot be cut into critic_updates=3",
        ),
        ((Phase("online", SAC((4,), (4,)), gradient_steps=2, n_steps=0),), "phase 'online': n_steps=0 is out of range"),
        (
            (Phase("online", SAC((4,), (4,)), gradient_steps=2, chunk=13),),
            "chunk=13 is out of range; episodes of the task have 12",
        ),
        (
            (Phase("online", SAC((4,), (4,)), gradient_steps=2, chunk=2, n_steps=2),),
            "chunk=2 sums its rewards already; leave n_steps",
        ),
        (
            (
                Phase("offline", SAC((4,), (4,)), gradient_steps=2),
                Phase("online", SAC((4,), (4,)), gradient_steps=2, chunk=2),
            ),
            "phase 'online': chunk=2, and slot 'agent' was built for chunk=1",
        ),
        ((Phase("online", SAC((4,), (4,)), environment_steps=2, batch=Mix(0, 8), chunk=2),), "there is none yet"),
    ],
)
def test_what_cannot_run_is_told_before_anything_is_computed(phases: Any, says: str) -> None:
    with pytest.raises(SegueError, match=says):
        validate(phases, TASK, (0,), UNITS)


@pytest.mark.parametrize("collects", [False, True])
@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (
            Prefix(Mix(0, 8)),
            "phase 'later' learns from the first rows of own experience, and capacity=20 has thrown them",
        ),
        (Subset(0.5, Prefix(Union(8), rows=3)), "phase 'later' learns from the first rows"),
        (Last(Mix(0, 8), 25), "phase 'later': it uses the last 25 rows of own experience, but there are only 20"),
    ],
)
def test_rows_that_will_be_gone_are_missed_before_the_run(batch: Any, says: str, collects: bool) -> None:
    first = Phase("online", small_cql(), environment_steps=30 - collects, batch=Mix(8, 8))
    length: dict[str, Any] = {"environment_steps": 1} if collects else {"gradient_steps": 1}
    phases = (first, Phase("later", small_cql(), **length, batch=batch))
    validate(phases, TASK, (0,), UNITS, 30)
    with pytest.raises(SegueError, match=says):
        validate(phases, TASK, (0,), UNITS, 20)


@pytest.mark.parametrize(
    "bonus", [SERA(neighbours=2, scale="none"), VCSE(neighbours=2), Both(RND(), StateEntropy(neighbours=2))]
)
def test_bonuses_fit_chunks(bonus: Any) -> None:
    """Where they look at values they see the agent's own actions; a critic that is copied has as many."""
    agent = SAC((4,), (4,))
    before, phase = (
        Phase("offline", agent, gradient_steps=2, chunk=3),
        Phase("online", agent, gradient_steps=2, bonus=bonus, chunk=3),
    )
    validate((before, phase), TASK, (0,), UNITS)
    if isinstance(bonus, SERA):
        apart = replace(phase, slot="other", bonus=replace(bonus, slot="agent"), chunk=2)
        with pytest.raises(SegueError, match="slot 'agent' was built for chunk=3, and this phase has chunk=2"):
            validate((before, apart), TASK, (0,), UNITS)


def test_windows_longer_than_the_episodes_of_a_log_are_refused() -> None:
    short = corridor_data(4, skill=0.0)
    cut = np.arange(len(short)) % 2 == 1
    short = replace(short, terminated=np.zeros(len(short), bool), truncated=cut)
    with pytest.raises(SegueError, match="phase 'offline': chunk=3 is longer than every episode of the dataset"):
        validate((Phase("offline", SAC((4,), (4,)), gradient_steps=2, chunk=3),), CorridorTask(short), (0,), UNITS)
