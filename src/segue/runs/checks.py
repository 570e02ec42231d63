"""Checks before a run starts or resumes: parts that do not fit, robots that must not move, devices."""

from __future__ import annotations

import os

import jax

from segue.agents import describe
from segue.core.foreign import is_foreign
from segue.core.named import is_named
from segue.core.types import SegueError, Task
from segue.engine.phase import RANDOM, Phase, fresh, from_slot, new_optimisers
from segue.engine.sharing import Guide
from segue.engine.validate import validate
from segue.recipes import Plan
from segue.runs.drive import save_interval
from segue.runs.request import Request
from segue.runs.stopping import stop_when
from segue.runs.trackers import ready


def check(plan: Plan, task: Task, request: Request) -> None:
    """Raise `SegueError` before anything is compiled or written: hand-overs, trackers, seeds.

    How much experience a phase will find is not known yet; the most that it can be is assumed.
    """
    save_interval()
    ready(request.trackers)
    stop_when(plan, request)
    device()
    if task.real:
        check_real(plan, request)
    if task.absent:
        check_absent(plan, request)
    if not any(p.moves or p.all_updates for p in plan.phases):
        raise SegueError(
            "there is nothing to do: every phase has 0 steps, or neither collects nor updates; set its steps"
        )
    for phase in plan.phases:
        describe(phase.learner)  # or its policy could not be loaded again
    kept = plan.experience
    validate(plan.phases, task, request.seeds, plan.scaling, kept.capacity, kept.envs)


def notes(plan: Plan) -> list[str]:
    """Lines about what a run will do that its user may not expect."""
    capacity, written, out = plan.experience.capacity, 0, plan.told()
    for phase in plan.phases:
        if phase.learns and not phase.collects and capacity is not None and written > capacity:
            out.append(
                f"phase '{phase.name}' learns offline after {written:,} steps, and experience.capacity keeps the last "
                f"{capacity:,} of them"
            )
        written += phase.moves
    return out


def check_absent(plan: Plan, request: Request) -> None:
    """Refuse what needs an environment where there is none."""
    moving = [f"{p.name}.environment_steps=0" for p in plan.phases if p.moves]
    moving += [f"{p.name}.validation.steps=0" for p in plan.phases if p.validation.steps]
    if moving or plan.evaluation.episodes:
        by_name = ":" in request.task and not is_named(request.task)
        named = f"{request.task}?env=ID" if by_name else "env= of GymTask.custom"
        raise SegueError(
            f"{request.task} is a log without an environment: name one ({named}), or learn offline only with --set "
            f"{' '.join(moving)} evaluation=none"
        )


def check_real(plan: Plan, request: Request) -> None:
    """Raise `SegueError` for anything that would move a robot without the user's consent."""
    if any(p.moves for p in plan.phases) and plan.experience.envs > 1:
        raise SegueError(f"{request.task} is real and exists once; leave out envs={plan.experience.envs}")
    if any(p.moves for p in plan.phases) and len(request.seeds) > 1:
        raise SegueError(f"{request.task} is real and exists once, so it takes one seed; give --seeds 0,")
    if plan.evaluation.episodes:
        raise SegueError(
            f"{request.task} is real: evaluations would move it between the steps of an episode; give "
            "--set evaluation=none"
        )
    learned: set[str] = set()
    for phase in plan.phases:
        learned = _stand_trained(phase, learned)
        if phase.validation.steps:
            raise SegueError(
                f"{request.task} is real: phase '{phase.name}' would move it to choose among its checkpoints; give "
                f"--set {phase.name}.validation.steps=0"
            )
        silent = isinstance(phase.actor, Guide) and phase.actor.hand_over == "never"
        acting = phase.actors[1:] if silent else phase.actors
        new = [name for name in acting if name not in learned and not is_foreign(name)]
        if phase.moves and new and not request.untrained:
            who = "uniformly random actions" if new[0] == RANDOM else f"the untrained policy '{new[0]}'"
            raise SegueError(
                f"{request.task} is real, and phase '{phase.name}' would move it with {who}; train it offline first, "
                "or give --untrained if that is safe"
            )
        if phase.learns:
            learned.add(phase.slot)


def _stand_trained(phase: Phase, learned: set[str]) -> set[str]:
    """Slots with a trained policy after a hand-over, which may reset a slot or copy another one."""
    source = phase.init_from.init_from if isinstance(phase.init_from, new_optimisers) else phase.init_from
    if isinstance(source, from_slot):
        trained = source.slot in learned
    else:
        trained = phase.slot in learned and source is not fresh
    return learned | {phase.slot} if trained else learned - {phase.slot}


def device() -> None:
    """Refuse a device that JAX was told to use and cannot."""
    try:
        jax.devices()
    except Exception as error:
        asked = os.environ.get("JAX_PLATFORMS")
        where = f"JAX_PLATFORMS={asked}" if asked else "JAX"
        said = " ".join(str(error).split())[:160] or type(error).__name__
        raise SegueError(
            f"{where}: this device is not available ({said}); unset it, or install JAX's build for it"
        ) from error
