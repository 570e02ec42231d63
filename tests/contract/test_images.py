"""Images and dictionaries of observations: rows of bytes and back, encoders, shifts, and every agent that sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segue.agents import Encoder, build, describe
from segue.bonuses import Nothing
from segue.core import indices, replay
from segue.core.encoders import EncoderNetwork, lent
from segue.core.look import look, shifted, unpack
from segue.core.observations import pack, parts_of, parts_seen, plain, unpacked, width
from segue.core.optim import Trained
from segue.core.options import assign
from segue.core.scaling import Scaling
from segue.core.types import Learned, Part, SegueError, Slot, Spec, Transition
from segue.engine.checks import check_phase
from segue.engine.phase import Phase
from segue.engine.steps import Update, handing_over
from segue.recipes import TaskFacts, find_recipe, resolve
from segue.samplers import Mix
from tests.contract.test_agents import begin, equal, small

PIXELS = Part("pixels", (2, 9, 9, 3), "uint8")
ARM = Part("arm", (4,), "float32")
PARTS = (PIXELS, ARM)
SPEC = Spec((width(PARTS),), 3, "uint8", PARTS)
UNITS = Scaling(parts=PARTS)
EYES = Encoder(channels=(4, 4), strides=(2, 1), latent=6)
ROWS = 16
SEE = ("CQL", "IQL", "AWAC", "TD3BC", "ReBRAC", "RLPD", "PEX")  # SAC and TD3 are inside the first and the fourth


def looks(name: str, encoder: Encoder = EYES) -> Any:
    return assign(small(name), ["encoder"], encoder, name)[0]


def rows(seed: int, count: int = ROWS) -> np.ndarray:
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (count, *PIXELS.shape), np.uint8)
    return pack(PARTS, {"pixels": image, "arm": rng.standard_normal((count, 4)), "left out": 0})


def batch(now: Any, following: Any) -> Transition:
    rng = np.random.default_rng(1)
    f = lambda *s: jnp.asarray(rng.standard_normal(s), jnp.float32)  # noqa: E731
    action = jnp.tanh(f(ROWS, 3))
    return Transition(now, action, f(ROWS), jnp.full(ROWS, 0.9), following, f(ROWS) - 1, jnp.zeros(ROWS), action)


def encoders(tree: Any) -> list[EncoderNetwork]:
    return [
        x
        for x in jax.tree.leaves(tree, is_leaf=lambda x: isinstance(x, EncoderNetwork))
        if isinstance(x, EncoderNetwork)
    ]


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
    parts, seen = (Part("image", (6, 6), "uint8"), ARM), {"image": image, "arm": jnp.ones((2, 4))}
    assert shifted(parts, seen, jax.random.key(0), 0) == seen
    corners = set()
    for n in range(60):
        moved = shifted(parts, seen, jax.random.key(n), 2)
        assert moved["arm"] is seen["arm"]
        for row, shown in enumerate(np.asarray(moved["image"])):
            at = [(i, j) for i in range(5) for j in range(5) if (padded[row, i : i + 6, j : j + 6] == shown).all()]
            assert len(at) == 1
            corners.add(at[0])
    assert len(corners) > 20


def test_convolutions_are_those_of_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU they are computed as a matrix product where the stride is above 1."""
    encoder, _ = EYES.create(jax.random.key(0), SPEC, True)
    x = jax.random.normal(jax.random.key(1), (3, 9, 9, 6))
    here = encoder.convolutions["pixels"][0](x)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    np.testing.assert_allclose(here, encoder.convolutions["pixels"][0](x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SEE)
def test_it_learns_to_see(name: str) -> None:
    agent = looks(name)
    update = jax.jit(Update(agent, Mix(ROWS), Nothing(), UNITS, image_shift=1).learn)
    now, following = (UNITS.see(rows(seed)) for seed in (2, 3))
    start = lent(begin(agent, jax.random.key(0), SPEC), name)
    state, metrics = start, {}
    for step in range(3):
        state, metrics = update(state, batch(now, following), jax.random.key(step), step)
    assert np.isfinite(metrics["critic_loss"])
    before, convolutions = (s.critic.params.encoder.convolutions for s in (start, state))
    assert not any(
        np.array_equal(a, b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(convolutions), strict=True)
    )
    networks = jax.tree.leaves(state, is_leaf=lambda x: isinstance(x, Trained | eqx.Module))
    for part in networks:  # what else is trained sees with the critics' convolutions, and its own last layers
        for encoder in encoders(part):
            assert encoder.borrows == (part is not state.critic and not _critics(part, state))
        if isinstance(part, Trained) and part is not state.critic:
            assert all(equal(encoder.convolutions, convolutions) for encoder in encoders(part.params))
    action = agent.act(state, now, jax.random.key(4), True)
    assert action.shape == (ROWS, 3)
    assert np.abs(action).max() <= 1
    assert agent.q(state, now, action).shape == (ROWS,)
    assert not np.array_equal(agent.q(state, now, action), agent.q(state, following, action))
    assert build(describe(agent)) == agent


def _critics(part: Any, state: Any) -> bool:
    return jax.tree.structure(part) == jax.tree.structure(state.critic.params)


class Drawn:
    """A learner that says what it was given."""

    def update(self, state: Any, batch: Transition, key: Any, step: Any) -> Any:
        return (batch.observation, batch.next_observation, jax.random.bits(key)), {}


def test_shifts_of_s_and_what_follows_are_apart_and_change_no_other_draw() -> None:
    seen: Any = UNITS.see(rows(2))
    learn = lambda pixels: Update(Drawn(), Mix(ROWS), Nothing(), UNITS, image_shift=pixels).learn  # type: ignore[arg-type]  # noqa: E731
    still, moved = (learn(n)((), batch(seen, seen), jax.random.key(5), jnp.int32(0))[0] for n in (0, 3))
    assert equal(still[:2], (seen, seen))
    assert not np.array_equal(moved[0]["pixels"], moved[1]["pixels"])
    assert still[2] == moved[2]


def test_at_a_door_too_networks_see_with_what_the_critics_have_learned() -> None:
    """Here a new actor stands beside critics that have learned, and a choice of two policies stays as it is."""
    agent = looks("TD3BC")
    old = jax.tree.map(lambda x: x[None], begin(agent, jax.random.key(1), SPEC))
    beside = lambda handover, state: state._replace(critic=handover.slots["agent"].state.critic)  # noqa: E731
    phase = Phase("online", agent, init_from=beside)
    slots = {"agent": Slot(agent, Learned(()), UNITS)}
    empty = replay.empty(1, 4, SPEC.observation, SPEC.action, SPEC.dtype)
    handover = jax.jit(handing_over(phase, 0, SPEC, UNITS, slots))
    state = handover(jax.random.split(jax.random.key(0), 1), {"agent": Learned(old)}, {}, empty, empty).learner
    assert equal(state.actor.params.encoder.convolutions, old.critic.params.encoder.convolutions)
    assert not equal(state.actor.params.layers, old.actor.params.layers)
    two = (begin(agent, jax.random.key(n), SPEC) for n in (1, 2))
    assert equal(lent(both := tuple(two)), both)


def test_an_actor_sends_no_gradient_into_borrowed_eyes() -> None:
    seen: Any = UNITS.see(rows(2))
    for shared in (True, False):
        state = begin(looks("TD3BC", replace(EYES, shared=shared)), jax.random.key(0), SPEC)
        assert equal(lent(state, "TD3BC"), state) != shared
        slope = jax.grad(lambda actor: jnp.sum(jnp.square(actor(seen))))(state.actor.params)
        moved = any(np.abs(x).max() > 0 for x in jax.tree.leaves(slope.encoder.convolutions))
        assert moved != shared
        assert all(np.abs(x.weight).max() > 0 for x in slope.encoder.trunks.values())


def test_one_image_needs_no_names_and_windows_hold_images() -> None:
    spec = Spec((9, 9), 3, "uint8")
    scaling = Scaling(parts=parts_seen(spec))
    image = np.random.default_rng(0).integers(0, 256, (ROWS, 9, 9), np.uint8)
    seen: Any = scaling.see(jnp.asarray(image))
    assert list(seen) == ["observation"]
    np.testing.assert_array_equal(seen["observation"], image[..., None])
    agent = looks("IQL")
    assert agent.act(begin(agent, jax.random.key(0), spec), seen, jax.random.key(0), False).shape == (ROWS, 3)
    later = jax.tree.map(jnp.flip, seen)
    there = jnp.stack([jnp.ones(ROWS, bool), jnp.arange(ROWS) < 5])
    folded = indices.fold([batch(seen, seen), batch(later, later)], there)
    assert equal(folded.observation, seen)
    want = np.where(np.arange(ROWS)[:, None, None, None] < 5, later["observation"], seen["observation"])
    np.testing.assert_array_equal(folded.next_observation["observation"], want)


def test_frames_stand_side_by_side_as_channels() -> None:
    packed = rows(3)
    frames = np.moveaxis(unpacked(PARTS, packed)["pixels"], 1, 0)
    np.testing.assert_array_equal(look(PARTS, jnp.asarray(packed))["pixels"], np.concatenate(frames, axis=-1))


def test_what_cannot_see() -> None:
    with pytest.raises(SegueError, match="takes flat observations; the task's have the parts pixels, arm"):
        begin(looks("SPOT"), jax.random.key(0), SPEC)
    state = begin(looks("TD3BC"), jax.random.key(0), SPEC)
    for odd, count in ((state.actor, 0), ((*state, state.critic), 2)):
        with pytest.raises(SegueError, match=f"Mine cannot see images: .*, and {count} do"):
            lent(odd, "Mine")
    with pytest.raises(SegueError, match="a stride for each"):
        looks("SAC", replace(EYES, strides=(2,))).init(jax.random.key(0), SPEC)
    with pytest.raises(SegueError, match="too small for 4 convolutions"):
        small("SAC").init(jax.random.key(0), SPEC)


def test_options_of_images() -> None:
    """They are there where a task has images, and an error elsewhere."""
    recipe, seen, flat = find_recipe("pex"), TaskFacts(spec=SPEC), TaskFacts(spec=Spec((4,), 3))
    shifts = [p.image_shift for p in resolve(recipe, seen, {"online.image_shift": 1}).phases]
    assert shifts == [4, 0, 1]
    channels = {"agent.encoder.channels": (4,), "agent.encoder.strides": (2,)}
    assert "offline.learner.networks.encoder.channels" in resolve(recipe, seen, channels).sources
    assert all(p.image_shift == 0 for p in resolve(recipe, flat, {}).phases)
    for settings_ in ({"online.image_shift": 1}, channels):
        with pytest.raises(SegueError, match=f"{min(settings_)}: has no effect here; it needs a task with images"):
            resolve(recipe, flat, settings_)
    phase = Phase("online", small("SAC"), gradient_steps=1, image_shift=2)
    with pytest.raises(SegueError, match="phase 'online': image_shift=2 and the task has no images; leave it out"):
        check_phase(phase, {}, flat.spec, 10, 100, 0, 0)
    with pytest.raises(SegueError, match="image_shift=-1 is out of range"):
        check_phase(replace(phase, image_shift=-1), {}, SPEC, 10, 100, 0, 0)
    with pytest.raises(SegueError, match="no 'parts'"):
        resolve(recipe, seen, {"scaling.parts": ()})
