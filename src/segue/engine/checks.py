"""Whether a phase's numbers and parts fit: checks that compute nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import get_args

from segue.core.foreign import is_foreign
from segue.core.log import Data
from segue.core.observations import is_image, parts_seen
from segue.core.parts import within
from segue.core.scaling import Scaling
from segue.core.types import Acting, SegueError, Slot, Spec, policy_of
from segue.engine.phase import RANDOM, Phase, Windows
from segue.samplers.subset import Prefix


def check_phase(
    phase: Phase,
    slots: Mapping[str, Slot],
    spec: Spec,
    horizon: int,
    logged: int,
    written: int,
    closed: int,
    most: int = 2**31 - 1,
    envs: int = 1,
) -> None:
    """Refuse a phase whose parts do not fit, naming both sides.

    `slots` stand when it begins.  There are `logged` rows of a dataset, and `written` rows of own experience per seed,
    of which `closed` belong to episodes that have ended and the newest `most` are kept.  Each seed has `envs`
    simulators.
    """
    where = f"phase '{phase.name}'"
    check_clocks(phase, where, envs)
    if phase.collects and phase.train_every % envs:
        raise SegueError(
            f"{where}: train_every={phase.train_every} is no multiple of envs={envs}, which all step before an update; "
            "set one of them"
        )
    if phase.freeze_actor < 0 or not 0 <= phase.epsilon <= 1:
        raise SegueError(f"{where}: freeze_actor must not be negative, and epsilon must lie between 0 and 1")
    if phase.freeze_actor and not policy_of(phase.learner):
        raise SegueError(f"{where}: {type(phase.learner).__name__} has no policy to freeze; leave out freeze_actor")
    if phase.n_steps < 1:
        raise SegueError(f"{where}: n_steps={phase.n_steps} is out of range; give 1 (no n-step returns) or more")
    if not 1 <= phase.chunk <= max(horizon, 1):
        raise SegueError(f"{where}: chunk={phase.chunk} is out of range; episodes of the task have {horizon} steps")
    if phase.replan is not None and not 1 <= phase.replan <= phase.chunk:
        raise SegueError(f"{where}: replan={phase.replan} is out of range; a plan has {phase.chunk} actions")
    if phase.chunk > 1 and phase.n_steps > 1:
        raise SegueError(f"{where}: chunk={phase.chunk} sums its rewards already; leave n_steps={phase.n_steps} out")
    if phase.windows not in get_args(Windows):
        raise SegueError(f"{where}: windows={phase.windows} is not one of {', '.join(get_args(Windows))}")
    if phase.windows == "anywhere" and phase.learns and not getattr(phase.learner, "weighs", False):
        raise SegueError(
            f"{where}: {type(phase.learner).__name__} does not weigh its rows, so windows that run over an episode's "
            "end would teach it what is not so; leave windows=anywhere out"
        )
    for name in _goes_on_from(phase):
        if name in slots and slots[name].chunk != phase.chunk:
            raise SegueError(
                f"{where}: chunk={phase.chunk}, and slot '{name}' was built for chunk={slots[name].chunk}; give "
                "both the same, or this phase init_from=fresh"
            )
    if phase.image_shift < 0:
        raise SegueError(f"{where}: image_shift={phase.image_shift} is out of range; 0 does not shift images")
    if phase.image_shift and not any(is_image(part) for part in parts_seen(spec)):
        raise SegueError(f"{where}: image_shift={phase.image_shift} and the task has no images; leave it out")
    if phase.validation.steps and (phase.validation.steps < 0 or phase.validation.episodes < 1):
        raise SegueError(f"{where}: validation.steps must not be negative, validation.episodes must be at least 1")
    if phase.validation.steps and not isinstance(phase.learner, Acting):
        raise SegueError(
            f"{where}: {type(phase.learner).__name__} does not act, so it cannot be validated; set validation.steps=0"
        )
    if phase.validation.steps and phase.steps and not phase.validation.after(horizon, phase.steps // phase.round):
        least = phase.validation.episodes * horizon
        raise SegueError(
            f"{where}: one validation takes up to {least:,} steps; set {phase.name}.validation.steps to that"
        )
    if phase.validation.steps and phase.validation.keep == phase.slot:
        raise SegueError(
            f"{where}: it trains slot '{phase.slot}', so its best checkpoint needs another slot; set validation.keep"
        )
    sharing = None if isinstance(phase.actor, str) else phase.actor
    if phase.collects and sharing is not None and (problem := sharing.validate(phase)):
        raise SegueError(f"{where} {problem}")
    for name in phase.actors:
        if name not in (RANDOM, phase.slot, *slots) and not (sharing is not None and is_foreign(name)):
            if is_foreign(name):
                raise SegueError(f"{where}: give actor=Guide and actor.policy={name} in the place of actor={name}")
            known = ", ".join(sorted(slots)) or "none yet"
            raise SegueError(f"{where} acts with slot '{name}', but no earlier phase trains it; name one of: {known}")
    if phase.learns:
        check_first(phase, written, most)
        ready = phase.train_every if phase.collects and not phase.overlap else 0
        lost = max(written - most, 0)
        own = (n if n >= phase.chunk else 0 for n in (min(written + ready, most), max(closed - lost, 0)))
        problem = phase.batch.validate(logged, *own)
        problem = problem or phase.bonus.validate(phase, slots, spec, logged)
        if problem:
            raise SegueError(f"{where}: {problem}")


def _goes_on_from(phase: Phase) -> tuple[str, ...]:
    """Slots that a phase's own one is made of, or that share its episodes: their policies plan as many actions."""
    own = (phase.slot,) if phase.init_from is None else getattr(phase.init_from, "reads", ())
    return (*own, *phase.actors[1:])


