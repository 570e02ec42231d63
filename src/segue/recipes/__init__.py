"""Recipes: papers as functions of a task, in a table; systems and bonuses around them; hand-over rules."""

from __future__ import annotations

from segue.recipes.awac import AWAC_RECIPE
from segue.recipes.cal_ql import CAL_QL, CQL_RECIPE
from segue.recipes.compose import SYSTEMS, augmented, compose
from segue.recipes.iql import IQL_RECIPE
from segue.recipes.pex import PEX_RECIPE
from segue.recipes.plan import Evaluation, Plan
from segue.recipes.rebrac import REBRAC_RECIPE
from segue.recipes.recipe import Method, Recipe, TaskFacts, published, resolve
from segue.recipes.rlpd import RLPD_RECIPE
from segue.recipes.sac import SAC_RECIPE
from segue.recipes.spot import SPOT_RECIPE
from segue.recipes.td3 import TD3_BC_RECIPE, TD3_RECIPE
from segue.recipes.wsrl import WSRL_RECIPE

RECIPES: dict[str, Recipe] = {
    r.name: r
    for r in (
        CAL_QL,
        CQL_RECIPE,
        IQL_RECIPE,
        AWAC_RECIPE,
        TD3_BC_RECIPE,
        REBRAC_RECIPE,
        SPOT_RECIPE,
        PEX_RECIPE,
        WSRL_RECIPE,
        RLPD_RECIPE,
        SAC_RECIPE,
        TD3_RECIPE,
    )
}

__all__ = [
    "RECIPES",
    "SYSTEMS",
    "Evaluation",
    "Method",
    "Plan",
    "Recipe",
    "TaskFacts",
    "augmented",
    "compose",
    "find_recipe",
    "published",
    "resolve",
]


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name, one of your own ("my_lab.recipes:curious"), or one that is composed of others
    ("cal-ql+sera", see `compose`).

    Raises `SegueError`, which suggests the nearest name.
    """
    return RECIPES[name] if name in RECIPES else compose(name, RECIPES)
