"""Workers as tasks of Ray Core (the extra ray), which go on elsewhere when a node is lost.

A task gets the name of the study's folder and nothing else; every node must see that folder under this name.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from segue.core.types import SegueError
from segue.data.extras import need
from segue.study.folder import read
from segue.study.work import Worker


def work(folder: str) -> None:
    """Work on a study: the task of one worker."""
    Worker(Path(folder), lambda line: print(line, flush=True)).work()


class Cluster:
    """The workers of one `segue study run` on a cluster of Ray, or on one that is made for it on this machine."""

    def __init__(self, folder: Path, workers: int | None, address: str | None, gpus: bool) -> None:
        need("ray", "ray", "--executor ray")
        import ray

        self._ray: Any = ray
        self._folder, self._address = os.path.abspath(folder), address
        self._cores, self._workers, self._gpus = read(folder).asked.cores, workers, gpus
        self._tasks: list[Any] = []

    def __enter__(self) -> Cluster:
        ray = self._ray
        try:
            ray.init(address=self._address, log_to_driver=False, logging_level="error", include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise SegueError(f"--ray {self._address}: no cluster there ({' '.join(str(error).split())})") from error
        resources = ray.cluster_resources()
        most = int(resources.get("GPU", 0) if self._gpus else resources.get("CPU", 0) // self._cores)
        count = most if self._workers is None else self._workers
        if not 1 <= count <= most:
            ray.shutdown()
            raise SegueError(f"--workers {count}: the cluster has room for {most}; give 1 to {most}, or add nodes")
        options = {"num_cpus": self._cores, "num_gpus": int(self._gpus), "max_retries": -1, "name": "segue study work"}
        task = ray.remote(work).options(**options)
        self._tasks = [task.remote(self._folder) for _ in range(count)]
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks:
            self._ray.cancel(task)
        self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=120)
        self._ray.shutdown()

    def alive(self) -> bool:
        """Whether a worker still works.  Raises `SegueError` with what one has said that could not go on."""
        done, working = self._ray.wait(self._tasks, num_returns=len(self._tasks), timeout=0.1)
        for task in done if not working else ():
            try:
                self._ray.get(task)
            except self._ray.exceptions.RayTaskError as error:
                raise SegueError(f"a worker stopped: {' '.join(str(error.cause).split())}") from error
        return bool(working)
