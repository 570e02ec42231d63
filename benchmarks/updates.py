"""Updates per second of Cal-QL, and the share of this machine's matrix-product rate that they reach.

    python benchmarks/updates.py                          AntMaze setting, 1, 4 and 8 seeds
    python benchmarks/updates.py --setting pointmaze      the laptop preset
    python benchmarks/updates.py --updates 1              every update a dispatch of its own, as in an online phase
    python benchmarks/updates.py --trace FOLDER           a profile of three updates, for Perfetto or TensorBoard

Sampling from a replay on the device is included.  The rate of float32 matrix products (2048 x 2048) is measured in
the same process, and all numbers of seeds take turns: on a shared machine quote ratios, not times.

What is counted is what the algorithm needs, multiply and add as two: for each critic one forward pass and the
gradient of its parameters over 1 + 3N actions a state, the bootstrap's forward pass, the actor's value with its
gradient in the action, and the policy.  What is recomputed, or thrown away, does not count.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Sequence
from typing import Any

import jax

from common import Run, dataset, matrix_rate, measure, seconds, updates
from segue.agents import CQL
from segue.core.types import Spec
from segue.recipes import TaskFacts, find_recipe, resolve

SETTINGS = {"antmaze": (29, 8), "pointmaze": (4, 2)}


def layers(widths: Sequence[int]) -> list[int]:
    """Multiply-adds of each layer for one row."""
    return [a * b for a, b in itertools.pairwise(widths)]


def update_gflop(agent: CQL, observation: int, action: int, batch: int) -> float:
    """GFLOP that one update needs."""
    critic = layers([observation + action, *agent.base.critic_hidden, 1])
    policy = layers([observation, *agent.base.actor_hidden, 2 * action])
    forward, backward = sum(critic), sum(critic[1:])  # no gradient in the first layer's input
    rows = batch * (1 + 3 * agent.samples)
    shared = batch * observation * agent.base.critic_hidden[0]  # an observation's first layer serves all its actions
    first = rows * action * agent.base.critic_hidden[0] + shared
    values = first + rows * sum(critic[1:])
    parameters = values + rows * backward
    target = batch * agent.base.target_samples * forward
    through_actor = batch * 2 * forward
    actor = batch * (3 * sum(policy) + sum(policy))  # its own loss; and the next observation's actions
    per_critic = values + parameters + target + through_actor
    return 2e-9 * (agent.base.critics * per_critic + actor)


def prepare(setting: str, seeds: int) -> tuple[Run, float]:
    """A function that dispatches so many updates of all seeds, compiled, and GFLOP of an update."""
    observation, action = SETTINGS[setting]
    recipe = resolve(find_recipe("cal-ql"), TaskFacts((setting,)), {})
    phase: Any = recipe.phases[0]
    offline = dataset(observation, action, recipe.scaling, 100_000, 200)
    run, _ = updates(phase, recipe.scaling, Spec((observation,), action), offline, seeds)
    print(f"  {seeds} seeds: compiled in {seconds(lambda: run(1)):.1f} s", flush=True)
    return run, update_gflop(phase.learner, observation, action, phase.batch.offline)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=SETTINGS, default="antmaze")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each of the 7 measurements, at least")
    parser.add_argument("--updates", type=int, help="updates of a dispatch: 1 is what an online phase does")
    parser.add_argument("--trace", help="folder for a profile")
    options = parser.parse_args()
    ready = [prepare(options.setting, seeds) for seeds in options.seeds]
    measures = [measure(run, n, options.seconds, options.updates) for (run, _), n in zip(ready, options.seeds)]
    # In turns, so that a minute in which the machine is slow falls on all of them.
    rates, times = [], [[] for _ in measures]  # type: list[float], list[list[float]]
    for _ in range(7):
        rates.append(matrix_rate())
        for clock, found in zip(measures, times):
            found.append(clock())
    if options.trace:
        with jax.profiler.trace(options.trace):
            seconds(lambda: ready[0][0](3))
    rate, gflop = statistics.median(rates), ready[0][1]
    print(f"{options.setting}: {gflop:.2f} GFLOP an update; matrix products run at {rate:.0f} GFLOP/s")
    print(f"JAX {jax.__version__} on {jax.default_backend()}")
    print("seeds  ms per update and seed  fastest  beside 1st  updates/s of all seeds  share of the matrix rate")
    for seeds, found in zip(options.seeds, times):
        median = statistics.median(found)
        beside = statistics.median(a / b for a, b in zip(found, times[0]))
        share = statistics.median(gflop / t / r for t, r in zip(found, rates))
        print(
            f"{seeds:5}  {1e3 * median:22.2f}  {1e3 * min(found):7.2f}  {beside:10.3f}  {1 / median:22.1f}"
            f"  {100 * share:22.0f} %"
        )


if __name__ == "__main__":
    main()
