"""Simulators in processes of their own, so that slow ones are stepped beside each other.

    Workers(make, 2)    process 0: simulators 0, 2, 4      process 1: simulators 1, 3
    Apart.ask           simulator, number, method, argument   ->   the process, which answers in the order asked
    Apart.answer        simulator, number, error, value       <-

A process is a new Python, `python -m segue.tasks.apart`.  It imports neither JAX nor the script that was started.  It
ends when its pipe ends, so it outlives no parent, however that one ended.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import fields
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from types import FunctionType
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium.envs.registration import EnvSpec

from segue.core.types import Env, EnvError, SegueError
from segue.tasks.task import GymTask

AHEAD = 8  # open questions of a process: so many fit into its pipe, so it and its parent never wait for each other
GRACE = 5.0  # seconds that processes have to close their simulators and end
CURE = "put it into a module that can be imported"
Method = Literal["make", "reset", "step", "close"]
dumps = functools.partial(pickle.dumps, protocol=pickle.HIGHEST_PROTOCOL)


class Workers:
    """At most `count` processes that simulators live in.  Not for several threads.

    `make` is called there, so it must be something that can be imported: a function of a module, a task's `make_env`.
    Raises `SegueError` where it is not.
    """

    def __init__(self, make: Callable[[], Env], count: int) -> None:
        if sys.platform == "win32":
            raise SegueError("simulators in processes of their own need Linux or macOS; on Windows, use none")
        if count < 1:
            raise SegueError(f"simulators need at least 1 process, not {count}")
        self._maker, self._count = _pickled(make), count
        self._processes: list[_Process] = []
        self._names = itertools.count()

    def make(self) -> Apart:
        """Begin to make a simulator and return at once; it goes to the process that has the fewest.

        Its first `answer()` is None when it stands, or raises what making it raised.  If something is asked before,
        that raises the same.
        """
        if len(self._processes) < self._count:
            self._processes.append(_Process(self._maker))
        return Apart(min(self._processes, key=lambda process: len(process.simulators)), next(self._names))

    def close(self) -> None:
        """End the processes, which close their simulators; kill those that have not ended after `GRACE`."""
        processes, self._processes = self._processes, []
        for process in processes:
            process.pipe.close()
        end = time.monotonic() + GRACE
        for process in processes:
            process.ended(end - time.monotonic())


class Apart:
    """An `Env` in another process.  Several can be asked before the first answer is taken."""

    def __init__(self, process: _Process, name: int) -> None:
        self._process, self._name = process, name
        process.simulators.add(name)
        self.ask("make")

    def ask(self, method: Method, argument: Any = None) -> None:
        """Ask for a "reset" by seed or a "step" by action; an answer that was not taken before is dropped."""
        self._asked = self._process.ask(self._name, method, argument)

    def answer(self) -> Any:
        """Wait for the answer, once after each `ask`; raise what the environment raised, or how its process ended."""
        return self._process.answer(self._name, self._asked)

    def reset(self, seed: int) -> np.ndarray:
        """Begin an episode."""
        self.ask("reset", seed)
        return self.answer()

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, float]:
        """Act."""
        self.ask("step", action)
        return self.answer()

    def close(self) -> None:
        """Release the simulator, and do not wait for that."""
        if self._name in self._process.simulators:
            self._process.simulators.remove(self._name)
            with contextlib.suppress(SegueError):
                self.ask("close")


class _Process:
    """One process, as its parent sees it."""

    def __init__(self, maker: bytes) -> None:
        self.pipe, theirs = Pipe()
        self.simulators: set[int] = set()
        self._asked = self._answered = 0  # questions that were sent, answers that were received
        self._answers: dict[int, tuple[int, SegueError | None, Any]] = {}  # the last one of each simulator
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)
        try:
            self._popen = subprocess.Popen(
                [sys.executable, "-uPm", "segue.tasks.apart", str(theirs.fileno()), os.environ.get("PYTHONPATH", "")],
                env={**os.environ, "PYTHONPATH": paths},
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=2,  # what an environment prints does not mix with the output of the parent
                process_group=0,  # Ctrl-C reaches the parent alone
            )
        except OSError as error:
            self.pipe.close()
            raise SegueError(f"no process for simulators can be started ({error}); use fewer processes") from error
        finally:
            theirs.close()
        self._send(maker)

    def ask(self, simulator: int, method: Method, argument: Any) -> int:
        """Send a question and return its number."""
        while self._asked - self._answered >= AHEAD:
            self._receive()
        self._asked += 1
        self._send(dumps((simulator, self._asked, method, argument)))
        return self._asked

    def answer(self, simulator: int, number: int) -> Any:
        """Return the answer to a simulator's last question, or raise it."""
        while (answer := self._answers.get(simulator)) is None or answer[0] != number:
            self._receive()
        _, error, value = self._answers.pop(simulator)
        if error is not None:
            raise error
        return value

    def ended(self, seconds: float) -> int:
        """Wait until the process has ended, and kill it after so many seconds; return its exit code."""
        try:
            return self._popen.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            self._popen.kill()
            return self._popen.wait()

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # it has ended: whoever waits for the answer reads how
            self.pipe.send_bytes(message)

    def _receive(self) -> None:
        assert self._answered < self._asked, "nothing was asked"
        try:
            simulator, number, error, value = pickle.loads(self.pipe.recv_bytes())
        except (EOFError, OSError):
            raise SegueError(_obituary(self.ended(GRACE))) from None
        self._answered += 1
        self._answers[simulator] = number, error, value


