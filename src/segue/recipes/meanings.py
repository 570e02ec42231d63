"""What options mean, in a sentence each, where a class does not say it beside the field itself.

A key is a field's name where it means the same in every class, or CLASS.FIELD where it does not.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from dataclasses import is_dataclass

from segue.core.schedules import Linear

MEANINGS = {
    # networks
    "actor_hidden": "widths of the actor's hidden layers",
    "critic_hidden": "widths of the critics' hidden layers",
    "value_hidden": "widths of the value function's hidden layers",
    "hidden": "widths of the hidden layers",
    "critics": "how many critics are trained",
    "layer_norm": "layer normalisation in actor and critics",
    "actor_layer_norm": "layer normalisation in the actor",
    "critic_layer_norm": "layer normalisation in the critics",
    "initialiser": "initialisation of the weights",
    "output_gain": "factor on the initial weights of the last layers",
    "critic_last_limit": "bound of the initial weights of the critics' last layers; none: as in the other layers",
    "log_std_multiplier": "factor on the log of the policy's standard deviation",
    "log_std_offset": "added to the log of the policy's standard deviation",
    "log_std_minimum": "lowest log of the policy's standard deviation",
    "log_std_maximum": "highest log of the policy's standard deviation",
    "channels": "channels of each convolution",
    "kernel": "width of the convolutions' kernels, in pixels",
    "strides": "stride of each convolution, in pixels",
    # learning
    "learning_rate": "learning rate (Adam)",
    "actor_learning_rate": "learning rate of the actor (Adam)",
    "critic_learning_rate": "learning rate of the critics (Adam)",
    "value_learning_rate": "learning rate of the value function (Adam)",
    "temperature_learning_rate": "learning rate of the entropy temperature (Adam); 0 keeps it fixed",
    "target_rate": "Polyak rate of the target networks, each update",
    "temperature": "initial entropy temperature alpha, or its fixed value",
    "learn_temperature": "whether alpha is learned towards the target entropy",
    "backup_entropy": "whether the bootstrap includes the policy's entropy",
    "value_minimum": "lower bound of the bootstrap value, before the reward is added",
    "value_maximum": "upper bound of the bootstrap value, before the reward is added",
    "noise_clip": "bound of the noise on the target's actions",
    "exploration_noise": "standard deviation of the noise on actions while collecting",
    "expectile": "expectile of the value function's loss, above 0.5",
    "inverse_temperature": "factor on the advantage in the exponent of the actor's weights",
    "weight_maximum": "highest weight of a row in the actor's loss",
    "importance_sampling": "whether the soft maximum is corrected by the density of the sampled actions",
    "soft_maximum_temperature": "temperature of the soft maximum over actions",
    "gap": "target of the multiplier for the conservative gap",
    "clip_minimum": "lower bound of the difference in the conservative term",
    "clip_maximum": "upper bound of the difference in the conservative term",
    "normalise_q": "whether the actor's loss divides Q by the mean of |Q|",
    "samples": "samples in the bound on the density",
    "kappa": "initial weight of the new critics in the actor's objective",
    "kappa_end": "final weight of the new critics in the actor's objective",
    "new_target_delay": "updates of the new critics per update of their targets",
    "value_target_rate": "Polyak rate of the value function's target",
    # phases and rows
    "name": "the phase's name",
    "gradient_steps": "updates of a phase that only learns",
    "environment_steps": "environment steps of each seed; none: the phase collects nothing",
    "utd_ratio": "updates per environment step; 0 only collects",
    "train_every": "environment steps between two turns of updates",
    "visible": "own rows that may be drawn: all, or only those of closed episodes",
    "beside": "sampler of the other rows",
    "inner": "sampler that draws from the kept rows",
    "share": "share of the rows that is used",
    "Mix.offline": "rows of the dataset in a batch",
    "Mix.online": "rows of own experience in a batch",
    "batch": "rows in a batch",
    "rows": "rows in a batch",
    "Prefix.rows": "rows of own experience that are used; 0 uses share instead",
    "Oversample.by": "which rows are drawn more often: by reward, success or return",
    "threshold": "raw reward that counts as success; none: any above the dataset's lowest",
    "width": "range of returns that their differences are divided by; none: that of the data",
    "Oversample.temperature": "temperature of the preference for high returns; lower is sharper",
    "Balanced.temperature": "exponent of the density ratio in priorities",
    "density_batch": "batch size of the density ratio",
    "low": "lowest output of the density ratio's network",
    "high": "highest output of the density ratio's network",
    "last_bias": "initial bias of the density ratio's last layer",
    "start_share": "share of own rows before the density ratio has learned",
    "Validation.episodes": "episodes per validation",
    "keep": "slot in which the best checkpoint is kept",
    "slot": "slot that is read",
    # scaling
    "scale": "divisor of states before distances are computed",
    "reward_scale": "factor on raw rewards",
    "reward_shift": "added to scaled rewards",
    "discount": "discount of future rewards",
    "failure": "raw reward of a failing step in a sparse task; an episode of such steps counts as failing for ever",
    "continuing": "whether the return of a truncated episode continues its last reward for ever",
    "reward_span": "rewards are multiplied by it and divided by the span of the dataset's returns; none: off",
    "standardise": "whether observations are standardised by the dataset's mean and standard deviation",
    "observation_mean": "subtracted from observations; empty: off",
    "observation_std": "observations are divided by it; empty: off",
    # bonuses
    "features": "size of the random network's output",
    "moments_of": "observations that the running moments are computed from",
    "neighbours": "k of the k-th nearest neighbour that measures novelty",
    "q_source": "critics whose values condition the entropy",
    "average_rate": "rate of the running mean",
    "weight": "factor on the bonus",
    # systems
    "agent": "the wrapped agent",
    "floor": "lowest share of episodes",
    "cap": "highest share of episodes",
    "patience": "validations in a row that the phase's policy must win before it always acts",
    "random_episodes": "first training episodes whose mean return stands for random actions",
    "learner": "learner that the phase trains",
    "bonus": "bonus added to the reward",
    "base": "the wrapped agent",
    "density": "the model of the data's actions",
    "first": "first of the two",
    "second": "second of the two",
}


@functools.cache
def _said(kind: type) -> dict[str, str]:
    """The docstring below each field of a dataclass and of its bases."""
    said: dict[str, str] = {}
    for part in reversed(kind.__mro__):
        if not is_dataclass(part):
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(part))).body
        assert isinstance(tree, ast.ClassDef)
        for line, below in zip(tree.body, tree.body[1:]):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(below, ast.Expr):
                said[line.target.id] = " ".join(str(getattr(below.value, "value", "")).split())
    return said


def meaning(owner: object, path: str) -> str:
    """What the option at a path below a dataclass means; empty where nobody says it (a class of the user's own)."""
    head, _, rest = path.partition(".")
    if head == "type":
        return "class of the part, chosen by the recipe; a setting may replace it by your own (module:name)"
    kind: type = type(owner)
    if rest and is_dataclass(part := getattr(owner, head)):
        if not isinstance(part, Linear):
            return meaning(part, rest)
        inside = "it goes along a line" if rest == "type" else _said(Linear)[rest]
        return f"{meaning(owner, head).removesuffix('.')}: {inside}"
    try:
        said = _said(kind).get(head, "")
    except (OSError, TypeError, SyntaxError, ValueError):  # a class that was typed into an interpreter
        said = ""
    return said or MEANINGS.get(f"{kind.__name__}.{head}", MEANINGS.get(head, ""))
