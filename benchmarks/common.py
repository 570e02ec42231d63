"""What the benchmarks share: updates as the engine dispatches them, clocks, and the machine's matrix-product rate."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segue.core import replay
from segue.core.log import Data
from segue.core.replay import Replay
from segue.core.scaling import Scaling
from segue.core.types import Spec
from segue.engine import running, steps
from segue.engine.phase import Phase
from segue.engine.state import new_state
from segue.engine.training import Training
from synthetic import logged

Run = Callable[[int], Any]


def matrix_rate(size: int = 2048, repeats: int = 11) -> float:
    """Median GFLOP/s of a float32 matrix product."""
    a = jnp.ones((size, size))
    product = jax.jit(lambda x: x @ x)
    product(a).block_until_ready()
    return statistics.median(2e-9 * size**3 / seconds(lambda: product(a)) for _ in range(repeats))


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of a computation, to its last result."""
    began = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - began


def dataset(observation: int, action: int, scaling: Scaling, rows: int, episode: int) -> Replay:
    """A synthetic dataset on the device."""
    columns: dict[str, Any] = {**logged(observation, action, rows, episode)}
    return replay.from_data(Data(**columns), scaling)


def updates(phase: Phase, scaling: Scaling, spec: Spec, offline: Replay, seeds: int) -> tuple[Run, float]:
    """A function that dispatches so many updates of all seeds, and GFLOP of one update's matrix products."""
    update, carry, done = steps.update_of(phase, scaling), new_state(range(seeds), spec, 1), 0
    given = [g.place(offline) for g in carry.experience.groups.members]
    running.hand_over(carry, phase, 0, spec, scaling, given)
    slot = carry.slots[phase.slot]
    training = Training(phase, slot, carry.seeds, spec, given, carry.experience, {})
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), slot.learned)
    key, number = steps.keys_of((0,), steps.UPDATE)[0], jnp.int32(0)
    gflop = products(update, one, offline, carry.experience.given(0), number, key, number, number)

    def run(count: int) -> Any:
        nonlocal done
        training.advance(carry.experience, done, done, count, 0)
        done += count
        return training.parts

    return run, gflop


def measure(run: Run, seeds: int, at_least: float, count: int | None = None) -> Callable[[], float]:
    """A function that measures seconds per update and seed once, over at least so many seconds.

    `count` updates go into a dispatch; without it, as many as the engine puts there while it only learns.
    """
    once = seconds(lambda: run(1))
    if count is None:
        pulse = min(running.PULSE, at_least)
        # The first time holds the cost of a dispatch, which is many updates of a small network.
        several = max(1, round(0.1 * pulse / once))
        once = seconds(lambda: run(several)) / several
        count = max(-(-running.LEAST // seeds), round(pulse / once))
    dispatches = max(1, round(at_least / (count * once)))

    def clock() -> float:
        return sum(seconds(lambda: run(count)) for _ in range(dispatches)) / (dispatches * count * seeds)

    return clock


def finite(state: Any) -> bool:
    """Whether every number is finite: updates of a network that has blown up say nothing about speed."""
    return all(bool(np.isfinite(x).all()) for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating))


def products(function: Callable[..., Any], *arguments: Any) -> float:
    """GFLOP of a function's matrix products, multiply and add as two.

    A branch counts the mean of its alternatives: half for an actor that moves in every second update.
    """
    return 1e-9 * _products(jax.make_jaxpr(function)(*arguments).jaxpr)


def _products(jaxpr: Any) -> float:
    total = 0.0
    for step in jaxpr.eqns:
        if step.primitive.name == "dot_general":
            (contracted, _), _ = step.params["dimension_numbers"]
            inner = math.prod(step.invars[0].aval.shape[d] for d in contracted)
            total += 2.0 * inner * math.prod(step.outvars[0].aval.shape)
        parts = [_products(x) for x in _within(step.params.values())]
        if step.primitive.name == "cond":
            total += statistics.fmean(parts)
        else:
            total += sum(parts) * step.params.get("length", 1)
    return total


def _within(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from _within(value)
        elif hasattr(value, "eqns"):
            yield value
        elif hasattr(getattr(value, "jaxpr", None), "eqns"):
            yield value.jaxpr
