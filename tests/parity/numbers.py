"""Reading the fixtures: names to trees of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segue.core.layers import Layer
from segue.core.nets import MLP, Critics
from segue.core.types import Transition

Numbers = dict[str, Any]
FIXTURES = Path(__file__).parent / "fixtures"


def load(name: str) -> Numbers:
    """All arrays of a fixture."""
    return dict(np.load(FIXTURES / f"{name}.npz", allow_pickle=False))


def under(tree: Mapping[str, Any], prefix: str) -> Numbers:
    """Entries below a prefix, without it."""
    return {k.removeprefix(prefix): v for k, v in tree.items() if k.startswith(prefix)}


def close(got: Any, want: Any, what: str) -> None:
    """Equal to 1e-9, absolute or relative."""
    np.testing.assert_allclose(np.asarray(got), want, rtol=1e-9, atol=1e-9, err_msg=what)


def same(got: Any, want: Any, what: str) -> None:
    """Trees equal leaf by leaf."""
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        close(a, b, what)


def mlp(tree: Mapping[str, Any], name: str) -> MLP:
    """The network `name`, with layer normalisation where the fixture has it."""
    f = lambda key: None if f"{name}.{key}" not in tree else jnp.asarray(tree[f"{name}.{key}"])  # noqa: E731
    count = sum(k.startswith(f"{name}.W") for k in tree)
    layers = [(f(f"W{i}"), f(f"b{i}"), f(f"ln{i}_scale"), f(f"ln{i}_bias")) for i in range(count)]
    return MLP(tuple(Layer(*layer) for layer in layers))  # type: ignore[arg-type]


def twins(tree: Mapping[str, Any], *names: str) -> Critics:
    """Networks of the fixture as one ensemble."""
    return Critics(jax.tree.map(lambda *x: jnp.stack(x), *(mlp(tree, n) for n in names)))


def gradients(optimiser: Any) -> Any:
    """What Adam was given in its first step: its first moment is a tenth of it."""
    return jax.tree.map(lambda x: x / 0.1, optimiser[0].mu)


def batch(tree: Mapping[str, Any], t: int, discount: float) -> Transition:
    """The batch of update `t`."""
    x = {k: jnp.asarray(v) for k, v in under(tree, f"in.batch{t}.").items()}
    alive = x["masks"] if "masks" in x else 1.0 - x["dones"]
    first = lambda *names: next(x[n] for n in names if n in x)  # noqa: E731
    return Transition(
        first("observations", "states"),
        x["actions"],
        x["rewards"],
        discount * alive,
        first("next_observations", "next_states"),
        x.get("mc_returns", jnp.zeros_like(x["rewards"])),
        jnp.zeros_like(x["rewards"]),
        x.get("next_actions", jnp.full_like(x["actions"], jnp.nan)),
    )


def chunks(tree: Mapping[str, Any], t: int, chunked: bool) -> Transition:
    """Q-chunking's batch of update `t` as the engine makes it: rewards summed, the actions of a chunk in a row."""
    x = {k: jnp.asarray(v) for k, v in under(tree, f"in.batch{t}.").items()}
    action = x["actions"].reshape(len(x["actions"]), -1) if chunked else x["actions"][:, 0]
    nothing = jnp.zeros_like(x["rewards"][:, -1])
    return Transition(
        x["observations"],
        action,
        x["rewards"][:, -1],
        float(tree["hp.discount"]) ** int(tree["hp.horizon"]) * x["masks"][:, -1],
        x["next_observations"][:, -1],
        nothing,
        nothing,
        jnp.full_like(action, jnp.nan),
        x["valid"] if chunked else None,
        x["valid"][:, -1],
    )
