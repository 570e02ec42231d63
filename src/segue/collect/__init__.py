"""New logs: policies that act in a task's environment, starts of episodes, and the recorded rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.core.lazy import face

if TYPE_CHECKING:
    from segue.collect.episodes import collect, environment_of, facts_of
    from segue.collect.recipe import RANDOM, SCRIPTED, Goals, Recipe, Starts
else:
    __getattr__, __dir__ = face(__name__)

__all__ = ["RANDOM", "SCRIPTED", "Goals", "Recipe", "Starts", "collect", "environment_of", "facts_of"]
