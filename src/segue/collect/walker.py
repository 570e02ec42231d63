"""Steer an ant in any direction with a network that runs along +x.

After a quarter turn the ant is the same, except for the numbers of its legs.  So the network gets the state of a
rotated ant, for which +x is the wanted direction:

    the world is turned by -heading          the wanted direction becomes +x, where the walker runs
    the torso's frame is turned by quarters  its yaw becomes one that the walker knows; the legs are renumbered
    the walker's actions                     are renumbered back

Legs are numbered as in Gymnasium's ant.xml, at 45, 135, 225 and 315 degrees.  The 27 numbers of a body are the torso's
height (m), its orientation (w, x, y, z), hip and ankle of each leg (rad), and the velocities of all these: the torso's
in the world's frame (m/s), its spin in its own (rad/s), the joints' (rad/s).
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from segue.core.types import SegueError
from segue.tasks.catalogue import FOLDER

FILE = "ant_runner.npz"  # the walker's name in the folder $SEGUE_DATA
BODY, MOTORS = 27, 8
# Hips turn about the vertical, ankles about a horizontal axis that points onward around the torso (1) or back (-1).
AXES = np.array([[1.0, 1.0], [1.0, -1.0], [1.0, -1.0], [1.0, 1.0]])
SLACK = math.pi / 4 + 0.25  # radians of yaw at which legs are renumbered; more than half a quarter, lest it flickers
CLIP = 10.0  # standard deviations; default of ours


@dataclass(frozen=True, eq=False)
class Walker:
    """Three layers (tanh between them) from the standardised numbers of a body to actions (8,), clipped to [-1, 1].

    `mean`, `std` (27,); `layers`: weights (out, in) and biases (out,); `sha256` of the file they are from.
    """

    mean: np.ndarray
    std: np.ndarray
    layers: tuple[tuple[np.ndarray, np.ndarray], ...]
    sha256: str

    def __call__(self, body: np.ndarray) -> np.ndarray:
        """Actions (8,) for a body (27,) that is to run along +x."""
        x = np.clip((body - self.mean) / self.std, -CLIP, CLIP)
        *hidden, (weight, bias) = self.layers
        for w, b in hidden:
            x = np.tanh(w @ x + b)
        return np.clip(weight @ x + bias, -1.0, 1.0)


class Steered:
    """A walker in one episode; it remembers by how many quarters the torso's frame is turned."""

    def __init__(self, walker: Walker, stride: float) -> None:
        self.walker, self.stride, self.quarters = walker, stride, 0

    def __call__(self, body: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """Actions (8,) in [-1, 1] that take a body (27,) along `offset` (2,), metres in the world.

        `stride` multiplies the walker's own actions.
        """
        heading = math.atan2(offset[1], offset[0])
        yaw = yaw_of(body) - heading
        if abs(math.remainder(yaw + self.quarters * math.pi / 2, 2 * math.pi)) > SLACK:
            self.quarters = round(-yaw / (math.pi / 2)) % 4
        action = np.roll(self.walker(turned(body, heading, self.quarters)).reshape(4, 2), -1, axis=0)
        # The motors' order begins with the last leg.
        back = np.roll(renumbered(action, -self.quarters), 1, axis=0)
        return np.clip(self.stride * back.ravel(), -1.0, 1.0)


def yaw_of(body: np.ndarray) -> float:
    """How far a torso is turned about the vertical, in radians."""
    return 2.0 * math.atan2(body[4], body[1])


def turned(body: np.ndarray, heading: float, quarters: int) -> np.ndarray:
    """The same body (27,) in a world that is turned by -`heading` radians, its torso's frame turned by quarters."""
    frame = quarters * math.pi / 2
    height, orientation, joints, velocity, spin, speeds = np.split(np.asarray(body, np.float64), (1, 5, 13, 16, 19))
    # Turns about z are phases of w + iz and x + iy: both of one sign from the left, of opposite signs from the right.
    upright = complex(orientation[0], orientation[3]) * np.exp(0.5j * (frame - heading))
    tilted = complex(orientation[1], orientation[2]) * np.exp(-0.5j * (frame + heading))
    sign = -1.0 if upright.real < 0.0 else 1.0  # two quaternions are one orientation; the walker knows one of them
    return np.concatenate(
        [
            height,
            sign * np.array([upright.real, tilted.real, tilted.imag, upright.imag]),
            renumbered(joints.reshape(4, 2), quarters).ravel(),
            _about_z(velocity, -heading),
            _about_z(spin, -frame),
            renumbered(speeds.reshape(4, 2), quarters).ravel(),
        ]
    )


def renumbered(legs: np.ndarray, quarters: int) -> np.ndarray:
    """Hips and ankles (4, 2) of the legs as they are numbered in a frame that is turned by quarters."""
    return AXES * np.roll(AXES * legs, -quarters, axis=0)


def _about_z(vector: np.ndarray, angle: float) -> np.ndarray:
    flat = complex(vector[0], vector[1]) * np.exp(1j * angle)
    return np.array([flat.real, flat.imag, vector[2]])


def find_walker(given: str) -> Path:
    """The walker's file: `given`, or ant_runner.npz in the folder $SEGUE_DATA; `SegueError` where there is none."""
    if given:
        return Path(given)
    folder = os.environ.get(FOLDER)
    path = Path(folder or "") / FILE
    if folder and path.is_file():
        return path
    here = f"{FILE} is not in {folder} ({FOLDER})" if folder else f"{FOLDER} is not set"
    raise SegueError(f"the scripted policy needs a walker for an ant, and {here}; give one: --walker FILE.npz")


def read_walker(path: str | os.PathLike[str]) -> Walker:
    """Read a walker from an npz file of `mean`, `std` (27,), `w0` (H, 27), `b0`, `w1` (K, H), `b1`, `w2` (8, K), `b2`.

    Nothing is unpickled.  Raises `SegueError` where the file cannot be read, or has other arrays than these.
    """
    names = ("mean", "std", *(f"{kind}{layer}" for layer in range(3) for kind in "wb"))
    try:
        content = Path(path).read_bytes()
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], np.float64) for name in names if name in file}
    except (OSError, EOFError, ValueError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise SegueError(
            f"walker {path}: cannot be read ({type(error).__name__}); give an npz file of plain arrays"
        ) from error
    missing = [name for name in names if name not in arrays]
    if missing:
        raise SegueError(f"walker {path}: has no array {missing[0]!r}; it needs {', '.join(names)}")
    hidden = [arrays[f"b{layer}"].size for layer in range(2)]
    widths = (BODY, *hidden, MOTORS)
    wanted: dict[str, tuple[int, ...]] = {"mean": (BODY,), "std": (BODY,)}
    for layer in range(3):
        wanted |= {f"w{layer}": (widths[layer + 1], widths[layer]), f"b{layer}": (widths[layer + 1],)}
    for name, shape in wanted.items():
        if arrays[name].shape != shape or not np.isfinite(arrays[name]).all():
            raise SegueError(
                f"walker {path}: {name} has shape {arrays[name].shape}, it should be {shape} of finite numbers; "
                f"give a walker of Gymnasium's ant ({BODY} numbers in, {MOTORS} motors out)"
            )
    if arrays["std"].min() <= 0.0:
        raise SegueError(f"walker {path}: std has numbers that are not above 0; give standard deviations")
    layers = tuple((arrays[f"w{layer}"], arrays[f"b{layer}"]) for layer in range(3))
    return Walker(arrays["mean"], arrays["std"], layers, hashlib.sha256(content).hexdigest())
