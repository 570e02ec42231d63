"""Jump-start roll-ins around a recipe (JSRL: Uchendu et al. 2023, arXiv 2204.02372): a guide begins every episode, and
the policy that learns takes over.

`jump-start(iql)` is the paper's: IQL learns the guide offline, and a fresh IQL learns online, from the log and from
what guide and policy do.  A recipe without an offline phase needs a guide that Segue did not train:

    segue run "jump-start(sac)" TASK --set online.actor.policy=FILE.onnx
"""

from __future__ import annotations

from dataclasses import replace

from segue.core.types import Acting, SegueError
from segue.engine.phase import RANDOM, at_switch
from segue.engine.sharing import Guide
from segue.recipes.method import tried
from segue.recipes.plan import Plan
from segue.recipes.recipe import Recipe, TaskFacts

GUIDE = "guide"  # the slot of the guide that the recipe itself learns


def jump_start(recipe: Recipe) -> Recipe:
    """Return the recipe whose episodes a guide begins.

    Raises `SegueError` where the recipe's online agent is made of its offline one.
    """
    who = f"jump-start({recipe.name})"

    def plan(task: TaskFacts) -> Plan:
        return jump_start_plan(recipe(task), who)

    aim = "AntMaze and Adroit, above IQL's own fine-tuning where demonstrations are few (the paper's figures)"
    return tried(who, f"Uchendu et al. 2023, JSRL, arXiv 2204.02372, on {recipe.paper}", aim, plan)


def jump_start_plan(plan: Plan, who: str = "jump-start") -> Plan:
    """Return a plan whose episodes a guide begins; random warm-ups are left out, since the guide acts from the first
    step on."""
    switch = plan.phases[at_switch(plan.phases, who)]
    if not isinstance(switch.learner, Acting) or switch.actor is not None:
        raise SegueError(f"{who}: its online phase does not act with its own policy alone; use another recipe")
    if switch.init_from is not None:
        raise SegueError(f"{who}: its online agent is made of its offline one (init_from=); use another recipe")
    index = plan.phases.index(switch)
    before = [p for p in plan.phases[:index] if p.slot == switch.slot]
    learned = [replace(p, slot=GUIDE) for p in before if p.learns]
    guide = Guide(GUIDE if learned else "")
    others = [p for p in plan.phases[:index] if p.slot != switch.slot]
    own = replace(switch, actor=guide)
    for phase in before:
        if phase.collects and not (phase.learns or phase.actor == RANDOM or learned):
            raise SegueError(
                f"{who}: phase '{phase.name}' collects with a policy that has not learned; use another recipe"
            )
    return plan.rebuilt((*others, *learned, own, *plan.phases[index + 1 :]))
