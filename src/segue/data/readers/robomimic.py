"""robomimic's HDF5: a group of arrays for each demonstration.

    data/demo_0/obs/KEY (T, ...)   next_obs/KEY (T, ...)   actions (T, A)   rewards (T,)   dones (T,)
    data's attribute env_args: JSON of env_name and env_kwargs         mask/FILTER: names of demonstrations

`dones` marks success, the end of each demonstration, or both, as the file's maker chose (robomimic's `done_mode`), and
may be set for several steps.  So a demonstration is one episode, terminated if its last flag is set.  Its final
observation is the last of `next_obs`; a file without these follows the rules of `segue.data.readers.rows`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np

from segue.core.types import SegueError
from segue.data.facts import Environment, Facts
from segue.data.readers.columns import Roles, listed
from segue.data.readers.damage import numeric, reading
from segue.data.readers.npy import natural
from segue.data.readers.reader import Options, Source
from segue.data.readers.rows import Block, episodes
from segue.data.recorded import Recorded

OPTIONS = ("keys", "filter")
_NEXT = "next "


def source(where: str, options: Options) -> Source:
    """Open a robomimic file.

    `keys=a,b` names observations in order; all vectors, sorted by name, unless given.  An image (uint8) may stand alone
    or among them.  `filter=train` takes the demonstrations of that list in `mask`.
    """
    path = Path(where)
    if not path.is_file():
        raise SegueError(f"{path}: no such file; check the path")
    if not h5py.is_hdf5(path):
        raise SegueError(f"{path}: not an HDF5 file, or one that is cut short; give a file of robomimic's")
    with reading(path), h5py.File(path, "r") as file:
        data = _group(file, "data", path)
        demos = _demos(file, data, options.text("filter"), path)
        keys = options.names("keys") or _vectors(data, demos[0], path)
        environment = _environment(data, keys, path)
    facts: Facts = {"source": options.source, "environment": environment}
    if options.text("filter"):
        facts["notes"] = {"filter": options.text("filter")}

    def found() -> Iterator[Recorded]:
        for demo in demos:
            with reading(path), h5py.File(path, "r") as file:
                block = _block(_group(_group(file, "data", path), demo, path), keys, path)
            follows = tuple(_NEXT + key for key in keys) if _NEXT + keys[0] in block else ()
            ends = "dones" if "dones" in block else ""
            roles = Roles(keys, ("actions",), "rewards", follows, terminated=ends, inside=False)
            yield from episodes([block], roles._replace(episode="demo"), f"{path}, {demo}")

    return Source(facts, found())


def _group(parent: h5py.Group, name: str, path: Path) -> h5py.Group:
    found = _inside(parent, name, path)
    if not isinstance(found, h5py.Group):
        raise SegueError(f"{path}: no group '{name}' in {parent.name}; it has {listed(parent)}")
    return found


def _inside(parent: h5py.Group, name: str, path: Path) -> h5py.Group | h5py.Dataset | None:
    """The item of that name, or None; `SegueError` if it stands in another file."""
    found = parent.get(name)
    if found is not None and found.file.filename != parent.file.filename:
        raise SegueError(f"{path}: '{name}' is in another file, {found.file.filename!r}; copy it into this one")
    return found


def _demos(file: h5py.File, data: h5py.Group, chosen: str, path: Path) -> list[str]:
    """Names of the demonstrations, by number."""
    demos = sorted(data, key=lambda name: natural(Path(name)))
    if chosen:
        filters = _group(file, "mask", path)
        names = _inside(filters, chosen, path)
        if not isinstance(names, h5py.Dataset) or not (names.dtype.kind == "S" or h5py.check_string_dtype(names.dtype)):
            raise SegueError(f"{path}: no list '{chosen}' of demonstrations; the file has {listed(filters)}")
        wanted = {word.decode() if isinstance(word, bytes) else str(word) for word in np.atleast_1d(names[()])}
        if strange := sorted(wanted - set(demos)):
            raise SegueError(f"{path}: filter={chosen} names {listed(strange[:1])}, which the file does not have")
        demos = [name for name in demos if name in wanted]
    if not demos:
        raise SegueError(f"{path}: no demonstration in it; give a file with data/demo_0")
    return demos


def _vectors(data: h5py.Group, demo: str, path: Path) -> tuple[str, ...]:
    """Keys of the observations that are vectors, by name."""
    group = _group(data, demo, path)
    if "obs" not in group:
        raise SegueError(f"{path}: no observations in {demo}, only {listed(group)}; make them with robomimic's scripts")
    seen = _group(group, "obs", path)
    arrays = {key: _inside(seen, key, path) for key in sorted(seen)}
    keys = [k for k, a in arrays.items() if isinstance(a, h5py.Dataset) and a.shape is not None and len(a.shape) <= 2]
    if not keys:
        raise SegueError(f"{path}: no observation is a vector; name an image, keys=KEY of {listed(seen)}")
    return tuple(keys)


def _block(demo: h5py.Group, keys: tuple[str, ...], path: Path) -> Block:
    """The arrays of a demonstration; `demo` in them is the same for all rows."""
    seen = _group(demo, "obs", path)
    block = {
        name: _read(demo, name, path) for name in ("actions", "rewards", "dones") if name != "dones" or name in demo
    }
    block |= {key: _read(seen, key, path) for key in keys}
    steps = len(block["actions"])
    then = _group(demo, "next_obs", path) if "next_obs" in demo else {}
    for key in keys:
        if block[key].ndim > 2 and block[key].dtype != np.uint8 and len(keys) > 1:
            raise SegueError(
                f"{path}: '{key}' is {block[key].shape}, neither vector nor image; name it alone, keys={key}"
            )
        if isinstance(then, h5py.Group) and steps and all(key in then for key in keys):
            last = _read(then, key, path, last=True)
            if last.shape[1:] != block[key].shape[1:]:
                raise SegueError(f"{path}: '{key}' is {block[key].shape} in {demo.name}, in next_obs {last.shape}")
            block[_NEXT + key] = np.concatenate([block[key][1:], last])
    for name, array in block.items():
        if len(array) != steps:
            raise SegueError(f"{path}: '{name}' has {len(array)} rows in {demo.name}, and actions {steps}")
    return {**block, "demo": np.zeros(steps, np.int8)}


def _read(group: h5py.Group, name: str, path: Path, *, last: bool = False) -> np.ndarray:
    """An array, or its last row."""
    array = _inside(group, name, path)
    if not isinstance(array, h5py.Dataset):
        raise SegueError(f"{path}: no array {listed([name])} in {group.name}; it has {listed(group)}")
    numeric(path, name, array)
    if not array.shape or array.size == 0:
        raise SegueError(
            f"{path}: '{name}' in {group.name} is {array.shape}: nothing in it; leave the demonstration out"
        )
    return np.asarray(array[-1:] if last else array[()])


def _environment(data: h5py.Group, keys: tuple[str, ...], path: Path) -> Environment | None:
    """What the file says of its environment; None if it says nothing."""
    text = data.attrs.get("env_args")
    if text is None:
        return None
    try:
        known = json.loads(text)
        return {"env_id": str(known["env_name"]), "env_kwargs": dict(known.get("env_kwargs") or {}), "keys": list(keys)}
    except (ValueError, KeyError, TypeError) as error:
        raise SegueError(f"{path}: the attribute 'env_args' is no JSON with an env_name; repair it") from error
