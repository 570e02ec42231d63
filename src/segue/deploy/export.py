"""Write a policy as files that act without Segue, and compare what they do with what the policy does.

policy.onnx                       for onnxruntime and other runtimes
policy.npz, policy.py             for NumPy
policy.stablehlo, .mlir, .json    for XLA, with JAX or without
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
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
from segue.core.look import side_by_side
from segue.core.observations import WHOLE, pack, parts_seen
from segue.core.types import Array, SegueError
from segue.data.extras import need
from segue.deploy import numeric
from segue.deploy.onnx_model import onnx_bytes
from segue.deploy.trace import Input, traced
from segue.runs.policy import Policy, load

Form = Literal["onnx", "stablehlo", "numpy"]
NAMES: dict[str, tuple[str, ...]] = {
    "onnx": ("policy.onnx",),
    "numpy": ("policy.npz", "policy.py"),
    "stablehlo": ("policy.stablehlo", "policy.mlir", "policy.json"),
}
FORMAT = 1
OBSERVATIONS = 1_000
CLOSE = 1e-6
"""Largest difference of an action from the policy's, in halves of its range (of 1 where that is less)."""
Acts = Callable[[list[np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Exported:
    """What was written: the file, beside which the others of its form are, the seed, and how far it is from Segue."""

    file: Path
    seed: int
    difference: float


def export(
    run: str | os.PathLike[str], to: Form = "onnx", out: str | os.PathLike[str] | None = None, seed: int | None = None
) -> Exported:
    """Write the greedy policy of a run ("RUN@PHASE": at the end of a phase) or of a bundle into a folder.

    It takes raw observations (B, *observation) and gives actions within the environment's bounds, (B, A), or
    (B, chunk, A) where it plans several at once.  `out` is RUN/export by default, `seed` the run's first one.  Raises
    `SegueError` for a policy that the form cannot hold, and where an action differs from the policy's by more than
    `CLOSE` for one of 1,000 random observations.  Nothing is written then.
    """
    if to not in NAMES:
        raise SegueError(f"export to '{to}': there are {', '.join(NAMES)}")
    with on_cpu():
        policy = load(run, seed)
        inputs, function = greedy(policy)
        made = {"onnx": _onnx, "numpy": _numpy, "stablehlo": _stablehlo}[to](policy, inputs, function)
        difference = compared(policy, inputs, made[1], f"{os.fspath(run)}: the export to {to}")
    folder = place_of(run) if out is None else Path(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in zip(NAMES[to], made[0]):
            files.write(folder / name, content)
    except OSError as error:
        raise SegueError(f"{folder}: cannot be written ({error.strerror or error}); choose another place") from error
    return Exported(folder / NAMES[to][0], policy.seed, difference)


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


def greedy(policy: Policy) -> tuple[tuple[Input, ...], Callable[..., Array]]:
    """The policy without exploration, as a function of arrays (B, ...): one for each part of the observation."""
    spec, parts = policy.spec, parts_seen(policy.spec)
    low, high = (np.asarray(policy.facts["action"][k], np.float32) for k in ("low", "high"))
    inputs = tuple(Input(p.name, p.shape, p.dtype) for p in spec.parts)

    def act(*given: Array) -> Array:
        parted = {p.name: side_by_side(p, x) for p, x in zip(parts, given)}
        seen: Any = parted if parts else policy.scaling.see(given[0])
        action = policy.agent.act(policy.state, seen, jax.random.key(0), False)  # the key that `Policy.act` takes
        action = action.reshape(given[0].shape[0], *_shape(policy))
        return jnp.asarray(low) + 0.5 * (action + 1.0) * (high - low)

    return inputs or (Input(WHOLE, spec.observation, spec.dtype),), act


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
        "chunk": policy.chunk,
        "scaling": {k: scaling[k] for k in ("observation_mean", "observation_std")},
        "trained": facts.get("trained"),
    }


def compared(policy: Policy, inputs: tuple[Input, ...], acts: Acts, what: str) -> float:
    """The largest difference from the policy's actions, in halves of their ranges; `SegueError` if it is too large."""
    given = observations(policy, inputs)
    whole = pack(policy.spec.parts, dict(zip((x.name for x in inputs), given))) if policy.spec.parts else given[0]
    wanted = policy.plan(whole).reshape(OBSERVATIONS, *_shape(policy))
    low, high = (np.asarray(policy.facts["action"][k], np.float64) for k in ("low", "high"))
    found = np.concatenate([acts([x[:1] for x in given]), acts([x[1:] for x in given])])
    apart = np.abs(found - wanted) / np.maximum(0.5 * (high - low), 1.0)
    most = float(apart.max())
    if found.shape != wanted.shape or not most <= CLOSE:
        rows = int((~(apart.reshape(OBSERVATIONS, -1).max(1) <= CLOSE)).sum())
        raise SegueError(
            f"{what} was refused: its actions differ from the policy's by up to {most:.2g} of half their range, in "
            f"{rows} of {OBSERVATIONS} random observations; {CLOSE:g} is allowed.  Nothing was written"
        )
    return most


def observations(policy: Policy, inputs: tuple[Input, ...]) -> list[np.ndarray]:
    """Random observations (1000, ...), spread as the policy's were if it standardises them; bytes are uniform."""
    draw = np.random.default_rng(0)
    mean, std = policy.scaling.observation_mean or (0.0,), policy.scaling.observation_std or (1.0,)
    found = []
    for x in inputs:
        shape = (OBSERVATIONS, *x.shape)
        real = x.dtype != "uint8"
        found.append(draw.normal(mean, std, shape).astype(x.dtype) if real else draw.integers(0, 256, shape, np.uint8))
    return found


def _shape(policy: Policy) -> tuple[int, ...]:
    return (policy.spec.action,) if policy.chunk == 1 else (policy.chunk, policy.spec.action)


Made = tuple[tuple[bytes, ...], Acts]


def _numpy(policy: Policy, inputs: tuple[Input, ...], function: Callable[..., Array]) -> Made:
    program = traced(function, inputs)
    described = {
        "inputs": [[x.name, x.shape, x.dtype] for x in inputs],
        "steps": program.steps,
        "output": program.output,
        "keys": [] if policy.spec.parts else policy.facts["observation"]["keys"],
        "about": about(policy),
    }
    memory = BytesIO()
    np.savez(memory, program=np.array(json.dumps(described)), **program.constants)  # type: ignore[arg-type]
    act = numeric.load(BytesIO(memory.getvalue()))
    several = [x.name for x in policy.spec.parts]
    contents = (memory.getvalue(), Path(numeric.__file__).read_bytes())
    return contents, lambda x: act(dict(zip(several, x)) if several else x[0])


def _onnx(policy: Policy, inputs: tuple[Input, ...], function: Callable[..., Array]) -> Made:
    runtime = need("onnxruntime", "onnx", "this export")
    content = onnx_bytes(traced(function, inputs), _shape(policy), about(policy))
    session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [x.name for x in inputs]
    return (content,), lambda x: session.run(["action"], dict(zip(names, x)))[0]


def _stablehlo(policy: Policy, inputs: tuple[Input, ...], function: Callable[..., Array]) -> Made:
    (batch,) = jax.export.symbolic_shape("batch")
    written = jax.export.export(jax.jit(function), platforms=("cpu", "cuda", "tpu"))(*(x.aval(batch) for x in inputs))
    content = bytes(written.serialize())
    described: Mapping[str, Any] = {"inputs": [[x.name, x.shape, x.dtype] for x in inputs], "about": about(policy)}
    again = jax.export.deserialize(bytearray(content))
    text = (content, written.mlir_module().encode(), json.dumps(described, indent=1).encode())
    return text, lambda x: np.asarray(again.call(*map(jnp.asarray, x)))
