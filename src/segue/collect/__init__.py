"""New logs: who acts in a task's environment, where an episode starts, and what is written down."""

from segue.collect.episodes import RANDOM, SCRIPTED, Recipe, Starts, collect, environment_of, facts_of
from segue.collect.navigate import Goals

__all__ = ["RANDOM", "SCRIPTED", "Goals", "Recipe", "Starts", "collect", "environment_of", "facts_of"]
