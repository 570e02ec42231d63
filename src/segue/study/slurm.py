"""Workers as jobs of SLURM, submitted with submitit (the extra slurm).

A job holds the name of the study's folder and nothing else.  When its time is nearly over the run saves, its cell is
given back, and the job is put into the queue again; a job that is killed leaves a cell that others take over.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from segue.core.types import SegueError
from segue.data.extras import need
from segue.study.folder import read
from segue.study.work import Worker

REQUEUES = 1000  # times that a job may go on after its limit
# Seconds before its limit at which a job is told; SLURM may be a minute early, and would tell a shorter job at once.
WARNING, LEAST = 75, 3


class Job:
    """What a job does."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._worker: Worker | None = None

    def __call__(self) -> None:
        """Work on the study."""
        self._worker = Worker(Path(self.folder), lambda line: print(line, flush=True))
        self._worker.work()

    def checkpoint(self) -> Any:
        """Stop and save; return what the job is to do when it comes up again.  submitit asks before a job's limit."""
        import submitit

        if self._worker is not None:
            self._worker.halt()
        return submitit.helpers.DelayedSubmission(Job(self.folder))


def submit(folder: Path, workers: int, options: Mapping[str, str]) -> list[str]:
    """Submit so many workers; return the numbers of their jobs.

    `options` are those of sbatch; `time`, in minutes, is needed.  Raises `SegueError`.
    """
    need("submitit", "slurm", "--executor slurm")
    import submitit

    asked, minutes = read(folder).asked, options.get("time", "")
    if not minutes.isdecimal() or int(minutes) < LEAST:
        raise SegueError(f"--slurm: give time=MINUTES, the limit of a job, of at least {LEAST}; it goes on after it")
    logs = Path(os.path.abspath(folder)) / "slurm"
    try:
        executor = submitit.SlurmExecutor(logs, max_num_timeout=REQUEUES)
    except RuntimeError as error:
        raise SegueError(f"--executor slurm: no sbatch here ({error}); run this where jobs are submitted") from error
    executor.update_parameters(
        job_name=folder.name,
        time=int(minutes),
        cpus_per_task=asked.cores,
        signal_delay_s=WARNING,
        additional_parameters={name: value for name, value in options.items() if name != "time"},
    )
    job = Job(os.path.abspath(folder))
    try:
        with executor.batch():
            jobs = [executor.submit(job) for _ in range(workers)]
    except submitit.core.utils.FailedJobError as error:
        raise SegueError(f"--executor slurm: sbatch refused ({' '.join(str(error).split())})") from error
    return [job.job_id for job in jobs]
