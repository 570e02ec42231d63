"""Where experience comes from, what is wrong with it, and where it is kept.

readers/    one reader for each format of a log
store/      datasets by name, imported once
doctor/     what is wrong with a log
card/       a log in numbers and pictures
making/     logs that Segue makes itself
arrays      a user's own arrays and episodes        recorded    one episode, as all of these hand it on
export      logs written for others                 files       the cache, and the one way to write a file
extras      optional packages

All of it ends as a checked `segue.Data`: raw rewards, episode ends known, actions in [-1, 1].
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.core.lazy import face

if TYPE_CHECKING:
    from segue.data.arrays import demonstrations, end_at_success, from_arrays, from_episodes, without
    from segue.data.card import describe
    from segue.data.files import cache_folder
    from segue.data.making import make_pointmaze, make_pointmaze_pixels, write_d4rl
    from segue.data.readers import read
    from segue.data.readers.d4rl import from_stream, read_d4rl
    from segue.data.readers.minari import read_minari
    from segue.data.store import Stored, find_stored, keep
else:
    __getattr__, __dir__ = face(__name__)

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
    "read",
    "read_d4rl",
    "read_minari",
    "without",
    "write_d4rl",
]
