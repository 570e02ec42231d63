"""Methods as data, and what a recipe's plan is for a task once everything is decided."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from segue.core import options
from segue.core.scaling import Scaling
from segue.core.types import SegueError
from segue.engine.phase import Phase
from segue.recipes.common import ENCODERS, IMAGE_SHIFT, IMAGE_SHIFTS, Settings
from segue.recipes.continued import continued
from segue.recipes.plan import USER, Evaluation, Plan, Rule, apply, stands_for
from segue.recipes.recipe import Recipe, TaskFacts


@dataclass(frozen=True)
class Method:
    """A method as data: phases, scaling, evaluation, and presets {name: {path: value}} for a task's names.

    Called with a task it returns the plan: first the facts of the task, then presets.
    """

    phases: tuple[Phase, ...]
    scaling: Scaling
    evaluation: Evaluation = field(default_factory=Evaluation)
    presets: Mapping[str, Settings] = field(default_factory=dict)

    def __call__(self, task: TaskFacts) -> Plan:
        """Return the method's plan for a task."""
        plan = Plan(self.phases, self.scaling, self.evaluation)
        return plan.set(task.decides, "task").preset(self.presets, task.names)


def published(
    name: str,
    paper: str,
    aim: str,
    phases: tuple[Phase, ...],
    scaling: Scaling,
    evaluation: Evaluation,
    presets: Mapping[str, Settings] = MappingProxyType({}),
) -> Recipe:
    """Return the recipe of a `Method`."""
    return Recipe(name, paper, aim, Method(phases, scaling, evaluation, presets))


def tried(name: str, paper: str, aim: str, plan: Callable[[TaskFacts], Plan]) -> Recipe:
    """Return a recipe that has been called once, so that parts that do not fit raise `SegueError` at once."""
    recipe = Recipe(name, paper, aim, plan)
    recipe()
    return recipe


def resolve(
    recipe: Recipe,
    task: TaskFacts,
    settings: Settings,
    rules: Mapping[str, Rule] | None = None,
    before: Plan | None = None,
) -> Plan:
    """Return a recipe's plan for a task with hand-over rules and the user's settings, in this order; then settle the
    numbers that follow from others.  `before` are phases of another run, which it goes on from.

    Raises `SegueError` for an unknown name (with the nearest known one), a wrong type, or an option of the user's
    that has no effect.
    """
    plan = recipe(task)
    plan = seeing(plan, task) if task.images else plan
    plan, touched, aliases = plan.ruled(rules or {}), dict[str, list[str]](), dict[str, str]()
    for path, value in settings.items():
        touched[path], own = apply(plan, path, value)[1], stands_for(plan, path)
        way, _, last = path.rpartition(".")
        if way and touched[path][0].rpartition(".")[2] == options.ALIASES.get(last):
            own = [f"{way}.{options.ALIASES[last]}"]
        if own != [path]:
            aliases[path] = ", ".join(own)
        plan = plan.set({path: value}, USER)
    for path, changed in touched.items():
        _check_effect(plan, path, changed, task.images)
    whole, gone = (plan.settled(), ()) if before is None else continued(plan, before)
    for path, changed in touched.items():
        if all(full.partition(".")[0] in gone for full in changed):
            raise SegueError(f"{path}: inherited phases stand in the place of {', '.join(gone)}; leave it out")
    return replace(whole, aliases=aliases)


def seeing(plan: Plan, task: TaskFacts) -> Plan:
    """Return a plan for a task with images: random shifts where a phase updates, and the task's presets of encoders."""
    updating = [phase.name for phase in plan.phases if phase.updates]
    shift = lambda pixels: {f"{name}.image_shift": pixels for name in updating}  # noqa: E731
    plan = plan.set(shift(IMAGE_SHIFT), "task").preset(ENCODERS, task.names)
    return plan.preset({name: shift(pixels) for name, pixels in IMAGE_SHIFTS.items()}, task.names)


def _check_effect(plan: Plan, path: str, changed: Sequence[str], images: bool) -> None:
    """Raise `SegueError` where a setting has no effect on any of the options that it changed."""
    failures, owners = [], plan.owners()
    for full in changed:
        owner, _, rest = full.partition(".")
        try:
            options.check_effect(owners[owner], rest, path, images)
        except SegueError as error:
            failures.append(error)
    if len(failures) == len(changed):
        raise failures[0]
