"""Seeds of several folders as one run, and the names of configurations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segue.report import pooled, read_run, tidy
from segue.report.labels import labels_of
from segue.report.run import Run, Setting
from segue.report.summary import summarise, verdict

OFFLINE = {0: [0.0, 0.1, 0.2, 0.3], 100: [0.8, 0.7, 0.9, 0.6]}
ONLINE = {10: [0.2, 0.3, 0.8, 0.1], 20: [0.9, 0.8, 0.5, 0.4]}


def of(values: dict[int, list[float]], places: list[int]) -> dict[int, list[float]]:
    return {moment: [numbers[place] for place in places] for moment, numbers in values.items()}


@pytest.mark.parametrize("blocks", [[[0, 1], [2, 3]], [[0], [1, 2, 3]], [[0], [1], [2], [3]]])
def test_a_run_and_its_seeds_in_several_folders_say_the_same(make_run, blocks: list[list[int]]) -> None:
    whole = read_run(make_run("whole", seeds=(0, 1, 2, 3), offline=OFFLINE, online=ONLINE))
    folders = [
        make_run(f"part-{block}", seeds=tuple(block), offline=of(OFFLINE, block), online=of(ONLINE, block))
        for block in blocks
    ]
    (group,) = pooled([read_run(folder) for folder in folders])
    assert (group.label, group.run.seeds, len(group.members)) == ("calql", (0, 1, 2, 3), len(blocks))
    for name in ("evaluation", "training"):
        ours, theirs = getattr(group.run, name), getattr(whole, name)
        np.testing.assert_array_equal(ours.x, theirs.x)
        assert [*ours.values] == [*theirs.values]
        np.testing.assert_array_equal([*ours.values.values()], [*theirs.values.values()])
    found, known = summarise(group.run, "success"), summarise(whole, "success")
    assert verdict(found) == verdict(known)
    np.testing.assert_array_equal(found.failure_rate, known.failure_rate)
    np.testing.assert_array_equal(found.after.values["q_fresh"], known.after.values["q_fresh"])


def test_moments_that_a_folder_has_passed_without_an_evaluation_do_not_count(make_run) -> None:
    often = make_run("often", seeds=(0,), offline={100: [0.8]}, online={10: [0.2], 20: [0.3], 30: [0.4], 40: [0.5]})
    seldom = make_run("seldom", seeds=(1,), offline={100: [0.6]}, online={20: [0.1], 40: [0.9]})
    short = make_run("short", seeds=(2,), offline={100: [0.7]}, online={20: [0.7]})
    (group,) = pooled([read_run(folder) for folder in (often, seldom, short)])
    assert group.run.evaluation.x.tolist() == [0, 20, 40]
    np.testing.assert_array_equal(
        group.run.evaluation.values["success"], [[0.8, 0.3, 0.5], [0.6, 0.1, 0.9], [0.7, 0.7, np.nan]]
    )


def test_a_seed_counts_once(make_run) -> None:
    first = make_run("first", seeds=(1, 2), offline={9: [0.1, 0.2]})
    second = make_run("second", seeds=(3, 2), offline={9: [0.3, 0.9]})
    (group,) = pooled([read_run(folder) for folder in (first, second, first)])
    assert group.run.seeds == (1, 2, 3)
    assert group.run.evaluation.values["success"][:, 0].tolist() == [0.1, 0.2, 0.3]
    assert group.left_out == (
        "second: seed 2 does not count, since first has the same",
        "first: seed 1, 2 does not count, since first has the same",
    )


def test_configurations_are_kept_apart_and_watching_is_none(make_run) -> None:
    def run(name: str, seed: int, **config: object) -> Run:
        return read_run(make_run(name, "iql", seeds=(seed,), offline={9: [0.5]}, config=config))

    runs = [
        run("a", 1, **{"offline.learner.expectile": 0.5, "online.learner.expectile": 0.5}),
        run("b", 2, **{"offline.learner.expectile": 0.9, "online.learner.expectile": 0.9}),
        run("c", 3, **{"offline.learner.expectile": 0.9, "online.learner.expectile": 0.9, "offline.log_every": 7}),
    ]
    found = [(group.label, group.run.seeds) for group in pooled(runs)]
    assert found == [("iql expectile=0.5", (1,)), ("iql expectile=0.9", (2, 3))]
    assert len(pooled([replace(runs[1], beside={**runs[1].beside, "data": "another"}), runs[2]])) == 2


PRESET, SET = "preset maze", "settings"


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ([("iql", "a", {"x.tau": (0.7, PRESET)}), ("awac", "a", {})], ["iql", "awac"]),
        ([("iql", "a", {"x.tau": (0.7, PRESET)}), ("iql", "a", {"x.tau": (0.9, SET)})], ["iql tau=0.7", "iql tau=0.9"]),
        # What only the tasks' presets change is not said.
        ([("iql", "a", {"x.tau": (0.7, PRESET)}), ("iql", "b", {"x.tau": (0.9, PRESET)})], ["iql", "iql"]),
        (
            [
                ("iql", "a", {"x.tau": (0.7, PRESET)}),
                ("iql", "b", {"x.tau": (0.9, PRESET)}),
                ("iql", "a", {"x.tau": (0.5, SET)}),
            ],
            ["iql tau=preset", "iql tau=preset", "iql tau=0.5"],
        ),
        # What a run took over was set where its phases were done; here it was not.
        (
            [
                ("iql", "a", {"x.tau": (0.7, "inherited")}),
                ("iql", "b", {"x.tau": (0.9, "inherited")}),
                ("iql", "a", {"x.tau": (0.5, SET)}),
            ],
            ["iql tau=preset", "iql tau=preset", "iql tau=0.5"],
        ),
        # An option that follows from one that was set is not said, and one that differs by phase is said with it.
        (
            [
                ("iql", "a", {"x.tau": (0.7, SET), "y.tau": (0.7, SET), "x.width": ([8, 8], "from x.tau")}),
                ("iql", "a", {"x.tau": (0.7, SET), "y.tau": (0.8, SET), "x.width": ([9, 9], "from x.tau")}),
            ],
            ["iql y.tau=0.7", "iql y.tau=0.8"],
        ),
        (
            [("iql", "a", {"x.width": ([8, 8], "default")}), ("iql", "a", {"x.width": (None, "default")})],
            ["iql width=8,8", "iql width=none"],
        ),
    ],
)
def test_labels_say_what_differs(make_run, given, labels) -> None:
    run = read_run(make_run(offline={9: [0.5, 0.5]}))
    runs = [
        replace(run, recipe=recipe, task=task, config={name: Setting(*value) for name, value in config.items()})
        for recipe, task, config in given
    ]
    assert labels_of(runs) == labels


def test_rules_and_data_are_said_where_they_differ(make_run) -> None:
    run = read_run(make_run(offline={9: [0.5, 0.5]}))
    ruled = [replace(run, beside={**run.beside, "rules": ("retain=0.5", *more)}) for more in ((), ("freeze_actor=9",))]
    assert labels_of(ruled) == ["calql", "calql freeze_actor=9"]
    logs = [replace(run, beside={**run.beside, "data": mark * 64}) for mark in "ab"]
    assert labels_of(logs) == ["calql data=aaaaaaaa", "calql data=bbbbbbbb"]
    config = [{"x.tau": Setting(value, "inherited"), "x.steps": Setting(value, "inherited")} for value in (1, 2)]
    taken = [replace(run, config=options, inherited=frozenset({"tau"})) for options in config]
    assert labels_of(taken) == ["calql tau=1", "calql tau=2"]
    assert labels_of([run, replace(run, stand_in=5)]) == ["calql", "calql training-episodes"]


def test_columns(make_run, tmp_path: Path) -> None:
    first = make_run("first", offline={0: [0.0, 0.1], 100: [0.8, 0.8]}, online={10: [0.2, 0.3]})
    again = make_run("again", seeds=(5, 7), offline={100: [0.0, 0.5]}, online={10: [0.0, 0.5]})
    nothing = make_run("nothing", status="running")
    (nothing / "metrics.jsonl").write_text("")
    columns = tidy([first, str(again), nothing])
    assert {len(column) for column in columns.values()} == {4 * (3 * 2 + 2)}  # four quantities; seed 5 counts once
    rows = [row for row in zip(*columns.values()) if row[7] == "success"]
    assert rows[0] == ("calql", "calql", "maze", 3, "first", 0, -100.0, "success", 0.0, str(first))
    assert rows[-1] == ("calql", "calql", "maze", 7, "second", 10, 10.0, "success", 0.5, str(again))
    assert [*columns] == [*tidy([])]
    json.dumps({name: list(map(str, column)) for name, column in columns.items()})
