"""d3rlpy's side of benchmarks/agents.py: runs in d3rlpy's own virtual environment and imports neither Segue nor JAX.

    FOLDER/bin/python benchmarks/peer_d3rlpy.py [--threads N] [--compile]

Reads one JSON object a line and answers each with one:

    {"case": NAME, "agent": "IQL", ...}   builds an agent and its dataset (see `Case`); -> its numbers of parameters
    {"case": NAME, "updates": 100}        -> seconds that so many updates took
    {}                                    -> versions and threads

An update is what the loop of `fit` does: `dataset.sample_transition_batch`, then `algo.update`.  What `fit` does
besides (means of all losses so far for the progress bar, a logger, checkpoints) is left out, to d3rlpy's advantage.

Both sides have the same hidden layers, critics, batch, samples, target update in every step (TD3's kind: in every
second), Adam, and float32; agents.py compares the numbers of parameters.  What differs on d3rlpy's side:

- All agents: the actor's loss also computes gradients of the critics' parameters, which nothing uses.  A row is
  sampled as a Python object, 256 of them an update; the last row of a truncated episode is never drawn.
- CQL, Cal-QL: Q of the data is computed once for the Bellman error and once for the conservative term, and each of
  the three kinds of candidates in a pass of its own (Segue: one pass for all).  Without `max_backup` the bootstrap's
  action is the mean of the policy and not a draw.  alpha' moves before the critics and is used at once; its loss is
  the same.  There is no calibration or spread to report.  Cal-QL computes a row's return anew whenever it is drawn,
  which costs more the longer episodes are.  `alpha_threshold` is Segue's `gap`; the step of alpha' is left out where
  Segue has no multiplier.
- SAC: the same two losses; the temperature's uses exp(log alpha) as a factor instead of log alpha.
- IQL: V and Q in one optimiser, one backward pass; the bootstrap sees the old V.  The target critics value the data
  twice.  The target of V and the actor's weight are the same functions.
- AWAC: one sampled action for the advantage, as in Segue; weights are a softmax over the batch (Segue: a bounded
  exponential).  The policy is evaluated twice for the actor's loss.  The Gaussian's mean is squashed.
- d3rlpy's own defaults are batches of 1,024 for AWAC and ReBRAC, no layer normalisation in ReBRAC, a threshold of 10
  and no max-target backup in CQL and Cal-QL; here it gets the sizes and options of the comparison.
- TD3, TD3+BC, ReBRAC: actor and targets move with the first update and every second one after it.  The loss of TD3
  and TD3+BC evaluates all critics and keeps the first.  ReBRAC's layer normalisation follows the activation, as in
  Segue's.

`compile_graph=True` does nothing on a CPU: d3rlpy's `compiled` asks for a CUDA device as well.  `--compile` applies
`torch.compile` to the two functions that d3rlpy would compile on a GPU (all of forward and backward, not the
optimisers), which d3rlpy itself does not offer on a CPU.  It needs a C++ compiler.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import io
import json
import math
import os
import sys
import time
from typing import Any

from synthetic import logged


@dataclasses.dataclass(frozen=True)
class Case:
    """An agent at a setting; what an agent has no use for is ignored."""

    agent: str
    observation: int
    action: int
    actor_hidden: tuple[int, ...]
    critic_hidden: tuple[int, ...]
    critics: int
    batch: int
    rows: int
    episode: int
    layer_norm: bool = False
    """In the critics, after the activation."""
    samples: int = 10
    """Sampled actions of CQL and Cal-QL."""
    max_backup: bool = False
    gap: float | None = None
    """Threshold of the conservative gap; None: no multiplier is learned."""


class Peer:
    """Agents and datasets that were asked for."""

    def __init__(self, threads: int | None, compiled: bool) -> None:
        # Gym, which d3rlpy imports, prints an advertisement for Gymnasium.
        with contextlib.redirect_stderr(io.StringIO()):
            d3rlpy, structlog, torch = map(importlib.import_module, ("d3rlpy", "structlog", "torch"))
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
        d3rlpy.seed(0)
        if threads:
            torch.set_num_threads(threads)
        # All agents share these functions' code; beyond the limit, torch would stop to compile them without a word.
        torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit = 1000
        self.d3rlpy, self.torch, self.compiled = d3rlpy, torch, compiled
        self.agents: dict[str, tuple[Any, Any]] = {}
        self.datasets: dict[tuple[int, ...], Any] = {}

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer one line."""
        if "updates" in request:
            return self.measure(request["case"], request["updates"])
        if "case" in request:
            return self.prepare(request.pop("case"), Case(**request))
        return {
            "d3rlpy": self.d3rlpy.__version__,
            "torch": self.torch.__version__,
            "threads": self.torch.get_num_threads(),
            "interop_threads": self.torch.get_num_interop_threads(),
        }

    def prepare(self, name: str, case: Case) -> dict[str, Any]:
        """Build an agent and say how many parameters its networks have."""
        key = (case.observation, case.action, case.rows, case.episode)
        if key not in self.datasets:
            rows = logged(*key)
            self.datasets[key] = self.d3rlpy.dataset.MDPDataset(
                rows["observation"],
                rows["action"],
                rows["reward"],
                rows["terminated"].astype("float32"),
                rows["truncated"].astype("float32"),
            )
        agent = self.build(case)
        agent.create_impl((case.observation,), case.action)
        if self.compiled:
            impl = agent.impl
            impl._compute_critic_grad = self.torch.compile(impl.compute_critic_grad)
            impl._compute_actor_grad = self.torch.compile(impl.compute_actor_grad)
        self.agents[name] = agent, self.datasets[key]
        modules = agent.impl.modules.get_torch_modules()
        names = {"policy": "actor", "q_funcs": "critic", "value_func": "value"}
        return {ours: count(modules[theirs]) for theirs, ours in names.items() if theirs in modules}

    def build(self, case: Case) -> Any:
        """Return the agent, configured as Segue's."""
        encoder = self.d3rlpy.models.VectorEncoderFactory
        critic = encoder(list(case.critic_hidden), use_layer_norm=case.layer_norm)
        shared: dict[str, Any] = {
            "batch_size": case.batch,
            "n_critics": case.critics,
            "tau": 5e-3,
            "actor_encoder_factory": encoder(list(case.actor_hidden)),
            "critic_encoder_factory": critic,
        }
        conservative = {
            "n_action_samples": case.samples,
            "conservative_weight": 5.0,
            "max_q_backup": case.max_backup,
            "alpha_threshold": case.gap or 0.0,
            "alpha_learning_rate": 0.0 if case.gap is None else 3e-4,
            "initial_alpha": 1.0 if case.gap is None else math.e,
        }
        own: dict[str, dict[str, Any]] = {
            "AWAC": {"n_action_samples": 1},
            "CQL": conservative,
            "CalQL": conservative,
            "IQL": {"value_encoder_factory": critic},
            "ReBRAC": {"actor_beta": 0.4, "critic_beta": 0.1},
        }
        config = getattr(self.d3rlpy.algos, f"{case.agent}Config")
        return config(**shared, **own.get(case.agent, {})).create(device="cpu")

    def measure(self, name: str, updates: int) -> dict[str, Any]:
        """Do updates and say how long they took, and whether the losses of the last one are finite."""
        agent, dataset = self.agents[name]
        losses: dict[str, float] = {}
        began = time.perf_counter()
        for _ in range(updates):
            losses = agent.update(dataset.sample_transition_batch(agent.batch_size))
        spent = time.perf_counter() - began
        return {"seconds": spent, "finite": all(map(math.isfinite, losses.values()))}


def count(module: Any) -> int:
    """Parameters of a network."""
    return sum(p.numel() for p in module.parameters())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="of torch; without it torch decides")
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    # Answers go where standard output went, and whatever prints goes to standard error.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    peer = Peer(options.threads, options.compile)
    for line in sys.stdin:
        print(json.dumps(peer.answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
