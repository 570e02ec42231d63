"""What every test starts from."""

from __future__ import annotations

import atexit
import gc
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

# Before JAX is imported.  Most of the suite's time is compilation: without LLVM's optimisation it takes half as long,
# and what one test has compiled another reads.  The cache is the suite's own and not a user's; its workers and the
# programs that they start share it.  With a limit of size JAX would read all its files at each write.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="segue-tests-")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = "-1"
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
# The older fusion compiles in half the time; jaxlib 0.11 has no other one.
OLDER = version("jaxlib").startswith("0.10.")
_QUICK = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
_QUICK += [
    "--xla_cpu_parallel_codegen_split_count=1"
]  # each worker has one core: a program in parts costs a sixth more
_QUICK += ["--xla_cpu_use_fusion_emitters=false"] * OLDER
os.environ.setdefault("XLA_FLAGS", " ".join(_QUICK))

import jax  # noqa: E402

import segue.data.extras  # noqa: E402, F401 - before any test imports MuJoCo: it chooses what pictures are drawn with
from segue.engine import steps  # noqa: E402

jax.config.update("jax_num_cpu_devices", 2)  # programs run on the first one, unless a test says otherwise


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest, so that they do not stand alone at the end; what is compiled alike goes to one worker."""
    items.sort(key=lambda item: ("slow" not in item.keywords, -item.path.stat().st_size))
    for item in items:
        shared = [name for name in ("reference", "whole") if name in getattr(item, "fixturenames", ())]
        if shared or ("slow" not in item.keywords and item.get_closest_marker("xdist_group") is None):
            item.add_marker(pytest.mark.xdist_group(shared[0] if shared else item.path.name))


def pytest_collection_finish() -> None:
    """Look for garbage seldom, and not among what imports have made: tracing makes millions of objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 20, 20)


def mappings() -> int:
    """How many mappings of memory this process has: a compiled program has tens to hundreds of them."""
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0


@pytest.fixture(scope="module", autouse=True)
def _compiled_programs_go() -> Iterator[None]:
    """Keep a worker's memory small: it would hold gigabytes of programs at the end.  A few serve the next module."""
    yield
    if not 0 < mappings() < 5_000:
        jax.clear_caches()


@pytest.fixture(autouse=True)
def _not_too_many_programs() -> Iterator[None]:
    """Let compiled programs go before the kernel's limit of mappings (65,530 by default) is reached.

    At the limit XLA dies of a segmentation fault.
    """
    yield
    if mappings() > 25_000:
        jax.clear_caches()


@pytest.fixture(scope="session")
def fused_as_for_users() -> Callable[..., Any]:
    """`jax.jit` with the fusion that users have.

    The older one adds in another order where a program has one sum more, so that two programs that differ in what is
    multiplied by zero would differ in the last bit.
    """
    return partial(jax.jit, compiler_options={"xla_cpu_use_fusion_emitters": True} if OLDER else None)


@pytest.fixture(scope="session")
def fused_advance(fused_as_for_users: Callable[..., Any]) -> Any:
    """The engine's updates, fused as users have them."""
    return fused_as_for_users(steps.advance.__wrapped__, **steps.ADVANCE)


@pytest.fixture
def users_updates(fused_advance: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the engine learn as for users, where two programs are compared bit for bit."""
    monkeypatch.setattr(steps, "advance", fused_advance)


@pytest.fixture
def double_precision() -> Iterator[None]:
    """Run a test in float64, the precision of the parity fixtures."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with the modules that docs/combining.md shows; what is imported from it goes with it."""
    text = (Path(__file__).parents[1] / "docs" / "combining.md").read_text()
    modules = re.findall(r"^```python\n(# (\w+)\.py\n.*?)^```", text, re.MULTILINE | re.DOTALL)
    for body, name in modules:
        (tmp_path / f"{name}.py").write_text(body)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real datasets: $SEGUE_DATA, or ../shared/data beside the repository; skip where there is none."""
    folder = Path(os.environ.get("SEGUE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real datasets at {folder} (set SEGUE_DATA to their folder)")
    return folder
