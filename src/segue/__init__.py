"""Segue: offline-to-online reinforcement learning without the drop.

    import segue

    run = segue.train("cal-ql", "pointmaze-umaze", seeds=4)     # a folder with curves, a report and policies
    policy = segue.load(run)
    action = policy.act(observation)

Below that stands one generator, `segue.run`, which goes through any list of `Phase`s and yields `Record`s.
"""

from __future__ import annotations

from segue.agents import CQL, SAC
from segue.asked import Request
from segue.carry import Carry, Record
from segue.diagnostics import handover
from segue.engine import run
from segue.evaluate import Evaluator
from segue.experiment import resume, train
from segue.first import First
from segue.oversample import Oversample
from segue.phases import Phase, fresh, take
from segue.policy import Policy, load, save_policy
from segue.prioritised import Balanced
from segue.recipes import Recipe
from segue.replay import Data
from segue.report import write_report
from segue.samplers import Blend, Mix, Retain, Union
from segue.tasks import GymTask, find_task
from segue.types import SegueError, Slot, Spec, Transition
from segue.units import Units

__version__ = "0.1.0"

__all__ = [
    "CQL",
    "SAC",
    "Balanced",
    "Blend",
    "Carry",
    "Data",
    "Evaluator",
    "First",
    "GymTask",
    "Mix",
    "Oversample",
    "Phase",
    "Policy",
    "Recipe",
    "Record",
    "Request",
    "Retain",
    "SegueError",
    "Slot",
    "Spec",
    "Transition",
    "Union",
    "Units",
    "find_task",
    "fresh",
    "handover",
    "load",
    "resume",
    "run",
    "save_policy",
    "take",
    "train",
    "write_report",
]
