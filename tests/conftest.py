"""What every test starts from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before JAX is imported: tests measure semantics, not speed, and must not fill a user's compilation cache.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")
# Most of the suite's time is compilation; without LLVM's optimisation it takes half as long.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that they do not stand alone at the end."""
    items.sort(key=lambda item: "slow" not in item.keywords)


@pytest.fixture
def double_precision() -> Iterator[None]:
    """Run a test in float64, the precision of the parity fixtures."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real datasets: $SEGUE_DATA, or ../shared/data beside the repository; skip where there is none."""
    folder = Path(os.environ.get("SEGUE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real datasets at {folder} (set SEGUE_DATA to their folder)")
    return folder
