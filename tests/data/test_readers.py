"""Readers of other formats: what their own libraries write comes out as it went in, and faults are named."""

from __future__ import annotations

import sys
import tracemalloc
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segue.core.types import SegueError
from segue.data.readers import npz, ogbench, open_source, read, table
from segue.data.recorded import Recorded, data_of
from tests.data.formats import FORMATS, NEEDS, found, limited, made, padded, same


@pytest.mark.parametrize("form", FORMATS)
@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    image=st.booleans(),
    seed=st.integers(0, 2**31),
    block=st.integers(1, 9),
)
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory, form: str, lengths: list[int], image: bool, seed: int, block: int
) -> None:
    """Whatever the lengths, and however blocks of rows fall on episodes."""
    pytest.importorskip(NEEDS.get(form, "numpy"))
    write, lacks = FORMATS[form]
    log = limited(made(seed, lengths, (16, 32, 3) if image and "image" not in lacks else ()), form)
    source = write(tmp_path_factory.mktemp("log"), log)
    with ExitStack() as stack:
        for module in (npz, table, ogbench):
            stack.enter_context(mock.patch.object(module, "BLOCK", block))
        got = found(source)
        whole = read(source)
    assert whole.sha256() == data_of(got, "episodes").sha256()
    same(got, log, final="final" not in lacks, success="success" not in lacks, exact="exact" not in lacks)


def numbered(n: int = 8, **flags: list[int]) -> dict[str, np.ndarray]:
    """Rows whose observation and reward are the row's number; `flags` list the flagged rows."""
    count = np.arange(n, dtype=np.float32)
    return {
        "observation": count[:, None],
        "action": np.full((n, 1), 0.5, np.float32),
        "reward": count,
        **{name: np.isin(np.arange(n), at) for name, at in flags.items()},
    }


def read_rows(folder: Path, columns: dict[str, np.ndarray], query: str = "") -> list[Recorded]:
    np.savez(folder / "log.npz", **columns)
    return found(f"npz:{folder / 'log.npz'}{query}")


@pytest.mark.parametrize(
    ("flags", "query", "want"),
    [  # per episode: rewards, final observation, terminated
        ({"truncated": [3, 7]}, "", [([0, 1, 2], 3, False), ([4, 5, 6], 7, False)]),
        ({"truncated": [3, 7]}, "?final=kept", [([0, 1, 2, 3], 3, False), ([4, 5, 6, 7], 7, False)]),
        ({"truncated": [3, 7]}, "?final=row", [([0, 1, 2], 3, False), ([4, 5, 6], 7, False)]),
        ({"terminated": [3, 7]}, "", [([0, 1, 2, 3], 3, True), ([4, 5, 6, 7], 7, True)]),
        ({"terminated": [3, 7]}, "?final=row", [([0, 1, 2], 3, True), ([4, 5, 6], 7, True)]),
        ({"terminated": [3], "truncated": [3]}, "", [([0, 1, 2, 3], 3, True), ([4, 5, 6], 7, False)]),
        ({"terminated": [3]}, "", [([0, 1, 2, 3], 3, True), ([4, 5, 6], 7, False)]),  # the end of the table cuts
        ({"truncated": [0, 4]}, "", [([1, 2, 3], 4, False), ([5, 6], 7, False)]),  # a step of which nothing is known
        ({"terminated": [0, 7]}, "", [([0], 0, True), ([1, 2, 3, 4, 5, 6, 7], 7, True)]),
    ],
)
def test_rules(
    flags: dict[str, list[int]], query: str, want: list[tuple[list[int], int, bool]], tmp_path: Path
) -> None:
    got = read_rows(tmp_path, numbered(**flags), query)
    assert [(e.reward.tolist(), e.observation[-1, 0], e.terminated) for e in got] == want
    assert all(len(e.observation) == len(e) + 1 for e in got)


def test_a_column_of_episodes_parts_them(tmp_path: Path) -> None:
    columns = {**numbered(terminated=[2]), "episode": np.array([5, 5, 5, 5, 2, 2, 2, 2])}
    got = read_rows(tmp_path, columns)
    assert [(e.reward.tolist(), e.terminated) for e in got] == [([0, 1, 2], True), ([4, 5, 6], False)]
    got = read_rows(tmp_path, columns, "?final=row")  # the flag stands on the last step, or on the row behind it
    assert [(e.reward.tolist(), e.terminated) for e in got] == [([0, 1, 2], True), ([4, 5, 6], False)]
    columns["terminated"][:] = [False, False, False, True, False, True, False, False]
    with pytest.raises(SegueError, match=r"'terminated' in row 5, inside the episode; leave out final=row"):
        read_rows(tmp_path, columns, "?final=row")


