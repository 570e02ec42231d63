"""Save and load a run's state, so that a killed run goes on with the same numbers.

    RUN/checkpoints/000007/manifest.json        clocks, facts, and a checksum of every file that it needs
    RUN/checkpoints/000007/state.safetensors    slots, sampler, bonus, metric sums, open episodes, plans
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from segue.core import files
from segue.core.experience import Experience, Step
from segue.core.groups import Groups
from segue.core.observations import parts_seen
from segue.core.scaling import Scaling, plain_scaling, scaling_of
from segue.core.types import Array, EnvError, Learned, NoRoom, SegueError, Slot, Spec, State
from segue.engine.envs import Envs, Simulator
from segue.engine.loop import Plan, as_plan
from segue.engine.phase import Phase
from segue.engine.state import RunState
from segue.engine.validate import Shapes

FORMAT = 5
KEEP = 2
KINDS = ("slots", "samplers", "augmentations")
"""What arrays of a slot are called: those of its learner, its sampler and its bonus."""


class Extra(TypedDict, total=False):
    """What `drive` wants to know again."""

    position: int
    """Bytes of metrics.jsonl."""
    rows: str
    """SHA-256 of these."""
    wall_s: float
    moves: int
    """Steps that were sent to an environment that exists once."""


class Manifest(TypedDict):
    """manifest.json, without its seal; see `segue.engine.state.RunState`."""

    format: int
    seeds: list[int]
    history: list[dict[str, Any]]
    entered: bool
    facts: dict[str, Any]
    step: int
    environment_steps: int
    updates: int
    capacity: int
    envs: bool
    moved: int
    learned: bool
    cuts: list[int]
    scaling: dict[str, dict[str, object]]
    replay: list[dict[str, Any]]
    state: str
    extra: Extra


Fits = Callable[[Manifest], str | None]


def save(folder: Path, state: RunState, extra: Extra | None = None) -> Path:
    """Write a checkpoint of `state` under the run's folder and return its folder; older ones but one are removed.

    `extra` (JSON) comes back from `load`.  Takes the rows in `state.unsaved`.  Raises `SegueError` when the disk is
    full; the checkpoint before stays valid.
    """
    root = folder / "checkpoints"
    with _full_disk(folder):
        _make(root)
        number = max((int(path.name) for path in _folders(folder)), default=0) + 1  # never the place of another one
        temporary = root / f".{number:06d}"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        parts = state.saved
        try:
            if state.unsaved:
                parts = (*parts, _append_rows(folder, len(parts) + 1, state.unsaved))
            arrays = {k: np.ascontiguousarray(v) for k, v in jax.device_get(_arrays(state)).items()}
            weights = temporary / "state.safetensors"
            files.write(weights, lambda path: _save_file(arrays, path))
            manifest: Manifest = {
                "format": FORMAT,
                "seeds": list(state.seeds),
                "history": list(state.history),
                "entered": state.entered,
                "facts": state.facts,
                "step": state.step,
                "environment_steps": state.environment_steps,
                "updates": state.updates,
                "capacity": state.experience.capacity,
                "envs": state.envs is not None,
                "moved": state.moved,
                "learned": state.learned,
                "cuts": list(state.cuts),
                "scaling": {name: plain_scaling(slot.scaling) for name, slot in state.slots.items()},
                "replay": list(parts),
                "state": files.sha256(weights),
                "extra": extra or {},
            }
            files.write(temporary / "manifest.json", json.dumps(files.sealed(manifest), indent=1))
            temporary.rename(root / f"{number:06d}")
            files.sync(root)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    state.unsaved.clear()
    state.saved = parts
    _remove_old(folder, number, parts)
    return root / f"{number:06d}"


def _remove_old(folder: Path, newest: int, parts: Sequence[dict[str, Any]]) -> None:
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


def _manifest(path: Path) -> Manifest | str:
    """A checkpoint's manifest, or what is wrong with it."""
    place = path / "manifest.json"
    try:
        manifest: Manifest = json.loads(place.read_text("utf-8"))
        if not files.is_whole(manifest) or files.SEAL not in manifest:
            return f"{place} is damaged"
        if manifest["format"] != FORMAT:
            return f"{place} has format {manifest['format']}, and this version reads {FORMAT}"
        return manifest
    except FileNotFoundError:
        return f"{place} is missing"
    except (OSError, ValueError, KeyError, TypeError):
        return f"{place} is damaged"


def whole(path: Path) -> Manifest | str:
    """A checkpoint's manifest, or what is wrong with it or with its state."""
    manifest = _manifest(path)
    return manifest if isinstance(manifest, str) else _state_fault(path, manifest) or manifest


def _state_fault(path: Path, manifest: Manifest) -> str | None:
    return fault(path / "state.safetensors", manifest["state"])


def fault(path: Path, digest: str) -> str | None:
    """What is wrong with a file, or None."""
    try:
        return None if files.sha256(path) == digest else f"{path} is damaged"
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"


def latest(folder: Path, fits: Fits = lambda manifest: None) -> tuple[Path, Manifest, str | None] | None:
    """Newest whole checkpoint: its folder, its manifest, and what is wrong with the newest one if that is another.

    `fits` may say what else is wrong with one.  None where none was ever written.  Raises `SegueError` where none of
    them is whole, and names what must come back.
    """
    first: str | None = None
    for path in reversed(_folders(folder)):
        manifest = _manifest(path)
        if isinstance(manifest, str):
            wrong: str | None = manifest
        else:
            wrong = _state_fault(path, manifest) or fits(manifest)
            for part in manifest["replay"]:
                wrong = wrong or fault(folder / "replay" / part["file"], part["sha256"])
            if wrong is None:
                return path, manifest, first
        first = first or wrong
    if first is not None:
        raise SegueError(f"{first}, and every older checkpoint is damaged or needs it; restore this file from a backup")
    return None


