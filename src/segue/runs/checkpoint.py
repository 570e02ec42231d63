"""Save and load a run's carry, so that a killed run goes on with the same numbers.

    RUN/checkpoints/000007/manifest.json        clocks, facts, and a checksum of every file that it needs
    RUN/checkpoints/000007/state.safetensors    slots, sampler, augmentation, metric sums, open episodes
    RUN/replay/000003.safetensors               environment steps since the checkpoint before: an append-only log

A checkpoint is written into a temporary folder, synced, and renamed; nothing is pickled.  It is whole if its manifest
fits its own seal, its state fits the manifest, and so does every part of the log that it needs.  `load` takes the
newest whole one, and `save` keeps the newest two whole ones.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from segue.core import files, replay
from segue.core.scaling import Units, units_of
from segue.core.types import SegueError, Slot, Spec, State, World, WorldError
from segue.engine.envs import Fleet, Step
from segue.engine.loop import Plan, as_plan
from segue.engine.phase import Phase
from segue.engine.state import Carry, validated
from segue.engine.steps import DOOR, entering, keys_of, learning_of, slot_of

FORMAT = 3
READS = (2, 3)  # format 2 had no seal on its manifests
KEEP = 2
Fits = Callable[[Mapping[str, Any]], str | None]


def save(folder: Path, carry: Carry, extra: dict[str, Any] | None = None) -> Path:
    """Write a checkpoint of `carry` under the run's folder and return its folder; older ones but one are removed.

    `extra` (JSON) comes back from `load`.  Takes the rows in `carry.unsaved`.  Raises `SegueError` when the disk is
    full; the checkpoint before stays valid.
    """
    root = folder / "checkpoints"
    with _full_disk(folder):
        _make(root)
        number = max((int(path.name) for path in _folders(folder)), default=0) + 1  # never the place of another one
        temporary = root / f".{number:06d}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        parts = carry.saved
        try:
            if carry.unsaved:
                parts = (*parts, _append_rows(folder, len(parts) + 1, carry.unsaved))
            arrays = {k: np.ascontiguousarray(v) for k, v in jax.device_get(_arrays(carry)).items()}
            state = temporary / "state.safetensors"
            files.write(state, lambda path: _save_file(arrays, path))
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
                "moved": carry.moved,
                "learned": carry.learned,
                "cuts": list(carry.cuts),
                "units": {name: asdict(slot.units) for name, slot in carry.slots.items()},
                "replay": list(parts),
                "state": files.sha256(state),
                "extra": extra or {},
            }
            files.write(temporary / "manifest.json", json.dumps(files.sealed(manifest), indent=1))
            temporary.rename(root / f"{number:06d}")
            files.sync(root)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    carry.unsaved.clear()
    carry.saved = parts
    _remove_old(folder, number, parts)
    return root / f"{number:06d}"


def _remove_old(folder: Path, newest: int, parts: Sequence[Mapping[str, Any]]) -> None:
    """Remove all checkpoints but the newest whole ones; one that needs rows which the log lost is not whole."""
    kept = 0
    for path in reversed(_folders(folder)):
        if int(path.name) == newest:
            kept += 1
            continue
        manifest = _manifest(path)
        needs = [] if isinstance(manifest, str) else manifest["replay"]
        goes_on = needs == list(parts[: len(needs)])
        if kept < KEEP and not isinstance(manifest, str) and goes_on and _state_fault(path, manifest) is None:
            kept += 1
        else:
            shutil.rmtree(path, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    """Folders of finished checkpoints, whole or not, oldest first."""
    return sorted(p for p in (folder / "checkpoints").glob("[0-9]*") if p.name.isdigit())


def _manifest(path: Path) -> dict[str, Any] | str:
    """A checkpoint's manifest, or what is wrong with it."""
    place = path / "manifest.json"
    try:
        manifest = json.loads(place.read_text("utf-8"))
        if not files.is_whole(manifest) or (manifest["format"] > 2 and files.SEAL not in manifest):
            return f"{place} is damaged"
        if manifest["format"] not in READS:
            return f"{place} has format {manifest['format']}, and this version reads {READS[-1]}"
        return dict(manifest)
    except FileNotFoundError:
        return f"{place} is missing"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{place} is damaged"


def _state_fault(path: Path, manifest: Mapping[str, Any]) -> str | None:
    return _fault(path / "state.safetensors", manifest["state"])


def _fault(path: Path, digest: str) -> str | None:
    """What is wrong with a file, or None."""
    try:
        return None if files.sha256(path) == digest else f"{path} is damaged"
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"


