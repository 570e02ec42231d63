"""Trackers: other programs that get a copy of a run's rows.  Each is an extra, imported only when it is used.

`TRACKERS` says all that Segue knows of them: a row of the table and one function that begins a tracker.  Its error, now
or later, switches it off in one line, and the run goes on (`segue.runs.sinks.Extra`).

What was sent to W&B, MLflow or trackio cannot be taken back: rows that a resumed run repeats appear twice there.
"""

from __future__ import annotations

import contextlib
import io
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from segue.core.types import SegueError
from segue.data.extras import need
from segue.runs.sinks import Extra, Finish, Post, Row, Tell, plain, scalars, to_stderr

PROJECT = "segue"  # the project or experiment that all runs stand in


@dataclass(frozen=True)
class Page:
    """What a tracker is told about a run."""

    folder: Path
    config: Mapping[str, object]
    """Recipe, task, and the value of every option by path."""
    resumed_at: int | None = None
    """Updates at the checkpoint that a run goes on from; None at its beginning."""

    def identity(self, tracker: str, new: Callable[[], str]) -> str:
        """The run's name with a tracker, which stays in its folder: a resumed run goes on in its own page."""
        place = self.folder / f"{tracker}_id"
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(new())
        return place.read_text()


def _tensorboard(package: Any, page: Page) -> tuple[Post, Finish]:
    """Scalars over updates.  What an interrupted run wrote after the checkpoint is hidden."""
    writer = package.SummaryWriter(str(page.folder / "tensorboard"), purge_step=page.resumed_at)

    def post(row: Row) -> None:
        for name, value in scalars(row).items():
            writer.add_scalar(name, value, int(row["update"]))

    return post, writer.close


def _wandb(package: Any, page: Page) -> tuple[Post, Finish]:
    """Scalars over updates."""
    run = package.init(
        dir=str(page.folder),
        project=PROJECT,
        name=page.folder.name,
        config=plain(page.config),
        id=page.identity("wandb", lambda: uuid.uuid4().hex[:8]),
        resume="allow",
        settings=package.Settings(console="off"),  # its capture of stdout would record every frame of the live view
    )
    run.define_metric("clock/update")
    run.define_metric("*", step_metric="clock/update")
    return lambda row: run.log(scalars(row)), run.finish


def _mlflow(package: Any, page: Page) -> tuple[Post, Finish]:
    """Metrics over updates in the experiment `segue`, options as parameters, in the store of MLFLOW_TRACKING_URI."""
    client, entities = package.MlflowClient(), package.entities

    def begin() -> str:
        if client.get_experiment_by_name(PROJECT) is None:
            with contextlib.suppress(Exception):  # another run has made it in between
                client.create_experiment(PROJECT)
        run = client.create_run(client.get_experiment_by_name(PROJECT).experiment_id, run_name=page.folder.name)
        chosen = [entities.Param(key, str(value)) for key, value in page.config.items()]
        for first in range(0, len(chosen), 100):  # as many as a request may hold
            client.log_batch(run.info.run_id, params=chosen[first : first + 100])
        return str(run.info.run_id)

    name = page.identity("mlflow", begin)
    client.update_run(name, status="RUNNING")

    def post(row: Row) -> None:
        now = int(1000 * time.time())
        metrics = [entities.Metric(key, value, now, int(row["update"])) for key, value in scalars(row).items()]
        for first in range(0, len(metrics), 1000):  # as many as a request may hold
            client.log_batch(name, metrics=metrics[first : first + 1000])

    return post, lambda: client.set_terminated(name)


def _trackio(package: Any, page: Page) -> tuple[Post, Finish]:
    """Metrics over updates, in trackio's own folder (TRACKIO_DIR) or where its other variables say."""
    with contextlib.redirect_stdout(io.StringIO()):  # it prints, and the live view has the terminal
        run = package.init(
            PROJECT,
            name=page.identity("trackio", lambda: f"{page.folder.name}-{uuid.uuid4().hex[:8]}"),
            config=plain(page.config),
            resume="allow",
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )

    def finish() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            package.finish()  # of the run that was begun last; `run.finish` would be repeated at the interpreter's exit

    return lambda row: run.log(scalars(row), step=int(row["update"])), finish


class Tracker(NamedTuple):
    """A tracker: what people call it, its package, and what begins it; its extra has its name in the table."""

    title: str
    package: str
    begin: Callable[[Any, Page], tuple[Post, Finish]]


TRACKERS = {
    "tensorboard": Tracker("TensorBoard", "tensorboardX", _tensorboard),
    "wandb": Tracker("W&B", "wandb", _wandb),
    "mlflow": Tracker("MLflow", "mlflow", _mlflow),
    "trackio": Tracker("trackio", "trackio", _trackio),
}


def ready(names: Sequence[str]) -> None:
    """Raise `SegueError` where a tracker is not known or not installed."""
    for name in names:
        if name not in TRACKERS:
            raise SegueError(f"there is no tracker '{name}'; there are {', '.join(TRACKERS)}")
        package(name)


def package(name: str) -> Any:
    """The package of a tracker; `SegueError` with the line that installs it where it is missing."""
    return need(TRACKERS[name].package, name, f"--track {name}")


def track(name: str, page: Page, tell: Tell = to_stderr) -> Extra:
    """The sink of a tracker for a run."""
    entry, found = TRACKERS[name], package(name)
    return Extra(entry.title, lambda: entry.begin(found, page), tell)
