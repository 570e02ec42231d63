"""Optional packages, imported where they are needed and named where they are missing."""

from __future__ import annotations

import contextlib
import functools
import io
from importlib import import_module, metadata
from types import ModuleType

from segue.types import SegueError


def need(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or raise `SegueError` with the line that installs it."""
    try:
        # gymnasium-robotics prints a notice about Adroit's dense rewards on import, whatever is wanted of it
        with contextlib.redirect_stderr(io.StringIO()):
            return import_module(module)
    except ImportError as error:
        raise SegueError(f'{purpose} needs {module}, which is not installed: pip install "segue[{extra}]"') from error


@functools.cache
def robotics() -> ModuleType:
    """Register the environments of gymnasium-robotics once and return the module."""
    import gymnasium

    module = need("gymnasium_robotics", "envs", "this environment")
    gymnasium.register_envs(module)
    return module


def versions() -> dict[str, str]:
    """Versions of what shapes a dataset: physics differ in the third digit between MuJoCo releases."""
    found = {}
    for name in ("segue", "numpy", "gymnasium", "gymnasium-robotics", "mujoco"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
