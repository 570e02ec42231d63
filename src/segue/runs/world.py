"""The world in which a trained policy is tried, after training: its run's task or another one that fits."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from segue.core.groups import Group
from segue.core.types import Env, SegueError, Slot, Spec, Task
from segue.engine.envs import Here, Simulator
from segue.engine.evaluate import Choose
from segue.runs import manifest
from segue.runs.fork import find_end
from segue.runs.policy import Bundle
from segue.runs.sinks import to_stderr
from segue.tasks import find_task

GIVE = "give another one (--task NAME, or task= in Python)"


def task_for(run: str | os.PathLike[str], bundle: Bundle, task: Task | str | None, real: bool) -> Task:
    """The task in which a policy is tried: `task`, or the one that its run learned.

    Raises `SegueError` where it is not known, does not fit the policy, has no environment, or is real and `real` does
    not allow it.  A real one is not even connected to before that.
    """
    found = task if task is not None and not isinstance(task, str) else _named(run, bundle, task)
    if found.absent:
        raise SegueError(f"{found.name} is a log without an environment, so no policy can be tried there; {GIVE}")
    if found.real and not real:
        raise SegueError(
            f"{found.name} is real, and the policy would move it; if that is safe, give --real (real=True in Python)"
        )
    if found.real and bundle.facts.get("trained", {}).get("update") == 0:
        raise SegueError(f"{found.name} is real, and the policy has had no update; it does not move it")
    if _shapes(found.spec) != _shapes(bundle.spec):
        raise SegueError(
            f"the policy takes {_shapes(bundle.spec)}, and {found.name} has {_shapes(found.spec)}; "
            "take a task with equal shapes"
        )
    return found


def notes(bundle: Bundle, task: Task) -> list[str]:
    """Lines about what differs between a policy and its world, though it can act there."""
    bounds = [np.asarray(bundle.facts["action"][name], np.float32) for name in ("low", "high")]
    here = [np.asarray(bound, np.float32) for bound in task.action_bounds]
    if all(np.array_equal(a, b) for a, b in zip(bounds, here)):
        return []
    return [
        f"{task.name} has other bounds of actions than the task that the policy learned; -1 and 1 are put to its own"
    ]


def only_one(task: Task, seeds: tuple[int, ...]) -> None:
    """Refuse several seeds of a real environment."""
    if task.real and len(seeds) > 1:
        raise SegueError(f"{task.name} is real and exists once, so it takes one seed; give --seeds {seeds[0]},")


def place_for(run: str | os.PathLike[str], what: str, task: Task | str | None) -> Path:
    """Where a file about a policy stands by default: in its run's folder, or beside a bundle.

    `what` is "eval.json"; the phase and the other task come into the name.
    """
    folder, phase = Path(run), ""
    if not folder.exists() and "@" in os.fspath(run):
        end = find_end(run)
        folder, phase = end.run, end.phase
    stem, dot, suffix = what.rpartition(".")
    called = task if task is None or isinstance(task, str) else task.name
    name = "-".join(word for word in (stem, phase, called or "") if word)
    name = "".join(c if c.isalnum() or c in "-_." else "-" for c in name) + dot + suffix
    return folder / name if (folder / "run.json").exists() else folder.resolve().with_name(f"{folder.name}-{name}")


@dataclass
class Watched:
    """A simulator that tells what it has answered: "reset" or "step", and the answer."""

    inner: Simulator
    tell: Callable[[str, Any], None]
    asked: str = ""

    def ask(self, method: Literal["reset", "step"], argument: Any) -> None:
        """Hand the question on."""
        self.asked = method
        self.inner.ask(method, argument)

    def answer(self) -> Any:
        """Hand the answer on, once it was told; the first one comes unasked and is not."""
        found = self.inner.answer()
        if self.asked:
            self.tell(self.asked, found)
        return found

    def close(self) -> None:
        """Release the environment."""
        self.inner.close()


def watched(make: Callable[[], Env], tell: Callable[[str, Any], None]) -> Callable[[], Simulator]:
    """Make simulators in this process that tell what they answer."""
    return lambda: Watched(Here(make()), tell)


def prepare(run: str | os.PathLike[str], task: Task, slot: Slot, episodes: int, acting: Choose) -> None:
    """Before a real environment moves, say so, and compile what acts: it never waits for a compiler."""
    if task.real:
        to_stderr(f"moving {task.name}: {episodes} episodes of up to {task.horizon:,} steps, policy {os.fspath(run)}")
        acting(slot, Group(0, 1), np.zeros((1, 1, *task.spec.observation), task.spec.dtype), (0, 0))


def over(method: str, answer: Any) -> bool:
    """Whether an episode ends with this answer."""
    return method == "step" and bool(answer[2] or answer[3])


def _named(run: str | os.PathLike[str], bundle: Bundle, task: str | None) -> Task:
    if task is not None:
        return find_task(task)
    name = _task_of(run, bundle)
    try:
        return find_task(name)
    except SegueError as error:
        raise SegueError(f"{run}: its task cannot be made from its name ({error}); {GIVE}") from error


def _task_of(run: str | os.PathLike[str], bundle: Bundle) -> str:
    folder = Path(run)
    if not folder.exists():  # RUN@PHASE
        return str(find_end(run).described["request"]["task"])
    for place in (folder, folder.parent):  # RUN, RUN/policy
        if (place / "run.json").exists():
            return str(manifest.read(place)["request"]["task"])
    return str(bundle.facts["task"])


def _shapes(spec: Spec) -> str:
    parts = "".join(f" of {part.name} {part.shape}" for part in spec.parts)
    return f"observations {spec.observation} of {spec.dtype}{parts} and {spec.action} actions"
