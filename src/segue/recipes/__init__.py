"""The table of recipes."""

from __future__ import annotations

from segue.options import unknown
from segue.recipes.cal_ql import CAL_QL, CQL_RECIPE
from segue.recipes.recipe import Evaluation, Recipe, Resolved, resolve
from segue.recipes.sac import SAC_RECIPE

RECIPES: dict[str, Recipe] = {r.name: r for r in (CAL_QL, CQL_RECIPE, SAC_RECIPE)}

__all__ = ["RECIPES", "Evaluation", "Recipe", "Resolved", "find_recipe", "resolve"]


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name; `SegueError` suggests the nearest one."""
    if name not in RECIPES:
        unknown(f"recipe {name}", name, RECIPES)
    return RECIPES[name]
