"""Begin or go on with a cell's run: what a worker's own process for it does."""

from __future__ import annotations

from pathlib import Path

from segue.recipes import find_recipe
from segue.runs import manifest, train
from segue.runs.fork import find_end
from segue.runs.request import Origin, Request
from segue.study.asked import Asked
from segue.study.cells import Cell
from segue.study.folder import Study, place
from segue.study.lease import kept, run_of
from segue.study.prune import pruner
from segue.tasks import find_task


def request_of(cell: Cell, asked: Asked | None = None, origin: Origin | None = None) -> Request:
    """The request of a cell's run, with what its study asks for."""
    settings = {path: tuple(v) if isinstance(v, list) else v for path, v in cell.settings.items()}
    track, keep = (asked.track, asked.keep) if asked is not None else ((), None)
    about = cell.recipe, cell.task, cell.seeds, settings, track, cell.rules
    return Request(*about, origin=origin, keep=keep, stop_when=cell.stop_when)


def run(folder: Path, study: Study, cell: Cell, number: int) -> Path:
    """Do a cell's run under a lease, from where it stands; return its folder.  Raises what a run raises."""
    there, asked = place(folder, cell.name) / f"{number:06d}", study.asked
    watch = None if asked.search is None or not asked.search.prune else pruner(folder, asked.search, cell)
    if (there / "run.json").exists():
        over = manifest.read(there)["status"] in ("finished", "stopped")
        return there if over else train.resume(there, on_record=watch)
    request = request_of(cell, asked, _origin(folder, cell))
    return train.start(find_recipe(cell.recipe), find_task(cell.task), request, there, on_record=watch)


def _origin(folder: Path, cell: Cell) -> Origin | None:
    """Where a cell begins: the longest of the phases that another cell has done with the same versions."""
    for owner, phase in cell.shares:
        there = place(folder, owner)
        if not kept(there, phase) or (run := run_of(there)) is None:
            continue
        end = find_end(f"{run}@{phase}")
        if end.described["provenance"]["versions"] == manifest.versions():
            return end.origin(experience=True)
        print(f"{owner} was computed with other versions, so that this run shares nothing with it", flush=True)
    return None
