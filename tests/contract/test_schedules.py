"""Weights that move: by hand, in an update, by name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import AGENTS, CQL, build, describe
from segue.core.options import ALIASES, assign, leaves, movable, reachable
from segue.core.schedules import Linear, at, ends
from segue.core.types import SegueError
from segue.recipes import find_recipe
from segue.runs import manifest
from segue.runs.changes import with_settings
from segue.runs.request import Request, resolved
from segue.tasks import find_task
from tests.contract.test_agents import SPEC, batch, equal, small


def test_a_line_by_hand() -> None:
    line = Linear(5.0, 1.0, 4)
    assert [float(at(line, jnp.int32(n))) for n in range(6)] == [4.0, 3.0, 2.0, 1.0, 1.0, 1.0]
    assert ends(line) == (5.0, 1.0)
    assert (at(0.5, jnp.int32(7)), ends(0.5)) == (0.5, (0.5, 0.5))


MOVABLE = [(name, option) for name in AGENTS for option in movable(small(name))]


@pytest.mark.parametrize(("name", "option"), MOVABLE)
def test_an_update_takes_the_number_that_stands(name: str, option: str) -> None:
    """After one other update a line from 3 to 1 in 4 updates stands at 2, after three at 1."""
    agent: Any = small(name)
    if "policy_delay" in reachable(agent):
        agent, _ = assign(agent, ["policy_delay"], 1, "x")
    state, key = agent.init(jax.random.key(0), SPEC), jax.random.key(1)
    update = lambda number: jax.jit(assign(agent, [option], number, "x")[0].update)  # noqa: E731
    moving = update(Linear(3.0, 1.0, 4))
    (moved, metrics), (later, _) = (moving(state, batch(), key, jnp.int32(n)) for n in (1, 3))
    same, _ = update(2.0)(state, batch(), key, jnp.int32(1))
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)
    assert float(metrics[option]) == 2.0
    assert not equal(moved, later)


@dataclass(frozen=True)
class Published(Linear):
    """The weight of the authors' programs, number by number: start * max(end / start, 1 - u / over)."""

    over: int

    def at(self, step: jax.Array) -> jax.Array:
        return self.start * jnp.maximum(self.end / self.start, 1.0 - (step + 1.0) / self.over)


@pytest.mark.parametrize(("name", "option"), [("SPOT", "weight"), ("ReBRAC", "actor_cloning")])
@pytest.mark.usefixtures("double_precision")
def test_a_line_is_the_form_of_the_authors_programs(name: str, option: str) -> None:
    """Over 200 updates, in the 120th of which the weight stands at its floor."""

    def learned(number: Linear) -> Any:
        agent = replace(small(name), **{option: number})
        start = jax.tree.map(double, agent.init(jax.random.key(0), SPEC))
        rows = jax.tree.map(double, batch())
        step = lambda state, n: (agent.update(state, rows, jax.random.key(n), n)[0], None)  # noqa: E731
        return jax.jit(lambda: jax.lax.scan(step, start, jnp.arange(200)))()[0]

    double = lambda x: x.astype(jnp.float64) if x.dtype == jnp.float32 else x  # noqa: E731
    ours, theirs = learned(Linear(0.4, 0.08, 120)), learned(Published(0.4, 0.08, 120, 150))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_by_name() -> None:
    """Naming the end makes a line of a number; a bare number scales a line; both ends are checked."""
    agent, _ = assign(CQL(), ["conservative_weight"], "2", "x")
    assert agent.conservative_weight == 2.0
    agent, path = assign(agent, ["conservative_weight", "end"], "0.5", "x")
    assert path == "conservative_weight.end"
    agent, _ = assign(agent, ["conservative_weight", "updates"], "1e4", "x")
    assert agent.conservative_weight == Linear(2.0, 0.5, 10_000)
    assert leaves(agent)["conservative_weight.end"] == 0.5
    agent, path = assign(agent, ["conservative_weight"], "3", "x")
    assert path == "conservative_weight.start"
    assert agent.conservative_weight == Linear(3.0, 0.75, 10_000)
    agent, _ = assign(agent, ["conservative_weight", "start"], "1", "x")
    assert agent.conservative_weight == Linear(1.0, 0.75, 10_000)
    rising = replace(agent, conservative_weight=Linear(0.0, 1.0, 5))
    with pytest.raises(SegueError, match="x: its line starts at 0 and cannot be scaled; set its start and end"):
        assign(rising, ["conservative_weight"], "3", "x")
    whole, path = assign(CQL(), ["conservative_weight"], describe(Linear(2.0, 1.0, 5)), "x")
    assert (path, whole) == ("conservative_weight.type", CQL(conservative_weight=Linear(2.0, 1.0, 5)))
    assert build(describe(whole)) == whole
    with pytest.raises(SegueError, match="end=inf is out of range"):
        assign(agent, ["conservative_weight", "end"], "inf", "x")
    with pytest.raises(SegueError, match="conservative_weight"):
        assign(CQL(), ["conservative_weight", "end"], "-1", "x")
    with pytest.raises(SegueError, match="updates=0"):
        assign(agent, ["conservative_weight", "updates"], "0", "x")


def test_in_a_recipe() -> None:
    """A number for the whole slot keeps the shape of the line online, whatever the order of the settings."""
    line = "online.learner.weight"
    spot, task = find_recipe("spot"), find_task("pointmaze-umaze")
    table = resolved(spot, task, {"agent.weight": "0.1"}).explained()
    assert [table[f"{line}.{f}"]["value"] for f in ("start", "end", "updates")] == [0.1, 0.02, 4_800]
    assert [table[f"{line}.{f}"]["source"] for f in ("start", "end")] == ["settings", "settings"]
    assert (table["offline.learner.weight"]["value"], table[f"{line}.type"]["value"]) == (0.1, "Linear")
    assert "the line keeps its shape" in table[f"{line}.start"]["meaning"]
    assert table[f"{line}.end"]["meaning"].startswith("lambda, the weight of the density's term: the number from")
    both = resolved(spot, task, {"online.weight.end": "0.05", "agent.weight": "0.1"}).table()
    assert [both[f"{line}.{f}"]["value"] for f in ("start", "end")] == [0.1, 0.05]


def test_in_the_middle_of_a_run() -> None:
    """A resumed run takes a bare number for a line, and a line stays one."""
    spot, task, request = (
        find_recipe("spot"),
        find_task("pointmaze-umaze"),
        Request("spot", "pointmaze-umaze", (0,), {}),
    )
    described: Any = {
        "phases": [{"slot": "agent"}],
        "config": manifest.plain(resolved(spot, task, {}).table()),
        "provenance": {},
    }
    path = "online.learner.weight"
    asked, plan, written = with_settings(described, request, lambda _: spot, task, {path: "0.1"}, None)
    assert asked.settings == {f"{path}.start": 0.1, f"{path}.end": 0.02}
    assert plan.phases[-1].learner.weight == Linear(0.1, 0.02, 4_800)
    assert written["config"][f"{path}.end"] == {"value": 0.02, "source": "settings"}


def test_names_of_other_libraries_are_taken() -> None:
    for alias, option in (("tau", "target_rate"), ("actor_lr", "actor_learning_rate")):
        agent, path = assign(CQL(), [alias], "0.25", "x")
        assert path == f"base.{option}"
        assert getattr(agent.base, option) == 0.25
    glossary = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text()
    for alias, option in ALIASES.items():
        assert f"`{alias}`" in glossary or f".{alias}`" in glossary
        assert f"{option}`" in glossary
