"""A trained policy as a bundle: `policy.json` and `weights.safetensors`, loaded without the task or the simulator."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from segue.agents import build, describe
from segue.core import files
from segue.core.observations import pack, parts_of, parts_seen, plain
from segue.core.scaling import Scaling, plain_scaling, scaling_of
from segue.core.types import Acting, Array, Learned, SegueError, Slot, Spec, State
from segue.runs.checkpoint import named_leaves
from segue.runs.fork import find_end

FORMAT = 3
Observation = ArrayLike | Mapping[str, ArrayLike]
"""An array, or one for each key of the task's observation."""


@partial(jax.jit, static_argnames=("agent", "scaling", "explore"))
def _act(agent: Acting, scaling: Scaling, explore: bool, state: State, observation: Array, key: Array) -> Array:
    return agent.act(state, scaling.see(observation), key, explore)


class Policy:
    """The policy of one seed of a run."""

    def __init__(self, agent: Acting, state: State, spec: Spec, seed: int, facts: Mapping[str, Any]) -> None:
        self.agent, self.state, self.spec, self.seed, self.facts = agent, state, spec, seed, dict(facts)
        self.scaling, self.chunk = scaling_of(facts["scaling"], parts_seen(spec)), int(facts.get("chunk", 1))
        self.taken = int(facts.get("replan") or self.chunk)
        self._low, self._high = (np.asarray(facts["action"][k], np.float32) for k in ("low", "high"))

    def act(self, observation: Observation, *, explore: bool = False, key: Array | None = None) -> np.ndarray:
        """Return actions within the environment's bounds, (A,) or (B, A), float32.

        `observation` is one observation, a batch of them, or a mapping with the keys of the task's observation.
        `explore` samples from the policy and needs a `key`.  Raises `SegueError` for a wrong shape.

        For a policy that plans `chunk` actions at once this is the first of them.
        """
        return self.plan(observation, explore=explore, key=key)[..., 0, :]

    def normalised(self, observation: Observation, *, explore: bool = False, key: Array | None = None) -> np.ndarray:
        """As `act`, with actions in [-1, 1]."""
        return self.plan(observation, explore=explore, key=key, bounds=False)[..., 0, :]

    def plan(
        self, observation: Observation, *, explore: bool = False, key: Array | None = None, bounds: bool = True
    ) -> np.ndarray:
        """As `act`, the `taken` actions to take one after the other, (taken, A) or (B, taken, A).

        So the policy was trained and is evaluated: a new plan is due when they are done.  Of a plan of `chunk` actions
        these are all, or the first ones (`Phase.replan`).  Without `bounds` actions are in [-1, 1].
        """
        array = self._flat(observation)
        single = array.ndim == len(self.spec.observation)
        batch = array[None] if single else array
        if batch.shape[1:] != self.spec.observation:
            raise SegueError(f"the policy takes observations of shape {self.spec.observation}; this is {array.shape}")
        if batch.dtype.kind == "f" and not np.isfinite(batch).all():
            raise SegueError("the policy takes finite numbers; this observation has NaN or infinity in it")
        if explore and key is None:
            raise SegueError("explore=True draws random actions; give key=jax.random.key(...)")
        key = jax.random.key(0) if key is None else key
        action = np.asarray(_act(self.agent, self.scaling, explore, self.state, batch, key))
        action = action.reshape(len(batch), self.chunk, self.spec.action)[:, : self.taken]
        if bounds:
            action = self._low + 0.5 * (action + 1.0) * (self._high - self._low)
        return action[0] if single else action

    def _flat(self, observation: Observation) -> np.ndarray:
        if isinstance(observation, Mapping):
            keys = self.facts["observation"]["keys"]
            missing = [k for k in keys if k not in observation]
            if missing or not keys:
                raise SegueError(f"the policy's observation is made of {keys}; this mapping has {sorted(observation)}")
            if self.spec.parts:
                return pack(self.spec.parts, observation)
            observation = np.concatenate([np.ravel(observation[k]) for k in keys])
        try:
            return np.asarray(observation, self.spec.dtype)
        except (TypeError, ValueError) as error:
            raise SegueError(
                f"the policy takes observations of shape {self.spec.observation} and numbers only; this is no such "
                f"array ({error})"
            ) from error


def save_policy(folder: Path, slot: Slot, spec: Spec, seeds: tuple[int, ...], facts: Mapping[str, Any]) -> Path:
    """Write the bundle of all seeds into `folder` (replaced as a whole); `facts` must describe `action` bounds."""
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    arrays = {k: np.ascontiguousarray(v) for k, v in named_leaves("state", jax.device_get(slot.state)).items()}
    weights = temporary / "weights.safetensors"
    files.write(weights, lambda path: save_file(arrays, path))
    bundle = {
        "format": FORMAT,
        "agent": describe(slot.learner),
        "spec": {
            "observation": list(spec.observation),
            "action": spec.action,
            "dtype": spec.dtype,
            "parts": plain(spec.parts),
        },
        "chunk": slot.chunk,
        "replan": slot.replan,
        "scaling": plain_scaling(slot.scaling),
        "seeds": list(seeds),
        "weights": files.sha256(weights),
        **facts,
    }
    files.write(temporary / "policy.json", json.dumps(files.sealed(bundle), indent=1))
    files.swap(temporary, folder)
    return folder


