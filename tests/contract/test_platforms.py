"""What other systems lack is not asked for: the modules of Unix alone, and calls that Windows' Python does not have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import segue

PACKAGE = Path(segue.__file__).parent
# None in sys.modules makes an import fail.  What other packages need themselves is imported first: they have a Windows
# of their own, and here they would take this system for Unix.
CODE = """
import importlib, os, sys
for name in ("h5py", "gymnasium", "rich.live", "safetensors.numpy", "equinox", "optax", "tyro", "filelock", "jax"):
    importlib.import_module(name)
for name in ("fcntl", "termios", "pwd", "grp", "resource", "tty", "pty", "syslog"):
    sys.modules[name] = None
for name in ("pread", "pwrite", "sysconf", "statvfs", "getuid", "uname", "sched_getaffinity", "fork", "mkfifo"):
    if hasattr(os, name):
        delattr(os, name)
for name in sys.argv[1:]:
    importlib.import_module(name)
import numpy as np
from segue.data.recorded import Recorded
from segue.data.store import save
from pathlib import Path
import tempfile
with tempfile.TemporaryDirectory() as folder:
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    flags = dict(terminated=True, success=1.0)
    episode = Recorded(rows, np.zeros((3, 1), np.float32), np.zeros(3, np.float32), **flags)
    stored = save(Path(folder) / "some", [episode], {})
    assert (stored.data(False).observation[[2, 0]] == rows[[2, 0]]).all()
    assert len(stored.data()) == 3
print("all")
"""


def test_nothing_of_unix_alone_is_needed() -> None:
    modules = [
        ".".join(("segue", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.name != "__main__.py"
    ]
    done = subprocess.run([sys.executable, "-c", CODE, *modules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "all"
