"""How much of SERA's bonus tanh flattens, by the scale of states: numbers of docs/combining.md and docs/fidelity.md.

    SEGUE_DATA=FOLDER python benchmarks/sera_scale.py hopper-mixed antmaze-medium-diverse pointmaze-medium

Mean and standard deviation of tanh(bonus), and the share of bonuses above 2, over 20 batches of 256 logged rows.  The
Monte-Carlo return stands for Q, as both are standardised by the batch; k is the preset's.
"""

from __future__ import annotations

import sys

import jax.numpy as jnp
import numpy as np

import segue
from segue.bonuses.neighbours import conditioned_bonus
from segue.recipes import TaskFacts, find_recipe, resolve

BATCHES, ROWS = 20, 256


def main(names: list[str]) -> None:
    for name in names:
        task = segue.find_task(name)
        data = task.dataset()
        if data is None:
            raise segue.SegueError(f"{name} has no dataset; name a task that has one (`segue list tasks`)")
        bonus = next(
            p for p in resolve(find_recipe("iql+sera"), TaskFacts.of(task), {}).phases if p.name == "online"
        ).bonus
        seen, returns = np.asarray(data.observation), np.asarray(data.mc_returns(segue.Scaling()))
        scales = {
            "data": (seen - seen.mean(0)) / (seen.std(0) + 1e-3),
            "dimension": seen / seen.shape[1],
            "none": seen,
        }
        rng = np.random.default_rng(0)
        drawn = rng.integers(len(seen), size=(BATCHES, ROWS))
        for scale, states in scales.items():
            found = []
            for rows in drawn:
                q = (returns[rows] - returns[rows].mean()) / (returns[rows].std() + 1e-6)
                pair = jnp.asarray(states[rows], jnp.float32), jnp.asarray(q, jnp.float32)
                found.append(np.asarray(conditioned_bonus(*pair, bonus.neighbours)))  # type: ignore[attr-defined]
            paid = np.tanh(found)
            above = np.mean(np.asarray(found) > 2)
            print(f"{name}, scale={scale}: mean {paid.mean():.3f}, spread {paid.std():.3f}, above 2: {above:.0%}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except segue.SegueError as error:
        sys.exit(f"sera_scale.py: {error}")
