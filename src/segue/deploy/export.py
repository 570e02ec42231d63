"""Write a policy as files that act without Segue, and compare what they do with what the policy does.

policy.onnx                                               for onnxruntime and other runtimes
policy.npz, policy.py                                     for NumPy
policy.stablehlo, policy.mlir, policy.stablehlo.json      for XLA, with JAX or without
"""

from __future__ import annotations

import json
import os
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import metadata
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import jax
import jax.export
import jax.numpy as jnp
import numpy as np

from segue.core import files
from segue.core.types import SegueError
from segue.data.extras import need
from segue.deploy import numeric
from segue.deploy.compare import Acts, Greedy, compared
from segue.deploy.onnx_model import onnx_bytes
from segue.runs.policy import Policy, load

Form = Literal["onnx", "stablehlo", "numpy"]
NAMES: dict[str, tuple[str, ...]] = {
    "onnx": ("policy.onnx",),
    "numpy": ("policy.npz", "policy.py"),
    "stablehlo": ("policy.stablehlo", "policy.mlir", "policy.stablehlo.json"),
}
FORMAT = 1


@dataclass(frozen=True)
class Exported:
    """What was written: the file, beside which the others of its form are, and the seed whose policy it is."""

    file: Path
    seed: int
    difference: float
    """Largest difference of an action, in halves of its range."""
    left_out: int
    """How many of the 1,000 observations were left out of that, because rounding alone decides the policy's action."""


def export(
    run: str | os.PathLike[str], to: Form = "onnx", out: str | os.PathLike[str] | None = None, seed: int | None = None
) -> Exported:
    """Write the greedy policy of a run ("RUN@PHASE": at the end of a phase) or of a bundle into a folder.

    It takes raw observations (B, *observation) and gives actions within the environment's bounds, (B, A), or
    (B, chunk, A) where it plans several at once.  `out` is RUN/export by default, `seed` the run's first one.  Raises
    `SegueError` for a policy that the form cannot hold, and where an action differs from the policy's by more than
    `CLOSE` for one of 1,000 random observations (`compared`).  Nothing is written then.
    """
    if to not in NAMES:
        raise SegueError(f"export to '{to}': there are {', '.join(NAMES)}")
    with on_cpu():
        greedy = Greedy(load(run, seed))
        contents, acts = {"onnx": _onnx, "numpy": _numpy, "stablehlo": _stablehlo}[to](greedy)
        found = compared(greedy, acts, f"{os.fspath(run)}: the export to {to}")
    folder = place_of(run) if out is None else Path(out)
    own = folder / "policy.py"
    if to == "numpy" and own.exists() and "exported by Segue" not in own.read_text("utf-8", "replace"):
        raise SegueError(f"{own} is not Segue's, and would be replaced; give another --out")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in zip(NAMES[to], contents):
            files.write(folder / name, content)
    except OSError as error:
        raise SegueError(f"{folder}: cannot be written ({error.strerror or error}); choose another place") from error
    return Exported(folder / NAMES[to][0], greedy.policy.seed, *found)


def place_of(run: str | os.PathLike[str]) -> Path:
    """Where a run's exports are by default; each phase of it has a folder."""
    if Path(run).exists():
        return Path(run) / "export"
    folder, _, phase = os.fspath(run).rpartition("@")
    return Path(folder) / f"export-{phase}"


def on_cpu() -> Any:
    """Compute on the CPU where JAX has one: other devices round products of matrices otherwise."""
    try:
        return jax.default_device(jax.local_devices(backend="cpu")[0])
    except RuntimeError:
        return nullcontext()


def about(policy: Policy) -> dict[str, Any]:
    """What a file says of itself; `policy` is the checksum that the bundle's policy.json carries."""
    facts, scaling = policy.facts, policy.facts["scaling"]
    return {
        "format": FORMAT,
        "segue": metadata.version("segue"),
        "task": facts.get("task"),
        "agent": facts["agent"]["type"],
        "seed": policy.seed,
        "policy": facts.get(files.SEAL),
        "observation": {"keys": facts["observation"]["keys"]},
        "action": facts["action"],
        "chunk": policy.taken,
        "scaling": {k: scaling[k] for k in ("observation_mean", "observation_std")},
        "trained": facts.get("trained"),
    }


Made = tuple[tuple[bytes, ...], Acts]


def _numpy(greedy: Greedy) -> Made:
    program = greedy.program
    parts, keys = greedy.policy.spec.parts, greedy.policy.facts["observation"]["keys"]
    described = {
        "inputs": [[x.name, x.shape, x.dtype] for x in program.inputs],
        "steps": program.steps,
        "output": program.output,
        "keys": [] if parts else keys,
        "about": about(greedy.policy),
    }
    memory = BytesIO()
    np.savez(memory, program=np.array(json.dumps(described)), **program.constants)  # type: ignore[arg-type]
    act = numeric.load(BytesIO(memory.getvalue()))
    contents = (memory.getvalue(), Path(numeric.__file__).read_bytes())
    return contents, lambda x: act(dict(zip((part.name for part in parts), x)) if parts else x[0])


def _onnx(greedy: Greedy) -> Made:
    runtime = need("onnxruntime", "onnx", "this export")
    content = onnx_bytes(greedy.program, greedy.shape, about(greedy.policy))
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return (content,), lambda x: session.run(["action"], dict(zip((part.name for part in greedy.inputs), x)))[0]


def _stablehlo(greedy: Greedy) -> Made:
    need("flatbuffers", "stablehlo", "this export")  # JAX writes with it
    (batch,) = jax.export.symbolic_shape("batch")
    avals = [x.aval(batch) for x in greedy.inputs]
    written = jax.export.export(jax.jit(greedy.act), platforms=("cpu", "cuda", "tpu"))(*avals)
    described = {"inputs": [[x.name, x.shape, x.dtype] for x in greedy.inputs], "about": about(greedy.policy)}
    content = bytes(written.serialize())
    again = jax.export.deserialize(bytearray(content))
    contents = (content, written.mlir_module().encode(), json.dumps(described, indent=1).encode())
    return contents, lambda x: np.asarray(again.call(*map(jnp.asarray, x)))
