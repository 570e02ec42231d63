"""Images and dictionaries of observations: rows of bytes and back, sight, and every agent that can see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segue.agents import Decay, Encoder, OneOf, Seeing, build, describe, seeing
from segue.core.encoders import Sight, shifted
from segue.core.observations import pack, parts_of, plain, unpack, unpacked, width
from segue.core.optim import Trained
from segue.core.types import Part, SegueError, Spec, Transition
from tests.contract.test_agents import equal, small

PIXELS = Part("pixels", (2, 9, 9, 3), "uint8")
ARM = Part("arm", (4,), "float32")
PARTS = (PIXELS, ARM)
SPEC = Spec((width(PARTS),), 3, "uint8", PARTS)
EYES = Encoder(channels=(4, 4), strides=(2, 1), latent=6)
ROWS = 16
SEE = ("CQL", "IQL", "AWAC", "TD3BC", "ReBRAC", "RLPD", "PEX")  # SAC and TD3 are inside the first and the fourth


def looks(name: str, **changes: Any) -> Any:
    return Seeing(small(name), **{"encoder": EYES, "shift": 1, "parts": PARTS, **changes})


def rows(seed: int, count: int = ROWS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, *PIXELS.shape), np.uint8)
    return pack(PARTS, {"pixels": image, "arm": rng.standard_normal((count, 4)), "left out": 0})


def batch(now: Any, following: Any) -> Transition:
    rng = np.random.default_rng(1)
    f = lambda *s: jnp.asarray(rng.standard_normal(s), jnp.float32)  # noqa: E731
    action = jnp.tanh(f(ROWS, 3))
    return Transition(now, action, f(ROWS), jnp.full(ROWS, 0.9), following, f(ROWS) - 1, jnp.zeros(ROWS), action)


@settings(deadline=None, max_examples=25)
@given(arrays(np.uint8, (3, 2, 9, 9, 3)), arrays(np.float32, (3, 4), elements=st.floats(width=32)))
def test_rows_come_back_bit_for_bit(image: np.ndarray, arm: np.ndarray) -> None:
    """NaN and infinities included."""
    packed = pack(PARTS, {"pixels": image, "arm": arm})
    assert packed.shape == (3, width(PARTS))
    for found in (unpacked(PARTS, packed), jax.device_get(unpack(PARTS, jnp.asarray(packed)))):
        np.testing.assert_array_equal(found["pixels"], image)
        np.testing.assert_array_equal(found["arm"].view(np.uint32), arm.view(np.uint32))
    assert parts_of(plain(PARTS), "here") == PARTS


@pytest.mark.parametrize(
    ("observation", "message"),
    [
        ({"arm": np.zeros(4)}, "no part 'pixels'"),
        ({"pixels": np.zeros(PIXELS.shape, np.float32), "arm": np.zeros(4)}, "must be uint8"),
        ({"pixels": np.zeros(PIXELS.shape, np.uint8), "arm": np.zeros(5)}, "'arm' .* must be"),
        ({"pixels": np.zeros((2, *PIXELS.shape), np.uint8), "arm": np.zeros((3, 4))}, r"lengths \(pixels \(2,\), arm"),
    ],
)
def test_a_part_that_does_not_fit(observation: Any, message: str) -> None:
    with pytest.raises(SegueError, match=message):
        pack(PARTS, observation)


@pytest.mark.parametrize(
    "described", [[["a", [2], "int8"]], [["a", [0], "uint8"]], [["a"]], 7, [["a", [1], "uint8"]] * 2]
)
def test_parts_that_are_none(described: Any) -> None:
    with pytest.raises(SegueError, match="'parts'"):
        parts_of(described, "dataset.json")


def test_a_shift_moves_images_by_whole_pixels() -> None:
    image = jnp.arange(2 * 6 * 6, dtype=jnp.uint8).reshape(2, 6, 6, 1)
    padded = np.pad(np.asarray(image), ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    seen = set()
    for n in range(60):
        moved = np.asarray(shifted(jax.random.key(n), image, 2))
        for row in range(2):
            at = [(i, j) for i in range(5) for j in range(5) if (padded[row, i : i + 6, j : j + 6] == moved[row]).all()]
            assert len(at) == 1
            seen.add(at[0])
    assert len(seen) > 20


def test_convolutions_are_those_of_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU they are computed as a matrix product where the stride is above 1."""
    sight, _ = EYES.create(jax.random.key(0), SPEC, True)
    x = jax.random.normal(jax.random.key(1), (3, 9, 9, 6))
    here = sight.eyes["pixels"][0](x)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(here, sight.eyes["pixels"][0](x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SEE)
def test_it_learns_to_see(name: str) -> None:
    agent = looks(name)
    update = jax.jit(agent.update)
    now, following = rows(2), rows(3)
    start = agent.init(jax.random.key(0), SPEC)
    state, metrics = start, {}
    for step in range(3):
        state, metrics = update(state, batch(now, following), jax.random.key(step), step)
    assert np.isfinite(metrics["critic_loss"])
    before, eyes = (s.critic.params.sight.eyes for s in (start, state))
    assert not any(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(eyes), strict=True))
    for part in state:  # what else is trained sees with the critics' eyes, and its own last layers
        found = jax.tree.leaves(part, is_leaf=lambda x: isinstance(x, Sight))
        for sight in (x for x in found if isinstance(x, Sight)):
            assert sight.borrows == (part is not state.critic and not _critics(part, state))
        if isinstance(part, Trained) and part is not state.critic and hasattr(part.params, "network"):
            assert equal(part.params.network.sight.eyes, eyes)
    action = agent.act(state, now, jax.random.key(4), True)
    assert action.shape == (ROWS, 3)
    assert np.abs(action).max() <= 1
    assert agent.q(state, now, action).shape == (ROWS,)
    assert not np.array_equal(agent.q(state, now, action), agent.q(state, following, action))
    assert build(describe(agent)) == agent


