"""Segue's own store: datasets by name, each a folder of flat arrays with an index of episodes.

folder      which datasets there are          writer    how one is written
dataset     one of them, and its files        rows      rows that stay on the disk until they are read
"""

from segue.data.store.dataset import Stored
from segue.data.store.folder import datasets_folder, find_stored, is_stored, place, stored_names
from segue.data.store.rows import DiskRows
from segue.data.store.writer import keep, save

__all__ = ["DiskRows", "Stored", "datasets_folder", "find_stored", "is_stored", "keep", "place", "save", "stored_names"]