def _obituary(code: int) -> str:
    if code >= 0:
        return f"the simulator's process ended with exit code {code}; what it printed last says why"
    name = {s.value: s.name for s in signal.Signals}.get(-code, f"signal {-code}")
    cure = "if memory ran out, use fewer processes" if name == "SIGKILL" else "run the environment alone to see why"
    return f"the simulator's process was killed ({name}); {cure}"


class _Pickler(pickle.Pickler):
    """Refuses what another process cannot import; a task goes without its log and with its id's registration."""

    def reducer_override(self, thing: Any) -> Any:
        """How something travels, if not as usual."""
        if isinstance(thing, GymTask):
            values = {f.name: getattr(thing, f.name) for f in fields(thing)}
            own = gymnasium.registry.get(thing.env) if isinstance(thing.env, str) else None
            mended = own is not None and str(own.entry_point).startswith("gymnasium_robotics")  # by `make_env`
            return _task, (type(thing), {**values, "data": None}, None if mended else own)
        if isinstance(thing, type | FunctionType):
            local = "<" in thing.__qualname__
            if local or thing.__module__ == "__main__":
                kind = "is a lambda or stands in a function" if local else "stands in the script that was started"
                raise SegueError(f"simulators in other processes need {thing.__qualname__}, which {kind}; {CURE}")
        return NotImplemented


def _task(kind: type[GymTask], values: dict[str, Any], own: EnvSpec | None) -> GymTask:
    """Make a task again, in a process where nobody may have registered its environment."""
    if own is not None:
        gymnasium.registry.setdefault(own.id, own)
    return kind(**values)


def _pickled(make: Callable[[], Env]) -> bytes:
    text = io.BytesIO()
    try:
        _Pickler(text, pickle.HIGHEST_PROTOCOL).dump(make)
    except SegueError:
        raise
    except Exception as error:  # objects refuse as they like
        raise SegueError(f"what makes simulators cannot go to another process ({_said(error)}); {CURE}") from error
    return text.getvalue()


def _unpickled(maker: bytes) -> Callable[[], Env]:
    try:
        return pickle.loads(maker)
    except Exception as error:  # modules raise what they like
        raise SegueError(f"a simulator's process cannot import what makes it ({_said(error)}); {CURE}") from error


def _said(error: Exception) -> str:
    said = str(error) if isinstance(error, SegueError) else f"{type(error).__name__}: {error}"
    return " ".join(said.split())


def _serve(pipe: Connection) -> None:
    """Make simulators and answer for them, until the pipe ends."""
    simulators: dict[int, Env] = {}
    with contextlib.suppress(EOFError, OSError):
        maker = pipe.recv_bytes()
        while True:
            simulator, number, method, argument = pickle.loads(pipe.recv_bytes())
            try:
                if simulator not in simulators and method != "close":
                    simulators[simulator] = _unpickled(maker)()
                answer = dumps((simulator, number, None, METHODS[method](simulators, simulator, argument)))
            except Exception as error:  # an environment raises what it likes
                told = (SegueError if type(error) is SegueError else EnvError)(_said(error))
                told.add_note("".join(traceback.format_exception(error)))
                answer = dumps((simulator, number, told, None))
            pipe.send_bytes(answer)
    for env in simulators.values():
        with contextlib.suppress(Exception):
            env.close()


METHODS: dict[Method, Callable[[dict[int, Env], int, Any], Any]] = {
    "make": lambda simulators, which, _: None,
    "reset": lambda simulators, which, seed: simulators[which].reset(seed),
    "step": lambda simulators, which, action: simulators[which].step(action),
    "close": lambda simulators, which, _: simulators.pop(which).close(),
}


if __name__ == "__main__":
    # Handlers that do nothing, because programs that the environment starts would inherit signals that are ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    os.environ["PYTHONPATH"] = sys.argv[2]  # as the user has set it, for such programs
    os.set_inheritable(int(sys.argv[1]), False)
    _serve(Connection(int(sys.argv[1])))
