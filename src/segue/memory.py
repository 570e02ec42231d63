"""What the C library does with memory that a computation gives back."""

from __future__ import annotations

import ctypes
import os
import sys

_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD = -8, -4, -1  # of mallopt(3)


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory for this process instead of giving it back to the kernel; return whether it does.

    XLA asks for all of a dispatch's scratch memory at once (136 MB for Cal-QL's AntMaze setting) and frees it at the
    end.  glibc maps and unmaps a piece of that size each time, and the kernel clears every page of it again: 70 of
    350 ms of processor time per update where every update is a dispatch, and none with this (benchmarks/updates.py
    --updates 1).  The process keeps its peak of memory to its end.  Only for a process of one's own, before other
    threads ask for memory; nothing is done where the environment sets MALLOC_... or GLIBC_TUNABLES.
    """
    chosen = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if sys.platform != "linux" or chosen:
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    # A thread's own arena cannot hold more than 64 MB and maps what is larger, whatever the threshold: one arena.
    settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1))
    return sum(library.mallopt(name, value) for name, value in settings) == len(settings)