def test_next_observations(tmp_path: Path) -> None:
    columns = numbered(terminated=[3])
    columns["next_obs"] = columns["observation"] + 1
    columns["next_obs"][5] = 50  # the episode was cut here: the next row does not follow
    got = read_rows(tmp_path, columns)
    assert [(e.reward.tolist(), e.observation[-1, 0], e.terminated) for e in got] == [
        ([0, 1, 2, 3], 4, True),
        ([4, 5], 50, False),
        ([6, 7], 8, False),
    ]
    whole = read_rows(tmp_path, {**columns, "truncated": np.zeros(8, bool)})
    assert whole[1].next_observation is not None
    assert whole[1].following[:, 0].tolist() == [5, 50, 7, 8]
    with pytest.raises(SegueError, match="final=kept has no effect beside next observations"):
        read_rows(tmp_path, columns, "?final=kept")


def test_bounds_of_the_action(tmp_path: Path) -> None:
    columns = {**numbered(3, terminated=[2]), "action": np.array([[0.0, 5.0], [2.0, 0.0], [-2.0, 2.5]])}
    np.savez(tmp_path / "log.npz", **columns)
    source = open_source(f"npz:{tmp_path / 'log.npz'}?low=-2,0&high=2,5")
    assert source.facts["action"] == {"low": [-2, 0], "high": [2, 5]}
    np.testing.assert_allclose(next(source.episodes).action, [[0, 1], [1, -1], [-1, 0]], atol=2e-5)
    assert open_source(f"npz:{tmp_path / 'log.npz'}?low=-2&high=5").facts["action"] == {"low": [-2, -2], "high": [5, 5]}
    for wrong in ("low=-2", "low=2&high=2", "low=a&high=b", "low=-1,-1,-1&high=1,1", "low=-inf&high=1"):
        with pytest.raises(SegueError, match="give the action's bounds as numbers"):
            open_source(f"npz:{tmp_path / 'log.npz'}?{wrong}")
    with pytest.raises(SegueError, match="bounds of 3 numbers for actions of 2"):
        found(f"npz:{tmp_path / 'log.npz'}?low=-1,-1,-1&high=1")


@pytest.mark.parametrize(
    ("change", "query", "says"),
    [
        (
            {},
            "?observation=obs",
            r"no column 'obs' for observation=; there are observation, action, reward, terminated",
        ),
        ({}, "?action=act_*", r"no column 'act_\*' for action="),
        ({"state": 0}, "", "both 'observation' and 'state' may be the observation; write observation=observation"),
        ({"done": 0}, "", "both 'terminated' and 'done' may be the terminated"),
        ({"action": None}, "", "no column for the action; write action=NAME, one of: observation, reward, terminated"),
        ({"terminated": None}, "", "no column marks where episodes end; write terminated=, truncated= or episode=NAME"),
        ({}, "?reward=reward,reward", "reward=reward,reward names 2 columns; name one"),
        ({}, "?final=last", "there is no final=last; there are dropped, kept, row"),
        ({"terminated": np.full(8, 2)}, "", "'terminated' is 2 in row 0; a flag is 0 or 1"),
        ({"truncated": np.where(np.arange(8) == 5, np.nan, 0)}, "", "'truncated' is nan in row 5"),
        ({"episode": np.where(np.arange(8) == 6, np.nan, 0)}, "", "'episode' is empty in row 6"),
        ({"reward": np.zeros((8, 2))}, "", r"'observation' is \(8, 1\) and 'reward' \(8, 2\); steps must correspond"),
        ({"reward": np.array(["a"] * 8)}, "", "'reward' has type <U1, not numbers"),
        ({"reward": np.zeros(7)}, "", "'reward' has 7 rows and 'observation' has 8; rows must correspond"),
        ({"reward": np.array(1.0)}, "", "'reward' is one number"),
        ({"observation": np.zeros((8, 0))}, "", r"'observation' has shape \(8, 0\), so its rows are empty"),
        ({"observation": np.zeros(8, object)}, "", "'observation' holds Python objects instead of numbers"),
        ({"observation": np.zeros(8, complex)}, "", "'observation' holds complex128 instead of numbers"),
        ({"next_obs": np.zeros((8, 2))}, "", r"observations are \(8, 1\) float32, the next \(8, 2\) float32"),
        ({}, "?mask=terminated", "mask= has no effect on arrays with one row per step"),
    ],
)
def test_faults_of_columns(change: dict[str, Any], query: str, says: str, tmp_path: Path) -> None:
    columns = numbered(terminated=[7])
    for name, value in change.items():
        if value is None:
            del columns[name]
        else:
            columns[name] = np.zeros(8) if isinstance(value, int) else value
    with pytest.raises(SegueError, match=says) as caught:
        read_rows(tmp_path, columns, query)
    assert "\n" not in str(caught.value)


