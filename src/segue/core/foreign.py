"""Policies that Segue did not train: an ONNX file, or Python code of one's own.

What they get and what they return is the environment's: an observation as the task makes it, (O,) or a mapping by name
where there are images, and an action (A,) within the environment's bounds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from segue.core.named import is_named, named
from segue.core.observations import unpacked
from segue.core.types import SegueError, Spec

ONNX = ".onnx"
Take = Callable[[Any], Any]


def is_foreign(word: str) -> bool:
    """Whether a word names a policy that Segue did not train: FILE.onnx, or module:name."""
    return word.endswith(ONNX) or is_named(word)


def refuse_foreign(word: str, spec: Spec) -> None:
    """Raise `SegueError` where a word names no policy for a task; nothing is made or asked yet."""
    if word.endswith(ONNX):
        _of_onnx(word, spec)
    elif not isinstance(found := _loaded(word), type):
        _taking(found, word)


class Foreign:
    """One policy for several worlds that step side by side, for a task of this spec and these action bounds, each (A,).

    `word` is FILE.onnx (one input, a batch of observations; its first output is taken), or module:name.  There a
    function of an observation, or an object with a method `act`, has no state.  Of a class every world gets an object
    of its own, which may remember: it is called, or its method `act` is, once for each step in their order, and its
    method `reset()`, if it has one, before each episode.

    Raises `SegueError` where there is no such policy.
    """

    def __init__(self, word: str, spec: Spec, bounds: tuple[np.ndarray, np.ndarray], worlds: int = 1) -> None:
        self.word, self.spec = word, spec
        self._low, self._high = (np.asarray(x, np.float64) for x in bounds)
        if word.endswith(ONNX):
            self._objects, self._takes = [None] * worlds, [_of_onnx(word, spec)] * worlds
            return
        self._objects = [_loaded(word)] * worlds
        if isinstance(self._objects[0], type):
            self._objects = [_made(self._objects[0], word) for _ in range(worlds)]
        self._takes = [_taking(one, word) for one in self._objects]

    def reset(self, world: int) -> None:
        """A world's episode begins."""
        reset = getattr(self._objects[world], "reset", None)
        if callable(reset) and not isinstance(self._objects[world], type):
            self._call(reset)

    def act(self, world: int, observation: np.ndarray) -> np.ndarray:
        """The action (A,) in [-1, 1] for a raw observation; `SegueError` where the policy fails."""
        seen: Any = unpacked(self.spec.parts, observation) if self.spec.parts else np.array(observation)
        found = self._call(self._takes[world], seen)
        try:
            action = np.asarray(found, np.float64)
        except (TypeError, ValueError):
            action = np.zeros(0)
        if action.shape != (self.spec.action,) or not np.isfinite(action).all():
            got = f"an array of shape {action.shape}" if action.size else f"a {type(found).__name__}"
            raise SegueError(
                f"policy {self.word}: must return a finite action of shape ({self.spec.action},) for one observation; "
                f"it returned {'NaN or infinity' if action.shape == (self.spec.action,) else got}"
            )
        span = self._high - self._low
        return np.clip(2.0 * (action - self._low) / span - 1.0, -1.0, 1.0).astype(np.float32)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            said = " ".join(f"{type(error).__name__}: {error}".split())
            raise SegueError(f"policy {self.word} failed: {said}") from error


def _loaded(word: str) -> Any:
    return named(word, "a policy: a class, or a function of an observation")


def _made(kind: type, word: str) -> Any:
    try:
        return kind()
    except Exception as error:
        raise SegueError(
            f"policy {word}: cannot be made without arguments ({type(error).__name__}: {error})"
        ) from error


def _taking(found: Any, word: str) -> Take:
    act = getattr(found, "act", None)
    take = act if callable(act) else found
    if not callable(take):
        raise SegueError(f"policy {word}: is a {type(found).__name__}; name a class, or a function of an observation")
    return take


def _of_onnx(word: str, spec: Spec) -> Take:
    if not Path(word).is_file():
        raise SegueError(f"policy {word}: there is no such file")
    if spec.parts:
        raise SegueError(f"policy {word}: the task's observations have several parts; name a Python function around it")
    try:
        runtime = import_module("onnxruntime")
    except ImportError as error:
        cure = 'pip install "segue[onnx]"'
        raise SegueError(f"policy {word} needs onnxruntime, which is not installed: {cure}") from error
    try:
        session = runtime.InferenceSession(word, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has exceptions of its own for each way in which a file can be bad
        raise SegueError(f"policy {word}: cannot be read ({' '.join(str(error).split())[:160]})") from error
    inputs: Sequence[Any] = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(i.name for i in inputs)
        raise SegueError(f"policy {word}: has the inputs {names}; one is needed: name a Python function around it")
    single = len(inputs[0].shape) == len(spec.observation)
    dtype = np.float64 if "double" in inputs[0].type else np.float32

    def take(observation: np.ndarray) -> np.ndarray:
        seen = observation.astype(dtype)
        action = np.asarray(session.run(None, {inputs[0].name: seen if single else seen[None]})[0])
        return action if single else action[0]

    return take
