"""The doctor with an environment: faults that only a simulator can tell, and silence on logs that are true."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gymnasium_robotics")

from segue.data import make_pointmaze
from segue.data.doctor import Report, examine, mend
from segue.data.readers import open_source
from segue.data.recorded import Recorded, episodes_of
from segue.tasks import GymTask, find_task
from tests.data.test_doctor import Log, columns, each, glue, lagged, put, standard, stitch, stream


def rolled(task: GymTask, rows: int, bound: float = 0.9) -> Log:
    """Random episodes of a task."""
    world, rng, log, count = task.make_env(), np.random.default_rng(5), [], 0
    while count < rows:
        seen, acted, paid = [world.reset(1_000 + len(log))], [], []
        push = rng.uniform(-0.3, 0.3, world.action_size)
        while True:
            action = np.clip(push + rng.uniform(-bound, bound, world.action_size), -0.99, 0.99).astype(np.float32)
            then, reward, terminated, truncated, _ = world.step(action)
            seen.append(then)
            acted.append(action)
            paid.append(reward)
            if terminated or truncated:
                break
        log.append(Recorded(np.stack(seen), np.stack(acted), np.asarray(paid, np.float32), terminated))
        count += len(paid)
    world.close()
    return log


@functools.cache
def task_of(name: str) -> GymTask:
    if name == "pointmaze":
        return find_task("pointmaze-umaze")
    limits = {"Hopper-v5": 40, "Pendulum-v1": None, "HalfCheetah-v5": 100}
    return GymTask.custom(name, horizon=limits[name])


@functools.cache
def log_of(name: str) -> tuple[Recorded, ...]:
    if name == "pointmaze":
        return tuple(episodes_of(make_pointmaze("umaze", 10_000)))
    return tuple(rolled(task_of(name), 2_500))


def diagnose(log: Log, task: GymTask) -> Report:
    return examine(lambda: iter(log), {"source": "test"}, task=task, simulate=True)


def paid(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Log], Log]:
    return each(lambda e: replace(e, reward=change(e.reward).astype(np.float32)))


def shifted(steps: int) -> Callable[[Log], Log]:
    return each(lambda e: replace(e, action=np.roll(e.action, steps, axis=0)))


def ordered(*order: int) -> Callable[[Log], Log]:
    return each(columns(lambda x: x[:, list(order)]))


def elsewhere(log: Log) -> Log:
    """Without the episodes that pass the corner in which the task begins (x < 0, y < -0.5)."""
    return [e for e in log if not ((e.current[:, 0] < 0.2) & (e.current[:, 1] < -0.2)).any()]


def at_limit(limit: int) -> Callable[[Log], Log]:
    return each(lambda e: replace(e, terminated=len(e) >= limit or e.terminated))


def open_ends(log: Log) -> Log:
    return [replace(e, terminated=False) for e in log]


HOPPER = (0, 1, 3, 2, *range(4, 11))
FAULTS: list[tuple[str, str, str, Callable[[Log], Log]]] = [
    ("Hopper-v5", "observation-layout", "error", ordered(1, 0, *range(2, 11))),
    ("Hopper-v5", "observation-layout", "error", ordered(*HOPPER)),
    ("Hopper-v5", "observation-layout", "error", each(columns(lambda x: x * np.where(np.arange(11) < 5, 57.3, 1.0)))),
    ("Hopper-v5", "standardised-observations", "error", standard),
    ("Hopper-v5", "observation-shape", "error", each(columns(lambda x: x[:, :10]))),
    ("Hopper-v5", "constant-observation", "warning", each(put("observation", 0.0, slice(None), 3))),
    ("Hopper-v5", "duplicate-columns", "warning", ordered(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9)),
    ("Hopper-v5", "action-off-by-one", "error", shifted(1)),
    ("Hopper-v5", "action-off-by-one", "error", shifted(-1)),
    ("Hopper-v5", "dynamics", "error", each(lambda e: replace(e, action=-e.action))),
    ("Hopper-v5", "reward-mismatch", "error", paid(lambda r: r - 1.0)),
    ("Hopper-v5", "reward-mismatch", "error", paid(lambda r: 0.1 * r)),
    ("Hopper-v5", "reward-mismatch", "error", each(lagged)),
    ("Hopper-v5", "reward-range", "warning", paid(lambda r: r - 10.0)),
    ("Hopper-v5", "terminals-as-timeouts", "error", open_ends),
    ("Hopper-v5", "cut-early", "error", open_ends),
    ("Hopper-v5", "jumps", "error", glue),
    ("HalfCheetah-v5", "dynamics", "error", ordered(0, 1, 3, 2, *range(4, 17))),
    ("HalfCheetah-v5", "timeouts-as-terminals", "error", each(lambda e: replace(e, terminated=True))),
    ("HalfCheetah-v5", "reward-mismatch", "error", stream),
    ("Pendulum-v1", "timeouts-as-terminals", "error", at_limit(200)),
    ("Pendulum-v1", "action-range", "error", each(lambda e: replace(e, action=2.0 * e.action))),
    ("Pendulum-v1", "reward-mismatch", "error", paid(lambda r: r / 16.0 + 1.0)),
    ("Pendulum-v1", "dynamics", "error", each(lambda e: replace(e, action=0.5 * e.action))),
    ("pointmaze", "reward-range", "error", paid(lambda r: r - 1.0)),
    ("pointmaze", "reward-mismatch", "error", paid(lambda r: 10.0 * r)),
    ("pointmaze", "no-success", "warning", paid(lambda r: 0.0 * r)),
    ("pointmaze", "terminals-as-timeouts", "error", open_ends),
    ("pointmaze", "timeouts-as-terminals", "error", at_limit(299)),
    ("pointmaze", "reward-off-by-one", "error", stream),
    ("pointmaze", "observation-layout", "error", ordered(0, 1, 3, 2)),
    ("pointmaze", "start-coverage", "warning", elsewhere),
    ("pointmaze", "stitched", "error", stitch),
    ("pointmaze", "jumps", "error", glue),
]
CODES = {code for _, code, _, _ in FAULTS} | {"ends-mismatch"}


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEGUE_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.mark.parametrize("name", ["pointmaze", "Hopper-v5", "HalfCheetah-v5", "Pendulum-v1"])
def test_a_true_log_is_silent(name: str) -> None:
    report = diagnose(list(log_of(name)), task_of(name))
    assert report.codes("error", "warning") == ()
    assert report.left_out == {}
    assert examine(lambda: iter(log_of(name)), {}).codes("error", "warning") == ()
    if name == "pointmaze":
        numbers = next(f.numbers for f in report.findings if f.code == "goal-coverage")
        assert 0.0 < numbers["rows within 0.5 m of the goal"] < numbers["rows within 4 m of the goal"] == 1.0


@pytest.mark.parametrize(
    ("name", "code", "severity", "plant"), FAULTS, ids=[f"{f[0]}-{f[1]}-{i}" for i, f in enumerate(FAULTS)]
)
def test_a_planted_fault_is_found(name: str, code: str, severity: str, plant: Callable[[Log], Log]) -> None:
    report = diagnose(plant(list(log_of(name))), task_of(name))
    found = {f.code: f.severity for f in reversed(report.findings)}
    assert found.get(code) == severity, found


def test_a_reward_in_another_unit_is_named() -> None:
    report = diagnose(paid(lambda r: r / 16.0 + 1.0)(list(log_of("Pendulum-v1"))), task_of("Pendulum-v1"))
    numbers = next(f.numbers for f in report.findings if f.code == "reward-mismatch")
    assert numbers["scale"] == pytest.approx(1 / 16, rel=1e-3)
    assert numbers["shift"] == pytest.approx(1.0, rel=1e-3)
    late = diagnose(each(lagged)(list(log_of("Hopper-v5"))), task_of("Hopper-v5"))
    assert next(f.numbers["side"] for f in late.findings if f.code == "reward-mismatch") == "before"


def test_actions_in_the_environments_unit_are_named() -> None:
    report = diagnose(
        each(lambda e: replace(e, action=2.0 * e.action))(list(log_of("Pendulum-v1"))), task_of("Pendulum-v1")
    )
    assert "environment's own unit" in next(f.title for f in report.findings if f.code == "action-range")


@pytest.mark.parametrize(
    ("kwargs", "code"),
    [
        ({"frame_skip": 5}, "dynamics"),
        ({"forward_reward_weight": 2.0}, "reward-mismatch"),
        ({"healthy_z_range": (1.2, 9.0)}, "ends-mismatch"),
    ],
)
def test_a_log_of_another_environment(kwargs: dict[str, Any], code: str) -> None:
    task = GymTask.custom("Hopper-v5", horizon=40, env_kwargs=kwargs)
    assert code in diagnose(list(log_of("Hopper-v5")), task).codes("error", "warning")


def test_ends_of_the_log_that_are_none_in_the_environment() -> None:
    task = GymTask.custom("Hopper-v5", horizon=400, env_kwargs={"terminate_when_unhealthy": False})
    assert "ends-mismatch" in diagnose(list(log_of("Hopper-v5")), task).codes("warning")


def test_a_mended_maze_is_silent() -> None:
    bad = at_limit(299)(list(log_of("pointmaze")))
    report = diagnose(bad, task_of("pointmaze"))
    assert report.fixes == ("terminals-to-cuts",)
    assert diagnose(list(mend(report, bad)), task_of("pointmaze")).codes("error", "warning") == ()


def test_what_cannot_be_asked_is_said() -> None:
    other = GymTask.custom("Reacher-v5", horizon=50)
    report = diagnose(rolled(other, 500), other)
    assert "Segue cannot set ReacherEnv" in report.left_out["dynamics"]
    assert report.codes("error", "warning") == ()
    hidden = GymTask.custom(lambda: _Hidden("Hopper-v5"), horizon=40, name="hidden")
    report = diagnose(rolled(hidden, 500), hidden)
    assert "its own steps are not reproduced" in report.left_out["dynamics"]
    assert report.codes("error", "warning") == ()
    broken = [replace(e, observation=np.full_like(e.observation, np.nan)) for e in log_of("pointmaze")]
    assert diagnose(broken, task_of("pointmaze")).codes("error") == ("nan",)
    missing = GymTask("gone", "Gone-v0", 10)
    assert "cannot be made" in diagnose(list(log_of("Hopper-v5")), missing).left_out["dynamics"]


@pytest.mark.parametrize(
    "name", ["Walker2d-v5", "Ant-v5", "Swimmer-v5", "InvertedPendulum-v5", "MountainCarContinuous-v0"]
)
def test_states_are_recovered(name: str) -> None:
    task = GymTask.custom(name, horizon=100)
    log = rolled(task, 1_200)
    report = diagnose(log, task)
    assert report.left_out == {}
    assert report.codes("error", "warning") == ()
    assert "action-off-by-one" in diagnose(shifted(1)(log), task).codes("error")


def test_an_environment_that_ends_at_the_limit_is_believed() -> None:
    task = GymTask.custom(lambda: _Finite(), horizon=51, name="finite")
    log = rolled(task, 1_500)
    assert all(e.terminated and len(e) == 50 for e in log)
    assert diagnose(log, task).codes("error", "warning") == ()
    assert "timeouts-as-terminals" in examine(lambda: iter(log), {}).codes("error")
    other = GymTask.custom("Reacher-v5", horizon=51)
    finding = next(f for f in diagnose(log, other).findings if f.code == "timeouts-as-terminals")
    assert finding.fix == "terminals-to-cuts"


def _Finite() -> Any:
    """An environment that is over after 50 steps, and says so."""
    import gymnasium

    class Finite(gymnasium.Wrapper[Any, Any, Any, Any]):
        def step(self, action: Any) -> Any:
            seen, reward, terminated, truncated, info = self.env.step(action)
            return seen, reward, truncated or terminated, False, info

    return Finite(gymnasium.make("Reacher-v5"))


def _Hidden(name: str) -> Any:
    """An environment whose observation does not tell its state."""
    import gymnasium

    env = gymnasium.make(name)
    return gymnasium.wrappers.TransformObservation(env, lambda x: x * 2.0, env.observation_space)


TRUE = {  # what is true of a real log beyond notes
    "halfcheetah-mixed": ("saturated-actions",),
    "adroit-pen-expert25": ("saturated-actions",),
}
LOGS = [
    "adroit-door-expert25",
    "adroit-pen-expert25",
    "antmaze-medium-diverse",
    "antmaze-umaze-diverse",
    *(f"{body}-{kind}" for body in ("hopper", "halfcheetah") for kind in ("expert", "medium", "mixed")),
]


@pytest.mark.parametrize("name", [*LOGS, "adroit-door-expert25?reward=binary", "adroit-pen-expert25?reward=binary"])
def test_real_logs_are_silent(shared_data: Path, name: str) -> None:
    name, mark, reward = name.partition("?")
    path = shared_data / f"{name}.hdf5"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {shared_data} (set SEGUE_DATA to its folder)")
    source = f"d4rl:{path}{mark}{reward}"
    report = examine(
        lambda: open_source(source).episodes,
        open_source(source).facts,
        task=find_task(f"hdf5:{path}{mark}{reward}"),
        simulate=True,
    )
    assert report.codes("error", "warning") == TRUE.get(name, ())
    if not name.startswith("adroit"):
        assert report.left_out == {}


PLANTED: list[tuple[str, str, Callable[[Log], Log]]] = [
    ("hopper-mixed", "action-off-by-one", shifted(1)),
    ("hopper-mixed", "terminals-as-timeouts", open_ends),
    ("halfcheetah-medium", "dynamics", ordered(0, 1, 2, 4, 3, *range(5, 17))),
    ("halfcheetah-medium", "reward-mismatch", paid(lambda r: 0.01 * r)),
    ("antmaze-umaze-diverse", "reward-range", paid(lambda r: r - 1.0)),
    ("antmaze-umaze-diverse", "observation-layout", ordered(1, 0, *range(2, 29))),
    ("antmaze-umaze-diverse", "timeouts-as-terminals", at_limit(999)),
    ("antmaze-umaze-diverse", "start-coverage", lambda log: [e for e in log if e.observation[0, 1] > -2]),
    ("adroit-door-expert25", "timeouts-as-terminals", each(lambda e: replace(e, terminated=True))),
    ("adroit-door-expert25", "standardised-observations", standard),
    ("adroit-door-expert25", "reward-range", paid(lambda r: r - 1.0)),
]


@pytest.mark.parametrize(("name", "code", "plant"), PLANTED, ids=[f"{p[0]}-{p[1]}" for p in PLANTED])
def test_a_fault_planted_in_a_real_log_is_found(
    shared_data: Path, name: str, code: str, plant: Callable[[Log], Log]
) -> None:
    path = shared_data / f"{name}.hdf5"
    if not path.is_file():
        pytest.skip(f"no {path.name} in {shared_data} (set SEGUE_DATA to its folder)")
    log = list(open_source(f"d4rl:{path}").episodes)[:30]
    assert code in diagnose(plant(log), find_task(f"hdf5:{path}")).codes("error", "warning")


def test_what_moves_the_other_way_in_half_of_the_log_is_no_other_layout() -> None:
    """As a quaternion does under the same spin, in a body that has turned round."""
    turned = columns(lambda x: x * np.array([-1.0, 1.0, 1.0, 1.0], np.float32))
    log = [turned(e) if n % 2 else e for n, e in enumerate(log_of("pointmaze"))]
    report = diagnose(log, task_of("pointmaze"))
    assert "observation-layout" not in {f.code for f in report.findings}
