"""Activations, optimisers and networks of one's own, in every agent."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import segue
from segue.agents import build, describe
from segue.core import options
from segue.core.layers import Layer
from segue.core.nets import MLP
from segue.core.networks import ACTIVATIONS, Networks
from segue.core.optim import Trained, descend, renewed, scaled_moments, trained
from segue.core.scaling import Scaling
from segue.core.types import Agent, Learned, SegueError, Slot
from segue.engine.phase import Phase, from_slot, new_optimisers
from segue.engine.validate import validate
from segue.runs.policy import load, save_policy
from tests.contract.test_agents import EACH, SPEC, batch, begin, equal, learn, small
from tests.toys import CorridorTask, corridor_data

HERE = "tests.contract.test_networks"
FACTS = {"action": {"low": [-1.0] * 3, "high": [1.0] * 3}, "observation": {"keys": []}}


def own(key: Any, inputs: int, outputs: int) -> Any:
    return eqx.nn.MLP(inputs, outputs, 8, 1, activation=jax.nn.tanh, key=key)


def seven(key: Any, inputs: int, outputs: int) -> Any:
    return eqx.nn.Linear(inputs, 7, key=key)


def anew(key: Any, inputs: int, outputs: int) -> Any:
    return eqx.nn.Sequential([eqx.nn.Linear(inputs, outputs, key=key), eqx.nn.Lambda(lambda x: x)])


def learns_nothing(key: Any, inputs: int, outputs: int) -> Any:
    return eqx.nn.Lambda(jnp.sin)


def table(key: Any, inputs: int, outputs: int) -> Any:
    return eqx.nn.Lambda(jnp.arange(outputs))


def momentum(learning_rate: Any) -> Any:
    return optax.sgd(learning_rate, momentum=0.9)


def three(learning_rate: Any) -> Any:
    return 3


def parts(state: Any) -> list[Trained]:
    is_trained = lambda x: isinstance(x, Trained)  # noqa: E731
    return [x for x in jax.tree.leaves(state, is_leaf=is_trained) if is_trained(x)]


@pytest.mark.parametrize("name", EACH)
def test_every_network_of_an_agent_has_its_activation(name: str) -> None:
    agent = options.assign(small(name), ["networks"], Networks("gelu"), "networks")[0]
    state = jax.eval_shape(lambda key: begin(agent, key, SPEC), jax.random.key(0))
    is_network = lambda x: isinstance(x, MLP)  # noqa: E731
    found = jax.tree_util.tree_leaves_with_path(state, is_leaf=is_network)
    networks = {jax.tree_util.keystr(path): x.activation for path, x in found if is_network(x)}
    others = [path for path, activation in networks.items() if activation != "gelu"]
    assert all("density" in path for path in others)  # SPOT's is trained in a phase of its own, with its own options
    assert len(networks) > len(others)


@pytest.mark.parametrize("name", EACH)
def test_every_agent_learns_with_own_ones(name: str, tmp_path: Path) -> None:
    networks = Networks(optimiser="sgd", actor=own, critic=own)
    agent = options.assign(small(name), ["networks"], networks, "networks")[0]
    if "dropout" in options.reachable(agent):
        agent = options.assign(agent, ["dropout"], 0.0, "dropout")[0]
    assert build(describe(agent)) == agent
    state = fresh = begin(agent, jax.random.key(0), SPEC)
    for step in range(2):  # a delayed actor moves in one of two
        state, _ = learn(agent, state, batch(step), jax.random.key(step), step)
    assert jax.tree.structure(state) == jax.tree.structure(fresh)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(state))
    assert {part.recipe.name for part in parts(state)} == {networks.optimiser}
    moved = [not equal(a.params, b.params) for a, b in zip(parts(fresh), parts(state), strict=True)]
    assert all(moved) if isinstance(agent, Agent) else any(moved)  # where policies are cloned, critics stay
    for before, after in zip(parts(fresh), parts(state), strict=True):
        assert [x.shape for x in jax.tree.leaves(before)] == [x.shape for x in jax.tree.leaves(after)]

    seeds = jax.tree.map(lambda x: x[None], state)
    save_policy(tmp_path / "policy", Slot(agent, Learned(seeds), Scaling()), SPEC, (4,), FACTS)
    again = load(tmp_path)
    assert again.agent == agent
    assert equal(again.state, state)
    want = agent.act(state, batch().observation, jax.random.key(0), False)
    np.testing.assert_allclose(again.act(np.asarray(batch().observation)), want, atol=1e-6)


def test_activations_by_hand() -> None:
    x = np.linspace(-3.0, 3.0, 25)[:, None]
    positive, exponential, sigmoid = np.maximum(x, 0), np.expm1(np.minimum(x, 0)), 1 / (1 + np.exp(-x))
    softplus, scale, alpha = np.log1p(np.exp(x)), 1.0507009873554805, 1.6732632423543772
    want = {
        "elu": positive + exponential,
        "gelu": 0.5 * x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))),
        "leaky_relu": np.where(x > 0, x, 0.01 * x),
        "mish": x * np.tanh(softplus),
        "relu": positive,
        "selu": scale * (positive + alpha * exponential),
        "silu": x * sigmoid,
        "softplus": softplus,
        "tanh": np.tanh(x),
    }
    assert want.keys() == ACTIVATIONS.keys()
    same = Layer(jnp.ones((1, 1)), jnp.zeros(1))
    for name, values in want.items():
        np.testing.assert_allclose(MLP((same, same), activation=name)(jnp.asarray(x)), values, atol=2e-6)


def test_optimisers_by_hand() -> None:
    gradient = jnp.asarray([2.0, -4.0])
    moved = {name: descend(trained(jnp.ones(2), 0.1, name=name), 0.1, gradient) for name in ("sgd", "lion")}
    np.testing.assert_allclose(moved["sgd"].params, [0.8, 1.4], rtol=1e-6)
    np.testing.assert_allclose(moved["lion"].params, [0.9, 1.1], rtol=1e-6)  # a sign; what is no matrix does not decay
    pushed = trained(jnp.ones(2), 0.1, name=f"{HERE}:momentum")
    pushed = descend(descend(pushed, 0.1, gradient), 0.1, gradient)
    np.testing.assert_allclose(pushed.params, 1.0 - 0.1 * 2.9 * gradient, rtol=1e-6)

    other = renewed(pushed, trained(jnp.zeros(2), 0.1))
    assert other.recipe.name == "adam"
    assert equal(other.params, pushed.params)
    assert scaled_moments(moved["sgd"], 0.5) is not None
    with pytest.raises(SegueError, match="optimiser lion: its state fits no loss of another scale"):
        scaled_moments(moved["lion"], 0.5)
    with pytest.raises(SegueError, match="weight_decay: sgd takes none here"):
        begin(segue.RLPD(weight_decay=0.1, networks=Networks(optimiser="sgd")), jax.random.key(0), SPEC)


MISTAKES = (
    ({"activation": "rulu"}, "networks.activation: there is no 'rulu'; did you mean 'relu'?"),
    ({"optimiser": "adm"}, "networks.optimiser: there is no 'adm'; did you mean 'adam'?"),
    ({"actor": "mlp"}, "networks.actor: 'mlp' names no function; write module:name"),
    ({"critic": lambda key, inputs, outputs: None}, "<lambda>: cannot be imported again"),
    ({"optimiser": f"{HERE}:three"}, "should be a function of a learning rate that makes an optimiser, but it returns"),
    ({"critic": f"{HERE}:owm"}, "has no 'owm'; did you mean own?"),
    ({"critic": seven}, ":seven: its network maps (8,) to f32[7]; return (1,)"),
    ({"actor": anew}, ":anew: makes another network at each call"),
    ({"actor": learns_nothing}, "its network holds no floating-point arrays, so it could not learn"),
    ({"critic": table}, "it holds an array of whole numbers"),
    ({"critic": momentum}, "no network for 8 inputs and 1 outputs (TypeError: momentum() takes 1 positional argument"),
)


@pytest.mark.parametrize(("given", "said"), MISTAKES, ids=lambda x: x if isinstance(x, str) else "")
def test_mistakes_are_said_in_one_line(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SegueError, match=re.escape(said)) as error:
        segue.SAC(networks=Networks(**given)).init(jax.random.key(0), SPEC)
    assert "\n" not in str(error.value)


def test_options_of_layers_that_are_not_there_are_refused() -> None:
    agent = segue.TD3(networks=Networks(critic=own))
    options.check_effect(agent, "actor_hidden", "agent.actor_hidden")
    options.check_effect(agent, "networks.activation", "agent.activation")
    with pytest.raises(SegueError, match=r"agent.critic_hidden: has no effect here; it needs networks.critic=none"):
        options.check_effect(agent, "critic_hidden", "agent.critic_hidden")
    dropping = segue.IQL(dropout=0.1, networks=Networks(actor=own))
    update = lambda key: dropping.update(dropping.init(key, SPEC), batch(), key, jnp.int32(0))  # noqa: E731
    with pytest.raises(SegueError, match="dropout: is of Segue's own networks only"):
        jax.eval_shape(update, jax.random.key(0))


def test_networks_of_another_phase_must_be_what_the_options_say() -> None:
    task = CorridorTask(corridor_data(4))
    agent = lambda **changes: segue.SAC(actor_hidden=(4,), critic_hidden=(4,), networks=Networks(**changes))  # noqa: E731

    def phases(init_from: Any = None, **changes: Any) -> list[Phase]:
        return [
            Phase("offline", agent(), gradient_steps=5),
            Phase("online", agent(**changes), gradient_steps=5, init_from=init_from),
        ]

    validate(phases(), task, (0,), Scaling())
    validate(phases(new_optimisers(from_slot("agent")), optimiser="sgd"), task, (0,), Scaling())
    for changes in ({"optimiser": "sgd"}, {"activation": "tanh"}):
        with pytest.raises(
            SegueError, match=r"phase 'online': SAC goes on with 'actor', whose sizes, activation or opt"
        ):
            validate(phases(**changes), task, (0,), Scaling())