def test_columns_by_prefix_and_number(tmp_path: Path) -> None:
    parts = {f"obs_{i}": np.full(3, i) for i in (10, 2, 0)} | {"vel_y": np.full(3, 8), "vel_x": np.full(3, 9)}
    rest = {name: column for name, column in numbered(3, terminated=[2]).items() if name != "observation"}
    (got,) = read_rows(tmp_path, {**parts, **rest})
    assert got.observation[0].tolist() == [0, 2, 10]
    (got,) = read_rows(tmp_path, {**parts, **rest}, "?observation=vel_*,obs_*")
    assert got.observation[0].tolist() == [8, 9, 0, 2, 10]  # names in the file's order, numbers by number
    with pytest.raises(SegueError, match=r"both 'obs_\*' and 'state_\*' may be the observation"):
        read_rows(tmp_path, {**parts, **rest, "state_0": np.zeros(3)})


def test_episodes_in_rows(tmp_path: Path) -> None:
    log = made(3, [2, 5, 1])
    arrays = padded(log)
    del arrays["length"]
    mask = np.arange(5)[None] < np.array([[2], [5], [1]])
    same(read_rows(tmp_path, {**arrays, "mask": mask}), log)
    shorter = {**arrays, "obs": arrays["obs"][:, :5], "valid": mask}  # no final observations: the rule of tables
    got = read_rows(tmp_path, shorter)
    assert [len(e) for e in got] == [n for n in (len(e) - (not e.terminated) for e in log) if n]
    per_step = np.zeros((3, 5), bool)
    per_step[1, 1] = True  # a flag inside ends an episode here too
    got = read_rows(tmp_path, {**arrays, "terminated": per_step, "mask": mask})
    assert [len(e) for e in got] == [2, 2, 3, 1]
    for wrong, says in (
        ({"length": np.array([2, 6, 1])}, "episode 1: a length of 6; it is a whole number up to 5"),
        ({"length": np.array([2, np.nan, 1])}, "episode 1: a length of nan"),
        ({"length": np.array([2, -1, 1])}, "episode 1: a length of -1"),
        ({"mask": mask[:, ::-1]}, "episode 0: there is a step after the mask's first 0"),
        ({"mask": mask * 2}, "its mask has values other than 0 and 1"),
        ({"actions": arrays["actions"][:, :4], "mask": mask}, "steps must correspond"),
        ({"episode": np.zeros((3, 5))}, "each row is an episode, so episode=episode has no effect"),
    ):
        with pytest.raises(SegueError, match=says):
            read_rows(tmp_path, {**arrays, **wrong})


def test_memory_for_a_block(tmp_path: Path) -> None:
    n = 500_000
    columns = {**numbered(n, truncated=list(range(99, n, 100))), "observation": np.zeros((n, 20), np.float32)}
    np.savez(tmp_path / "log.npz", **columns)
    source = open_source(f"npz:{tmp_path / 'log.npz'}")
    del columns
    tracemalloc.start()
    try:
        assert sum(len(e) for e in source.episodes) == n // 100 * 99
        assert tracemalloc.get_traced_memory()[1] < 20e6  # of 40e6 bytes of observations
    finally:
        tracemalloc.stop()


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "run",))

    np.savez(tmp_path / "log.npz", **{**numbered(), "terminated": np.array([Hostile()] * 8, object)})
    np.savez(tmp_path / "og.npz", observations=np.array([Hostile()]), actions=np.zeros(1), terminals=np.ones(1))
    for source in ("npz:log.npz", "d4rl:og.npz", "ogbench:og.npz"):
        kind, _, name = source.partition(":")
        with pytest.raises(SegueError, match=name):
            found(f"{kind}:{tmp_path / name}")
    assert not (tmp_path / "run").exists()


def csv(folder: Path, text: str, query: str = "") -> list[Recorded]:
    pytest.importorskip("pyarrow")
    (folder / "log.csv").write_text(text)
    return found(f"csv:{folder / 'log.csv'}{query}")


