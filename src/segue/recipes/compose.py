"""Recipes out of recipes, by name on the command line and in Python: `cal-ql+sera` is Cal-QL with SERA's bonus,
`opt(spot)+rnd` is OPT on SPOT with RND's, `my_lab.recipes:curious+rnd` a recipe of your own with RND's.

    expression := term { "+" bonus }
    term := recipe | module ":" name | system "(" expression { "," expression } [ "," number ] ")"

A composition is a recipe like any other: its phases can be looked at with `segue explain`, its options set by path, its
runs resumed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from segue.bonuses import BONUSES, Both, Entry, Nothing, bonus_of, parts
from segue.core.named import is_named, named
from segue.core.options import unknown
from segue.core.types import Agent, SegueError
from segue.engine.phase import Phase, at_switch
from segue.recipes import SYSTEMS
from segue.recipes.method import tried
from segue.recipes.plan import Plan
from segue.recipes.recipe import Recipe

_TOKEN = re.compile(r"\s*([A-Za-z0-9_.:-]+|[()+,])")


def compose(expression: str, recipes: Mapping[str, Recipe]) -> Recipe:
    """Return the recipe that an expression names; `SegueError` says which part of it is not known or does not fit."""
    expression, words, place = expression.strip(), list[str](), 0
    while place < len(expression):
        match = _TOKEN.match(expression, place)
        if match is None:
            raise SegueError(
                f"recipe {expression}: '{expression[place]}' is not allowed here; write it like cal-ql+sera"
            )
        words.append(match[1])
        place = match.end()
    composed, rest = _expression(words, expression, recipes)
    if rest:
        raise SegueError(f"recipe {expression}: there is one '{rest[0]}' too many; write it like cal-ql+sera")
    return replace(composed, name="".join(words))


def _expression(words: list[str], shown: str, recipes: Mapping[str, Recipe]) -> tuple[Recipe, list[str]]:
    recipe, words = _term(words, shown, recipes)
    while words and words[0] == "+":
        name, words = _word(words[1:], shown, "a bonus")
        if name not in BONUSES and not is_named(name):
            unknown(f"recipe {shown}", name, BONUSES)
        recipe = augmented(recipe, name)
    return recipe, words


def _term(words: list[str], shown: str, recipes: Mapping[str, Recipe]) -> tuple[Recipe, list[str]]:
    name, words = _word(words, shown, "a recipe")
    if words[:1] == ["("]:
        if name not in SYSTEMS:
            unknown(f"recipe {shown}", name, SYSTEMS)
        system, inner, number = SYSTEMS[name], list[Recipe](), list[int]()
        while words[:1] == ["(" if not inner else ","] and not number:
            if system.number and inner and (last := words[1:2]) and last[0].isdigit():
                number, words = [int(last[0])], words[2:]
            else:
                recipe, words = _expression(words[1:], shown, recipes)
                inner.append(recipe)
        if words[:1] != [")"]:
            raise SegueError(f"recipe {shown}: a ')' is missing; write {system.example}")
        if len(inner) != system.recipes or len(number) != system.number:
            many = "one recipe" if system.recipes == 1 else f"{system.recipes} recipes"
            raise SegueError(
                f"recipe {shown}: {name} takes {many}{' and a number' * system.number}; write {system.example}"
            )
        return system.around(*inner, *number), words[1:]
    if name in SYSTEMS:
        raise SegueError(f"recipe {shown}: {name} needs a recipe in parentheses; write {SYSTEMS[name].example}")
    if is_named(name):
        return _own(name), words
    if name not in recipes:
        unknown(f"recipe {shown}", name, recipes)
    return recipes[name], words


def _word(words: list[str], shown: str, what: str) -> tuple[str, list[str]]:
    if not words or words[0] in "()+,":
        found = f"found '{words[0]}'" if words else "found the end"
        raise SegueError(f"recipe {shown}: expected {what}, {found}; write it like cal-ql+sera")
    return words[0], words[1:]


def _own(word: str) -> Recipe:
    """Return the recipe that a name in a module names: a `Recipe`, or a function of the task."""
    found = named(word, "a recipe")
    if isinstance(found, Recipe):
        return replace(found, name=word)
    if not callable(found) or isinstance(found, type):
        kind = f"the class {found.__name__}" if isinstance(found, type) else f"of type {type(found).__name__}"
        raise SegueError(f"{word} is {kind}; name a Recipe, or a function that takes a task and returns a Plan")
    return Recipe(word, (found.__doc__ or f"{word}, a recipe of your own").strip().splitlines()[0], "", found)


def augmented(recipe: Recipe, name: str) -> Recipe:
    """Return a recipe whose fine-tuning agent learns with a bonus, of the table or module:name, and its presets.

    The bonus acts where the fine-tuning agent learns online, or also offline (`Entry.when`).  Other learners of the
    recipe do not change (a density, a final policy that must learn from true rewards).
    """
    entry, who = bonus_of(name), f"{recipe.name}+{name}"
    return tried(
        who,
        f"{recipe.paper}; {entry.paper}",
        f"what {name} adds to {recipe.name}",
        lambda task: augmented_plan(recipe(task), task.names, entry, who),
    )


def augmented_plan(plan: Plan, names: Sequence[str], entry: Entry, who: str) -> Plan:
    """Return a plan whose fine-tuning agent learns with a bonus, for a task of these names."""
    switch = plan.phases[at_switch(plan.phases, f"recipe {who}")]
    paid: list[str] = []
    phases: list[Phase] = []
    for phase in plan.phases:
        here = phase.slot == switch.slot and phase.updates and isinstance(phase.learner, Agent)
        if here and (entry.when == "always" or phase.collects):
            if type(entry.bonus) in map(type, parts(phase.bonus)):
                raise SegueError(f"recipe {who}: phase '{phase.name}' already has that bonus; add it once")
            before = [p for p in phases if p.slot == phase.slot and p.updates and isinstance(p.learner, Agent)]
            new = entry.after(trained=bool(before))
            alone = isinstance(phase.bonus, Nothing)
            paid.append(f"{phase.name}.bonus.{'' if alone else 'second.'}")
            phase = replace(phase, bonus=new if alone else Both(phase.bonus, new))
        phases.append(phase)
    plan = plan.rebuilt(tuple(phases))
    for key in dict.fromkeys(names):
        options = {
            **entry.presets.get(key, {}),
            **(entry.unscaled.get(key, {}) if plan.scaling.reward_scale == 1.0 else {}),
        }
        plan = plan.set({f"{way}{option}": v for way in paid for option, v in options.items()}, f"preset {key}")
    return plan
