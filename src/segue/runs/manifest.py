"""run.json: the description and the status of a run."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import jax
import numpy as np

from segue.agents import title
from segue.core import files
from segue.core.files import is_whole, sealed
from segue.core.groups import cores
from segue.core.named import FORM, file_of
from segue.core.types import SegueError, Task
from segue.recipes import Plan
from segue.recipes.plan import Decided

PACKAGES = (
    "segue",
    "jax",
    "jaxlib",
    "equinox",
    "optax",
    "numpy",
    "gymnasium",
    "gymnasium-robotics",
    "mujoco",
    "minari",
)
STATUSES = {"running", "interrupted", "failed", "stopped", "finished"}
LOOSE = frozenset({"status"})  # of run.json: what changes while the run runs stands outside its seal
NEEDED = {"segue", "status", "request", "config", "phases", "provenance"}  # what resuming reads


class PhaseFacts(TypedDict):
    """A phase as it is announced."""

    name: str
    gradient_steps: int
    environment_steps: int | None
    utd_ratio: float
    slot: NotRequired[str]
    learner: NotRequired[str]
    validation: NotRequired[int]


class Change(TypedDict):
    """Settings that were changed in the middle of a run: values before and after, and the clocks."""

    phase: str
    step: int
    environment_steps: int
    updates: int
    settings: dict[str, list[object]]


class Stopped(TypedDict):
    """A stop before the end that somebody has asked for."""

    by: str
    """A callback's name, or the condition of --stop-when."""
    phase: str
    step: int
    environment_steps: int
    updates: int


class Provenance(TypedDict):
    """With what a run was made."""

    versions: dict[str, str]
    own: dict[str, str]
    platform: str
    backend: str
    cores: NotRequired[int]
    """XLA cuts products of matrices by their number, which changes the last digits."""
    dataset: dict[str, object] | None
    changes: NotRequired[list[Change]]
    origin: NotRequired[str]
    """Where the first phases come from: RUN@PHASE, and the seal of that state."""


class Described(TypedDict):
    """run.json, without its seal."""

    segue: str
    status: str
    recipe: str
    paper: str
    task: str
    seeds: list[int]
    command: list[str]
    created: str
    request: dict[str, Any]
    """What was asked for, as `segue.runs.request.Request`."""
    config: dict[str, Decided]
    phases: list[PhaseFacts]
    task_card: Mapping[str, object]
    provenance: Provenance
    stopped: NotRequired[list[Stopped]]
    """Every stop so far, the last one last; a run may have gone on after it."""


def describe(decided: Plan, task: Task, request: Mapping[str, Any]) -> Described:
    """Everything that is needed to check or repeat the run: config with sources, versions, data hash."""
    data, asked, config = task.dataset(), plain(request), plain(decided.table())
    logged: dict[str, object] | None = None
    if data is not None:
        rows, ends = len(data), len(data.ends())
        logged = {"source": task.source, "sha256": data.sha256(), "transitions": rows, "episodes": ends}
    known = asked.get("origin")
    origin: Any = {"origin": f"{known['run']}@{known['phase']} {known['seal']}"} if known else {}
    return {
        "segue": metadata.version("segue"),
        "status": "running",
        "recipe": request["recipe"],
        "paper": decided.paper,
        "task": request["task"],
        "seeds": list(request["seeds"]),
        "command": sys.argv[:1] and [Path(sys.argv[0]).name, *sys.argv[1:]],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "request": asked,
        "config": config,
        "phases": [
            {
                "name": p.name,
                "slot": p.slot,
                "learner": title(p.learner),
                "gradient_steps": p.gradient_steps,
                "environment_steps": p.environment_steps,
                "utd_ratio": p.utd_ratio,
                "validation": p.validation.steps,
            }
            for p in decided.phases
        ],
        "task_card": plain(task.card()),
        "provenance": {
            "versions": versions(),
            "own": own_modules(asked, config),
            "platform": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
            "backend": jax.default_backend(),
            "cores": cores(),
            "dataset": logged,
            **origin,
        },
    }


_ONNX = re.compile(r'[^"=?&]+\.onnx')  # also where a task names it: TASK?residual=FILE.onnx&...


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a run's numbers."""
    out = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            out[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return out


def own_modules(request: object, config: object) -> dict[str, str]:
    """First digits of the SHA-256 of the file of each module of one's own that a run names, as module:name, and of each
    ONNX file."""
    said = json.dumps([request, config])
    modules = sorted({word.partition(":")[0] for word in FORM.findall(said)})
    found = {module: file for module in modules if (file := file_of(module)) is not None}
    found |= {word: Path(word) for word in sorted(set(_ONNX.findall(said))) if Path(word).is_file()}
    return {name: files.sha256(file)[:12] for name, file in found.items()}


def moved(described: Described) -> list[str]:
    """What a resumed run finds changed ("jax 0.7.0 -> 0.7.1"): its numbers may differ in their last digits."""
    before = described["provenance"]
    machine: dict[str, Any] = {"backend": jax.default_backend(), "cores": cores()}
    now = {**machine, **versions(), **own_modules(described["request"], described["config"])}
    # An older run did not write down all of them.
    known = {name: value for name, value in before.items() if name in machine}
    was: dict[str, Any] = {**known, **before.get("versions", {}), **before.get("own", {})}
    return [f"{name} {was[name]} -> {now.get(name)}" for name in was if was[name] != now.get(name)]


def plain(value: object) -> Any:
    """JSON with infinities as words, so that run.json stays valid JSON."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return plain(value.tolist())
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def read(folder: Path) -> Described:
    """Return a run's run.json; `SegueError` where the folder is no run."""
    try:
        described: Described = json.loads((folder / "run.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        if (folder / "checkpoints").is_dir():
            raise SegueError(f"{folder / 'run.json'}: is missing or damaged; restore it from a backup") from error
        raise SegueError(
            f"{folder}: is not a run (no readable run.json); give the folder that `segue run` made"
        ) from error
    if not isinstance(described, dict) or not described.keys() >= NEEDED:
        raise SegueError(f"{folder}: its run.json was not written by Segue; give the folder that `segue run` made")
    if described["status"] not in STATUSES or not is_whole(described, LOOSE):
        raise SegueError(f"{folder / 'run.json'}: is damaged (its checksum does not fit); restore it from a backup")
    return described


def write(folder: Path, described: Described) -> None:
    """Write run.json under its seal: all of it or, whatever happens, the one before."""
    files.write(folder / "run.json", json.dumps(sealed(described, LOOSE), indent=1, allow_nan=False))


def set_status(folder: Path, status: str) -> None:
    """Write the status: running, interrupted, failed, stopped or finished."""
    write(folder, {**read(folder), "status": status})


def stop(folder: Path, by: str, row: Mapping[str, Any]) -> None:
    """Write that somebody has stopped the run early, after a row of its metrics."""
    described = read(folder)
    stopped: Stopped = {
        "by": by,
        "phase": row["phase"],
        "step": row["phase_step"],
        "environment_steps": row["environment_step"],
        "updates": row["update"],
    }
    write(folder, {**described, "status": "stopped", "stopped": [*described.get("stopped", ()), stopped]})
