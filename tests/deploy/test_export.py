"""Exported policies act as Segue's do, without JAX and without Segue."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import segue
from segue.agents import SAC, TD3
from segue.agents.one_of import OneOf
from segue.core.networks import ACTIVATIONS
from segue.core.scaling import Scaling
from segue.core.types import Learned, SegueError, Slot, Spec
from segue.deploy import compare, numeric, trace
from segue.deploy.compare import CLOSE, Greedy
from segue.deploy.export import Form
from segue.deploy.trace import Input, traced
from segue.runs.policy import Policy, save_policy
from tests.contract.test_agents import small
from tests.contract.test_images import PARTS, looks
from tests.contract.test_images import SPEC as PICTURES

SPEC, SEEDS = Spec((5,), 3), (4, 7)
FACTS = {
    "task": "reach",
    "observation": {"keys": ["joints", "goal"]},
    "action": {"low": [-1.0, -2.0, 0.0], "high": [1.0, 2.0, 0.5]},
}
SCALING = Scaling(observation_mean=(0.1, -2.0, 0.0, 1.0, 5.0), observation_std=(1.5, 0.3, 1.0, 2.0, 0.7))
# A robot has neither Segue nor JAX: nothing of theirs can be imported here.
ROBOT = """
import sys
sys.modules.update(dict.fromkeys(("jax", "segue"), None))
import numpy as np
sys.path.insert(0, sys.argv[1])
from policy import load
act = load(sys.argv[1] + "/policy.npz")
given = np.load(sys.argv[2])
one = act(given[0])
assert one.shape == act(given).shape[1:] and one.dtype == np.float32
assert np.array_equal(one, act({"joints": given[0, :4], "goal": given[0, 4]}))
for wrong in (given[:, 1:], given * np.nan):
    try:
        act(wrong)
    except ValueError as error:
        assert "observation: must be float32 [5]" in str(error)
    else:
        raise AssertionError("took what is wrong")
