"""Recipes out of recipes, by name on the command line and in Python: `cal-ql+sera` is Cal-QL with SERA's bonus,
`opt(spot)+rnd` is OPT on SPOT with RND's.

    expression := term { "+" augmentation }        term := recipe | system "(" expression { "," expression } ")"

A composition is a recipe like any other: its phases can be looked at with `segue explain`, its options set by path, its
runs resumed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from segue.bonuses import AUGMENTATIONS, Both, Nothing, parts
from segue.core.options import unknown
from segue.core.types import Agent, SegueError
from segue.engine.phase import Phase, at_switch
from segue.recipes.recipe import Recipe
from segue.recipes.systems import subroutine
from segue.recipes.systems.ooo import ooo
from segue.recipes.systems.opt import opt


class System(NamedTuple):
    """What goes around recipes, as `segue list` shows it."""

    around: Callable[..., Recipe]
    paper: str
    example: str
    recipes: int = 1


_SUBROUTINE = "Su, Luo and Zhang 2025, offline RL as a subroutine, arXiv 2512.00383"
SYSTEMS: dict[str, System] = {
    "ooo": System(ooo, "Mark et al. 2023, OOO, arXiv 2310.08558", "ooo(iql), ooo(cal-ql) or ooo(rlpd)"),
    "opt": System(opt, "Shin et al. 2025, OPT, arXiv 2507.08387", "opt(td3-bc) or opt(spot)"),
    "validated": System(subroutine.validated, _SUBROUTINE, "validated(sac)"),
    "recommend": System(subroutine.recommend, _SUBROUTINE, "recommend(sac,iql)", 2),
    "recommend-fresh": System(subroutine.recommend_fresh, _SUBROUTINE, "recommend-fresh(sac,iql)", 2),
    "recommend-weighted": System(subroutine.recommend_weighted, _SUBROUTINE, "recommend-weighted(sac,iql)", 2),
    "fine-tune": System(subroutine.fine_tune, _SUBROUTINE, "fine-tune(sac,iql)", 2),
    "fine-tune-fresh": System(subroutine.fine_tune_fresh, _SUBROUTINE, "fine-tune-fresh(sac,iql)", 2),
    "recommend-better": System(subroutine.recommend_better, _SUBROUTINE, "recommend-better(sac,iql)", 2),
    "alternate": System(subroutine.alternate, _SUBROUTINE, "alternate(sac,iql)", 2),
    "repeat": System(subroutine.repeat, _SUBROUTINE, "repeat(sac,iql)", 2),
}
_TOKEN = re.compile(r"\s*([A-Za-z0-9_.-]+|[()+,])")


def compose(expression: str, recipes: Mapping[str, Recipe]) -> Recipe:
    """Return the recipe that an expression names; `SegueError` says which part of it is not known or does not fit."""
    expression, words, place = expression.strip(), list[str](), 0
    while place < len(expression):
        match = _TOKEN.match(expression, place)
        if match is None:
            raise SegueError(f"recipe {expression}: '{expression[place]}' has no meaning here; write cal-ql+sera")
        words.append(match[1])
        place = match.end()
    composed, rest = _expression(words, expression, recipes)
    if rest:
        raise SegueError(f"recipe {expression}: there is a '{rest[0]}' too many; write cal-ql+sera")
    return replace(composed, name="".join(words))


def _expression(words: list[str], shown: str, recipes: Mapping[str, Recipe]) -> tuple[Recipe, list[str]]:
    recipe, words = _term(words, shown, recipes)
    while words and words[0] == "+":
        name, words = _word(words[1:], shown, "an augmentation")
        if name not in AUGMENTATIONS:
            unknown(f"recipe {shown}", name, AUGMENTATIONS)
        recipe = augmented(recipe, name)
    return recipe, words


def _term(words: list[str], shown: str, recipes: Mapping[str, Recipe]) -> tuple[Recipe, list[str]]:
    name, words = _word(words, shown, "a recipe")
    if words[:1] == ["("]:
        if name not in SYSTEMS:
            unknown(f"recipe {shown}", name, SYSTEMS)
        inner: list[Recipe] = []
        while words[:1] == ["(" if not inner else ","]:
            recipe, words = _expression(words[1:], shown, recipes)
            inner.append(recipe)
        if words[:1] != [")"]:
            raise SegueError(f"recipe {shown}: a ')' is missing; write {SYSTEMS[name].example}")
        if len(inner) != (wanted := SYSTEMS[name].recipes):
            many = "one recipe" if wanted == 1 else f"{wanted} recipes"
            raise SegueError(f"recipe {shown}: {name} takes {many}; write {SYSTEMS[name].example}")
        return SYSTEMS[name].around(*inner), words[1:]
    if name in SYSTEMS:
        raise SegueError(f"recipe {shown}: {name} goes around a recipe; write {SYSTEMS[name].example}")
    if name not in recipes:
        unknown(f"recipe {shown}", name, recipes)
    return recipes[name], words


def _word(words: list[str], shown: str, what: str) -> tuple[str, list[str]]:
    if not words or words[0] in "()+,":
        found = f"not '{words[0]}'" if words else "not the end"
        raise SegueError(f"recipe {shown}: {what} must stand here, {found}; write cal-ql+sera")
    return words[0], words[1:]


def augmented(recipe: Recipe, name: str) -> Recipe:
    """Return a recipe whose fine-tuning agent learns with an augmentation of the table, and its presets.

    The augmentation acts where the agent that fine-tunes learns online, or wherever it learns (`Entry.when`).  What
    else a recipe trains (a density, a policy for the end that must see true rewards) is left as it is.
    """
    entry = AUGMENTATIONS[name]
    switch = recipe.phases[at_switch(recipe.phases, f"recipe {recipe.name}+{name}")]
    paid, moved = [], {}
    phases: list[Phase] = []
    for phase in recipe.phases:
        here = phase.slot == switch.slot and phase.updates and isinstance(phase.learner, Agent)
        if here and (entry.when == "always" or phase.collect):
            if type(entry.augmentation) in map(type, parts(phase.augment)):
                raise SegueError(
                    f"recipe {recipe.name}+{name}: phase '{phase.name}' has that bonus already; add it once"
                )
            before = [p for p in phases if p.slot == phase.slot and p.updates and isinstance(p.learner, Agent)]
            new = entry.augmentation if before or entry.from_scratch is None else entry.from_scratch
            alone = isinstance(phase.augment, Nothing)
            paid.append(f"{phase.name}.augment.{'' if alone else 'second.'}")
            if not alone:
                moved[f"{phase.name}.augment."] = f"{phase.name}.augment.first."
            phase = replace(phase, augment=new if alone else Both(phase.augment, new))
        phases.append(phase)
    presets = {
        key: {_moved(path, moved): value for path, value in preset.items()} for key, preset in recipe.presets.items()
    }
    for key in {*entry.presets, *entry.unscaled}:
        kept = presets.get(key, {})
        options = {**entry.presets.get(key, {}), **({} if "units.scale" in kept else entry.unscaled.get(key, {}))}
        presets[key] = kept | {f"{way}{option}": value for way in paid for option, value in options.items()}
    return replace(
        recipe,
        name=f"{recipe.name}+{name}",
        paper=f"{recipe.paper}; {entry.paper}",
        aim=f"what {name} adds to {recipe.name}",
        phases=tuple(phases),
        presets=presets,
    )


def _moved(path: str, moved: Mapping[str, str]) -> str:
    """A preset's path to an augmentation that has become the first of two."""
    for old, new in moved.items():
        if path.startswith(old):
            return new + path.removeprefix(old)
    return path
