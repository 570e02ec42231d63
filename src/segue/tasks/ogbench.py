"""OGBench's single-task suite (MIT): its 82 datasets, each with five tasks and a name for the default one.

The datasets have no rewards.  A task's are computed by the library itself, see `reward`.  Since its version 1.2.0
environments judge success before the step, as the logs' rewards do; with NAME?success_timing=post they do so after it,
as those that FQL and Q-chunking were published with (1.1).
"""

from __future__ import annotations

from dataclasses import replace

from segue.tasks.records import Group, Record, Words, group
from segue.tasks.scores import SUCCESS

BASE = "https://rail.eecs.berkeley.edu/datasets/ogbench/"
TASKS: Words = ("singletask", *(f"singletask-task{n}" for n in range(1, 6)))
LONG = 0.995  # FQL's discount for giant, humanoid and soccer mazes
_ONE = "reward 0 where the goal is reached before the step, else -1; success ends the episode"
_MANY = "reward: minus the number of parts that are not as they should be before the step; success ends the episode"
_RANDOM = "; teleports draw from numpy's global generator, so a run on it cannot be resumed exactly"


def _family(
    kind: str,
    variants: dict[str, int],
    logs: Words,
    reward: str = _ONE,
    discount: float | None = None,
    visual: bool = True,
) -> Group:
    """Records of one kind of environment, of states and, if `visual`, of pixels; `variants` are sizes and horizons."""

    def make(*words: str) -> Record:
        log, task, version = words[-3:]
        place, look = "-".join(words[:-3]), words[0] == "visual"
        env, variant = f"{place}-{task}-{version}", words[-4]
        # Where one part is to be put right, a step without success has one reward.
        single = reward is _ONE or variant == "single"
        return Record(
            "-".join(words),
            f"ogbench:{env}",
            variants[variant],
            "ogbench",
            presets=(f"ogbench-{place}",),
            provenance=f"ogbench 1.2.2; {_ONE if single else reward}{_RANDOM if variant == 'teleport' else ''}",
            failure=-1.0 if single else None,
            reference=SUCCESS,
            discount=discount,
            data=(f"ogbench:{BASE}{place}-{log}-{version}.npz?task={env}",),
            choices={"success_timing": ("pre", "post")},
            file=f"{place}-{log}-{version}.npz",
            maker=f"ogbench:{place}-{log}" if not look and (log in _HANDS or kind == "pointmaze") else "",
        )

    words: list[Words] = [(kind,), tuple(variants), logs, TASKS, ("v0",)]
    words = words[1:] if kind in variants else words
    states, pixels = (group("OGBench", [*look, *words], make, "ogbench") for look in ([], [("visual",)]))
    pattern = states.pattern.replace("{" + ",".join(TASKS) + "}", "singletask{,-task{1..5}}")
    if not visual:
        return replace(states, pattern=pattern)
    return replace(states, pattern=f"{{,visual-}}{pattern}", records=states.records + pixels.records)


_WALKS: Words = ("navigate", "stitch")
_HANDS: Words = ("play", "noisy")

GROUPS: tuple[Group, ...] = (
    _family("pointmaze", dict.fromkeys(("medium", "large", "giant", "teleport"), 1000), _WALKS, visual=False),
    _family("antmaze", dict.fromkeys(("medium", "large", "teleport"), 1000), (*_WALKS, "explore")),
    _family("antmaze", {"giant": 1000}, _WALKS, discount=LONG),
    _family("humanoidmaze", {"medium": 2000, "large": 2000, "giant": 4000}, _WALKS, discount=LONG),
    _family("antsoccer", {"arena": 1000, "medium": 1000}, _WALKS, discount=LONG, visual=False),
    _family("cube", {"single": 200, "double": 500, "triple": 1000, "quadruple": 1000}, _HANDS, _MANY),
    _family("scene", {"scene": 750}, _HANDS, _MANY),
    _family("puzzle", {"3x3": 500, "4x4": 500, "4x5": 1000, "4x6": 1000}, _HANDS, _MANY),
)
