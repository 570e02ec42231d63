"""Scratch memory of a dispatch stays with the process."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, threading
import numpy as np
from segue.memory import keep_freed_memory

kept = keep_freed_memory()
faults = []

def scratch():
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        np.empty(100_000_000, np.uint8).fill(1)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

thread = threading.Thread(target=scratch)
thread.start()
thread.join()
print(kept, faults[-1] >= 20)  # numpy asks for huge pages: 100 MB are 48 of them
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc gives it back")
@pytest.mark.parametrize(("environment", "expected"), [({}, "True False"), ({"MALLOC_ARENA_MAX": "2"}, "False True")])
def test_freed_memory_is_kept_unless_the_user_chose(environment: dict[str, str], expected: str) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=clean | environment, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == expected
