"""Datasets that need no download: Segue makes them on this machine, once, and keeps them.

pointmaze     a point mass that is sent from cell to cell of a maze
pixels        the same, seen from above
kept          the files: D4RL's layout with a hash, made again where they are broken
"""

from segue.data.making.kept import write_d4rl
from segue.data.making.pixels import make_pointmaze_pixels
from segue.data.making.pointmaze import make_pointmaze

__all__ = ["make_pointmaze", "make_pointmaze_pixels", "write_d4rl"]
