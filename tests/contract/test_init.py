"""Fresh networks are made without waiting for ever."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import jax
from segue.agents import SAC
from segue.core.types import Spec

init = jax.jit(lambda key: SAC(critic_hidden=(64,) * 4).init(key, Spec((29,), 8)))
for i in range(100):
    jax.block_until_ready(init(jax.random.key(i)))
"""


def test_many_initialisations_do_not_deadlock() -> None:
    """With critics made by vmap this stood still on two cores, mostly in its first calls (jaxlib 0.10.2)."""
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=180)
