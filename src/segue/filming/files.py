"""Film files: MP4 with PyAV, GIF with Pillow."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from segue.core import files
from segue.core.types import SegueError
from segue.data.extras import need

# Defaults of ours.
QUALITY = "20"  # of x264: 0 to 51, less is better
COLOURS = 128  # of each picture of a GIF


def form(path: Path) -> Callable[[Path, Iterator[np.ndarray], float], None]:
    """What writes a film of that name; `SegueError` where its kind is not known or needs a package, or no folder is."""
    if path.suffix.lower() not in FORMS:
        raise SegueError(f"{path}: films are {' or '.join(FORMS)}; give one of these endings")
    if not path.parent.is_dir():
        raise SegueError(f"{path}: there is no folder {path.parent}; give another --out")
    need("PIL", "video", "a film")
    if path.suffix.lower() == ".mp4":
        need("av", "video", f"{path.name} (or give a .gif)")
    return FORMS[path.suffix.lower()]


def ending() -> str:
    """The kind of film that can be written here: "mp4", or "gif" without PyAV."""
    with contextlib.suppress(SegueError):
        need("av", "video", "MP4")
        return "mp4"
    return "gif"


def write(path: Path, pictures: Iterator[np.ndarray], rate: float) -> None:
    """Write pictures (height, width, 3), equal even sizes, so many a second.  Raises `SegueError`."""
    to = form(path)
    try:
        files.write(path, lambda temporary: to(temporary, pictures, rate))
    except OSError as error:
        raise SegueError(f"{path}: cannot be written ({error.strerror or error}); give another --out") from error


def _mp4(path: Path, pictures: Iterator[np.ndarray], rate: float) -> None:
    av = need("av", "video", "MP4")
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        x264 = "libx264" in av.codecs_available
        stream = container.add_stream("libx264" if x264 else "mpeg4", rate=Fraction(rate).limit_denominator(1000))
        stream.pix_fmt = "yuv420p"  # what every player shows
        if x264:
            stream.options = {"crf": QUALITY}
        for number, picture in enumerate(pictures):
            if number == 0:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def _gif(path: Path, pictures: Iterator[np.ndarray], rate: float) -> None:
    image = need("PIL.Image", "video", "GIF")
    few = (image.fromarray(picture).quantize(COLOURS) for picture in pictures)
    lasts = (
        max(round(100 / rate), 2) * 10
    )  # milliseconds; a GIF counts hundredths, and players take fewer than 2 for 10
    next(few).save(path, format="GIF", save_all=True, append_images=few, duration=lasts, loop=0)


FORMS = {".mp4": _mp4, ".gif": _gif}
