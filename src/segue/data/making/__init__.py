"""Datasets that need no download: Segue makes them on this machine, once, and keeps them.

pointmaze     a point mass that is sent from cell to cell of a maze
pixels        the same, seen from above
mazes         which mazes there are
kept          the files: D4RL's layout with a hash, made again where they are broken
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.core.lazy import face

if TYPE_CHECKING:
    from segue.data.making.kept import write_d4rl
    from segue.data.making.pixels import make_pointmaze_pixels
    from segue.data.making.pointmaze import make_pointmaze
else:
    __getattr__, __dir__ = face(__name__)

__all__ = ["make_pointmaze", "make_pointmaze_pixels", "write_d4rl"]
