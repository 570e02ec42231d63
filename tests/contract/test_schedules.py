"""Weights that move: by hand, in an update, by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segue.agents import CQL
from segue.core.options import ALIASES, assign, leaves
from segue.core.schedules import Linear, at, ends
from segue.core.types import SegueError
from tests.contract.test_agents import SPEC, batch, small


def test_a_line_by_hand() -> None:
    line = Linear(5.0, 1.0, 4)
    assert [float(at(line, jnp.int32(n))) for n in range(6)] == [4.0, 3.0, 2.0, 1.0, 1.0, 1.0]
    assert ends(line) == (5.0, 1.0)
    assert (at(0.5, jnp.int32(7)), ends(0.5)) == (0.5, (0.5, 0.5))


@pytest.mark.parametrize(("name", "option"), [("CQL", "conservative_weight"), ("TD3BC", "q_weight"),
                                              ("ReBRAC", "actor_cloning"), ("SPOT", "weight")])  # fmt: skip
def test_an_update_takes_the_number_that_stands(name: str, option: str) -> None:
    """After one other update a line from 4 to 0 in 4 updates stands at 2; float64, the same numbers."""
    agent: Any = small(name)
    state = agent.init(jax.random.key(0), SPEC)
    learn = lambda a: jax.jit(a.update)(state, batch(), jax.random.key(1), jnp.int32(1))  # noqa: E731
    moved, metrics = learn(replace(agent, **{option: Linear(4.0, 0.0, 4)}))
    same, _ = learn(replace(agent, **{option: 2.0}))
    for a, b in zip(jax.tree.leaves(moved), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-7)
    assert float(metrics["density_weight" if name == "SPOT" else option]) == 2.0


def test_by_name() -> None:
    """A bare number stands for itself; naming the end makes a line of it; both ends are checked."""
    agent, _ = assign(CQL(), ["conservative_weight"], "2", "x")
    assert agent.conservative_weight == 2.0
    agent, path = assign(agent, ["conservative_weight", "end"], "0.5", "x")
    assert path == "conservative_weight.end"
    agent, _ = assign(agent, ["conservative_weight", "updates"], "1e4", "x")
    assert agent.conservative_weight == Linear(2.0, 0.5, 10_000)
    assert leaves(agent)["conservative_weight.end"] == 0.5
    agent, _ = assign(agent, ["conservative_weight"], "3", "x")
    assert agent.conservative_weight == 3.0
    with pytest.raises(SegueError, match="conservative_weight"):
        assign(CQL(), ["conservative_weight", "end"], "-1", "x")
    with pytest.raises(SegueError, match="updates=0"):
        assign(agent, ["conservative_weight", "updates"], "0", "x")


def test_names_of_other_libraries_are_taken() -> None:
    for alias, option in (("tau", "target_rate"), ("actor_lr", "actor_learning_rate")):
        agent, path = assign(CQL(), [alias], "0.25", "x")
        assert path == f"base.{option}"
        assert getattr(agent.base, option) == 0.25
    glossary = (Path(__file__).parents[2] / "docs" / "glossary.md").read_text()
    for alias, option in ALIASES.items():
        assert f"`{alias}`" in glossary or f".{alias}`" in glossary
        assert f"{option}`" in glossary
