"""What convolutions cost: the two forms of a convolution on a CPU, and updates per second of an agent that sees.

    python benchmarks/encoder.py

Milliseconds are medians on whatever this machine is doing; the forms take turns in one process, so that their ratio
counts.  The random shift and all networks are included in an update (batch 128, IQL on
PointMaze's presets, one seed).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from segue.core.encoders import Encoder, EncoderNetwork
from segue.core.observations import width
from segue.core.replay import Rows
from segue.core.scaling import Scaling
from segue.core.types import Part, Spec
from segue.engine.steps import update_of
from segue.recipes import TaskFacts, find_recipe, resolve

CASES = {  # name: (image, channels, strides, batch)
    "PointMaze's preset": (32, (16, 32, 32), (2, 2, 2), 128),
    "RLPD's sizes": (64, (32, 64, 128, 256), (2, 2, 2, 2), 64),
    "DrQ's sizes": (64, (32, 32, 32, 32), (2, 1, 1, 1), 64),
}


def median(functions: dict[str, Callable[[], Any]], times: int = 7) -> dict[str, float]:
    """Median milliseconds of each function, which take turns."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        jax.block_until_ready(function())
    for _ in range(times):
        for name, function in functions.items():
            start = time.perf_counter()
            jax.block_until_ready(function())
            taken[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in taken.items()}


def convolutions(size: int, channels: tuple[int, ...], strides: tuple[int, ...], batch: int) -> dict[str, float]:
    """Milliseconds of one gradient of a encoder's weights, with and without the matrix form."""
    spec = Spec((size, size, 3), 2, "uint8")
    encoder, _ = Encoder(channels=channels, strides=strides).create(jax.random.key(0), spec, True)
    seen = {"observation": jax.random.randint(jax.random.key(1), (batch, *spec.observation), 0, 256).astype(jnp.uint8)}

    def loss(encoder: EncoderNetwork) -> jax.Array:
        return jnp.sum(jnp.square(encoder(seen)))

    here, real = {}, jax.default_backend
    for name, backend in (("as Segue computes it", real()), ("jax.lax's convolution", "another")):
        jax.default_backend = lambda backend=backend: backend  # what the form is chosen by, while it is traced
        here[name] = jax.jit(jax.grad(loss)).lower(encoder).compile()
    jax.default_backend = real
    return median({name: partial(program, encoder) for name, program in here.items()})


def updates(size: int) -> float:
    """Milliseconds of one update of IQL that sees an image and two numbers."""
    parts = (Part("pixels", (size, size, 3), "uint8"), Part("velocity", (2,), "float32"))
    spec = Spec((width(parts),), 2, "uint8", parts)
    phase = resolve(find_recipe("iql"), TaskFacts(("pointmaze-pixels",), spec=spec), {}).phases[0]
    scaling = Scaling(parts=parts)
    rows = jax.random.randint(jax.random.key(0), (128, width(parts)), 0, 120).astype(jnp.uint8)
    row = jnp.zeros(128)
    batch = Rows(rows, jnp.zeros((128, 2)), row, row, rows, row, row, jnp.zeros((128, 2)))
    state = phase.learner.init(jax.random.key(0), spec)
    one = update_of(phase, scaling)
    update = jax.jit(lambda state: one.learn(state, batch.transition(scaling), jax.random.key(1), 0)[0])
    return median({"update": partial(update, state)})["update"]


def main() -> None:
    """Print a line for each case."""
    for name, case in CASES.items():
        found = convolutions(*case)
        ours, theirs = found.values()
        print(
            f"{name}: gradient of a batch of {case[3]} images {case[0]} x {case[0]}: {ours:.1f} ms, "
            f"by jax.lax's convolution {theirs:.1f} ms ({theirs / ours:.1f} times)"
        )
    print(f"an update of IQL on PointMaze from above: {updates(32):.1f} ms")


if __name__ == "__main__":
    main()
