"""Where experience comes from: readers, a user's own arrays, and the one dataset that needs no download.

Everything here returns a checked `segue.core.replay.Data`: raw rewards, episode ends known, actions in [-1, 1].
"""

from segue.data.arrays import from_arrays, from_episodes
from segue.data.card import describe
from segue.data.d4rl import from_stream, read_d4rl
from segue.data.minari import read_minari
from segue.data.overhead import make_pointmaze_pixels
from segue.data.pointmaze import make_pointmaze
from segue.data.store import cache_folder, write_d4rl
from segue.data.stored import Stored, find_stored
from segue.data.storing import keep
from segue.data.success import demonstrations, end_at_success

__all__ = [
    "Stored",
    "cache_folder",
    "demonstrations",
    "describe",
    "end_at_success",
    "find_stored",
    "from_arrays",
    "from_episodes",
    "from_stream",
    "keep",
    "make_pointmaze",
    "make_pointmaze_pixels",
    "read_d4rl",
    "read_minari",
    "write_d4rl",
]