def _critics(part: Any, state: Any) -> bool:
    return jax.tree.structure(part) == jax.tree.structure(state.critic.params)


def test_an_actor_sends_no_gradient_into_borrowed_eyes() -> None:
    agent = looks("TD3BC", shift=0)
    state = agent.init(jax.random.key(0), replace(SPEC, encoder=None))
    seen = agent.look(rows(2))
    for shared in (True, False):
        agent = looks("TD3BC", shift=0, encoder=replace(EYES, shared=shared))
        state = agent.init(jax.random.key(0), SPEC)
        slope = jax.grad(lambda actor, seen=seen: jnp.sum(jnp.square(actor(seen))))(state.actor.params)
        moved = any(np.abs(x).max() > 0 for x in jax.tree.leaves(slope.sight.eyes))
        assert moved != shared
        assert all(np.abs(x.weight).max() > 0 for x in slope.sight.trunks.values())


def test_one_image_needs_no_names() -> None:
    spec = Spec((9, 9, 3), 3, "uint8")
    agent = seeing(small("IQL"), spec)
    assert agent.parts == ()
    agent = replace(agent, encoder=EYES)
    image = np.random.default_rng(0).integers(0, 256, (ROWS, 9, 9, 3), np.uint8)
    state, _ = jax.jit(agent.update)(agent.init(jax.random.key(0), spec), batch(image, image), jax.random.key(1), 0)
    assert agent.act(state, image, jax.random.key(0), False).shape == (ROWS, 3)


def test_who_is_made_to_see() -> None:
    flat, inner = Spec((4,), 3), small("CQL")
    assert seeing(inner, flat) is inner
    assert seeing(Decay(inner, ("conservative_weight",)), SPEC).agent == Seeing(inner, parts=PARTS)
    both = seeing(OneOf(small("SAC"), small("IQL"), ("a", "b")), SPEC)
    assert isinstance(both.first, Seeing)
    assert isinstance(both.second, Seeing)
    with pytest.raises(SegueError, match="takes flat observations; the task's have the parts pixels, arm"):
        small("SAC").init(jax.random.key(0), SPEC)
    for name in ("SPOT", "OPT"):
        with pytest.raises(SegueError, match=r"flat observations|cannot see"):
            looks(name).init(jax.random.key(0), SPEC)
    with pytest.raises(SegueError, match="a stride for each"):
        looks("SAC", encoder=replace(EYES, strides=(2,))).init(jax.random.key(0), SPEC)
    with pytest.raises(SegueError, match="too small for 4 convolutions"):
        Seeing(small("SAC"), parts=PARTS).init(jax.random.key(0), SPEC)
