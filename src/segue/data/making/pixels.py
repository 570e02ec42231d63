"""PointMaze seen from above: a camera, and a log whose positions are pictures.

    pixels (size, size, 3) uint8    the maze with the mass (green) and the goal (red)
    velocity (2,) float32           metres per second, which no single picture shows

An action is held for `REPEAT` steps of the simulator, as DrQ and others repeat theirs: within one step of 0.01 s the
mass moves by a tenth of a pixel, and nothing could be learned from what an action changed.  The log is collected like
that of `make_pointmaze`.  Sizes, the repeat and the length of the log are defaults of ours, so that a CPU can learn.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from segue.core.display import HEADLESS
from segue.core.log import Data
from segue.core.observations import pack, plain, width
from segue.core.types import SegueError
from segue.data.extras import need, versions
from segue.data.files import cache_folder
from segue.data.making.kept import made, write_d4rl
from segue.data.making.mazes import MAZES, PIXELS, REPEAT, VELOCITY, VIEWS, env_id, horizon
from segue.data.making.pointmaze import NOISE, RECIPE, PointMass, collect
from segue.data.readers.d4rl import read_d4rl

if TYPE_CHECKING:
    from mujoco import MjData, MjModel

DRAWING = 1  # goes up whenever the same state would be drawn in another way


class Camera:
    """Draws a maze from straight above, all of it, without shadows: a few ms a picture with software rendering.

    Edges are smoothed: a mass of a pixel's size is seen to move within it.

    `size`: height and width in pixels.  Raises `SegueError` if nothing can be drawn here.
    """

    def __init__(self, model: MjModel, cells: int, size: int) -> None:
        mujoco = need("mujoco", "envs", "an image of PointMaze")
        cure = "install EGL (libegl1 on Debian) or OSMesa and set MUJOCO_GL to it"
        if not hasattr(mujoco, "GLContext"):
            raise SegueError(
                f"images of PointMaze cannot be drawn here: MUJOCO_GL is disable, or EGL is missing; {cure}"
            )
        # MuJoCo would end the process at the second try.
        if HEADLESS and mujoco.GLContext.__module__.endswith("glfw"):
            raise SegueError(
                "images of PointMaze cannot be drawn: mujoco was imported before segue and needs a display; "
                "import segue first, or set MUJOCO_GL=egl"
            )
        model.vis.quality.offsamples, model.vis.quality.shadowsize = 4, 0
        try:
            self._renderer = mujoco.Renderer(model, size, size)
        except Exception as error:  # the graphics library raises what it likes
            raise SegueError(f"images of PointMaze cannot be drawn here ({error}); {cure}") from error
        for flag in ("SHADOW", "REFLECTION", "SKYBOX", "HAZE"):
            self._renderer.scene.flags[getattr(mujoco.mjtRndFlag, f"mjRND_{flag}")] = 0
        self._mujoco, self._model, self._camera = mujoco, model, mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        self._camera.azimuth, self._camera.elevation = 90.0, -90.0
        self._camera.distance = cells / 2.0 / np.tan(np.radians(model.vis.global_.fovy / 2.0))

    def __call__(self, data: MjData) -> np.ndarray:
        """Picture (size, size, 3) of uint8 of where everything stands now."""
        # A goal that was moved is drawn where it was until positions are computed again; no state changes by it.
        self._mujoco.mj_kinematics(self._model, data)
        self._renderer.update_scene(data, self._camera)
        picture: np.ndarray = self._renderer.render()
        return picture

    def close(self) -> None:
        """Release the graphics library."""
        self._renderer.close()


def make_pointmaze_pixels(maze: str = "umaze", steps: int | None = None, seed: int = 0) -> Data:
    """Checked `Data` of at least `steps` rows in a maze ("umaze"); rows are bytes, see `segue.core.observations`.

    Made once (a minute) and kept in `cache_folder()`; needs `segue[envs]` and a graphics library to make it, not to
    read it.  Deterministic in the arguments and the versions of MuJoCo and the graphics library.
    """
    if maze not in VIEWS:
        raise SegueError(f"pointmaze-pixels: no maze {maze!r}; there are {', '.join(VIEWS)}")
    steps = VIEWS[maze].steps if steps is None else steps
    if steps < 1:
        raise SegueError(f"pointmaze-pixels: steps={steps}; give at least one")
    path = cache_folder() / f"pointmaze-{maze}-pixels{VIEWS[maze].size}-{steps}-seed{seed}-r{RECIPE}-d{DRAWING}.hdf5"
    made(path, lambda: _draw(path, maze, steps, seed))
    return read_d4rl(path)


def _draw(path: Path, maze: str, steps: int, seed: int) -> None:
    view, known = VIEWS[maze], MAZES[maze]
    mass = PointMass(known)
    mass.place_goal(known.goal_cell)
    arrays = collect(known, steps, seed, NOISE, REPEAT, mass)
    state = arrays["observations"]
    model, data = mass.simulator
    camera = Camera(model, len(mass.grid), view.size)
    rows = np.zeros((len(state), width(view.parts)), np.uint8)
    for n, (x, y, *velocity) in enumerate(state.tolist()):
        mass.reset(x, y)
        rows[n] = pack(view.parts, {PIXELS: camera(data), VELOCITY: np.asarray(velocity, np.float32)})
    camera.close()
    attributes = {
        "env_id": env_id(maze),
        "max_episode_steps": horizon(maze),
        "reset_cell": known.reset_cell,
        "goal_cell": known.goal_cell,
        "parts": json.dumps(plain(view.parts)),
        "versions": json.dumps(versions()),
    }
    write_d4rl(path, {**arrays, "observations": rows, "infos/state": state}, attributes)