def latest(folder: Path, fits: Fits = lambda manifest: None) -> tuple[Path, dict[str, Any], str | None] | None:
    """Newest whole checkpoint: its folder, its manifest, and what is wrong with the newest one if that is another.

    `fits` may say what else is wrong with one.  None where none was ever written.  Raises `SegueError` where none of
    them is whole, and names what must come back.
    """
    first: str | None = None
    for path in reversed(_folders(folder)):
        manifest = _manifest(path)
        if isinstance(manifest, str):
            fault: str | None = manifest
        else:
            fault = _state_fault(path, manifest) or fits(manifest)
            for part in manifest["replay"]:
                fault = fault or _fault(folder / "replay" / part["file"], part["sha256"])
            if fault is None:
                return path, manifest, first
        first = first or fault
    if first is not None:
        raise SegueError(f"{first}, and no older checkpoint is whole without it; restore this file from a backup")
    return None


def load(
    folder: Path,
    plan: Plan | Sequence[Phase],
    spec: Spec,
    n_offline: int,
    world: Callable[[], World] | None,
    fits: Fits = lambda manifest: None,
    real: bool = False,
) -> tuple[Carry, dict[str, Any]]:
    """Return the carry of the newest whole checkpoint and its `extra`; `fits` as for `latest`.

    Open episodes are replayed from their seeds and actions.  A `real` world is neither made nor moved here: its open
    episode counts as cut after its last row, and the run goes on with a new one.

    The plan must be the one that the run was started with.  Raises `SegueError` when there is no checkpoint, when a
    file is damaged, when shapes do not fit the plan, or when an environment does not repeat its open episode.
    """
    found = latest(folder, fits)
    if found is None:
        raise SegueError(f"{folder}: no complete checkpoint to resume from; start the run again")
    path, manifest, _ = found
    arrays = load_file(path / "state.safetensors")
    seeds = tuple(manifest["seeds"])
    snapshot = {k.removeprefix("fleet/"): v for k, v in arrays.items() if k.startswith("fleet/")}
    waiting = [f"actions.{w}" in snapshot for w in range(len(seeds))]
    cuts = tuple(manifest.get("cuts", ()))
    if real and any(waiting):
        cuts = (*cuts, manifest["environment_steps"])
    online, ledger = _replay(folder, manifest, spec, len(seeds), cuts)
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
        saved=tuple(manifest["replay"]),
        moved=manifest.get("moved", 0),
        learned=manifest.get("learned", False),
        cuts=cuts,
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
    if manifest["fleet"] and real:
        carry.begun = tuple(int(n) + left for n, left in zip(snapshot["episodes"], waiting))
    elif manifest["fleet"] and world is not None:
        carry.fleet = Fleet(world, seeds)
        try:
            carry.fleet.restore(snapshot)
        except BaseException as error:
            carry.fleet.close()
            if isinstance(error, WorldError):
                raise WorldError(f"{error}; mend it, then `segue resume {files.word(folder)}`") from error
            raise
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
    """Write a part of the log; one of that number that no checkpoint goes on from is replaced."""
    path = folder / "replay" / f"{number:06d}.safetensors"
    _make(path.parent)
    arrays = {name: np.stack([getattr(s, name) for s in steps]) for name in Step._fields}
    files.write(path, lambda temporary: _save_file(arrays, temporary))
    return {"file": path.name, "rows": len(steps), "sha256": files.sha256(path)}


def _make(folder: Path) -> None:
    """Make a folder, and force its name to the disk."""
    if not folder.is_dir():
        folder.mkdir(parents=True)
        files.sync(folder.parent)


def _replay(
    folder: Path, manifest: dict[str, Any], spec: Spec, worlds: int, cuts: Sequence[int]
) -> tuple[Any, replay.Ledger]:
    """Own experience and all its rewards, from the log; episodes end at `cuts` too.

    Returns are written at the phase's door.
    """
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
            arrays = load_file(path)
        except (OSError, SafetensorError) as error:
            raise SegueError(
                f"{path}: cannot read the log of experience ({error}); restore it from a backup"
            ) from error
        at = (written + np.arange(part["rows"])) % capacity
        ended = arrays["terminated"] | arrays["truncated"]
        ended[[cut - 1 - written for cut in cuts if written < cut <= written + part["rows"]]] = True
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


def _save_file(arrays: dict[str, np.ndarray], path: Path) -> None:
    try:
        save_file(arrays, path)
    except SafetensorError as error:  # the library wraps the operating system's errors
        if "No space left" in str(error) or "os error 28" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SegueError(
            f"{folder}: the disk is full while saving a checkpoint; free some space, then "
            f"`segue resume {files.word(folder)}` "
            "(the checkpoint before is intact)"
        ) from error
