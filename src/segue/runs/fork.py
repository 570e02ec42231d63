"""The ends of phases are kept, and another run may begin from one of them.

    RUN/phases/0-offline/manifest.json, state.safetensors    a checkpoint (`segue.runs.checkpoint`) at the phase's end
    RUN/phases/0-offline/policy/                              its policy, where it has trained one

A run that begins from there has copies of all that it needs: the other run's folder may go.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from segue.core import files
from segue.core.types import Acting, SegueError, Task
from segue.engine.phase import Phase, room
from segue.engine.state import RunState
from segue.recipes import Plan
from segue.runs import checkpoint, manifest
from segue.runs.checkpoint import Manifest
from segue.runs.manifest import Described
from segue.runs.request import Origin, Request
from segue.runs.sinks import unchanged


@dataclass(frozen=True)
class End:
    """The end of a run's phase, as it was kept."""

    run: Path
    place: Path
    described: Described
    found: Manifest
    index: int

    @property
    def phase(self) -> str:
        """The phase's name."""
        return self.described["phases"][self.index]["name"]

    def origin(self, experience: bool) -> Origin:
        """What a run that begins here writes down; `experience` says whether it takes the run's own rows too."""
        seal = json.loads((self.place / "manifest.json").read_text("utf-8"))[files.SEAL]
        return Origin(str(self.run), self.phase, self.index + 1, self.described["request"], seal, experience)


def keep_end(folder: Path, saved: Path, index: int, phase: Phase, most: int | None) -> None:
    """Keep a checkpoint as the end of a phase, with the policy that the run has written; `most` ends stay.

    Files are not copied where the file system can give them a second name: none of them is ever changed in place.
    """
    ends = folder / "phases"
    ends.mkdir(exist_ok=True)
    temporary = ends / f".{index}"
    shutil.rmtree(temporary, ignore_errors=True)
    shutil.copytree(saved, temporary, copy_function=_second_name)
    if phase.learns and isinstance(phase.learner, Acting) and (folder / "policy").is_dir():
        shutil.copytree(folder / "policy", temporary / "policy", copy_function=_second_name)
    files.swap(temporary, ends / f"{index}-{phase.name}")
    if most is not None:
        for path in sorted(_ends(folder), key=_number)[: -most or None]:
            shutil.rmtree(path, ignore_errors=True)


def keep_missing(folder: Path, state: RunState, phases: Sequence[Phase], most: int | None) -> None:
    """Keep the end of the phase where a loaded run stands, if it was killed when it had just saved it."""
    index = len(state.history)
    if most == 0 or not state.entered or state.step < phases[index].steps:
        return
    found = checkpoint.latest(folder)
    if found is not None and not (folder / "phases" / f"{index}-{phases[index].name}").exists():
        keep_end(folder, found[0], index, phases[index], most)


def find_end(text: str | os.PathLike[str]) -> End:
    """The end of a phase that "RUN@PHASE" names; without a phase, of the last one before the world first moves.

    Raises `SegueError` where it is not there, and names those that are.
    """
    words = os.fspath(text)
    run, mark, name = words.rpartition("@")
    if not mark or os.sep in name or Path(words).is_dir():
        run, name = words, ""
    folder = Path(run)
    described = manifest.read(folder)
    phases = described["phases"]
    if not name:
        first = next((n for n, phase in enumerate(phases) if phase["environment_steps"]), len(phases))
        if not first:
            known = ", ".join(phase["name"] for phase in phases)
            raise SegueError(f"{run}: its first phase moves the world already; name a phase: {run}@PHASE ({known})")
        name = phases[first - 1]["name"]
    kept = {path.name.partition("-")[2]: path for path in sorted(_ends(folder), key=_number)}
    if name not in kept:
        known = ", ".join(kept) or "none"
        raise SegueError(f"{run}: the end of phase '{name}' is not there; it has the ends of: {known}")
    place = kept[name]
    found = checkpoint.whole(place)
    if isinstance(found, str):
        raise SegueError(f"{found}; restore it from a backup, or begin from another phase")
    return End(folder, place, described, found, _number(place))


def end_of(origin: Origin) -> End:
    """The end that a run has begun from, or is to begin from."""
    return find_end(f"{origin.run}@{origin.phase}")


def check_origin(end: End, origin: Origin, request: Request, task: Task, plan: Plan) -> None:
    """Refuse a request that does not fit what it begins from; both sides are named."""
    theirs = end.described["request"]
    if request.task != theirs["task"]:
        raise SegueError(f"{end.run} learned on {theirs['task']}, and this run is to begin from it on {request.task}")
    if list(request.seeds) != list(end.found["seeds"]):
        raise SegueError(
            f"{end.run} has the seeds {_listed(end.found['seeds'])}, and this run is to have {_listed(request.seeds)}; "
            "leave out --seeds"
        )
    envs = end.described["config"].get("experience.envs", {"value": 1})["value"]
    if origin.experience and end.found["replay"] and envs != plan.experience.envs:
        raise SegueError(f"{end.run} has envs={envs}, and this run, with its experience, envs={plan.experience.envs}")
    data = task.dataset()
    was = end.described["provenance"]["dataset"]
    digests = was and was["sha256"], None if data is None else data.sha256()
    if digests[0] != digests[1]:
        raise SegueError(f"{end.run} learned from a dataset {digests[0]}, and that of {request.task} is {digests[1]}")


def plant(folder: Path, end: End, origin: Origin, plan: Plan) -> None:
    """Write into a new run's folder what it begins with: metrics, experience, a policy, and last the checkpoint.

    Raises `SegueError` where a file of the other run is not what it was.
    """
    extra, log = end.found["extra"], end.run / "metrics.jsonl"
    if not unchanged(log, extra.get("position", 0), extra.get("rows")):
        raise SegueError(f"{log} was changed after the end of '{end.phase}'; begin from another run")
    with log.open("rb") as file:
        files.write(folder / "metrics.jsonl", file.read(extra.get("position", 0)))
    parts = end.found["replay"] if origin.experience else []
    for part in parts:
        there = end.run / "replay" / part["file"]
        if (fault := checkpoint.fault(there, part["sha256"])) is not None:
            raise SegueError(f"{fault}; begin from another phase, or without its experience")
        (folder / "replay").mkdir(exist_ok=True)
        shutil.copyfile(there, folder / "replay" / part["file"])
    into = folder / "checkpoints" / ".000001"
    into.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(end.place / "state.safetensors", into / "state.safetensors")
    changed: Manifest = {
        **end.found,
        "capacity": max(room(plan.phases, plan.experience.capacity), 1),
        "replay": parts,
        "envs": end.found["envs"] and origin.experience,
    }
    files.write(into / "manifest.json", json.dumps(files.sealed(changed), indent=1))
    if (policy := end.place / "policy").is_dir():
        shutil.copytree(policy, folder / "policy", dirs_exist_ok=True)
    keep_end(folder, into, end.index, plan.phases[end.index], None)  # from where others may begin in turn
    into.rename(folder / "checkpoints" / "000001")
    files.sync(folder / "checkpoints")


def _second_name(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:  # a file system without them
        shutil.copyfile(source, target)
    return target


def _ends(folder: Path) -> list[Path]:
    return [path for path in (folder / "phases").glob("[0-9]*-*") if path.is_dir()]


def _number(place: Path) -> int:
    return int(place.name.partition("-")[0])


def _listed(seeds: object) -> str:
    return ", ".join(map(str, seeds))  # type: ignore[call-overload]
