"""Pictures out of a log, small enough for a page."""

from __future__ import annotations

import struct
import zlib

import numpy as np

from segue.core.observations import is_image, unpacked
from segue.core.types import Part
from segue.data.store import Stored

SHOWN = 12  # pictures of each camera, evenly spread over the log
LARGEST = 128  # pixels of a picture's longer side; larger ones are thinned out


def pictures(stored: Stored) -> dict[str, list[bytes]]:
    """PNG files of some rows, by the name of the image; "observation" if an observation is nothing else."""
    seen = stored.current()
    parts = stored.made_of or (Part("observation", seen.shape[1:], str(np.dtype(seen.dtype))),)
    if not any(is_image(part) for part in parts):
        return {}
    at = np.unique(np.linspace(0, len(stored) - 1, min(SHOWN, len(stored))).astype(int))
    rows = seen[at]
    values = unpacked(parts, rows) if stored.made_of else {"observation": rows}
    return {p.name: [png(_plain(image)) for image in values[p.name]] for p in parts if is_image(p)}


def _plain(image: np.ndarray) -> np.ndarray:
    """An image (height, width, 1 or 3): the last of several frames, thinned out if it is large."""
    image = image[-1] if image.ndim == 4 else image if image.ndim == 3 else image[..., None]
    image = image[..., :3] if image.shape[-1] >= 3 else image[..., :1]
    return image[:: (thin := -(-max(image.shape[:2]) // LARGEST)), ::thin]


def png(image: np.ndarray) -> bytes:
    """A PNG file of an image (height, width, 1 or 3) of uint8."""
    high, wide, depth = image.shape

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    lines = b"".join(b"\0" + np.ascontiguousarray(line).tobytes() for line in image)
    header = struct.pack(">IIBBBBB", wide, high, 8, 2 if depth == 3 else 0, 0, 0, 0)
    whole = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + whole
