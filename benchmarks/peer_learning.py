"""What another implementation learns from the same log: a control for results that surprise.

    python benchmarks/agents.py --setup-peer FOLDER
    FOLDER/bin/pip install "gymnasium[mujoco]" h5py
    FOLDER/bin/python benchmarks/peer_learning.py halfcheetah-medium.hdf5 --agent TD3PlusBC --updates 50000

Runs in d3rlpy's own virtual environment and imports neither Segue nor JAX.  Prints the raw return of ten episodes
after every fifth of the updates.  Settings are the paper's, for BC those of TD3+BC without its critics.
"""

from __future__ import annotations

import argparse
import json
import time

import d3rlpy
import gymnasium
import h5py
import numpy as np
import torch


def dataset(path: str) -> tuple[d3rlpy.dataset.MDPDataset, str]:
    """The log, and the id of its environment."""
    with h5py.File(path) as file:
        columns = [file[k][()] for k in ("observations", "actions", "rewards", "terminals", "timeouts")]
        return d3rlpy.dataset.MDPDataset(*columns), str(file.attrs["env_id"])


def build(agent: str, learning_rate: float) -> d3rlpy.algos.QLearningAlgoBase:
    """An agent with standardised observations, as its paper has it."""
    scaler = d3rlpy.preprocessing.StandardObservationScaler()
    if agent == "BC":
        return d3rlpy.algos.BCConfig(batch_size=256, learning_rate=learning_rate, observation_scaler=scaler).create()
    if agent == "IQL":
        rewards = d3rlpy.preprocessing.ReturnBasedRewardScaler(multiplier=1000.0)
        return d3rlpy.algos.IQLConfig(expectile=0.7, weight_temp=3.0, max_weight=100.0, reward_scaler=rewards).create()
    return d3rlpy.algos.TD3PlusBCConfig(alpha=2.5, observation_scaler=scaler).create()


def main() -> None:
    """Train and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file")
    parser.add_argument("--agent", choices=("TD3PlusBC", "IQL", "BC"), default="TD3PlusBC")
    parser.add_argument("--updates", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    d3rlpy.seed(args.seed)
    log, env_id = dataset(args.file)
    env = gymnasium.make(env_id)
    agent = build(args.agent, 3e-4)
    agent.build_with_dataset(log)
    began = time.monotonic()
    for part in range(1, 6):
        agent.fit(
            log,
            n_steps=args.updates // 5,
            n_steps_per_epoch=args.updates // 5,
            show_progress=False,
            logger_adapter=d3rlpy.logging.NoopAdapterFactory(),
        )
        returns = []
        for episode in range(10):
            observation, _ = env.reset(seed=10_000 + episode)
            total, over = 0.0, False
            while not over:
                action = agent.predict(observation[None].astype(np.float32))[0]
                observation, reward, terminated, truncated, _ = env.step(np.clip(action, -1.0, 1.0))
                total, over = total + float(reward), terminated or truncated
            returns.append(total)
        row = {"agent": args.agent, "seed": args.seed, "updates": part * args.updates // 5}
        print(json.dumps({**row, "return": float(np.mean(returns)), "seconds": time.monotonic() - began}), flush=True)


if __name__ == "__main__":
    main()
