"""Compiled programs on the disk."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from segue.cli import compiled
from segue.core.groups import cores, use_cores
from segue.core.types import SegueError


def test_programs_that_were_not_used_go_first(tmp_path: Path) -> None:
    for age, name in enumerate(("new", "old", "oldest")):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    compiled.trim(tmp_path, 300)
    assert len(list(tmp_path.iterdir())) == 3
    compiled.trim(tmp_path, 299)
    assert {path.name for path in tmp_path.iterdir()} == {"new", "old"}
    compiled.trim(tmp_path / "nowhere")


def test_every_program_is_kept_unless_the_user_says_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: dict[str, object] = {}
    monkeypatch.setattr(compiled.jax.config, "update", said.__setitem__)
    monkeypatch.setenv("SEGUE_CACHE", str(tmp_path))
    variables = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
    for variable in variables:
        monkeypatch.delenv(variable, raising=False)
    compiled.use_compilation_cache()
    assert said == {
        "jax_compilation_cache_dir": str(tmp_path / "xla" / compiled.machine()),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    said.clear()
    for variable in variables:
        monkeypatch.setenv(variable, "7")
    compiled.use_compilation_cache()
    assert not said


def test_cores_are_limited_before_jax_looks_for_them() -> None:
    """A process of its own: the limit lasts.  One core has one thread for all seeds, and one for XLA."""
    code = (
        "from segue.cli.compiled import prepare; prepare(1)\n"
        "import os; from segue.core.groups import Groups, cores; groups = Groups.of(4)\n"
        "print(cores(), groups.threads, len(groups.members), len(os.sched_getaffinity(0)))"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.split() == ["1", "1", "4", "1"]
    for wrong in (0, cores() + 1):
        with pytest.raises(SegueError, match=rf"^--cores {wrong}: this process may use {cores()}; give 1 to"):
            use_cores(wrong)
