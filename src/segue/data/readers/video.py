"""Frames of a video, for logs that keep their images in videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from segue.core.types import SegueError
from segue.data.extras import need
from segue.data.readers.damage import reading, sensible


def frames(path: Path, times: np.ndarray, fps: float) -> np.ndarray:
    """RGB frames (n, height, width, 3) of uint8 at `times` (n,), seconds that never fall.

    Each time gets the first frame within half a frame of it.  Raises `SegueError` if there is none, or if the file
    cannot be decoded.
    """
    if not path.is_file():
        raise SegueError(f"{path}: no such video; fetch the dataset with its videos, or leave out images=")
    if not np.isfinite(times).all() or (np.diff(times) < 0).any() or (times < 0).any():
        raise SegueError(f"{path}: the log has timestamps that decrease or are not finite; repair them")
    av = need("av", "video", f"reading {path}")
    out, found, slack = np.zeros(0, np.uint8), 0, 0.5 / fps
    with reading(path), av.open(str(path)) as container:
        stream = container.streams.video[0]
        if times[0] > slack:
            container.seek(int((times[0] - slack) / stream.time_base), stream=stream)
        for frame in container.decode(stream):
            if frame.time is None or frame.time < times[found] - slack:
                continue
            if not out.size:
                shape = (len(times), frame.height, frame.width, 3)
                sensible(path, "its frames", int(np.prod(shape, dtype=np.float64)))
                out = np.zeros(shape, np.uint8)
            image = frame.to_ndarray(format="rgb24")
            while found < len(times) and times[found] - slack <= frame.time <= times[found] + slack:
                out[found] = image
                found += 1
            if found == len(times) or frame.time > times[found] + slack:
                break
    if found < len(times):
        raise SegueError(f"{path}: no frame at {times[found]:.3f} s; the video and the log do not belong together")
    return out