np.save(sys.argv[3], act(given))
"""


def agent_of(name: str) -> Any:
    """A narrow agent by its name; OneOf is a mixture of two others."""
    return OneOf(small("TD3"), small("SAC"), ("a", "b")) if name == "OneOf" else small(name)


def state_of(agent: Any, spec: Spec, seed: int) -> Any:
    """A state with random weights, large enough for actions that are not all near 0; nothing is compiled."""
    draw = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: agent.init(jax.random.key(0), spec))
    return jax.tree.map(lambda x: draw.normal(0.0, 0.4, x.shape).astype(x.dtype), shapes)


def bundle(folder: Path, agent: Any, spec: Spec, scaling: Scaling, **facts: Any) -> Path:
    """A policy as a run saves it."""
    states = [state_of(agent, spec.chunks(facts.get("chunk", 1)), s) for s in SEEDS]
    slot = Slot(agent, Learned(jax.tree.map(lambda *x: np.stack(x), *states)), scaling, chunk=facts.get("chunk", 1))
    return save_policy(folder / "policy", slot, spec, SEEDS, FACTS | facts)


def random_observations() -> np.ndarray:
    draw = np.random.default_rng(1)
    return draw.normal(SCALING.observation_mean, SCALING.observation_std, (1_000, 5)).astype(np.float32)


@pytest.mark.parametrize("name", ["SAC", "TD3", "PEX"])
def test_numpy_alone_acts_as_the_policy_does(name: str, tmp_path: Path) -> None:
    folder = bundle(tmp_path, agent_of(name), SPEC, SCALING)
    policy = segue.load(folder, 7)
    given = random_observations()
    np.save(tmp_path / "given.npy", given)
    wanted = policy.act(given)
    assert np.ptp(wanted, axis=0).min() > 0.01

    done = segue.export(folder, "numpy", tmp_path / "robot", seed=7)
    words = (tmp_path / "robot", tmp_path / "given.npy", tmp_path / "acted.npy")
    subprocess.run([sys.executable, "-I", "-c", ROBOT, *map(str, words)], check=True)
    assert compare.distance(policy, np.load(words[2]), wanted).max() <= CLOSE
    assert (done.seed, done.left_out) == (7, 0)


@pytest.mark.parametrize("name", ["SAC", "TD3", "PEX"])
def test_stablehlo_acts_as_the_policy_does(name: str, tmp_path: Path) -> None:
    pytest.importorskip("flatbuffers")
    folder, given = bundle(tmp_path, agent_of(name), SPEC, SCALING), random_observations()
    policy = segue.load(folder, 7)
    segue.export(folder, "stablehlo", tmp_path / "xla", seed=7)
    again = jax.export.deserialize(bytearray((tmp_path / "xla" / "policy.stablehlo").read_bytes()))
    assert compare.distance(policy, np.asarray(again.call(given)), policy.act(given)).max() <= CLOSE
    assert "stablehlo" in (tmp_path / "xla" / "policy.mlir").read_text()
    about = json.loads((tmp_path / "xla" / "policy.stablehlo.json").read_text())["about"]
    assert (about["task"], about["seed"], about["action"]) == ("reach", 7, FACTS["action"])
    assert about["policy"] == json.loads((folder / "policy.json").read_text())["seal"]


@pytest.mark.parametrize("name", ["SAC", "TD3", "PEX"])
def test_onnx_acts_as_the_policy_does(name: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    folder = bundle(tmp_path, agent_of(name), SPEC, SCALING)
    done = segue.export(folder, "onnx")
    assert (done.file, done.seed) == (folder / "export" / "policy.onnx", 4)
    session = runtime.InferenceSession(done.file)
    assert [x.name for x in session.get_inputs()] == ["observation"]
    assert session.get_inputs()[0].shape == ["batch", 5]
    given = random_observations()
    (found,) = session.run(["action"], {"observation": given})
    policy = segue.load(folder)
    assert compare.distance(policy, found, policy.act(given)).max() <= CLOSE
    said = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    assert (said["task"], said["seed"]) == ("reach", 4)
    assert said["scaling"]["observation_mean"] == list(SCALING.observation_mean)


def acted(program: trace.Program, *given: np.ndarray) -> np.ndarray:
    values = program.constants | dict(zip((x.name for x in program.inputs), given))
    with np.errstate(all="ignore"):
        numeric.run(program.steps, values, len(given[0]))
    return np.asarray(values[program.output])


@pytest.mark.parametrize("name", ["IQL", "AWAC", "ReBRAC", "RLPD", "SPOT", "OPT", "OneOf"])
def test_every_agent_is_covered(name: str) -> None:
    agent = agent_of(name)
    policy = Policy(agent, state_of(agent, SPEC, 0), SPEC, 0, FACTS | {"scaling": {}})
    given = random_observations()[:4]
    found, wanted = acted(Greedy(policy).program, given), jax.jit(Greedy(policy).act)(given)
    assert compare.distance(policy, found, np.asarray(wanted)).max() <= CLOSE


def test_images_and_chunks(tmp_path: Path) -> None:
    folder = bundle(
        tmp_path, looks("TD3BC"), PICTURES, Scaling(parts=PARTS), chunk=2, observation={"keys": ["pixels", "arm"]}
    )
    done = segue.export(folder, "numpy", tmp_path / "out")
    act, draw = numeric.load(done.file), np.random.default_rng(0)
    seen = {"pixels": draw.integers(0, 256, (2, 9, 9, 3), np.uint8), "arm": draw.normal(size=4)}
    assert act(seen).shape == (2, 3)
    np.testing.assert_allclose(act(seen), segue.load(folder).plan(seen), rtol=0, atol=CLOSE)


def test_what_own_networks_may_be_made_of() -> None:
    """Activations, products of any axes, reductions, random draws of a state, convolutions."""
    weight = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(2, 2, 1, 2)).astype(np.float32)

    def own(x: Any) -> Any:
        active = [f(x) for f in ACTIVATIONS.values()]
        product = jnp.einsum("bi,jik->bkj", x, weight).reshape(x.shape[0], -1)
        pieces = [x.max(1, keepdims=True), x.sum(1, keepdims=True), jax.nn.sigmoid(x) ** 3, jnp.sign(x) / 3.0]
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(3)))(jnp.arange(3, dtype=jnp.uint32))
        noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys).reshape(1, 6)
        image = jnp.broadcast_to(x[:, :, None, None], (x.shape[0], 3, 5, 1))
        numbers = ("NHWC", "HWIO", "NHWC")
        seen = jax.lax.conv_general_dilated(image, kernel, (1, 2), "VALID", dimension_numbers=numbers)
        rows = jnp.broadcast_to(noise, (x.shape[0], 6))
        return jnp.concatenate([*active, product, *pieces, seen.reshape(x.shape[0], -1), rows], axis=1)

    given = np.random.default_rng(2).normal(size=(5, 3)).astype(np.float32)
    found, wanted = acted(traced(own, [Input("observation", (3,), "float32")]), given), jax.jit(own)(given)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=2e-6)


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundle(tmp_path, TD3(actor_hidden=(8,), critic_hidden=(8,)), SPEC, Scaling())
    with pytest.raises(SegueError, match="there are onnx, numpy, stablehlo"):
        segue.export(folder, "torch")  # type: ignore[arg-type]
    with pytest.raises(SegueError, match=r"no seed 5; the run has \[4, 7\]"):
        segue.export(folder, "numpy", seed=5)
    with pytest.raises(SegueError, match=r"it uses JAX's 'sort', .* --to stablehlo"):
        traced(lambda x: jnp.sort(x, axis=1), [Input("observation", (3,), "float32")])
    (tmp_path / "policy.py").write_text("of somebody's own")
    with pytest.raises(SegueError, match="is not Segue's, and would be replaced"):
        segue.export(folder, "numpy", tmp_path)
    monkeypatch.setitem(trace.EACH, "tanh", "sin")
    with pytest.raises(SegueError, match=r"was refused: its actions differ .* by up to .*; 1e-06 is allowed"):
        segue.export(folder, "numpy")
    assert not (folder / "export").exists()


def test_only_ties_are_left_out(tmp_path: Path) -> None:
    """A mixture whose two values are equal but for rounding: either action is its own.  A wrong file is refused."""
    policy = segue.load(bundle(tmp_path, SAC(actor_hidden=(8,), critic_hidden=(8,)), SPEC, Scaling()))
    weight = np.random.default_rng(0).normal(size=(5, 64)).astype(np.float32)

    class Tied(Greedy):
        def act(self, x: Any) -> Any:
            total = (x @ weight).sum(1, keepdims=True) - x @ weight.sum(1, keepdims=True)
            return jnp.where(total > 0, 1.0, -1.0) * jnp.ones((1, 3))

    tied, actions = Tied(policy), policy.act
    given = compare.observations(policy, tied.inputs)
    moved = compare.own_rounding(policy, tied.program, given)
    assert (moved >= 1.0).mean() > 0.9
    wrong: Callable[[list[np.ndarray]], np.ndarray] = lambda x: actions(x[0]) + 1e-3  # noqa: E731
    with pytest.raises(SegueError, match="in 1000 of 1000"):
        compare.compared(Greedy(policy), wrong, "this")


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    pytest.importorskip("flatbuffers")
    folder = bundle(tmp_path, agent_of("TD3"), SPEC, SCALING)
    forms: tuple[Form, ...] = ("onnx", "numpy", "stablehlo")
    for form in forms:
        segue.export(folder, form, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    observation = random_observations()[0]
    page = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
    snippets = re.findall(r"^```py\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(snippets) == len(forms)
    for snippet in snippets:
        here = {"observation": observation}
        exec(snippet, here)
        assert abs(here["action"] - segue.load(folder).act(observation)).max() <= 2 * CLOSE
    del sys.modules["policy"]
