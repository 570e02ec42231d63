"""Sinks: where the rows of a run go.  The JSONL file is the record; trackers are copies that may fail.

    row -> Fan -> Jsonl        essential: an error stops the run, at a file that `segue resume` can take up
               -> TensorBoard  an extra: its first error disables it, in one line, and the run goes on
               -> WandB        an extra

A row is a plain dict: `kind`, `phase`, `phase_index`, the three clocks (`tick`, `environment_step`, `update`), `wall_s`,
`seeds` and `values`: {name: [float or None, one per seed]}; other keys are kept as they are.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import math
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from segue.types import SegueError

Row = dict[str, Any]
CLOCKS = ("tick", "environment_step", "update")


class Sink(Protocol):
    """A place that rows are written to."""

    essential: bool  # whether its failure must stop the run

    def write(self, row: Row) -> None:
        """Take one row."""
        ...

    def position(self) -> int:
        """Return where a resumed run should take up; 0 where a sink cannot be cut back."""
        ...

    def close(self) -> None:
        """Finish; closing twice does nothing."""
        ...


def plain(value: Any) -> Any:
    """Rewrite a value as strictly valid JSON: arrays become lists, NaN and infinities None, the unknown its `str`."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(entry) for entry in value]
    array = np.asarray(value)  # numpy's scalars and arrays, and JAX's
    if array.dtype.kind in "biuf":
        return plain(array.tolist()) if array.itemsize <= 8 else plain(array.astype(float).tolist())
    if array.dtype.name.startswith(("bfloat", "float8")):  # ml_dtypes: numpy calls their kind "void"
        return plain(array.astype(float).tolist())
    return [plain(entry) for entry in array] if array.ndim else str(value)


class Jsonl:
    """One compact line of strict JSON per row, in an append-only file.

    `truncate_to` is the `position()` that a checkpoint stored: rows after it are cut off, so that the resumed run
    writes them again.  None keeps every whole row that is there.
    """

    essential = True

    def __init__(self, path: str | os.PathLike[str], truncate_to: int | None = None):
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: a row is with the kernel when `write` returns, and nothing is left to fail in a destructor.
        self._file = open(self._path, "ab", buffering=0)  # noqa: SIM115 - held until close()
        try:
            self._end = _whole_rows(self._path, truncate_to)
        except BaseException:
            self._file.close()
            raise
        self._file.truncate(self._end)

    def write(self, row: Row) -> None:
        """Append one row.  A full disk is a `SegueError`, and the file is left with whole rows only."""
        line = json.dumps(plain(row), allow_nan=False, separators=(",", ":")).encode() + b"\n"
        with self._room():
            left = memoryview(line)
            while left:  # a nearly full disk takes a part of a row
                left = left[self._file.write(left) :]
        self._end += len(line)

    def sync(self) -> None:
        """Force what was written to the disk."""
        with self._room():
            os.fsync(self._file.fileno())

    def position(self) -> int:
        """Return the byte offset after the last row, once that row is safely on the disk."""
        self.sync()
        return self._end

    def close(self) -> None:
        """Sync and close."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._file.close()

    @contextlib.contextmanager
    def _room(self) -> Any:
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._end)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            cause = "disk is full" if error.errno == errno.ENOSPC else "disk quota is used up"
            raise SegueError(
                f"{self._path}: the {cause}; free some space, then continue with `segue resume`"
            ) from error


def _whole_rows(path: Path, truncate_to: int | None) -> int:
    """Return the length to keep: what the checkpoint says, checked, or all but a torn last line."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        if truncate_to is None:
            end = size
            while end:  # backwards in blocks: the file may be large, a torn line is short
                start = max(0, end - 65536)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    return start + newline + 1
                end = start
            return 0
        if truncate_to > size:
            raise SegueError(
                f"{path}: {size} bytes long, but the checkpoint was taken at byte {truncate_to}; "
                "rows were lost: restore the file, or start a new run"
            )
        file.seek(max(0, truncate_to - 1))
        if truncate_to and file.read(1) != b"\n":
            raise SegueError(
                f"{path}: no row ends at byte {truncate_to}, where the checkpoint was taken; "
                "the file was changed: restore it, or start a new run"
            )
    return truncate_to


def scalars(row: Row) -> dict[str, float]:
    """Name a row's numbers as trackers show them: `kind/name/seed_k`, `kind/name/mean` over the finite ones, `clock/*`."""
    flat = {f"clock/{clock}": float(row[clock]) for clock in CLOCKS}
    for name, values in row["values"].items():
        finite = {
            k: float(value) for k, value in zip(row["seeds"], values) if value is not None and math.isfinite(value)
        }
        flat |= {f"{row['kind']}/{name}/seed_{k}": value for k, value in finite.items()}
        if finite:
            flat[f"{row['kind']}/{name}/mean"] = sum(finite.values()) / len(finite)
    return flat


