"""Observations with named parts: a dictionary of images and vectors as one row of bytes, and back.

    part       pixels (32, 32, 3) uint8      velocity (2,) float32
    row        |<------ 3,072 bytes ------>|<-- 8 bytes -->|

Datasets, replay and environments hold rows, and learners see them through `segue.core.look` (`Scaling.see`).  So a row
is found by one index, whatever it holds, and comes back bit for bit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from segue.core.types import Part, SegueError, Spec

KINDS = ("uint8", "float32")  # types of parts: images stay bytes, all else is real numbers
WHOLE = "observation"  # name of the one part of an observation that is a single array


def is_image(part: Part) -> bool:
    """Whether a part is a picture: bytes (height, width), channels behind, frames in the order of time before."""
    return part.dtype == "uint8" and len(part.shape) in (2, 3, 4)


def size_of(part: Part) -> int:
    """Bytes of a part in a row."""
    return int(np.prod(part.shape, dtype=np.int64)) * np.dtype(part.dtype).itemsize


def width(parts: Sequence[Part]) -> int:
    """Bytes of a row."""
    return sum(size_of(part) for part in parts)


def pack(parts: Sequence[Part], observation: Mapping[str, Any]) -> np.ndarray:
    """Return rows (..., bytes) of uint8 from arrays (..., *shape) by name; `SegueError` where one does not fit."""
    columns = []
    for part in parts:
        if part.name not in observation:
            raise SegueError(f"the observation has no part '{part.name}', only {', '.join(map(str, observation))}")
        value = np.asarray(observation[part.name])
        lead = value.shape[: value.ndim - len(part.shape)]
        if value.shape[len(lead) :] != part.shape or (part.dtype == "uint8" and value.dtype != np.uint8):
            raise SegueError(
                f"part '{part.name}' of the observation is {value.dtype} {value.shape}, but must be {part.dtype} "
                f"{part.shape}; keep the declared shape and type"
            )
        octets = np.ascontiguousarray(value, part.dtype).reshape(*lead, -1)
        columns.append(octets.view(np.uint8))
    if len({column.shape[:-1] for column in columns}) > 1:
        leads = ", ".join(f"{part.name} {column.shape[:-1]}" for part, column in zip(parts, columns))
        raise SegueError(f"the parts of the observation have different lengths ({leads}); give the same number of each")
    return np.concatenate(columns, axis=-1)


def parts_seen(spec: Spec) -> tuple[Part, ...]:
    """What learners see of a task's observations, part by part; () where they are vectors, seen as they are."""
    if spec.parts or len(spec.observation) == 1:
        return spec.parts
    return (Part(WHOLE, spec.observation, spec.dtype),)


def image_shape(part: Part) -> tuple[int, int, int]:
    """Height, width and channels of an image, with its frames side by side as channels."""
    *frames, high, wide, depth = part.shape if len(part.shape) > 2 else (*part.shape, 1)
    return high, wide, depth * math.prod(frames)


def unpacked(parts: Sequence[Part], rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return arrays (..., *shape) by name from rows (..., bytes) of uint8 on the host."""
    out, start = {}, 0
    for part in parts:
        octets = np.ascontiguousarray(rows[..., start : start + size_of(part)])
        start += size_of(part)
        out[part.name] = octets.view(part.dtype).reshape(*rows.shape[:-1], *part.shape)
    return out


def reals(parts: Sequence[Part], rows: np.ndarray) -> np.ndarray:
    """Observations (T, ...) as they are; of rows of bytes, the numbers (T, n) of what is no image, in order."""
    if not parts:
        return rows
    values = unpacked(parts, rows)
    vectors = [values[p.name].reshape(len(rows), -1) for p in parts if not is_image(p)]
    return np.concatenate(vectors, axis=1) if vectors else np.zeros((len(rows), 0), np.float32)


def plain(parts: Sequence[Part]) -> list[list[Any]]:
    """JSON of parts; `parts_of` reads it."""
    return [[part.name, list(part.shape), part.dtype] for part in parts]


def parts_of(described: Any, where: str) -> tuple[Part, ...]:
    """Return the parts that JSON describes; `SegueError` where it does not."""
    try:
        parts = tuple(Part(str(name), tuple(int(n) for n in shape), str(dtype)) for name, shape, dtype in described)
    except (TypeError, ValueError) as error:
        raise SegueError(
            f"{where}: every entry of 'parts' must be [name, shape, type]; import the dataset again"
        ) from error
    strange = [p for p in parts if p.dtype not in KINDS or not p.name or any(n < 1 for n in p.shape)]
    if strange or len({p.name for p in parts}) < len(parts):
        raise SegueError(
            f"{where}: 'parts' need different names and type {' or '.join(KINDS)}; import the dataset again"
        )
    return parts
