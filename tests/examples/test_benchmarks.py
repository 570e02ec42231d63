"""The benchmark of all agents runs, small and without its peer."""

from __future__ import annotations

import importlib
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import AGENTS
from segue.data import read_d4rl

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


# Speaks the peer's protocol: whatever is asked, an update takes a second.
STUB = f"""#!{sys.executable}
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    answer = {{"seconds": asked.get("updates"), "finite": True}} if "updates" in asked else {{}}
    print(json.dumps(answer if "case" in asked else {{"d3rlpy": "0", "torch": "0", "threads": 1}}), flush=True)
"""


def test_two_agents_and_a_peer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    interpreter, file = tmp_path / "bin" / "python", tmp_path / "found.json"
    interpreter.parent.mkdir()
    interpreter.write_text(STUB)
    interpreter.chmod(0o755)
    small = "--seeds 2 --hidden 8 8 --batch 16 --rows 400 --episode 20 --seconds 0.01 --rounds 1 --peer-processes 2"
    arguments = ["--agents", "TD3BC", "IQL", *small.split(), "--peer", str(tmp_path), "--json", str(file)]
    importlib.import_module("agents").main(arguments)
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [[line[5].strip(), line[7].strip()] for line in lines[2:]] == [["1000.00", "500.00"]] * 2
    found = json.loads(file.read_text())["rows"]
    assert [row["agent"] for row in found] == ["TD3BC", "IQL"]
    assert all(0 < row["seconds"]["2"][0] < 1 for row in found)


def test_every_agent_has_a_row_and_every_peer_its_size() -> None:
    entries = importlib.import_module("agents").entries((8, 8), 16, 400, 20)
    assert all(any(isinstance(e.learner, known.agent) for e in entries) for known in AGENTS.values())
    assert {e.name for e in entries if e.peer is not None} >= {
        "TD3BC",
        "ReBRAC",
        "IQL",
        "AWAC",
        "CQL",
        "antmaze/Cal-QL",
    }
    assert all(e.rows == 16 * e.parts for e in entries)
    assert all((e.peer.observation, e.peer.action, e.peer.batch) == (*e.shape, 16) for e in entries if e.peer)


def test_products_are_counted() -> None:
    common = importlib.import_module("common")
    a, b = jnp.ones((3, 4)), jnp.ones((4, 5))

    def work(a: jax.Array, b: jax.Array, sometimes: jax.Array) -> jax.Array:
        c, _ = jax.lax.scan(lambda c, _: (c + a @ b, None), jnp.zeros((3, 5)), length=7)
        return jax.lax.cond(sometimes, lambda: c + jax.jit(jnp.matmul)(a, b), lambda: c)

    assert common.products(work, a, b, jnp.bool_(True)) == pytest.approx(1e-9 * 2 * 3 * 4 * 5 * 7.5)


def test_the_dataset_is_made_of_episodes() -> None:
    rows = importlib.import_module("synthetic").logged(3, 2, 60, 20)
    assert list(np.flatnonzero(rows["terminated"])) == [19, 59]
    assert list(np.flatnonzero(rows["truncated"])) == [39]
    within = np.arange(60) % 20 != 19
    np.testing.assert_array_equal(rows["next_observation"][within], rows["observation"][1:][within[:-1]])


def test_locomotion_datasets_are_the_same_after_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locomotion = importlib.import_module("make_locomotion")
    sizes = "--steps 300 --rows 150 --warm-up 100 --every 100 --episodes 2 --hidden 8"
    small = ["--env", "hopper", *sizes.split(), "--out"]
    calls, write_json = itertools.count(1), locomotion.write_json

    def killed(path: Path, value: Any) -> None:
        if next(calls) in (2, 4):  # after an evaluation, and when a dataset is made but for its manifest
            raise KeyboardInterrupt
        write_json(path, value)

    monkeypatch.setattr(locomotion, "write_json", killed)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            locomotion.main([*small, str(tmp_path / "killed")])
    for folder in ("killed", "whole"):
        locomotion.main([*small, str(tmp_path / folder)])
    monkeypatch.setattr(locomotion, "MEDIUM", (-100.0, 100.0))  # the first evaluation is one
    locomotion.main([*small, str(tmp_path / "part"), "--kinds", "medium-replay"])
    assert {path.name for path in (tmp_path / "part").glob("*.json")} == {"hopper-medium-replay.json"}
    part = json.loads((tmp_path / "part/hopper-sac/training.json").read_text())["evaluations"]
    assert [e["environment_step"] for e in part] == [200]  # and training stops there
    for name in ("hopper-sac/training", *(f"hopper-{kind}" for kind in locomotion.KINDS)):
        assert len({(tmp_path / f / f"{name}.json").read_text() for f in ("killed", "whole")}) == 1, name

    found = {k: json.loads((tmp_path / "whole" / f"hopper-{k}.json").read_text()) for k in locomotion.KINDS}
    tried = json.loads((tmp_path / "whole/hopper-sac/training.json").read_text())["evaluations"]
    assert [e["environment_step"] for e in tried] == [200, 300]
    assert found["expert"]["made"]["policy"] == tried[-1]
    assert [found[k]["rows"] for k in ("random", "medium")] == [150, 150]
    assert found["medium-replay"]["rows"] == found["medium"]["made"]["policy"]["environment_step"]
    for kind, manifest in found.items():
        data = read_d4rl(tmp_path / "whole" / f"hopper-{kind}.hdf5")
        assert (manifest["sha256"], manifest["transitions"]) == (data.sha256(), len(data))
    with pytest.raises(SystemExit, match="other settings"):
        locomotion.main([*small, str(tmp_path / "whole"), "--seed", "1"])


def test_medium_is_the_first_about_a_third_of_the_experts_score() -> None:
    chosen = importlib.import_module("make_locomotion").about_a_third
    tried = [{"score": value} for value in (3.0, 83.0, 35.0, 33.0, 100.0)]
    assert chosen(tried) is tried[2]
    assert chosen(tried[:2] + tried[-1:]) is tried[0]  # 3 % of the way: nearer to a third than 83 %
