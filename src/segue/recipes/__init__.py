"""Recipes: papers as functions of a task, in a table; systems and bonuses around them; hand-over rules."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from segue.core.lazy import Later, face
from segue.recipes.recipe import Recipe, TaskFacts

if TYPE_CHECKING:
    from segue.recipes.compose import augmented
    from segue.recipes.method import Method, published, resolve
    from segue.recipes.plan import Evaluation, Plan
else:
    __getattr__, __dir__ = face(__name__)

_ROWS = (
    Recipe(
        "cal-ql",
        "Nakamoto et al. 2023, Cal-QL, arXiv 2303.05479",
        "AntMaze mean 97.3 after 1M online steps (CORL's runs of Cal-QL, 4 seeds)",
        Later("segue.recipes.cal_ql:CAL_QL_METHOD"),
    ),
    Recipe(
        "cql",
        "Kumar et al. 2020, CQL, arXiv 2006.04779 (the baseline of the Cal-QL paper: same program, no calibration)",
        "AntMaze mean 95.6 after 1M online steps (CORL's runs of CQL, 4 seeds)",
        Later("segue.recipes.cal_ql:CQL_METHOD"),
    ),
    Recipe(
        "iql",
        "Kostrikov et al. 2021, IQL, arXiv 2110.06169",
        "AntMaze mean 56.3 offline, 78.5 after 1M online steps (CORL's runs of IQL, 4 seeds)",
        Later("segue.recipes.iql:IQL_METHOD"),
    ),
    Recipe(
        "awac",
        "Nair et al. 2020, AWAC, arXiv 2006.09359",
        "pen-cloned 88.7 offline, 86.8 after 1M online steps (CORL's runs of AWAC, 4 seeds)",
        Later("segue.recipes.awac:AWAC_METHOD"),
    ),
    Recipe(
        "td3-bc",
        "Fujimoto and Gu 2021, TD3+BC, arXiv 2106.06860; fine-tuned by TD3",
        "hopper-medium 60.4, halfcheetah-medium 48.1 offline (CORL's runs of TD3+BC, 4 seeds)",
        Later("segue.recipes.td3:TD3_BC_METHOD"),
    ),
    Recipe(
        "rebrac",
        "Tarasov et al. 2023, ReBRAC, arXiv 2305.09836",
        "pen-cloned 74.0 offline, 138.2 after 1M online steps (CORL's runs of ReBRAC, 4 seeds)",
        Later("segue.recipes.rebrac:REBRAC_METHOD"),
    ),
    Recipe(
        "spot",
        "Wu et al. 2022, SPOT, arXiv 2202.06239",
        "AntMaze mean 52.9 offline, 92.4 after 1M online steps (CORL's runs of SPOT, 4 seeds)",
        Later("segue.recipes.spot:SPOT_METHOD"),
    ),
    Recipe(
        "pex",
        "Zhang et al. 2023, PEX, arXiv 2302.00935",
        "a policy beside the offline one; the paper's tables could not be read, so no number is aimed at",
        Later("segue.recipes.pex:PEX_METHOD"),
    ),
    Recipe(
        "wsrl",
        "Zhou et al. 2024, WSRL, arXiv 2412.07762",
        "pen-binary 98 %, door-binary 100 % success after 300k online steps (Q2RL's runs of WSRL, 5 seeds)",
        Later("segue.recipes.wsrl:WSRL_METHOD"),
    ),
    Recipe(
        "rlpd",
        "Ball et al. 2023, RLPD, arXiv 2302.02948",
        "AntMaze 98, 94, 98, 97, 93, 94 after 1M online steps (FQL's runs of RLPD; the paper has figures only)",
        Later("segue.recipes.rlpd:RLPD_METHOD"),
    ),
    Recipe(
        "fql",
        "Park, Li and Levine 2025, FQL, arXiv 2502.02538",
        "OGBench's default tasks: cube-double 0.33, scene 0.53 offline, 0.76 and 0.95 after 1M online steps "
        "(Q-chunking's runs of FQL, means of five tasks)",
        Later("segue.recipes.fql:FQL_METHOD"),
    ),
    Recipe(
        "bfn",
        "Li, Zhou and Levine 2025, best-of-N flow policies, arXiv 2507.07969",
        "cube-double 0.67, scene 0.87 offline, 0.80 and 0.99 after 1M online steps (the paper's runs, means of five "
        "tasks)",
        Later("segue.recipes.bfn:BFN_METHOD"),
    ),
    Recipe(
        "bc",
        "Pomerleau 1989, behaviour cloning; numbers of CORL's BC",
        "hopper-medium 53.5, walker2d-medium 63.2, halfcheetah-medium 42.4 (CORL's runs of BC, 4 seeds)",
        Later("segue.recipes.bc:BC_METHOD"),
    ),
    Recipe(
        "flow-bc",
        "cloning with a flow: FBC in Park, Li and Levine 2025, FQL, arXiv 2502.02538",
        "a control: what the log alone gives to a policy that can have several modes",
        Later("segue.recipes.bc:FLOW_BC_METHOD"),
    ),
    Recipe(
        "sac",
        "Haarnoja et al. 2018, SAC, arXiv 1812.05905 (JaxCQL's form)",
        "a control: what the same online budget gives without data",
        Later("segue.recipes.sac:SAC_METHOD"),
    ),
    Recipe(
        "td3",
        "Fujimoto et al. 2018, TD3, arXiv 1802.09477",
        "a control: what the same online budget gives without data",
        Later("segue.recipes.td3:TD3_METHOD"),
    ),
)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _ROWS}


class System(NamedTuple):
    """What goes around recipes, as `segue list` shows it."""

    around: Callable[..., Recipe]
    says: str
    """What it does, in a line."""
    paper: str
    example: str
    recipes: int = 1
    number: bool = False
    """Whether a whole number follows the recipes: chunk(iql,5)."""


# How offline RL becomes a subroutine of online RL: what each form does.
_FORMS = {
    "validated": "Only the online agent, which also chooses among its checkpoints.",
    "recommend": "Learn online, then offline from the run's own history.",
    "recommend-fresh": "As `recommend`, but only from fresh rows of the best online policy.",
    "recommend-weighted": (
        "As `recommend`, but rows of episodes with high returns are drawn more often (the author's code)."
    ),
    "fine-tune": "As `recommend`, then online again from the best offline policy, with its own history as the dataset.",
    "fine-tune-fresh": "As `fine-tune`, after fresh rows of the best online policy.",
    "recommend-better": (
        "As `recommend`, and each seed then chooses between its best online and its best offline checkpoint."
    ),
    "alternate": "As `fine-tune`, but in each episode either the fine-tuned or the offline policy acts.",
    "repeat": (
        "Online, then twice offline and fine-tuning, then offline on all rows; the best of the last offline phase."
    ),
}
_SUBROUTINE = Later("segue.recipes.systems.subroutine:subroutine")
SYSTEMS: dict[str, System] = {
    "ooo": System(
        Later("segue.recipes.systems.ooo:ooo"),
        "Fine-tune the recipe with a bonus, then train pessimistic policies from scratch on the collected rows.",
        "Mark et al. 2023, OOO, arXiv 2310.08558",
        "ooo(iql), ooo(cal-ql) or ooo(rlpd)",
    ),
    "opt": System(
        Later("segue.recipes.systems.opt:opt"),
        "Collect with the frozen policy, pre-train new critics, fine-tune with both pairs.",
        "Shin et al. 2025, OPT, arXiv 2507.08387",
        "opt(td3-bc) or opt(spot)",
    ),
    "clone": System(
        Later("segue.recipes.systems.clone:clone"),
        "Let the recipe's policy imitate the log first; what the recipe does then begins from it.",
        "behaviour cloning, as the first step of DAPG: Rajeswaran et al. 2018, arXiv 1709.10087",
        "clone(rlpd) or clone(sac)",
    ),
    "jump-start": System(
        Later("segue.recipes.systems.jump_start:jump_start"),
        "Let a guide begin every episode: the recipe's own offline policy, or one that Segue did not train.",
        "Uchendu et al. 2023, JSRL, arXiv 2204.02372",
        "jump-start(iql), or jump-start(sac) --set online.actor.policy=FILE.onnx",
    ),
    "chunk": System(
        Later("segue.recipes.systems.chunk:chunk"),
        "Plan several actions at once, take them one after the other, and value whole plans.",
        "Li, Zhou and Levine 2025, Q-chunking, arXiv 2507.07969",
        "chunk(bfn,5), which is QC, or chunk(fql,5), QC-FQL",
        number=True,
    ),
    **{
        word: System(
            partial(_SUBROUTINE, word),
            says,
            "Su, Luo and Zhang 2025, offline RL as a subroutine, arXiv 2512.00383",
            f"{word}(sac)" if word == "validated" else f"{word}(sac,iql)",
            1 if word == "validated" else 2,
        )
        for word, says in _FORMS.items()
    },
}

__all__ = [
    "RECIPES",
    "SYSTEMS",
    "Evaluation",
    "Method",
    "Plan",
    "Recipe",
    "System",
    "TaskFacts",
    "augmented",
    "find_recipe",
    "published",
    "resolve",
]


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name, one of your own ("my_lab.recipes:curious"), or one that is composed of others
    ("cal-ql+sera", see `compose`).

    Raises `SegueError`, which suggests the nearest name.
    """
    from segue.recipes.compose import compose

    return RECIPES[name] if name in RECIPES else compose(name, RECIPES)
