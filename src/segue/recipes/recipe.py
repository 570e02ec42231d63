"""A recipe by its name: a function of a task, which returns a plan.  The words alone need no JAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from segue.core.observations import is_image, parts_seen
from segue.core.types import SegueError, Spec, Task
from segue.recipes.common import Settings

if TYPE_CHECKING:
    from segue.recipes.plan import Plan


class TaskFacts(NamedTuple):
    """Facts of a task that a recipe may use."""

    names: tuple[str, ...] = ()
    """From the general to the particular: its domain, the names of its presets, its own name."""
    decides: Settings = MappingProxyType({})
    """Options that the task itself decides, such as its failure reward."""
    spec: Spec | None = None
    """Shapes of observations and actions; None takes observations to be vectors."""

    @property
    def flat(self) -> bool:
        """Whether observations are vectors."""
        return self.spec is None or not parts_seen(self.spec)

    @property
    def images(self) -> bool:
        """Whether there are images in observations."""
        return self.spec is not None and any(map(is_image, parts_seen(self.spec)))

    @classmethod
    def of(cls, task: Task) -> TaskFacts:
        """Return the facts of a task; only one of vectors is standardised, only one with an environment evaluated."""
        facts = cls((task.domain, *task.presets, task.name), {"scaling.failure": task.failure}, task.spec)
        still: dict[str, int] = {"evaluation.episodes": 0} if task.absent else {}
        still |= {"evaluation.training_episodes": LAST} if task.real and not task.absent else {}
        blank = {} if facts.flat else {"scaling.standardise": False}
        return facts._replace(decides={**facts.decides, **still, **blank})


LAST = 10  # training episodes of a real environment that stand for an evaluation
NOWHERE = TaskFacts()


@dataclass(frozen=True)
class Recipe:
    """A named function of a task that returns a `Plan`: a `Method` for a paper, or a system around a recipe."""

    name: str
    paper: str
    aim: str
    """The published number that the recipe aims at, or its purpose."""
    plan: Callable[[TaskFacts], Plan]

    def __call__(self, task: TaskFacts = NOWHERE) -> Plan:
        """Return the plan for a task; without one, the plan with defaults.  Raises `SegueError`."""
        from segue.recipes.plan import Plan

        made = self.plan(task)
        if not isinstance(made, Plan):
            raise SegueError(f"recipe {self.name}: returned {type(made).__name__} for a task; return a Plan")
        return replace(made, paper=self.paper)