def check_windows(phase: Phase, data: Data | None) -> None:
    """Refuse a phase of chunks where no window of a dataset is whole."""
    if phase.chunk > 1 and data is not None and not len(data.whole(phase.chunk)):
        raise SegueError(
            f"phase '{phase.name}': chunk={phase.chunk} is longer than every episode of the dataset that does not "
            "terminate; take a smaller one"
        )


def check_clocks(phase: Phase, where: str, envs: int = 1) -> None:
    """Refuse lengths and intervals that make no sense with so many simulators of each seed."""
    if min(phase.gradient_steps, phase.moves, phase.utd_ratio, phase.evaluate_every) < 0:
        raise SegueError(f"{where}: steps, utd_ratio and evaluate_every must not be negative")
    if min(phase.log_every, phase.train_every) < 1:
        raise SegueError(f"{where}: log_every and train_every must be at least 1")
    if phase.collects and phase.gradient_steps:
        raise SegueError(f"{where}: it has gradient_steps and environment_steps; give one of them")
    if phase.moves % phase.train_every:
        why = f" (envs={envs})" if envs > 1 else ""
        said = f"environment_steps={phase.moves} is no multiple of train_every={phase.train_every}{why}"
        raise SegueError(f"{where}: {said}; change one of them")
    if phase.collects and not math.isclose(phase.utd_ratio * phase.train_every, phase.updates, abs_tol=1e-9):
        raise SegueError(
            f"{where}: utd_ratio={phase.utd_ratio:g} with train_every={phase.train_every} is not a whole number of "
            "updates; set train_every to a multiple that makes it one"
        )


def check_handovers(phases: Sequence[Phase], scaling: Scaling) -> None:
    """Refuse a phase that needs a slot that nothing before it fills; `scaling` is the recipe's.

    `init_from` may say which slots it `reads`, and which slots it compares by validation (`compares`).
    """
    held: dict[str, Scaling] = {}
    kept: set[str] = set()
    for phase in phases:
        where, here, handover = f"phase '{phase.name}'", phase.scaling or scaling, phase.init_from
        chosen: tuple[str, ...] = getattr(handover, "compares", ())
        judged = (*chosen, *phase.compares)
        acting = tuple(name for name in phase.actors[1:] if name not in ("", phase.slot) and not is_foreign(name))
        for name in (*acting, *chosen, *getattr(handover, "reads", ())):
            if name not in held:
                known = ", ".join(held) or "none"
                raise SegueError(f"{where} reads slot '{name}', but no earlier phase fills it; name one of: {known}")
        for name in judged:
            if name not in kept:
                raise SegueError(
                    f"{where} compares slot '{name}' by validation; an earlier phase must keep its best there"
                )
            if name in chosen and held[name] != here:
                raise SegueError(
                    f"{where} chooses between policies that learn in different scaling; give the phases that train "
                    f"'{chosen[0]}' and '{chosen[1]}', and '{phase.name}' itself, the same scaling"
                )
        held[phase.slot] = here
        if phase.validation.steps:
            held[phase.validation.keep] = here
            kept.add(phase.validation.keep)


def check_first(phase: Phase, written: int, most: int) -> None:
    """Refuse a phase that looks back at the first own rows where only the newest `most` of `written` are kept."""
    if phase.learns and written > most and any(isinstance(part, Prefix) for part in within(phase.batch)):
        raise SegueError(
            f"phase '{phase.name}' learns from the first rows of own experience, and capacity={most} has thrown them "
            f"away by step {written:,}; give capacity={written} or none"
        )
