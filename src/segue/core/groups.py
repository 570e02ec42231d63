"""Which seeds one call of a program trains, and where.

Seeds do not know of each other, so that their programs run beside each other.  On a CPU a group is one seed: a program
of one seed is compiled once for any number of them, keeps a seed's arrays where they are, and gives the same bits
whatever the other seeds are.  Threads call it for several seeds at once, a core for each; two threads within one matrix
product gain far less.  On accelerators a group is the seeds of one device, side by side in one program.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import jax
import numpy as np

from segue.core.types import SegueError, State

T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """Seeds that one call trains: `size` of them from the place `first` among a run's seeds."""

    first: int
    size: int
    device: Any = None
    """Where its arrays are; None where JAX puts them."""

    @property
    def lanes(self) -> slice:
        """Its seeds' places in arrays (S, ...)."""
        return slice(self.first, self.first + self.size)

    def place(self, tree: State) -> State:
        """Arrays on the group's device."""
        return jax.device_put(tree, self.device)


@dataclass(frozen=True)
class Groups:
    """All groups of a run's seeds, in order; `threads` call their programs."""

    members: tuple[Group, ...]
    threads: int = 1

    @classmethod
    def of(cls, seeds: int) -> Groups:
        """The groups of so many seeds on this machine."""
        if jax.default_backend() == "cpu":
            return cls(tuple(Group(s, 1) for s in range(seeds)), min(seeds, cores()))
        devices = jax.local_devices()[:seeds]
        cuts = np.linspace(0, seeds, len(devices) + 1).round().astype(int).tolist()
        where = devices if len(devices) > 1 else [None]
        return cls(tuple(Group(a, b - a, device) for a, b, device in zip(cuts, cuts[1:], where)))

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self.threads, "segue-seeds")

    def launch(self, work: Callable[[int], T], alone: bool = False) -> list[Future[T]]:
        """Begin `work` (of a group's number) for every group; `alone` does one after the other, and then returns.

        A program must be compiled before several threads call it: each would compile it.
        """
        if self.threads == 1 or alone:
            return [_done(work(n)) for n in range(len(self.members))]
        return [self._pool.submit(work, n) for n in range(len(self.members))]

    def ready(self, value: State) -> State:
        """A result of `work`; where threads work, once it is computed: one that begins the next too early would wait
        in line with it."""
        return value if self.threads == 1 else jax.block_until_ready(value)

    def split(self, tree: State) -> list[State]:
        """Arrays (S, ...) as one tree for each group, on its device."""
        if len(self.members) == 1:
            return [self.members[0].place(tree)]
        # Copied apart: an array that shares its memory could not be given to a program for its results.
        return [g.place(jax.tree.map(lambda x, g=g: np.array(np.asarray(x)[g.lanes]), tree)) for g in self.members]

    def join(self, trees: Sequence[State]) -> State:
        """The groups' arrays (size, ...) as arrays (S, ...)."""
        if len(trees) == 1:
            return trees[0]
        return jax.tree.map(lambda *xs: jax.device_put(np.concatenate(jax.device_get(xs))), *trees)


def cores() -> int:
    """Cores that this process may use; NPROC counts them otherwise, as it does for XLA."""
    if (told := os.environ.get("NPROC", "")).isdecimal():
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def use_cores(wanted: int) -> None:
    """Use so many cores, before JAX has looked for its devices: its threads, those of seeds and of simulators."""
    if not 1 <= wanted <= cores():
        raise SegueError(f"--cores {wanted}: this process may use {cores()}; give 1 to {cores()}")
    os.environ["NPROC"] = str(wanted)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:wanted])


def _done(value: T) -> Future[T]:
    future: Future[T] = Future()
    future.set_result(value)
    return future
