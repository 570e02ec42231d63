"""Optional packages: imported when they are needed, named with their extra when they are missing."""

from __future__ import annotations

import contextlib
import functools
import io
import sys
from importlib import import_module, metadata
from types import ModuleType, SimpleNamespace

from segue.core.types import SegueError

WITHOUT_WHEELS = {"ogbench": "its labmaze has no wheel for Python 3.13 (pyproject.toml)"}


def need(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or raise `SegueError` with the line that installs it."""
    try:
        # gymnasium-robotics prints a notice about Adroit's dense rewards on import, whatever is wanted of it
        with contextlib.redirect_stderr(io.StringIO()):
            return import_module(module)
    except ImportError as error:
        cure = f'pip install "segue[{extra}]"'
        if sys.version_info >= (3, 13) and module in WITHOUT_WHEELS:
            cure = f"use Python 3.12 or older, because {WITHOUT_WHEELS[module]}"
        raise SegueError(f"{purpose} needs {module}, which is not installed: {cure}") from error


@functools.cache
def robotics() -> ModuleType:
    """Register the environments of gymnasium-robotics once and return the module."""
    import gymnasium

    module = need("gymnasium_robotics", "envs", "this environment")
    gymnasium.register_envs(module)
    _mend_joints()
    return module


def _mend_joints() -> None:
    """Let gymnasium-robotics recognise joint types again, which its FrankaKitchen needs.

    Its helpers look for a NumPy number in a tuple of MuJoCo's enumeration.  From MuJoCo 3.12 on they never find it, and
    the kitchen fails an assertion.  In that case they get an enumeration of plain numbers.
    """
    import numpy as np

    mujoco = need("mujoco", "envs", "this environment")
    hinge = mujoco.mjtJoint.mjJNT_HINGE
    if np.int32(int(hinge)) in (hinge,):
        return
    helpers = import_module("gymnasium_robotics.utils.mujoco_utils")
    numbers = {n: int(getattr(mujoco.mjtJoint, n)) for n in dir(mujoco.mjtJoint) if n.startswith("mjJNT_")}
    plain = ModuleType("mujoco")
    plain.__dict__.update(vars(mujoco), mjtJoint=SimpleNamespace(**numbers))
    vars(helpers)["mujoco"] = plain


def versions() -> dict[str, str]:
    """Versions of the packages that shape a dataset: physics differ in the third digit between MuJoCo releases."""
    found = {}
    for name in ("segue", "numpy", "gymnasium", "gymnasium-robotics", "mujoco"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
