"""Damaged and hostile files of every format: one line that names the file, or episodes that make sense; never more.

SEGUE_FUZZ says how many inputs (300 unless set).  Every input is made from its number alone.
"""

from __future__ import annotations

import faulthandler
import os
import resource
import shutil
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from segue.core.log import Data
from segue.core.observations import width
from segue.core.types import SegueError
from segue.data import read_d4rl, read_minari
from segue.data.readers import open_source
from segue.data.recorded import Recorded, episodes_of
from tests.data.damage import change
from tests.data.formats import FORMATS, NEEDS, limited, made

COUNT = int(os.environ.get("SEGUE_FUZZ", "300"))
FORMS = [*FORMATS, "npz images", "lerobot images", "lerobot parts"]
WHOLE: dict[str, Callable[[str], Data]] = {"d4rl": read_d4rl, "minari": read_minari}
SECONDS = 30  # for one input; a sound one takes milliseconds


class TooLong(BaseException):
    """What a reader cannot mistake for damage."""


def sensible(episode: Recorded) -> None:
    """Shapes and types are what everything behind a reader counts on."""
    n = len(episode.reward)
    seen, then = episode.observation, episode.next_observation
    assert n > 0
    assert episode.reward.shape == (n,)
    assert episode.action.ndim == 2
    assert len(episode.action) == n
    assert episode.reward.dtype == episode.action.dtype == np.float32
    assert seen.dtype in (np.float32, np.uint8)
    assert len(seen) == (n + 1 if then is None else n)
    assert then is None or (then.shape, then.dtype) == (seen.shape, seen.dtype)
    assert isinstance(episode.terminated, bool)
    assert 0.0 <= episode.success <= 1.0 or np.isnan(episode.success)
    assert not episode.made_of or seen.shape[1:] == (width(episode.made_of),)


@contextmanager
def limited_time(what: str) -> Iterator[None]:
    """Fail where Python hangs; end the process, with where it was, where a library does."""

    def stop(number: int, frame: Any) -> None:
        raise TooLong(f"{what}: longer than {SECONDS} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    faulthandler.dump_traceback_later(2 * SECONDS, exit=True, file=sys.__stderr__)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def parted(source: str) -> list[Recorded]:
    """The episodes of a log that is read one at a time."""
    return list(open_source(source).episodes)


def whole(source: str) -> list[Recorded]:
    """The episodes of a log that is read by its path, into memory."""
    kind, _, rest = source.partition(":")
    return list(episodes_of(WHOLE[kind](rest.partition("?")[0])))


def outcome(read: Callable[[str], list[Recorded]], source: str, folder: Path, marker: Path, what: str) -> str:
    """What reading a source comes to; an assertion fails where that is not one of two things."""
    try:
        # other parts cast what they read, and 1e300 as float32 is infinity, with a warning
        with limited_time(what), warnings.catch_warnings(action="ignore"):
            episodes = read(source)
    except SegueError as error:
        text = str(error)
        assert text.isprintable(), f"{what}: {text!r}"
        assert str(folder) in text or "source " in text, f"{what}: {text}"
        result = "refused"
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    else:
        for episode in episodes:
            sensible(episode)
        result = "read"
    assert not marker.exists(), f"{what}: code in the file has run"
    return result


def memory() -> int:
    """Most bytes that the process has had at a time."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def base(form: str, folder: Path) -> str:
    """A sound log, and its source; lengths differ, one episode is a step long."""
    name, image = plain(form), () if form in FORMATS else (16, 32, 3)
    write, _ = FORMATS[name]
    source = write(folder, limited(made(7, [4, 1, 3, 2], image), name))
    return f"{source}&keys=timestamp" if form.endswith(" parts") else source


def plain(form: str) -> str:
    """A format without what its observations are."""
    return form.removesuffix(" images").removesuffix(" parts")


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_refused_or_read(form: str, tmp_path: Path) -> None:
    pytest.importorskip(NEEDS.get(plain(form), "numpy"))
    sound, marker = tmp_path / "sound", tmp_path / "marker"
    sound.mkdir()
    source = base(form, sound)
    ways = (parted, whole) if form in WHOLE else (parted,)
    assert {outcome(read, source, sound, marker, form) for read in ways} == {"read"}
    results: Counter[str] = Counter()
    number, began, before = FORMS.index(form), time.monotonic(), memory()
    for i in range(-(-COUNT // len(FORMS))):
        folder = tmp_path / "log"
        shutil.copytree(sound, folder)
        what = change(folder, np.random.default_rng([number, i]), marker)
        for read in ways:
            results[outcome(read, source.replace(str(sound), str(folder)), folder, marker, f"{form} {i}, {what}")] += 1
        shutil.rmtree(folder)
    assert memory() - before < 2**31
    print(f"{form}: {dict(results)} in {time.monotonic() - began:.1f} s")
