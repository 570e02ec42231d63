"""New logs: policies that act in a task's environment, starts of episodes, and the recorded rows."""

from segue.collect.episodes import RANDOM, SCRIPTED, Recipe, Starts, collect, environment_of, facts_of
from segue.collect.navigate import Goals

__all__ = ["RANDOM", "SCRIPTED", "Goals", "Recipe", "Starts", "collect", "environment_of", "facts_of"]
