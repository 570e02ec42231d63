"""The table of recipes."""

from __future__ import annotations

from segue.recipes.awac import AWAC_RECIPE
from segue.recipes.cal_ql import CAL_QL, CQL_RECIPE
from segue.recipes.compose import SYSTEMS, augmented, compose
from segue.recipes.iql import IQL_RECIPE
from segue.recipes.pex import PEX_RECIPE
from segue.recipes.rebrac import REBRAC_RECIPE
from segue.recipes.recipe import Evaluation, Recipe, Resolved, extended, resolve
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
    "Recipe",
    "Resolved",
    "augmented",
    "compose",
    "extended",
    "find_recipe",
    "resolve",
]


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name, or one that is composed of others ("cal-ql+sera", see `compose`).

    Raises `SegueError`, which suggests the nearest name.
    """
    return RECIPES[name] if name in RECIPES else compose(name, RECIPES)