def load(
    folder: Path,
    plan: Plan | Sequence[Phase],
    spec: Spec,
    n_offline: int,
    simulators: Callable[[], Simulator] | None,
    fits: Fits = lambda manifest: None,
    real: bool = False,
    envs: int = 1,
) -> tuple[RunState, Extra]:
    """Return the state of the newest whole checkpoint and its `extra`; `fits` as for `latest`, `envs` as for `run`.

    Open episodes are replayed from their seeds and actions.  A `real` environment is neither made nor moved here: its
    open episode counts as cut after its last row, and the run goes on with a new one.

    The plan must be the one that the run was started with.  Raises `SegueError` when there is no checkpoint, when a
    file is damaged, when shapes do not fit the plan, or when an environment does not repeat its open episode.
    """
    found = latest(folder, fits)
    if found is None:
        raise SegueError(f"{folder}: no complete checkpoint to resume from; start the run again")
    path, manifest, _ = found
    arrays = load_file(path / "state.safetensors")
    seeds = tuple(manifest["seeds"])
    snapshot = {k.removeprefix("envs/"): v for k, v in arrays.items() if k.startswith("envs/")}
    waiting = [f"actions.{w}" in snapshot for w in range(len(seeds) * envs)]
    cuts = tuple(manifest["cuts"])
    if real and any(waiting):
        cuts = (*cuts, manifest["environment_steps"])
    state = RunState(
        seeds,
        _experience(folder, manifest, spec, len(seeds), cuts, envs),
        history=tuple(manifest["history"]),
        entered=manifest["entered"],
        facts=manifest["facts"],
        step=manifest["step"],
        environment_steps=manifest["environment_steps"],
        updates=manifest["updates"],
        saved=tuple(manifest["replay"]),
        moved=manifest["moved"],
        learned=manifest["learned"],
        cuts=cuts,
    )
    for name, slot in _shapes(state, as_plan(plan), spec, n_offline).items():
        state.slots[name] = slot._replace(
            scaling=scaling_of(manifest["scaling"][name], parts_seen(spec)),
            learned=Learned(*(_restore(arrays, f"{kind}.{name}", tree) for kind, tree in zip(KINDS, slot.learned))),
        )
    names = sorted({k.split("/")[1] for k in arrays if k.startswith("sums/")})
    state.counted = {n: (arrays[f"sums/{n}/total"], arrays[f"sums/{n}/count"]) for n in names}
    if len(snapshot.get("episodes", ())) == len(waiting) and (real or not manifest["envs"]):
        state.begun = tuple(int(n) + left * envs for n, left in zip(snapshot["episodes"], waiting))
    elif manifest["envs"] and simulators is not None:
        state.queue = {int(k.removeprefix("queue/")): v for k, v in arrays.items() if k.startswith("queue/")}
        state.envs = Envs(simulators, seeds, envs)
        try:
            state.envs.restore(snapshot)
        except BaseException as error:
            state.envs.close()
            if isinstance(error, EnvError):
                raise EnvError(f"{error}; fix it, then `segue resume {files.word(folder)}`") from error
            raise
    return state, manifest["extra"]


def named_leaves(prefix: str, tree: State) -> dict[str, Array]:
    """Arrays of a pytree under readable, stable names."""
    return {prefix + jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def _arrays(state: RunState) -> dict[str, Array | np.ndarray]:
    out: dict[str, Array | np.ndarray] = {}
    for name, slot in state.slots.items():
        for kind, tree in zip(KINDS, slot.learned):
            out |= named_leaves(f"{kind}.{name}", tree)
    for name, (total, count) in state.sums.items():
        out |= {f"sums/{name}/total": total, f"sums/{name}/count": count}
    if state.envs is not None:
        out |= {f"envs/{k}": v for k, v in state.envs.snapshot().items()}
        out |= {f"queue/{w}": actions for w, actions in state.queue.items()}
    return out


def _shapes(state: RunState, plan: Plan, spec: Spec, n_offline: int) -> dict[str, Slot]:
    """Structures of all slots, found by walking the run's hand-overs without computing anything."""
    own = state.experience
    shapes = Shapes(spec, len(state.seeds), n_offline, own.capacity, envs=own.envs)
    for index in range(len(state.history) + state.entered):
        phase = plan(state.history[:index])
        assert phase is not None
        shapes.hand_over(phase, index, Scaling(parts=parts_seen(spec)))  # the scaling is read from the checkpoint
        if (*state.history, state.facts)[index].get("validations"):
            shapes.validated(phase)
    return shapes.slots


def _restore(arrays: dict[str, np.ndarray], prefix: str, template: State) -> State:
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


def _experience(folder: Path, manifest: Manifest, spec: Spec, lanes: int, cuts: Sequence[int], envs: int) -> Experience:
    """Own experience, from the log; episodes end at `cuts` too.  Returns are written when the phase begins."""
    experience = Experience(lanes, manifest["capacity"], spec, Groups.of(lanes), envs)
    for part in manifest["replay"]:
        path = folder / "replay" / part["file"]
        try:
            steps = Step(**load_file(path))
        except (OSError, SafetensorError) as error:
            raise SegueError(
                f"{path}: cannot read the log of experience ({error}); restore it from a backup"
            ) from error
        written = int(experience.written[0])
        inside = [cut - 1 - written for cut in cuts if written < cut <= written + part["rows"]]
        steps.truncated[inside] = True
        experience.extend(steps)
    experience.reopen()
    return experience


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
        raise NoRoom(
            f"{folder}: the disk is full while saving a checkpoint; free some space, then "
            f"`segue resume {files.word(folder)}` "
            "(the checkpoint before is intact)"
        ) from error
