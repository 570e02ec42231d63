"""Save and load a run's carry, so that a killed run goes on with the same numbers.

    RUN/checkpoints/000007/manifest.json        clocks, facts, and a checksum of every file that it needs
    RUN/checkpoints/000007/state.safetensors    slots, sampler, augmentation, metric sums, open episodes
    RUN/replay/000003.safetensors               environment steps since the checkpoint before: an append-only log

A checkpoint is written into a temporary folder, synced, and renamed; nothing is pickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from segue import replay
from segue.carry import Carry, validated
from segue.engine import Plan, as_plan
from segue.fleet import Fleet, Step
from segue.phases import Phase
from segue.programs import DOOR, entering, keys_of, learning_of, slot_of
from segue.types import SegueError, Slot, Spec, State, World
from segue.units import Units, units_of

FORMAT = 2
KEEP = 2


def save(folder: Path, carry: Carry, extra: dict[str, Any] | None = None) -> Path:
    """Write a checkpoint of `carry` under the run's folder and return its folder; older ones but one are removed.

    `extra` (JSON) comes back from `load`.  Takes the rows in `carry.unsaved`.  Raises `SegueError` when the disk is
    full; the checkpoint before stays valid.
    """
    before = latest(folder)
    parts = before[1]["replay"] if before else []
    number = int(before[0].name) + 1 if before else 1
    root = folder / "checkpoints"
    temporary = root / f".{number:06d}"
    with _full_disk(folder):
        root.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        try:
            if carry.unsaved:
                parts = [*parts, _append_rows(folder, len(parts) + 1, carry.unsaved)]
            arrays = jax.device_get(_arrays(carry))
            manifest = {
                "format": FORMAT,
                "seeds": list(carry.seeds),
                "history": list(carry.history),
                "entered": carry.entered,
                "facts": carry.facts,
                "tick": carry.tick,
                "environment_steps": carry.environment_steps,
                "updates": carry.updates,
                "capacity": carry.online.capacity,
                "fleet": carry.fleet is not None,
                "units": {name: asdict(slot.units) for name, slot in carry.slots.items()},
                "replay": parts,
                "state": _write(temporary / "state.safetensors", {k: np.asarray(v) for k, v in arrays.items()}),
                "extra": extra or {},
            }
            with (temporary / "manifest.json").open("w") as file:
                json.dump(manifest, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(root / f"{number:06d}")
            _sync(root)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    carry.unsaved.clear()
    for old in sorted(root.glob("[0-9]*"))[:-KEEP]:
        shutil.rmtree(old, ignore_errors=True)
    return root / f"{number:06d}"


def latest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Folder and manifest of the newest complete checkpoint whose checksums hold, or None."""
    for path in sorted((folder / "checkpoints").glob("[0-9]*"), reverse=True):
        try:
            manifest = json.loads((path / "manifest.json").read_text())
            if manifest["format"] == FORMAT and _digest(path / "state.safetensors") == manifest["state"]:
                return path, manifest
        except (OSError, ValueError, KeyError):
            continue
    return None


def load(
    folder: Path, plan: Plan | Sequence[Phase], spec: Spec, n_offline: int, world: Callable[[], World] | None
) -> tuple[Carry, dict[str, Any]]:
    """Return the carry of the newest good checkpoint and its `extra`.

    The plan must be the one that the run was started with.  Raises `SegueError` when there is no checkpoint, when a
    file is damaged, when shapes do not fit the plan, or when an environment does not repeat its open episode.
    """
    found = latest(folder)
    if found is None:
        raise SegueError(f"{folder}: no complete checkpoint to resume from; start the run again")
    path, manifest = found
    arrays = load_file(path / "state.safetensors")
    seeds = tuple(manifest["seeds"])
    online, ledger = _replay(folder, manifest, spec, len(seeds))
    carry = Carry(
        seeds,
        online,
        ledger,
        history=tuple(manifest["history"]),
        entered=manifest["entered"],
        facts=manifest["facts"],
        tick=manifest["tick"],
        environment_steps=manifest["environment_steps"],
        updates=manifest["updates"],
    )
    for name, slot in _shapes(carry, as_plan(plan), spec, n_offline).items():
        carry.slots[name] = slot._replace(
            units=units_of(manifest["units"][name]),
            state=_restore(arrays, f"slots.{name}", slot.state),
            batch_state=_restore(arrays, f"samplers.{name}", slot.batch_state),
            augment_state=_restore(arrays, f"augmentations.{name}", slot.augment_state),
        )
    names = sorted({k.split("/")[1] for k in arrays if k.startswith("sums/")})
    carry.sums = {n: (jnp.asarray(arrays[f"sums/{n}/total"]), jnp.asarray(arrays[f"sums/{n}/count"])) for n in names}
    if manifest["fleet"] and world is not None:
        carry.fleet = Fleet(world, seeds)
        carry.fleet.restore({k.removeprefix("fleet/"): v for k, v in arrays.items() if k.startswith("fleet/")})
    return carry, manifest["extra"]


