"""Time of an update of FQL, best-of-N, QC-FQL and QC, beside a flat implementation of the same update.

    python benchmarks/flows.py                      ten minutes on a core
    python benchmarks/flows.py --cases fql qc-fql   these only

The setting of OGBench's cube: 28 observations, 5 actions, networks 512 x 4, batches of 256, chunks of 5 or single
actions, best of 32 (QC) or 4.  Both take turns in this process, on the device that JAX has; times are medians per
update, with the drawing of the batch, and the ratio is the median of the ratios within turns.  Compilation is the time
of the first update.  The flat one (`peer_flows.py`) draws with NumPy and dispatches each update by itself; its flow is
written out in ten copies, where Segue's is a loop.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from common import dataset, finite, measure, seconds, updates
from peer_flows import Flat
from segue.agents import BFN, FQL
from segue.core.scaling import Scaling
from segue.core.types import Spec
from segue.engine.phase import Phase
from segue.samplers.uniform import Mix
from synthetic import logged

SPEC, BATCH, ROWS, EPISODE = Spec((28,), 5), 256, 100_000, 1_000
CASES: dict[str, tuple[Any, int, int]] = {  # agent, chunk, samples of the flat one
    "fql": (FQL(cloning_weight=300.0), 1, 0),
    "bfn": (BFN(samples=4), 1, 4),
    "qc-fql": (FQL(cloning_weight=300.0), 5, 0),
    "qc": (BFN(), 5, 32),
}


def flat(chunk: int, samples: int, rows: dict[str, np.ndarray], least: float) -> tuple[Callable[[], float], float]:
    """A clock of the flat update, and the time of its first one."""
    one, rng = Flat(*SPEC.observation, chunk * SPEC.action, samples), np.random.default_rng(0)
    first = seconds(lambda: one.learn(rows, chunk, BATCH, rng))
    once = seconds(lambda: one.learn(rows, chunk, BATCH, rng))
    count = max(2, round(least / once))

    def clock() -> float:
        began = time.perf_counter()
        for _ in range(count):
            learned = one.learn(rows, chunk, BATCH, rng)
        jax.block_until_ready(learned)
        return (time.perf_counter() - began) / count

    return clock, first


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    args = parser.parse_args()
    scaling, columns = Scaling(), logged(*SPEC.observation, SPEC.action, ROWS, EPISODE)
    print("| case | Segue, ms | flat, ms | times faster | first update, s | flat |")
    print("|---|---|---|---|---|---|")
    for name in args.cases:
        agent, chunk, samples = CASES[name]
        phase = Phase("offline", agent, gradient_steps=10**9, batch=Mix(BATCH), chunk=chunk, windows="anywhere")
        offline = dataset(*SPEC.observation, SPEC.action, scaling, ROWS, EPISODE)
        began = time.perf_counter()
        run, _ = updates(phase, scaling, SPEC, offline, 1)
        jax.block_until_ready(run(1))
        first = time.perf_counter() - began
        ours, (theirs, other) = measure(run, 1, args.seconds), flat(chunk, samples, columns, args.seconds)
        pairs = [(ours(), theirs()) for _ in range(args.turns)]
        assert finite(run(1))
        mine, his = (1e3 * statistics.median(x) for x in zip(*pairs))
        ratio = statistics.median(b / a for a, b in pairs)
        print(f"| {name} | {mine:.1f} | {his:.1f} | {ratio:.2f} | {first:.1f} | {other:.1f} |", flush=True)


if __name__ == "__main__":
    main()