@dataclass(frozen=True)
class Bundle:
    """A policy's folder, read and checked: all seeds, with their critics."""

    place: Path
    facts: Mapping[str, Any]
    """policy.json."""
    agent: Acting
    spec: Spec
    state: State
    """Leading axis: `seeds`; arrays of numpy."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that it has."""
        return tuple(self.facts["seeds"])

    def rows(self, seeds: Sequence[int]) -> list[int]:
        """The places of seeds; `SegueError` for one that is not there."""
        for seed in seeds:
            if seed not in self.seeds:
                raise SegueError(f"{self.place}: there is no seed {seed}; the run has {list(self.seeds)}")
        return [self.seeds.index(seed) for seed in seeds]

    def slot(self, seeds: Sequence[int]) -> Slot:
        """The slot that these seeds have trained."""
        rows = self.rows(seeds)
        scaling = scaling_of(self.facts["scaling"], parts_seen(self.spec))
        state = jax.tree.map(lambda x: jnp.asarray(x[np.asarray(rows)]), self.state)
        chunk, replan = int(self.facts.get("chunk", 1)), self.facts.get("replan")
        return Slot(self.agent, Learned(state), scaling, chunk=chunk, replan=replan)


def load(run: str | os.PathLike[str], seed: int | None = None) -> Policy:
    """Load the policy of a run's folder (or of a bundle) for one of its seeds; by default the first, never the best.

    "RUN@PHASE" is the policy that the run had at the end of a phase.

    An agent of your own is imported from the module that the bundle names; nothing is unpickled.  Raises `SegueError`
    if there is no bundle, the seed is not in it, or the files do not match.
    """
    bundle = read_policies(run)
    (row,) = bundle.rows([bundle.seeds[0] if seed is None else seed])
    state = jax.tree.map(lambda x: jnp.asarray(x[row]), bundle.state)
    return Policy(bundle.agent, state, bundle.spec, bundle.seeds[row], bundle.facts)


def read_policies(run: str | os.PathLike[str]) -> Bundle:
    """The policies of all seeds of what `load` takes; raises what `load` does."""
    folder, bundle, arrays = read_bundle(run)
    said = bundle["spec"]
    parts = parts_of(said.get("parts", ()), f"{run}: the policy's description")
    spec = Spec(tuple(said["observation"]), said["action"], said["dtype"], parts)
    try:
        agent = build(bundle["agent"])
    except SegueError as error:
        raise SegueError(f"{run}: {error}") from error
    wide = spec.chunks(int(bundle.get("chunk", 1)))
    template = jax.eval_shape(lambda: agent.init(jax.random.key(0), wide))
    leaves = []
    for name, leaf in named_leaves("state", template).items():
        if name not in arrays or arrays[name].shape != (len(bundle["seeds"]), *leaf.shape):
            raise SegueError(f"{run}: weights and description of the policy do not match at {name}; export it again")
        leaves.append(np.asarray(arrays[name], leaf.dtype))
    state = jax.tree.unflatten(jax.tree.structure(template), leaves)
    return Bundle(folder, bundle, agent, spec, state)


def read_bundle(run: str | os.PathLike[str]) -> tuple[Path, dict[str, Any], dict[str, np.ndarray]]:
    """Return the folder of a bundle, its description and its weights, if both are whole; nothing of it is imported."""
    folder = Path(run)
    if not folder.exists() and "@" in os.fspath(run):
        folder = find_end(run).place
    files.restore(folder / "policy")
    folder = folder / "policy" if (folder / "policy").is_dir() else folder
    try:
        bundle = json.loads((folder / "policy.json").read_text())
        arrays = load_file(folder / "weights.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise SegueError(
            f"{run}: no readable policy ({type(error).__name__}); a run saves it in RUN/policy with each checkpoint"
        ) from error
    if not isinstance(bundle, dict):
        raise SegueError(f"{folder / 'policy.json'}: is not the description of a policy; restore it from a backup")
    whole = {"policy.json": files.is_whole(bundle)}
    whole["weights.safetensors"] = bundle.get("weights") in (None, files.sha256(folder / "weights.safetensors"))
    for name, fits in whole.items():
        if not fits:
            raise SegueError(f"{folder / name}: is damaged (its checksum does not fit); restore it from a backup")
    if bundle.get("format") != FORMAT:
        raise SegueError(
            f"{run}: its policy has format {bundle.get('format')}, and this version reads {FORMAT}; load it with the "
            "version that wrote it"
        )
    return folder, bundle, arrays