def named_leaves(prefix: str, tree: State) -> dict[str, Any]:
    """Arrays of a pytree under readable, stable names."""
    return {prefix + jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _arrays(carry: Carry) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, slot in carry.slots.items():
        out |= named_leaves(f"slots.{name}", slot.state)
        out |= named_leaves(f"samplers.{name}", slot.batch_state)
        out |= named_leaves(f"augmentations.{name}", slot.augment_state)
    for name, (total, count) in carry.sums.items():
        out |= {f"sums/{name}/total": total, f"sums/{name}/count": count}
    if carry.fleet is not None:
        out |= {f"fleet/{k}": v for k, v in carry.fleet.snapshot().items()}
    return out


def _shapes(carry: Carry, plan: Plan, spec: Spec, n_offline: int) -> dict[str, Slot]:
    """Structures of all slots, found by walking the run's doors without computing anything."""
    make = lambda: replay.empty(1, n_offline, spec.observation, spec.action, spec.dtype)  # noqa: E731
    offline, online = jax.eval_shape(make), jax.eval_shape(lambda: carry.online)
    keys = jax.eval_shape(lambda: keys_of(carry.seeds, DOOR))
    slots: dict[str, Slot] = {}
    for index in range(len(carry.history) + carry.entered):
        phase = plan(carry.history[:index])
        assert phase is not None
        states = {name: learning_of(slot) for name, slot in slots.items()}
        tried = validated(carry.history[:index])
        learning = jax.eval_shape(
            entering(phase, index, spec, Units(), dict(slots)), keys, states, tried, offline, online
        )
        # The units are read from the checkpoint.
        slots[phase.slot] = slot_of(phase, Units(), learning, slots.get(phase.slot))
        facts = (*carry.history, carry.facts)[index]
        if facts.get("validations"):
            slots[phase.validation.keep] = Slot(phase.learner, learning.learner, Units())
    return slots


def _restore(arrays: dict[str, np.ndarray], prefix: str, template: Any) -> Any:
    leaves = []
    for path, leaf in jax.tree_util.tree_leaves_with_path(template):
        name = prefix + jax.tree_util.keystr(path)
        found = arrays.get(name)
        if found is None or found.shape != leaf.shape:
            shape = None if found is None else found.shape
            raise SegueError(
                f"the checkpoint does not fit the run's plan: {name} is {shape} in the checkpoint and {leaf.shape} in "
                "the plan; resume with the recipe and options that the run was started with"
            )
        leaves.append(jnp.asarray(found, leaf.dtype))
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def _append_rows(folder: Path, number: int, steps: list[Step]) -> dict[str, Any]:
    path = folder / "replay" / f"{number:06d}.safetensors"
    path.parent.mkdir(exist_ok=True)
    arrays = {name: np.stack([getattr(s, name) for s in steps]) for name in Step._fields}
    temporary = path.with_suffix(".tmp")
    digest = _write(temporary, arrays)
    temporary.rename(path)
    return {"file": path.name, "rows": len(steps), "sha256": digest}


def _replay(folder: Path, manifest: dict[str, Any], spec: Spec, worlds: int) -> tuple[Any, replay.Ledger]:
    """Own experience and all its rewards, from the log.  Returns are written at the phase's door."""
    capacity, ledger = manifest["capacity"], replay.Ledger(worlds)
    host = {
        "observation": np.zeros((worlds, capacity, *spec.observation), spec.dtype),
        "action": np.zeros((worlds, capacity, spec.action), np.float32),
        "reward": np.zeros((worlds, capacity), np.float32),
        "terminated": np.zeros((worlds, capacity), np.float32),
        "ended": np.zeros((worlds, capacity), np.bool_),
        "next_observation": np.zeros((worlds, capacity, *spec.observation), spec.dtype),
    }
    written = 0
    closed = np.zeros(worlds, np.int32)
    for part in manifest["replay"]:
        path = folder / "replay" / part["file"]
        try:
            if _digest(path) != part["sha256"]:
                raise SegueError(
                    f"{path}: the log of experience is damaged (checksum differs); restore it from a backup"
                )
            arrays = load_file(path)
        except (OSError, SafetensorError) as error:
            raise SegueError(
                f"{path}: cannot read the log of experience ({error}); restore it from a backup"
            ) from error
        at = (written + np.arange(part["rows"])) % capacity
        ended = arrays["terminated"] | arrays["truncated"]
        for name, target in host.items():
            target[:, at] = np.swapaxes(ended if name == "ended" else arrays[name], 0, 1)
        ledger.add(arrays["reward"], arrays["terminated"], ended)
        last = part["rows"] - np.argmax(ended[::-1], axis=0)  # the row after each world's last end, if it has one
        closed = np.where(ended.any(axis=0), written + last, closed).astype(np.int32)
        written += part["rows"]
    count = jnp.full((worlds,), written, jnp.int32)
    columns = {k: jnp.asarray(v) for k, v in host.items()}
    unknown = jnp.full((worlds, capacity), jnp.nan, jnp.float32)
    return replay.Replay(**columns, mc_return=unknown, written=count, closed=jnp.asarray(closed)), ledger


def _write(path: Path, arrays: dict[str, np.ndarray]) -> str:
    try:
        save_file({k: np.ascontiguousarray(v) for k, v in arrays.items()}, path)
    except SafetensorError as error:  # the library wraps the operating system's errors
        if "No space left" in str(error) or "os error 28" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return _digest(path)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SegueError(
            f"{folder}: the disk is full while saving a checkpoint; free some space, then `segue resume {folder}` "
            "(the checkpoint before is intact)"
        ) from error
