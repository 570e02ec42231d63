"""What options mean, in a sentence each, where a class does not say it beside the field itself.

A key is a field's name where it means the same in every class, or CLASS.FIELD where it does not.
"""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
from dataclasses import is_dataclass
from typing import Any

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
    "initialiser": "how weights are drawn at first",
    "output_gain": "factor on the last layers' first weights",
    "critic_last_limit": "first weights of the critics' last layers lie within this; none: as the other layers",
    "log_std_multiplier": "factor on the log of the policy's deviation",
    "log_std_offset": "added to the log of the policy's deviation",
    "log_std_minimum": "least log of the policy's deviation",
    "log_std_maximum": "greatest log of the policy's deviation",
    "channels": "channels of the convolutions, one after the other",
    "kernel": "width of the convolutions' kernels, in pixels",
    "strides": "strides of the convolutions, in pixels",
    # learning
    "learning_rate": "learning rate (Adam)",
    "actor_learning_rate": "learning rate of the actor (Adam)",
    "critic_learning_rate": "learning rate of the critics (Adam)",
    "value_learning_rate": "learning rate of the value function (Adam)",
    "temperature_learning_rate": "learning rate of the entropy temperature (Adam); 0 keeps it",
    "target_rate": "Polyak rate of the target networks, each update",
    "temperature": "entropy temperature alpha at first, or its fixed value",
    "learn_temperature": "whether alpha follows the target entropy",
    "backup_entropy": "whether the bootstrap counts the policy's entropy",
    "value_minimum": "least bootstrap value, before the reward is added",
    "value_maximum": "greatest bootstrap value, before the reward is added",
    "noise_clip": "bound of the noise on the target's actions",
    "exploration_noise": "standard deviation of the noise on actions while collecting",
    "expectile": "expectile of the value function's loss, above 0.5",
    "inverse_temperature": "weight of the advantage in the exponent of the actor's weights",
    "weight_maximum": "greatest weight of a row in the actor's loss",
    "importance_sampling": "whether the soft maximum is corrected for how its actions were drawn",
    "soft_maximum_temperature": "temperature of the soft maximum over actions",
    "gap": "conservative gap that the multiplier aims at",
    "clip_minimum": "least difference that the conservative term counts",
    "clip_maximum": "greatest difference that the conservative term counts",
    "normalise_q": "whether the actor divides by the mean of |Q|",
    "samples": "how many samples the bound on the density takes",
    "kappa": "weight of the new critics in what the actor climbs, at first",
    "kappa_end": "weight of the new critics at the end of its rise",
    "new_target_delay": "updates between two moves of the new critics' targets",
    "value_target_rate": "Polyak rate of the value function's target",
    # phases and rows
    "name": "the phase's name",
    "ticks": "how long the phase lasts; a tick takes `collect` steps and does `updates` updates",
    "collect": "environment steps of each seed in a tick; 0 learns offline",
    "updates": "gradient updates in a tick, after its steps; 0 only collects",
    "visible": "own rows that may be drawn: all, or those of closed episodes",
    "beside": "what the other rows are drawn by",
    "inner": "what rows are drawn by, of what is left",
    "share": "share of the rows that is used",
    "Mix.offline": "rows of the dataset in a batch",
    "Mix.online": "rows of own experience in a batch",
    "batch": "rows in a batch",
    "rows": "rows in a batch",
    "First.rows": "rows of own experience that are used; 0 counts by share",
    "Oversample.by": "what makes a row count more",
    "threshold": "what counts as much",
    "width": "of the bins that rows are counted in",
    "Oversample.temperature": "how sharply rows that count more are preferred",
    "Balanced.temperature": "exponent of the density ratio in priorities",
    "density_batch": "rows that the density ratio learns from at once",
    "low": "least output of the density ratio's network",
    "high": "greatest output of the density ratio's network",
    "last_bias": "first bias of the density ratio's last layer",
    "start_share": "share of own rows before the density ratio has learned",
    "Validation.episodes": "episodes of one try",
    "keep": "slot in which the best checkpoint is kept",
    "slot": "slot that is read",
    # units
    "scale": "what states are divided by before distances are taken",
    "Units.scale": "factor on raw rewards",
    "shift": "added to scaled rewards",
    "discount": "discount of future rewards",
    "failure": "raw reward of a step without success in a sparse task; all-failure episodes count as failing for ever",
    "continuing": "whether a truncated episode counts as if its last reward went on for ever",
    "reward_span": "rewards are multiplied by it and divided by the span of the dataset's returns; none: not",
    "standardise": "whether observations are standardised by the dataset's mean and deviation",
    "observation_mean": "taken off observations; empty: nothing",
    "observation_std": "observations are divided by it; empty: nothing",
    # bonuses
    "features": "size of the random network's output",
    "moments_of": "what the bonus is standardised by",
    "neighbours": "which nearest neighbour measures how new a state is",
    "q_source": "whose values split the states",
    "average_rate": "rate of the running mean",
    "weight": "weight of the bonus in the reward",
    # systems
    "agent": "the agent inside",
    "floor": "least share of episodes",
    "cap": "greatest share of episodes",
    "patience": "validations without an improvement before the share changes",
    "random_episodes": "episodes of chance at first",
    "learner": "who learns",
    "augment": "bonus on the reward",
    "base": "the agent inside",
    "density": "the model of the data's actions",
    "first": "one of the two",
    "second": "the other one",
}


@functools.cache
def _said(kind: type) -> dict[str, str]:
    """What stands below each field of a dataclass, and of those that it extends."""
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


def meaning(owner: Any, path: str) -> str:
    """What the option at a path below a dataclass means; empty where nobody says it (a class of the user's own)."""
    head, _, rest = path.partition(".")
    if head == "type":
        return "what it is: the recipe chooses it, and a setting may put a part of your own there (module:name)"
    kind: Any = type(owner)
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
