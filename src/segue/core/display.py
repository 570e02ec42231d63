"""Drawing without a display."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

HEADLESS = sys.platform == "linux" and not any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))


def drawn_with() -> str:
    """Return the library with which MuJoCo can draw without a display ("egl", "osmesa"), or "disable".

    A library that is named but missing would break MuJoCo's import, even for worlds that are never drawn.
    """
    for name, library in (("egl", "libEGL.so"), ("osmesa", "libOSMesa.so")):
        for file in (library, *(f"{library}.{version}" for version in range(10))):  # as PyOpenGL looks for it
            with contextlib.suppress(OSError):
                ctypes.CDLL(file)
                return name
    return "disable"


def prepare() -> None:
    """Say in MUJOCO_GL what MuJoCo draws with where there is no display, which its own choice needs.

    MuJoCo reads it when it is imported.  What the user has said stands.
    """
    if HEADLESS and "MUJOCO_GL" not in os.environ:
        os.environ["MUJOCO_GL"] = drawn_with()