def test_csv(tmp_path: Path) -> None:
    text = "state;a;reward;done;trial\n1;0;1;False;x\n2.5;;1;TRUE;x\n3;0;1;0;y\n4;0;1;no;y\n"
    query = "?delimiter=semicolon&observation=state&action=a&episode=trial"
    got = csv(tmp_path, text, query)
    assert [(e.observation[:, 0].tolist(), e.terminated) for e in got] == [([1, 2.5, 2.5], True), ([3, 4], False)]
    assert np.isnan(got[0].action[1, 0])  # an empty cell, which is for the doctor to find
    with pytest.raises(SegueError, match="'done' is 'maybe' in row 1; a flag is 0 or 1"):
        csv(tmp_path, text.replace("TRUE", "maybe"), query)
    with pytest.raises(SegueError, match="'done' is nan in row 1"):
        csv(tmp_path, text.replace("TRUE", ""), query)
    with pytest.raises(SegueError, match="conversion error to double: invalid value 'much'"):
        csv(tmp_path, text.replace("4;0;1", "4;0;much"), query)
    with pytest.raises(SegueError, match="there are state;a;reward;done;trial"):
        csv(tmp_path, text, query.replace("semicolon", "comma"))
    with pytest.raises(SegueError, match="Empty CSV"):
        csv(tmp_path, "")
    bom = "\ufeffobs,action,reward,done\n1,0,1,0\n2,0,1,1\n"
    assert len(csv(tmp_path, bom)[0]) == 2
    with mock.patch.object(table, "CSV_BYTES", 64):
        many = "obs,action,reward,done\n" + "".join(f"{i},0,1,{int(i % 7 == 6)}\n" for i in range(70))
        assert [len(e) for e in csv(tmp_path, many)] == [7] * 10


def test_tables(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {name: pa.array(list(c)) for name, c in numbered(4, terminated=[3]).items()}
    read = lambda: found(f"table:{tmp_path / 'log.parquet'}")  # noqa: E731
    pq.write_table(
        pa.table({**columns, "action": pa.array([[1.0], [1.0], [1.0, 2.0], [1.0]])}), tmp_path / "log.parquet"
    )
    with pytest.raises(SegueError, match="'action' holds lists of different lengths, or none, in row 2"):
        read()
    pq.write_table(pa.table({**columns, "action": pa.array([[1.0], None, [1.0], [1.0]])}), tmp_path / "log.parquet")
    with pytest.raises(SegueError, match="'action' holds lists of different lengths, or none, in row 1"):
        read()
    pq.write_table(pa.table({**columns, "action": pa.array([{"x": 1.0}] * 4)}), tmp_path / "log.parquet")
    with pytest.raises(SegueError, match="'action' holds struct<x: double> instead of numbers"):
        read()
    pq.write_table(pa.table({**columns, "terminated": pa.array([False, None, False, True])}), tmp_path / "log.parquet")
    with pytest.raises(SegueError, match="'terminated' is nan in row 1"):
        read()
    trials = pa.array(["a", "a", "b", "b"]).dictionary_encode()
    nested = pa.array([[[1, 2], [3, 4]]] * 4, pa.list_(pa.list_(pa.uint8())))
    reward = pa.array([1.0, None, 3.0, 4.0])
    pq.write_table(
        pa.table({**columns, "episode": trials, "observation": nested, "reward": reward}), tmp_path / "log.parquet"
    )
    got = read()
    assert [len(e) for e in got] == [1, 2]
    assert got[1].observation.tolist() == [[[1, 2], [3, 4]]] * 3
    pq.write_table(pa.table({k: v for k, v in columns.items() if k != "reward"}), tmp_path / "more.parquet")
    with pytest.raises(SegueError, match=r"more.parquet: no column 'reward', which log.parquet has"):
        found(f"table:{tmp_path}")
    with pytest.raises(SegueError, match="no file of"):
        found(f"csv:{tmp_path}")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "log.csv").write_text("a\n1\n")
    with pytest.raises(SegueError, match=r'pip install "segue\[arrow\]"'):
        open_source(f"csv:{tmp_path / 'log.csv'}")


def test_what_was_not_found(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    (tmp_path / "text.npz").write_text("no zip")
    for source, says in (
        (f"npz:{tmp_path / 'none.npz'}", "no such file or folder"),
        (f"npz:{tmp_path / 'text.npz'}", "not an .npz file"),
        (f"npz:{tmp_path}", "no .npy file in this folder"),
        (f"table:{tmp_path / 'none'}", "no such file or folder"),
        (f"ogbench:{tmp_path / 'none-*.npz'}", "no such file"),
        (f"robomimic:{tmp_path / 'none'}", "no such file"),
        (f"robomimic:{tmp_path / 'text.npz'}", "not an HDF5 file"),
        (f"lerobot:{tmp_path}", "name a LeRobot dataset's folder"),
        (f"lerobot:{tmp_path}?key=a", "did you mean 'keys'"),
    ):
        with pytest.raises(SegueError, match=says):
            open_source(source)
