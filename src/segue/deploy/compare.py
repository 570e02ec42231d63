"""What an export must do: the greedy policy as one function, and actions that are compared with the policy's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from segue.core.look import side_by_side
from segue.core.observations import WHOLE, pack, parts_seen
from segue.core.types import Array, SegueError
from segue.deploy import numeric
from segue.deploy.trace import Input, Program, traced
from segue.runs.policy import Policy

OBSERVATIONS = 1_000
CLOSE = 1e-6
"""Largest difference of an action from the policy's, in halves of its range (of 1 where that is less)."""
ROUNDINGS, EPSILON = 32, 2.0**-22  # defaults of ours
Acts = Callable[[list[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Greedy:
    """A policy without exploration, as a function of arrays (B, ...): one for each part of the observation."""

    policy: Policy

    @property
    def inputs(self) -> tuple[Input, ...]:
        """What the function takes."""
        spec = self.policy.spec
        parts = tuple(Input(p.name, p.shape, p.dtype) for p in spec.parts)
        return parts or (Input(WHOLE, spec.observation, spec.dtype),)

    @property
    def shape(self) -> tuple[int, ...]:
        """(A,), or (taken, A) where the policy plans several actions at once."""
        action = self.policy.spec.action
        return (action,) if self.policy.chunk == 1 else (self.policy.taken, action)

    @cached_property
    def program(self) -> Program:
        """The function in the operations of `numeric`."""
        return traced(self.act, self.inputs)

    def act(self, *given: Array) -> Array:
        """Actions (B, *shape) within the environment's bounds, for raw observations."""
        policy, parts = self.policy, parts_seen(self.policy.spec)
        parted = {p.name: side_by_side(p, x) for p, x in zip(parts, given)}
        seen: Any = parted if parts else policy.scaling.see(given[0])
        action = policy.agent.act(policy.state, seen, jax.random.key(0), False)  # the key that `Policy.act` takes
        low, high = (jnp.asarray(policy.facts["action"][k], jnp.float32) for k in ("low", "high"))
        if policy.taken < policy.chunk:
            action = action[:, : policy.taken * policy.spec.action]
        return low + 0.5 * (action.reshape(given[0].shape[0], *self.shape) + 1.0) * (high - low)


def compared(greedy: Greedy, acts: Acts, what: str) -> tuple[float, int]:
    """The largest difference from the policy's actions, in halves of their ranges, and how many rows are left out.

    A row is left out where rounding alone moves the program's action by as much, see `own_rounding`.  Raises
    `SegueError` where another row differs by more than `CLOSE`.
    """
    policy, inputs = greedy.policy, greedy.inputs
    given = observations(policy, inputs)
    whole = pack(policy.spec.parts, dict(zip((x.name for x in inputs), given))) if policy.spec.parts else given[0]
    wanted = policy.plan(whole).reshape(OBSERVATIONS, *greedy.shape)
    found = np.concatenate([acts([x[:1] for x in given]), acts([x[1:] for x in given])])
    if found.shape != wanted.shape:
        raise SegueError(f"{what} was refused: it gives actions {found.shape}, and the policy {wanted.shape}")
    apart = distance(policy, found, wanted)
    far = ~(apart <= CLOSE)
    if far.any():
        with suppress(SegueError):  # a program that only XLA can hold: then nothing is left out
            far &= ~(apart <= CLOSE + own_rounding(policy, greedy.program, given))
    if far.any():
        raise SegueError(
            f"{what} was refused: its actions differ from the policy's by up to {apart[far].max():.2g} of half their "
            f"range, in {far.sum()} of {OBSERVATIONS} random observations; {CLOSE:g} is allowed; nothing was written"
        )
    near = apart <= CLOSE
    return float(apart[near].max(initial=0.0)), int((~near).sum())


def own_rounding(policy: Policy, program: Program, given: list[np.ndarray]) -> np.ndarray:
    """How far a program's actions move, (B,), when its products of matrices are rounded otherwise.

    Each sum of k products is moved by up to 2^-22 of the sum of their sizes, which is what the order of such a sum may
    change in float32.  The action moves far only where a mixture's choice is a tie, or where an observation is far from
    those that the policy has learned from.
    """
    draw = np.random.default_rng(1)

    def moved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        exact = a @ b
        return np.asarray(exact + EPSILON * (abs(a) @ abs(b)) * draw.uniform(-1.0, 1.0, exact.shape), exact.dtype)

    found = []
    for product in (np.matmul, *[moved] * ROUNDINGS):
        values = program.constants | dict(zip((x.name for x in program.inputs), given))
        with np.errstate(all="ignore"):
            numeric.run(program.steps, values, OBSERVATIONS, numeric.OPERATIONS | {"matmul": product})
        found.append(values[program.output])
    return np.max([distance(policy, x, found[0]) for x in found[1:]], axis=0)


def distance(policy: Policy, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Largest difference of actions (B, ..., A) in each row, (B,), in halves of their ranges (of 1 if that is less)."""
    low, high = (np.asarray(policy.facts["action"][k], np.float64) for k in ("low", "high"))
    return np.max(np.abs(one - other) / np.maximum(0.5 * (high - low), 1.0), axis=tuple(range(1, one.ndim)))


def observations(policy: Policy, inputs: tuple[Input, ...]) -> list[np.ndarray]:
    """Random observations (1000, ...), spread as the policy's were if it standardises them; bytes are uniform."""
    draw = np.random.default_rng(0)
    mean, std = policy.scaling.observation_mean or (0.0,), policy.scaling.observation_std or (1.0,)
    found = []
    for x in inputs:
        shape = (OBSERVATIONS, *x.shape)
        real = x.dtype != "uint8"
        found.append(draw.normal(mean, std, shape).astype(x.dtype) if real else draw.integers(0, 256, shape, np.uint8))
    return found
