"""The record: strict JSON whatever comes in, whole rows whatever happens, and trackers that never stop a run."""

import errno
import json
import math
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segue.core.types import SegueError
from segue.runs.sinks import Extra, Fan, Jsonl, plain, scalars


def a_row(update=0, **values):
    return {
        "kind": "training",
        "phase": "offline",
        "phase_index": 0,
        "phase_step": update,
        "environment_step": 0,
        "update": update,
        "wall_s": 0.5,
        "seeds": [3, 7],
        "values": values,
    }


def strict(line):
    def validate(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(line, parse_constant=validate)


def rows_of(path):
    text = path.read_text()
    assert text == "" or text.endswith("\n")
    return [strict(line) for line in text.splitlines()]


numbers = st.floats() | st.floats(width=32).map(np.float32) | st.floats(width=16).map(np.float16)
whole = st.integers() | st.integers(-(2**31), 2**31 - 1).map(np.int32) | st.booleans() | st.booleans().map(np.bool_)
arrays = st.lists(st.floats(width=32)).map(lambda xs: np.array(xs, np.float32))
leaves = st.none() | numbers | whole | st.text() | arrays
things = st.recursive(leaves, lambda t: st.lists(t) | st.tuples(t) | st.dictionaries(st.text(), t), max_leaves=10)


def expected(value):
    match value:
        case dict():
            return {k: expected(v) for k, v in value.items()}
        case list() | tuple():
            return [expected(v) for v in value]
        case np.ndarray() | np.generic():
            return expected(value.tolist())
        case float() if not math.isfinite(value):
            return None
    return value


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(things)
def test_a_row_comes_back_as_strict_json(tmp_path, thing):
    path = tmp_path / "rows.jsonl"
    path.unlink(missing_ok=True)
    sink = Jsonl(path)
    sink.write({"thing": thing})
    sink.close()
    (row,) = rows_of(path)
    assert row == {"thing": expected(thing)}


def test_other_types_become_something_readable(tmp_path):
    jnp = pytest.importorskip("jax.numpy")
    assert plain(jnp.array([1.5, jnp.nan], jnp.bfloat16)) == [1.5, None]
    assert plain(np.longdouble(2)) == 2.0
    assert plain(np.array(["a", None, np.inf], object)) == ["a", None, None]
    assert plain({1: tmp_path, "pair": {2}}) == {"1": str(tmp_path), "pair": [2]}


def test_position_is_where_a_resumed_run_takes_up(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    sink = Jsonl(path)
    assert sink.position() == 0
    sink.write(a_row(1, loss=[0.1, float("nan")]))
    here = sink.position()
    assert here == path.stat().st_size
    sink.write(a_row(2))
    sink.close()
    sink.close()
    with path.open("ab") as file:
        file.write(b'{"torn')

    sink = Jsonl(path, truncate_to=here)
    sink.write(a_row(3))
    sink.close()
    assert [row["update"] for row in rows_of(path)] == [1, 3]
    assert rows_of(path)[0]["values"] == {"loss": [0.1, None]}


def test_without_a_checkpoint_only_a_torn_line_goes(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"update":1}\n{"update":2}\n{"upd')
    sink = Jsonl(path)
    sink.write(a_row(3))
    sink.close()
    assert [row["update"] for row in rows_of(path)] == [1, 2, 3]


@pytest.mark.parametrize("truncate_to", [5, 1000])
def test_a_changed_file_is_refused_and_left_alone(tmp_path, truncate_to):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"update":1}\n')
    with pytest.raises(SegueError, match=f"no row ends at byte {truncate_to}"):
        Jsonl(path, truncate_to)
    assert path.read_text() == '{"update":1}\n'
    with pytest.raises(SegueError, match="no row ends"):
        Jsonl(tmp_path / "absent.jsonl", truncate_to)


class NearlyFull:
    """A file that takes a part of a row and then has no room."""

    def __init__(self, file, code):
        self.file, self.code, self.room = file, code, 20

    def write(self, data):
        if not self.room:
            raise OSError(self.code, os.strerror(self.code))
        taken, self.room = self.file.write(data[: self.room]), 0
        return taken

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_says_what_to_do_and_leaves_whole_rows(tmp_path, monkeypatch, code):
    path = tmp_path / "rows.jsonl"
    sink = Jsonl(path)
    sink.write(a_row(1))
    monkeypatch.setattr(sink, "_file", NearlyFull(sink._file, code))
    with pytest.raises(SegueError, match=r"free some space, then run `segue resume`") as caught:
        sink.write(a_row(2))
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    assert [row["update"] for row in rows_of(path)] == [1]
    assert sink.position() == path.stat().st_size
    sink.close()


def test_another_error_of_the_file_is_not_disguised(tmp_path, monkeypatch):
    sink = Jsonl(tmp_path / "rows.jsonl")
    monkeypatch.setattr(sink, "_file", NearlyFull(sink._file, errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        sink.write(a_row(1))
    sink.close()


class Kept:
    essential = False

    def __init__(self, fails_at=-1):
        self.rows, self.fails_at, self.closed = [], fails_at, 0

    def write(self, row):
        if len(self.rows) == self.fails_at:
            raise ConnectionError("no\nnetwork")
        self.rows.append(row)

    def close(self):
        self.closed += 1


def test_a_failing_extra_is_dropped_in_one_line(tmp_path):
    said = []
    good, bad = Kept(), Kept(fails_at=1)
    fan = Fan([bad, Jsonl(tmp_path / "rows.jsonl"), good], said.append)
    for update in range(4):
        fan.write(a_row(update))
    fan.close()
    assert said == ["warning: Kept is switched off, the run goes on (ConnectionError: no network)"]
    assert (len(bad.rows), len(good.rows), len(rows_of(tmp_path / "rows.jsonl"))) == (1, 4, 4)
    assert good.closed == 1


def test_an_essential_sink_raises_and_all_are_closed():
    bad, good = Kept(fails_at=0), Kept()
    bad.essential = True
    fan = Fan([good, bad])
    with pytest.raises(ConnectionError):
        fan.write(a_row())
    fan.close()
    assert (bad.closed, good.closed) == (1, 1)


def test_an_extra_that_cannot_begin_is_off(capsys):
    def begin():
        raise RuntimeError("no key")

    extra = Extra("W&B", begin)
    extra.write(a_row())
    extra.close()
    assert capsys.readouterr().err == "warning: W&B is switched off, the run goes on (RuntimeError: no key)\n"


def test_an_interrupt_is_not_swallowed():
    def post(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Extra("slow", lambda: (post, lambda: None)).write(a_row())


def test_trackers_get_seeds_means_and_clocks():
    assert scalars(a_row(5, loss=[1.0, 3.0], q=[None, 2.0], none=[float("nan"), None])) == {
        "clock/phase_step": 5.0,
        "clock/environment_step": 0.0,
        "clock/update": 5.0,
        "training/loss/seed_3": 1.0,
        "training/loss/seed_7": 3.0,
        "training/loss/mean": 2.0,
        "training/q/seed_7": 2.0,
        "training/q/mean": 2.0,
    }