def to_stderr(line: str) -> None:
    """Print a warning line."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a closed or absent stderr stops nothing
        print(line, file=sys.stderr, flush=True)


class Guard:
    """Calls what may fail.  The first exception is told in one line; after it every call does nothing."""

    def __init__(self, name: str, tell: Callable[[str], None] = to_stderr):
        self.alive = True
        self._name, self._tell = name, tell

    def __call__(self, action: Callable[..., Any], *arguments: Any) -> None:
        """Call `action`, if all went well so far."""
        if not self.alive:
            return
        try:
            action(*arguments)
        except Exception as error:
            self.alive = False
            cause = " ".join(f"{type(error).__name__}: {error}".split())
            self._tell(f"warning: {self._name} is switched off, the run goes on ({cause})")


def _package(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SegueError(f'{name} is not installed; `pip install "segue[{extra}]"`, or leave {extra} off') from error


class TensorBoard:
    """Scalars over updates.  `resumed_at`, in updates, hides what an interrupted run wrote from there on."""

    essential = False

    def __init__(
        self,
        folder: str | os.PathLike[str],
        resumed_at: int | None = None,
        tell: Callable[[str], None] = to_stderr,
    ):
        package = _package("tensorboardX", "tensorboard")
        self._guard = Guard("TensorBoard", tell)
        self._guard(self._open, package, str(folder), resumed_at)

    def _open(self, package: Any, folder: str, resumed_at: int | None) -> None:
        self._writer = package.SummaryWriter(folder, purge_step=resumed_at)

    def write(self, row: Row) -> None:
        """Add the row's numbers at its update; the other clocks are values of their own."""
        self._guard(self._write, row)

    def _write(self, row: Row) -> None:
        for name, value in scalars(row).items():
            self._writer.add_scalar(name, value, int(row["update"]))

    def position(self) -> int:
        """Return 0: see `resumed_at`."""
        return 0

    def close(self) -> None:
        """Flush and close."""
        self._guard(lambda: self._writer.close())


class WandB:
    """Scalars over updates, with all clocks to choose from.  The run's id stays in `folder`, so a resumed run goes on."""

    essential = False

    def __init__(
        self,
        folder: str | os.PathLike[str],
        project: str,
        name: str,
        config: Mapping[str, Any],
        tell: Callable[[str], None] = to_stderr,
    ):
        package = _package("wandb", "wandb")
        self._guard = Guard("W&B", tell)
        self._guard(self._open, package, Path(folder), project, name, plain(config))

    def _open(self, package: Any, folder: Path, project: str, name: str, config: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        identity = folder / "wandb_id"
        if not identity.exists():
            identity.write_text(uuid.uuid4().hex[:8])
        self._run = package.init(
            dir=str(folder), project=project, name=name, config=config, id=identity.read_text(), resume="allow"
        )
        self._run.define_metric("clock/update")
        self._run.define_metric("*", step_metric="clock/update")

    def write(self, row: Row) -> None:
        """Log the row's numbers with its clocks."""
        self._guard(lambda: self._run.log(scalars(row)))

    def position(self) -> int:
        """Return 0: W&B keeps what it was sent; rows that a resumed run repeats appear twice, with equal values."""
        return 0

    def close(self) -> None:
        """Upload the rest and close."""
        self._guard(lambda: self._run.finish())


class Fan:
    """Sends each row to several sinks.  An essential sink's error is raised; another sink is dropped, in one line."""

    essential = True

    def __init__(self, sinks: Iterable[Sink], tell: Callable[[str], None] = to_stderr):
        sinks = tuple(sinks)
        self._essential: Sequence[Sink] = [sink for sink in sinks if sink.essential]
        self._others = [(sink, Guard(type(sink).__name__, tell)) for sink in sinks if not sink.essential]

    def write(self, row: Row) -> None:
        """Send a row to all, essential sinks first."""
        for sink in self._essential:
            sink.write(row)
        for other, guard in self._others:
            guard(other.write, row)

    def position(self) -> int:
        """Return the position of the first essential sink: the record."""
        return next((sink.position() for sink in self._essential), 0)

    def close(self) -> None:
        """Close all, then raise the first essential sink's error, if there was one."""
        with contextlib.ExitStack() as stack:
            for sink in reversed(self._essential):
                stack.callback(sink.close)
            for other, guard in self._others:
                guard(other.close)
