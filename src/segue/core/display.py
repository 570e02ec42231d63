"""Drawing without a display."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

from segue.core.types import SegueError

T = TypeVar("T")
HEADLESS = sys.platform == "linux" and not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
LIBRARIES = {"egl": "libEGL.so", "osmesa": "libOSMesa.so"}
CURE = "install EGL (libegl1 on Debian) or OSMesa, and leave MUJOCO_GL unset"


def drawn_with() -> str:
    """Return the library with which MuJoCo can draw without a display ("egl", "osmesa"), or "disable".

    A library that is named but missing would break MuJoCo's import, even for worlds that are never drawn.
    """
    return next((name for name in LIBRARIES if _here(name)), "disable")


def prepare() -> None:
    """Say in MUJOCO_GL what MuJoCo draws with where there is no display, which its own choice needs.

    MuJoCo reads it when it is imported.  What the user has said stands.
    """
    if HEADLESS and "MUJOCO_GL" not in os.environ:
        os.environ["MUJOCO_GL"] = drawn_with()


def fault() -> str | None:
    """Why MuJoCo, where it has been imported, cannot draw here; None: it can, or it is not there."""
    mujoco = sys.modules.get("mujoco")
    if not HEADLESS or mujoco is None:
        return None
    if not hasattr(mujoco, "GLContext"):
        return "MUJOCO_GL is disable, or neither EGL nor OSMesa is installed"
    if mujoco.GLContext.__module__.endswith("glfw"):
        return "MuJoCo draws with GLFW, which needs a display"
    return None


def drawing(draw: Callable[[], T]) -> T:
    """What `draw` returns; `SegueError`, with the cure, where it fails because MuJoCo cannot draw here."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # GLFW warns several times of what it then fails at
            return draw()
    except Exception as error:
        if (reason := fault()) is None:
            raise
        _forget(error)
        raise SegueError(f"nothing can be drawn here: {reason}; {CURE}") from error


@contextlib.contextmanager
def said() -> Iterator[None]:
    """Explain an error where MUJOCO_GL names a library that is not here: MuJoCo then breaks while it is imported."""
    try:
        yield
    except Exception as error:
        asked = os.environ.get("MUJOCO_GL", "")
        if asked not in LIBRARIES or _here(asked):
            raise
        raise SegueError(f"nothing can be drawn here: MUJOCO_GL is {asked}, which is not installed; {CURE}") from error


def _forget(error: BaseException) -> None:
    """Let go of what the frames of an error hold.

    Gymnasium's half-made renderers fail again when they go, which Python would print.
    """
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        for one in (error, error.__cause__):
            if one is not None:
                traceback.clear_frames(one.__traceback__)
    finally:
        sys.unraisablehook = before


def _here(name: str) -> bool:
    library = LIBRARIES[name]
    for file in (library, *(f"{library}.{version}" for version in range(10))):  # as PyOpenGL looks for it
        with contextlib.suppress(OSError):
            ctypes.CDLL(file)
            return True
    return False
