"""No random key is used twice, whatever is put around whatever: in updates, at hand-overs, in networks that see."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from segue.agents import AGENTS, CQL, IQL, OPT, PEX, SAC, SPOT, OnlinePretraining
from segue.bonuses import BONUSES, RND, VCSE, Both, Returns
from segue.core import replay
from segue.core.encoders import Encoder
from segue.core.observations import parts_seen, width
from segue.core.options import assign, brief
from segue.core.types import Agent, Learned, Part, Slot, Spec
from segue.engine import steps
from segue.engine.phase import Phase
from segue.samplers import Blend, Halves, Mix, Subset, Union
from segue.samplers.oversample import Oversample
from segue.samplers.prioritised import Balanced
from tests.contract.test_agents import small
from tests.keys import Audit
from tests.toys import SPEC, UNITS, corridor_data

KEY = jax.random.key(0)
DATA = replay.from_data(corridor_data(4), UNITS)
PARTS = (Part("camera", (16, 16, 3), "uint8"), Part("wrist", (16, 16, 3), "uint8"), Part("joints", (2,), "float32"))


SPEC_SEEN = Spec((width(PARTS),), 2, "uint8", PARTS)


def test_the_audit_finds_what_it_looks_for() -> None:
    """A split's second key is the key folded with 1."""

    def clean(key: jax.Array) -> Any:
        one, two = jax.random.split(key)
        return jax.random.normal(one, (2,)), jax.random.choice(two, 5, (2,), replace=False), jax.random.fold_in(key, 9)

    def twice(key: jax.Array) -> Any:
        one, two = jax.random.split(key)
        drawn = jax.lax.map(lambda x: x + jax.random.normal(one), jnp.zeros(2))
        return drawn, jax.random.normal(two, (2,)), jax.random.normal(jax.random.fold_in(key, 1), (3,))

    for function, count in ((clean, 0), (twice, 2)):
        audit = Audit()
        audit.walk(function, KEY)
        assert len(audit.twice()) == count


def used_twice(phase: Phase, spec: Spec = SPEC, seeds: int = 1, goes_on: bool = False) -> list[str]:
    """Whwhen the phase begins and one of its updates use twice; nothing but keys is computed."""
    slots, states, scaling = {}, {}, replace(UNITS, parts=parts_seen(spec))
    if goes_on:
        state = jax.eval_shape(lambda key: phase.learner.init(key, spec), KEY)
        state = jax.tree.map(lambda x: jax.ShapeDtypeStruct((seeds, *x.shape), x.dtype), state)
        slots, states = {"agent": Slot(phase.learner, Learned(()), scaling)}, {"agent": Learned(state)}
    offline = jax.eval_shape(lambda: replay.empty(1, 40, spec.observation, spec.action, spec.dtype))
    online = jax.eval_shape(lambda: replay.empty(seeds, 20, spec.observation, spec.action, spec.dtype))
    keys, audit = steps.keys_of(range(seeds), steps.HANDOVER), Audit()
    handover = partial(steps.handing_over(phase, 0, spec, scaling, slots), validated={})
    learning = audit.walk(handover, keys, states, offline=offline, online=online)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), learning)
    update = steps.update_of(phase, scaling)
    audit.walk(update, one, offline, online, jnp.int32(0), keys[0], jnp.int32(1_000), jnp.int32(3))
    if isinstance(phase.learner, Agent):
        seen, act = jax.ShapeDtypeStruct((2, *spec.observation), spec.dtype), phase.learner.act
        audit.walk(lambda state, x, key: act(state, scaling.see(x), key, True), one.learner, seen, jax.random.key(7))
    return audit.twice()


SUBSETS = SAC(actor_hidden=(8,), critic_hidden=(8,), critics=3, subset=2)
CONSERVATIVE = CQL(SUBSETS, samples=2, penalised=2)
ALONE = [small(name) for name in AGENTS] + [SUBSETS, CONSERVATIVE]
CLIMBERS = [small(name) for name in ("SAC", "CalQL", "IQL", "SPOT", "TD3", "TD3BC")] + [SUBSETS, CONSERVATIVE]
AROUND = [
    *(OPT(base) for base in CLIMBERS),
    *(OnlinePretraining(base) for base in CLIMBERS),
    PEX(IQL(actor_hidden=(8,), critic_hidden=(8,), dropout=0.1)),
]
SAMPLERS = [Union(16), Blend(16), Subset(0.5, Balanced(16, 16, (8,))), Oversample(4, Mix(8, 8))]
BONUSES = [entry.bonus for entry in BONUSES.values()]
PAID = [*BONUSES, Both(RND(), Returns(VCSE()))]


@pytest.mark.parametrize("agent", [*ALONE, *AROUND], ids=brief)
def test_no_key_is_used_twice(agent: Any) -> None:
    rows = Halves(8) if isinstance(agent, OnlinePretraining) else Mix(8, 8)
    assert used_twice(Phase("online", agent, environment_steps=1, batch=rows)) == []


@pytest.mark.parametrize(
    ("batch", "bonus"), [(b, RND()) for b in SAMPLERS] + [(Mix(16, 16), p) for p in PAID], ids=brief
)
def test_nor_in_samplers_and_bonuses(batch: Any, bonus: Any) -> None:
    phase = Phase("online", SUBSETS, environment_steps=1, batch=batch, bonus=bonus)
    assert used_twice(phase, seeds=2, goes_on=True) == []


@pytest.mark.parametrize("agent", [a for a in ALONE if not isinstance(a, OPT | SPOT)], ids=brief)
@pytest.mark.parametrize("shared", [True, False])
def test_nor_where_networks_see(agent: Any, shared: bool) -> None:
    looks = assign(agent, ["encoder"], Encoder((4,), strides=(2,), shared=shared), "encoder")[0]
    assert used_twice(Phase("online", looks, gradient_steps=1, batch=Mix(16), image_shift=2), SPEC_SEEN) == []
