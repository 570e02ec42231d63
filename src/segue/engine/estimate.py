"""Estimate the needs of a run: disk and memory by counting, time as a wide range from operation counts.

Nothing is compiled and no simulator is stepped; only the machine's rate of operations is measured.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from segue.core import options
from segue.core.observations import parts_seen
from segue.core.scaling import Scaling
from segue.core.types import Spec
from segue.engine.phase import Phase, room
from segue.engine.steps import update_of
from segue.engine.validate import Shapes

CHECKPOINTS = 3  # on the disk at once: two that are kept, and one that is being written
# Defaults of ours, with room around the updates that docs/results/speed.md measured.
QUICKEST, SLOWEST = 0.5, 3.0  # of what matrix products would take at the machine's rate
EACH = 3e-6  # seconds that an operation of a program costs at most beside its arithmetic: small networks are made of it


Costs = dict[tuple[object, ...], tuple[float, int]]
"""Operations of one update, and the parts of its program, by what decides them."""


class Estimate(NamedTuple):
    """Bytes of the disk and of memory; seconds of the updates alone, (least, most), None where that is not known."""

    disk: int
    memory: int
    seconds: tuple[float, float] | None

    def words(self) -> str:
        """One line."""
        said = f"disk: about {size(self.disk)}; memory: about {size(self.memory)} for data, experience and networks"
        if self.seconds is None:
            return said
        least, most = (duration(x) for x in self.seconds)
        return (
            f"{said}; updates alone: between {least} and {most} on this machine, from operation counts and not "
            "measured; simulators and evaluations come on top"
        )


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:,.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:,.1f} {unit}"


def duration(seconds: float) -> str:
    """Seconds in words."""
    for unit, least in (("days", 2 * 86400.0), ("hours", 2 * 3600.0), ("minutes", 120.0)):
        if seconds >= least:
            return f"{seconds / (least / 2):,.0f} {unit}"
    return f"{seconds:,.0f} seconds"


def estimate(
    phases: Sequence[Phase],
    spec: Spec,
    scaling: Scaling,
    seeds: int,
    rows: int,
    timed: bool = False,
    capacity: int | None = None,
    envs: int = 1,
    keep: int | None = 0,
    costs: Costs | None = None,
) -> Estimate:
    """Count what `phases` need with so many seeds and rows of a dataset; `timed` lowers their updates as well.

    `capacity` bounds own experience in memory, which `envs` simulators of each seed write; the disk has all of it,
    and the ends of `keep` phases (None: of all).  `costs` holds what updates cost that were lowered before.
    """
    steps = sum(p.moves for p in phases)
    shapes = Shapes(spec, seeds, rows, max(room(phases, capacity), 1), envs=envs)
    plain = Scaling(parts=parts_seen(spec))
    observation = int(np.prod(spec.observation)) * np.dtype(spec.dtype).itemsize
    logged = seeds * steps * (2 * observation + 4 * spec.action + 6)  # a row: s, s', action, reward and two flags
    states, operations, parts = 0, 0.0, 0
    for index, phase in enumerate(phases):
        slot = shapes.hand_over(phase, index, plain)
        if phase.validation.steps:
            shapes.validated(phase)
        states = max(states, _bytes([s.learned for s in shapes.slots.values()]))
        if timed and phase.learns:
            known, key = {} if costs is None else costs, (spec, _structure(phase))
            if key not in known:
                lowered = jax.jit(update_of(phase, plain)).lower(*shapes.one(slot.learned, phase.listed))
                cost: Any = lowered.cost_analysis()
                flops = float((cost or {}).get("flops", np.nan))
                known[key] = flops, lowered.as_text().count(" = stablehlo.")
            updates = phase.all_updates * seeds
            operations += known[key][0] * updates
            parts += known[key][1] * updates
    # The dataset is on the host too, with s and s' apart; elsewhere each observation is there once.
    once = [_bytes(x._replace(final=())) for x in (shapes.offline, shapes.online)]
    memory = _bytes(shapes.offline) + sum(once) + 2 * states
    seconds = None
    if timed and np.isfinite(operations):
        ideal = operations / rate()
        seconds = (QUICKEST * ideal, SLOWEST * ideal + EACH * parts)
    ends = len(phases) if keep is None else min(keep, len(phases))
    return Estimate(logged + (CHECKPOINTS + ends) * states, memory, seconds)


def _structure(phase: Phase) -> tuple[object, ...]:
    """What decides the operations of an update: what learns from what, without numbers that are fractions."""
    parts = {"learner": phase.learner, "batch": phase.batch, "bonus": phase.bonus}
    found = [(f"{name}.{path}", x) for name, part in parts.items() for path, x in options.leaves(part).items()]
    kinds = tuple(type(part) for part in parts.values())
    return (phase.slot, phase.chunk, *kinds, *((path, x) for path, x in found if not isinstance(x, float)))


@functools.cache
def rate() -> float:
    """Floating-point operations a second in products of matrices as large as a layer, the best of a few."""
    a, b = jnp.ones((256, 256)), jnp.ones((256, 256))
    product = jax.jit(lambda a, b: a @ b @ b @ b @ b)
    product(a, b).block_until_ready()
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(10):
            out = product(a, b)
        out.block_until_ready()
        best = max(best, 10 * 4 * 2 * 256**3 / (time.perf_counter() - began))
    return best


def _bytes(tree: Any) -> int:
    return int(sum(np.prod(x.shape) * _item(x.dtype) for x in jax.tree.leaves(tree)))


def _item(dtype: Any) -> int:
    return 8 if jnp.issubdtype(dtype, jax.dtypes.prng_key) else np.dtype(dtype).itemsize
