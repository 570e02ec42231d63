"""Records: what they say is complete, what they name can be made, and their logs are found where they are."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest

from segue.bonuses import BONUSES
from segue.core.types import SegueError
from segue.data import write_d4rl
from segue.data.readers import SOURCES
from segue.data.store import keep
from segue.recipes import RECIPES, TaskFacts, find_recipe, resolve
from segue.recipes.common import ENCODERS, IMAGE_SHIFTS
from segue.recipes.systems import ooo, opt
from segue.recipes.systems.subroutine import SMALL
from segue.runs.request import resolved
from segue.tasks import Record, find_task, reference_score, sources_of, task_names
from segue.tasks.catalogue import GROUPS, listing, records, task_of
from segue.tasks.envs import PACKAGES, GymEnv

FAMILIES = {
    "Segue's own": 4 + 2 + 3,
    "files in $SEGUE_DATA": 2 + 2 + 15 + 4,
    "D4RL MuJoCo": 4 * 6,
    "D4RL Adroit": 4 * 3 + 3,
    "D4RL AntMaze": 6 + 1,
    "D4RL kitchen (Minari's)": 3,
    "D4RL maze2d (Minari's)": 6,
    "OGBench": 82 * 6,  # its README: 82 datasets of single tasks, five each, and an alias of one of them
}
SIZES = {  # environment -> observation, actions: those of D4RL's and OGBench's logs
    "HalfCheetah-v4": (17, 6),
    "Hopper-v4": (11, 3),
    "Walker2d-v4": (17, 6),
    "Ant-v4": (111, 8),
    "AdroitHandPen-v1": (45, 24),
    "AdroitHandDoor-v1": (39, 28),
    "AdroitHandHammer-v1": (46, 26),
    "AdroitHandRelocate-v1": (39, 30),
    "segue/AntMazeUMaze-v2": (29, 8),
    "segue/AntMazeMedium-v2": (29, 8),
    "segue/AntMazeLarge-v2": (29, 8),
    "FrankaKitchen-v1": (59, 9),
    "ogbench:antmaze-giant-singletask-v0": (29, 8),
    "ogbench:humanoidmaze-giant-singletask-v0": (69, 21),
    "ogbench:antsoccer-arena-singletask-v0": (42, 8),
    "ogbench:cube-quadruple-singletask-v0": (55, 5),
    "ogbench:scene-singletask-v0": (40, 5),
    "ogbench:puzzle-4x6-singletask-v0": (115, 5),
}


def distinct() -> list[Record]:
    """One record for each environment that differs from the others; of OGBench the default tasks, of states."""
    found: dict[str, Record] = {}
    for record in records().values():
        if "-task" not in record.env and "visual" not in record.env:
            found.setdefault(repr((record.env, record.env_kwargs, record.keys, record.exact_goal)), record)
    return list(found.values())


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGUE_DATASETS", str(tmp_path / "store"))
    monkeypatch.setenv("SEGUE_DATA", str(tmp_path / "files"))
    (tmp_path / "files").mkdir()
    return tmp_path / "files"


def episodes(env: str, size: int, actions: int, count: int = 3, **more: Any) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    one = {
        "observation": rng.normal(size=(6, size)),
        "action": rng.uniform(-1, 1, (5, actions)),
        "reward": np.ones(5),
    }
    return [one | more] * count


def test_records_are_complete() -> None:
    counted = Counter(dict.fromkeys(FAMILIES, 0))
    for group in GROUPS:
        counted[group.family] += len(group.records)
    assert counted == FAMILIES
    assert len(records()) == sum(FAMILIES.values()) == len(set(task_names()))
    for record in records().values():
        assert record.horizon > 0
        assert record.provenance
        assert "\n" not in record.provenance
        task = task_of(record, log=False)
        assert hash(task) == hash(find_task(f"gym:{record.name}"))
        if isinstance(record.reference, str):
            assert task.reference == reference_score(record.reference)
        for text in record.data:
            assert text.partition(":")[0] in SOURCES
        assert sources_of(record.name) or record.file or record.made or record.domain == "adroit-binary"


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash expands the patterns")
def test_patterns_are_the_names() -> None:
    script = "\n".join(f"echo {group.pattern}" for group in GROUPS)
    lines = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    for group, line in zip(GROUPS, lines, strict=True):
        assert sorted(line.split()) == sorted(record.name for record in group.records)


def test_facts_that_papers_rely_on() -> None:
    known = records()
    assert known["hopper-medium-replay-v2"].data[0].endswith("/gym_mujoco_v2/hopper_medium_replay-v2.hdf5")
    assert known["pen-cloned-v1"].data[0].endswith("/hand_dapg_v1/pen-cloned-v1.hdf5")
    file = "Ant_maze_hardest-maze_noisy_multistart_True_multigoal_False_sparse_fixed.hdf5"
    assert known["antmaze-large-play-v2"].data[0].endswith(f"/ant_maze_v2/{file}")
    assert [known[f"antmaze-{maze}-v2"].horizon for maze in ("umaze", "umaze-diverse", "large-play")] == [
        700,
        700,
        1000,
    ]
    assert [known[f"{task}-human-v1"].horizon for task in ("pen", "door", "hammer", "relocate")] == [100, 200, 200, 200]
    assert known["antmaze-giant-navigate-singletask-v0"].discount == 0.995
    assert known["cube-single-play-singletask-task3-v0"].failure == -1.0
    assert known["cube-double-play-singletask-task3-v0"].failure is None
    assert sources_of("scene-noisy-singletask-task5-v0") == (
        "ogbench:https://rail.eecs.berkeley.edu/datasets/ogbench/scene-noisy-v0.npz?task=scene-singletask-task5-v0",
    )
    assert sources_of("kitchen-mixed") == ("minari:D4RL/kitchen/mixed-v2?keys=observation",)
    assert sources_of("pen-binary-v0") == ()
    assert sources_of("pen-binary-v9") is None


def simulation(world: GymEnv) -> np.ndarray:
    """What MuJoCo goes on from, and the contact forces it last worked out: some observations have them."""
    inner: Any = world.env.unwrapped
    for name in ("point_env", "ant_env", "robot_env"):  # Gymnasium-robotics' mazes and its kitchen hold another one
        inner = getattr(inner, name).unwrapped if hasattr(inner, name) else inner
    model, data = inner.model, inner.data
    everything = int(mujoco.mjtState.mjSTATE_INTEGRATION)
    state = np.empty(mujoco.mj_stateSize(model, everything))
    mujoco.mj_getState(model, data, state, everything)
    return np.concatenate([state, data.cfrc_ext.ravel()])


@pytest.mark.parametrize("record", distinct(), ids=lambda record: record.name)
def test_environments_can_be_made(record: Record) -> None:
    module = record.env.partition(":")[0]
    pytest.importorskip(module if module in PACKAGES else "gymnasium_robotics")
    task = task_of(record, log=False)
    world = task.make_env()
    seen = world.reset(0)
    began = simulation(world)
    if record.env in SIZES:
        assert (len(seen), world.action_size) == SIZES[record.env]
    rows = [world.step(np.full(world.action_size, 0.1)) for _ in range(3)]
    assert all(row[0].shape == seen.shape and np.isfinite(row[0]).all() for row in rows)
    np.testing.assert_array_equal(world.reset(0), seen)  # as every run's resumption needs it
    np.testing.assert_array_equal(simulation(world), began)  # of which an observation may show a part, now and then
    again = [world.step(np.full(world.action_size, 0.1)) for _ in range(3)]
    np.testing.assert_array_equal([row[0] for row in again], [row[0] for row in rows])
    if record.failure is not None:
        assert rows[-1][1] == record.failure
    assert np.isnan(rows[-1][4]) == (record.domain == "locomotion")  # all others say what success is
    world.close()


@pytest.mark.parametrize("domain", sorted({record.domain for record in records().values()}))
def test_recipes_resolve(domain: str) -> None:
    record = [record for record in records().values() if record.domain == domain][-1]
    module = record.env.partition(":")[0]
    pytest.importorskip(module if module in PACKAGES else "gymnasium_robotics")
    task = task_of(record, log=False)
    for recipe in RECIPES.values():
        assert resolved(recipe, task, {}).table()["scaling.failure"]["value"] == record.failure


def values(recipe: str, task: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """Options of a recipe on a task of the table."""
    record = records()[task]
    table = resolve(
        find_recipe(recipe), TaskFacts((record.domain, *record.presets, record.name)), settings or {}
    ).table()
    return {path: row["value"] for path, row in table.items()}


def test_every_preset_is_of_some_task() -> None:
    """A preset under a name that no task has would be read by nobody."""
    known = {name for r in records().values() for name in (r.domain, *r.presets, r.name)} | {"custom"}
    tables: list[Any] = [recipe.plan for recipe in RECIPES.values()]
    read = {name for table in tables for name in table.load().presets}
    read |= {*ENCODERS, *IMAGE_SHIFTS, *SMALL, *opt.PRESETS, *opt.SPOT_PRESETS}
    read |= {
        name for table in (ooo.IQL_PRESETS, ooo.CQL_PRESETS, ooo.SIZES, ooo.IQL_TIMES, ooo.CQL_TIMES) for name in table
    }
    read |= {name for bonus in BONUSES.values() for name in (*bonus.presets, *bonus.unscaled)}
    assert read <= known


@pytest.mark.parametrize(
    ("recipe", "option", "want"),
    [
        # Kappa, when it has risen (updates after 25,000 steps), and the density's weight.
        ("opt(td3-bc)", "online.learner.kappa", {"hopper-random-v2": 1.0, "walker2d-medium-v2": 0.3,
                                                 "walker2d-medium-replay-v2": 0.1, "hopper-mixed": 0.1}),
        ("opt(td3-bc)", "online.learner.kappa_end", {"hopper-random-v2": 1.0, "hopper-medium-v2": 0.9}),
        ("opt(td3-bc)", "online.learner.kappa_updates", {"hopper-medium-v2": 625_000}),
        ("opt(spot)", "online.learner.kappa_updates", {"antmaze-large-play-v2": 75_000, "pen-cloned-v1": 225_000,
                                                       "antmaze-large-diverse-v2": 175_000}),
        ("opt(spot)", "offline.learner.weight", {"antmaze-umaze-v2": 0.25, "antmaze-medium-play-v2": 0.05,
                                                 "antmaze-medium-diverse-v2": 0.025, "antmaze-large-play-v2": 0.025,
                                                 "door-cloned-v1": 1.0}),
        ("opt(spot)", "meta.scaling.discount", {"antmaze-umaze-v2": 0.995, "pen-cloned-v1": 0.99}),
        # CORL's files for Adroit as those for AntMaze.
        ("spot", "offline.learner.base.actor_last_limit", {"pen-cloned-v1": 1e-3, "hammer-expert-v1": 1e-3,
                                                           "door-binary-v0": 1e-3, "antmaze-umaze-v2": 1e-3,
                                                           "adroit-pen": 1e-3, "hopper-medium-v2": None}),
        ("spot", "online.learner.base.critic_last_limit", {"pen-cloned-v1": 3e-3, "hopper-medium-v2": None}),
        ("opt(spot)", "meta.learner.base.base.critic_last_limit", {"pen-cloned-v1": 3e-3}),
        ("spot", "offline.learner.weight", {"halfcheetah-medium-v2": 0.05, "halfcheetah-medium-expert-v2": 1.0,
                                            "hopper-medium-replay-v2": 0.1, "hopper-medium-expert-v2": 0.2,
                                            "walker2d-medium-v2": 0.2, "walker2d-medium-expert-v2": 0.5,
                                            "antmaze-medium-diverse": 0.025, "halfcheetah-mixed": 0.05}),
        ("spot", "online.learner.weight.start", {"antmaze-medium-play-v2": 0.05, "pen-cloned-v1": 1.0}),
        ("spot", "online.learner.weight.end", {"antmaze-medium-play-v2": 0.01, "pen-cloned-v1": 0.5,
                                               "walker2d-medium-v2": 0.04}),
        ("spot", "online.learner.weight.updates", {"antmaze-medium-play-v2": 800_000, "pen-cloned-v1": 500_000}),
        ("spot", "online.scaling.discount", {"antmaze-umaze-v2": 0.995, "hopper-medium-v2": 0.99}),
        # CORL's configuration files.
        ("rebrac", "online.learner.actor_cloning.start", {"hammer-cloned-v1": 0.1, "antmaze-large-play-v2": 0.002,
                                                          "adroit-pen": 0.05, "hopper-mixed": 0.05}),
        ("rebrac", "online.learner.actor_cloning.end", {"hammer-cloned-v1": 0.05, "antmaze-large-play-v2": 0.001}),
        ("rebrac", "offline.learner.critic_cloning", {"hammer-cloned-v1": 0.5, "relocate-cloned-v1": 0.01}),
        ("ooo(rebrac)", "exploit-2.learner.critic_cloning", {"hammer-cloned-v1": 0.5, "hopper-medium-v2": 0.01}),
        ("fine-tune(sac,rebrac)", "retrain-1.learner.critic_cloning", {"hammer-cloned-v1": 0.5}),
        ("fine-tune(sac,rebrac)", "fine-tune-1.learner.critic_cloning", {"hammer-cloned-v1": 0.0}),
        ("rebrac", "online.learner.critic_cloning", {"hammer-cloned-v1": 0.0, "hopper-medium-v2": 0.0}),
        ("cal-ql+sera", "online.bonus.neighbours", {"hopper-medium-v2": 10, "walker2d-medium-v2": 20,
                                                      "antmaze-large-diverse-v2": 25}),
        ("cal-ql+sera", "online.bonus.normalise_bonus", {"antmaze-umaze-v2": False}),
        ("iql+sera", "online.bonus.normalise_bonus", {"antmaze-umaze-v2": False, "pen-binary-v0": True}),
        ("cal-ql", "online.environment_steps", {"pen-binary-v0": 200_000, "adroit-pen-binary": 200_000,
                                    "door-binary-v0": 1_000_000}),
        ("ooo(cal-ql)", "online.environment_steps", {"pen-binary-v0": 1_000_000, "kitchen-mixed": 1_000_000,
                                         "kitchen-complete": 4_000_000, "maze2d-large-v1": 1_000_000}),
        ("ooo(cal-ql)", "online.scaling.reward_shift", {"kitchen-mixed": -5.0}),
        ("ooo(cal-ql)", "scaling.reward_shift", {"kitchen-mixed": -4.0, "maze2d-large-v1": -5.0}),
        ("ooo(iql)", "exploit-1.batch.inner.by", {"kitchen-mixed": "success", "antmaze-large-diverse-v2": "reward"}),
        ("ooo(iql)", "online.bonus.weight", {"hammer-human-v1": 0.5, "maze2d-large-v1": 10.0}),
        # Bounds of rewards over 1 - 0.99.
        ("ooo(cal-ql)", "online.learner.base.base.value_maximum", {"kitchen-mixed": 50.0, "maze2d-large-v1": 600.0,
                                                                   "hammer-expert-v1": 10_300.0,
                                                                   "pen-binary-v0": math.inf,
                                                                   "antmaze-umaze-v2": math.inf}),
        ("ooo(cal-ql)", "offline.learner.base.base.value_minimum", {"kitchen-mixed": -math.inf,
                                                                    "maze2d-large-v1": -500.0}),
        ("ooo(iql)", "online.learner.value_maximum", {"pen-binary-v0": 500.0, "kitchen-mixed": math.inf}),
        ("ooo(iql)", "exploit-1.learner.value_maximum", {"pen-binary-v0": math.inf}),
        # Pre-training keeps the best of ten actions where fine-tuning has one.
        ("wsrl", "offline.learner.base.base.target_samples", {"pen-binary-v0": 10}),
        ("wsrl", "offline.learner.base.target_samples", {"hopper-medium-v2": 10}),
        ("wsrl", "warm-up.learner.type", {"pen-binary-v0": "CalQL", "hopper-medium-v2": "CQL"}),
        ("wsrl", "online.learner.target_samples", {"pen-binary-v0": 1, "antmaze-umaze-v2": 10}),
        ("wsrl", "offline.learner.base.importance_sampling", {"kitchen-mixed": False}),
        ("recommend-weighted(sac,iql)", "retrain-1.batch.temperature", {"hopper-medium-v2": 0.1, "pen-binary-v0": 0.1}),
        # CORL standardises observations for AWAC on every task.
        ("awac", "scaling.standardise", {"pen-cloned-v1": True, "antmaze-umaze-v2": True, "hopper-medium-v2": True}),
        # The warm-up is a part of the published steps.
        ("rlpd", "online.environment_steps", {"antmaze-umaze-v2": 295_000, "hopper-medium-v2": 245_000}),
    ],
)  # fmt: skip
def test_numbers_of_the_papers_reach_their_tasks(recipe: str, option: str, want: dict[str, Any]) -> None:
    found = {task: values(recipe, task) for task in want}
    shared = "scaling." + option.rpartition(".")[2]  # of a phase without units of its own
    assert {task: table.get(option, table.get(shared)) for task, table in found.items()} == want


def test_exploiters_come_at_the_published_times() -> None:
    """Of IQL's 2,000,000 steps on AntMaze, and of Cal-QL's 1,000,000 and 4,000,000 on kitchen."""
    quarters = [0.25, 0.5, 0.75, 1.0]
    for recipe, task, want in (
        ("ooo(iql)", "antmaze-large-diverse-v2", [0.25, 0.375, 0.5, 0.625, 0.75]),
        ("ooo(iql)", "kitchen-complete", quarters),
        ("ooo(cal-ql)", "kitchen-mixed", [0.1, 0.25, 0.5, 1.0]),
        ("ooo(cal-ql)", "kitchen-complete", [0.025, 0.0625, 0.125, 0.25, 0.5, 0.75, 1.0]),
        ("ooo(cal-ql)", "antmaze-umaze-v2", quarters),
        ("ooo(rlpd)", "hopper-medium-v2", quarters),
    ):
        found = values(recipe, task)
        assert [v for k, v in found.items() if k.startswith("exploit") and k.endswith("batch.share")] == want
        for path in (path.partition(".")[2] for path in found if path.startswith("exploit-1.")):
            same = {str(found[f"exploit-{n}.{path}"]) for n in range(1, len(want) + 1)}
            assert len(same) == 1 or path == "batch.share", path


@pytest.mark.parametrize(
    ("recipe", "task", "settings", "want"),
    [
        # Kappa rises with the environment's steps, whatever the updates, and whatever was gathered before.
        ("opt(td3-bc)", "hopper-medium-v2", {"online.utd_ratio": 1}, {"online.learner.kappa_updates": 125_000}),
        ("opt(td3-bc)", "hopper-medium-v2", {"online.utd_ratio": 20}, {"online.learner.kappa_updates": 2_500_000}),
        (
            "opt(td3-bc)",
            "hopper-medium-v2",
            {"gather.environment_steps": 50_000},
            {"online.learner.kappa_updates": 500_000},
        ),
        ("opt(td3-bc)", "hopper-medium-v2", {"online.train_every": 5}, {"online.learner.kappa_updates": 625_000}),
        ("opt(spot)", "pen-cloned-v1", {"agent.kappa_steps": 25_010}, {"online.learner.kappa_updates": 10}),
        ("opt(td3-bc)", "hopper-medium-v2", {"agent.kappa_updates": 7, "online.utd_ratio": 1},
         {"online.learner.kappa_updates": 7}),
        # The new critics learn as the old ones do.
        ("opt(td3-bc)", "hopper-medium-v2", {"agent.critic_learning_rate": 1e-4, "agent.target_rate": 0.01},
         {"meta.learner.new_learning_rate": 1e-4, "online.learner.new_learning_rate": 1e-4,
          "online.learner.new_target_rate": 0.01}),
        ("opt(td3-bc)", "hopper-medium-v2", {"agent.critic_learning_rate": 1e-4, "meta.new_learning_rate": 2e-4},
         {"meta.learner.new_learning_rate": 2e-4, "online.learner.new_learning_rate": 1e-4}),
        # A cosine is as long as its phase.
        ("pex", "antmaze-umaze-v2", {"offline.gradient_steps": 300_000}, {"offline.learner.actor_decay": 300_000}),
        ("pex", "pen-binary-v0", {}, {"offline.learner.actor_decay": 25_000}),
        ("pex", "pen-binary-v0", {"offline.actor_decay": 9}, {"offline.learner.actor_decay": 9}),
    ],
)  # fmt: skip
def test_numbers_follow_from_those_they_depend_on(
    recipe: str, task: str, settings: dict[str, Any], want: dict[str, Any]
) -> None:
    found = values(recipe, task, settings)
    assert {path: found[path] for path in want} == want


def test_a_kappa_has_one_rise() -> None:
    for task, settings in (
        ("hopper-random-v2", {"agent.kappa_updates": 9}),
        ("hopper-random-v2", {"agent.kappa_steps": 9}),
        ("hopper-medium-v2", {"agent.kappa_steps": 9, "agent.kappa_updates": 9}),
    ):
        with pytest.raises(SegueError, match="has no effect here; it needs kappa_end different from kappa"):
            values("opt(td3-bc)", task, settings)


def test_a_log_is_found_where_it_is(folders: Path) -> None:
    name = "hopper-medium-v2"
    task = find_task(name)  # all but its log can be used
    assert (task.env, task.horizon, task.domain, task.source[:7]) == ("Hopper-v4", 1000, "locomotion", "absent:")
    with pytest.raises(
        SegueError, match=f"{name}: its log is not here; download it: segue data import {name} "
    ) as caught:
        task.dataset()
    assert "\n" not in str(caught.value)
    bare = find_task(f"gym:{name}")
    assert (bare.name, bare.dataset(), bare.reference) == (name, None, task.reference)
    with pytest.raises(SegueError, match="leave out"):
        find_task(f"gym:{name}?keys=observation")
    n = 50
    arrays = {
        "observations": np.zeros((n, 11), np.float32),
        "actions": np.zeros((n, 3), np.float32),
        "rewards": np.ones(n, np.float32),
        "terminals": np.zeros(n, bool),
        "timeouts": np.arange(n) % 10 == 9,
    }
    write_d4rl(folders / f"{name}.hdf5", arrays, {})
    data = find_task(name).dataset()
    assert data is not None
    assert len(data) == 45
    keep(name, episodes("Hopper-v4", 11, 3))
    found = find_task(name)
    assert found.source == f"stored:{name}"  # the store before the folder
    data = found.dataset()
    assert data is not None
    assert len(data) == 15
    here = dict(row for rows in listing().values() for row in rows)
    assert here["hopper-{random,medium,expert,medium-replay,full-replay,medium-expert}-v2"] == f"here: {name}"
    assert here["pointmaze-{umaze,medium,large}"] == "made on first use"
    assert here["adroit-{door,pen}"] == here["kitchen-{complete,partial,mixed}"] == "not here"
    write_d4rl(folders / "hopper-expert-v2.hdf5", arrays, {"env_id": "Hopper-v5"})
    with pytest.raises(SegueError, match=r"was logged in Hopper-v5, not Hopper-v4; give it as hdf5:"):
        find_task("hopper-expert-v2")


def test_binary_logs_must_be_binary() -> None:
    name = "door-binary-v0"
    with pytest.raises(SegueError, match=f"not published; import your own: segue data import SOURCE {name}"):
        find_task(name).dataset()
    keep(name, episodes("AdroitHandDoor-v1", 39, 28))
    with pytest.raises(SegueError, match="rewards other than -1 and 0"):
        find_task(name).dataset()
    keep(name, episodes("AdroitHandDoor-v1", 39, 28, reward=np.array([-1.0, -1, 0, -1, 0])), replace=True)
    data = find_task(name).dataset()
    assert data is not None
    np.testing.assert_array_equal(data.terminated, data.reward == 0.0)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ogbench", None)
    for version, cure in (((3, 12), r'pip install "segue\[ogbench\]"'), ((3, 13), "use Python 3.12 or older")):
        monkeypatch.setattr(sys, "version_info", version)
        with pytest.raises(SegueError, match=f"needs ogbench, which is not installed: {cure}"):
            find_task("gym:scene-play-singletask-v0").make_env()


def test_kitchen_pays_and_counts_as_its_log_does() -> None:
    pytest.importorskip("gymnasium_robotics")
    from gymnasium_robotics.envs.franka_kitchen.kitchen_env import OBS_ELEMENT_GOALS, OBS_ELEMENT_INDICES

    task = find_task("gym:kitchen-mixed")
    world = task.make_env()
    world.reset(0)
    seen = []
    for done in ([], ["microwave"], ["microwave", "bottom burner"], ["bottom burner"]):
        kitchen: Any = world.env.unwrapped
        for part in ("microwave", "bottom burner"):
            at = OBS_ELEMENT_INDICES[part]
            kitchen.data.qpos[at] = OBS_ELEMENT_GOALS[part] if part in done else 0.0
        seen.append(world.step(np.zeros(9)))
    assert [row[1] for row in seen] == [0.0, 1.0, 2.0, 1.0]  # tasks that are done now, each step
    assert [row[4] for row in seen] == [0.0, 0.25, 0.5, 0.5]  # tasks that have been done, of four
    assert not any(row[2] for row in seen)
    assert task.score(np.array([4.0]), np.array([seen[-1][4]])).tolist() == [50.0]  # D4RL's score
    world.close()


def test_maze2d_goes_on_at_its_one_goal() -> None:
    pytest.importorskip("gymnasium_robotics")
    world = find_task("gym:maze2d-umaze-v1").make_env()
    starts = [world.reset(seed) for seed in range(4)]
    goal = np.array([-1.0, 1.0])  # the centre of cell (1, 1)
    np.testing.assert_array_equal([seen[4:] for seen in starts], [goal] * 4)
    assert len({tuple(seen[:2]) for seen in starts}) == 4
    maze: Any = world.env.unwrapped
    maze.point_env.set_state(goal, np.zeros(2))
    rows = [world.step(np.zeros(2)) for _ in range(3)]
    assert [row[1:] for row in rows] == [(1.0, False, False, 1.0)] * 3
    world.close()
