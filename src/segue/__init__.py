"""Segue: offline-to-online reinforcement learning without the drop.

    import segue

    run = segue.train("cal-ql", "pointmaze-umaze", seeds=4)     # a folder with curves, a report and policies
    policy = segue.load(run)
    action = policy.act(observation)

Both are built on one generator, `segue.run`: it runs any list of `Phase`s and yields `Record`s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segue.core.display import prepare
from segue.core.lazy import face

if TYPE_CHECKING:
    from segue import data, recipes, report, study
    from segue.agents import AWAC, BC, BFN, CQL, FQL, IQL, OPT, PEX, RLPD, SAC, SPOT, TD3, TD3BC, CalQL, ReBRAC
    from segue.agents.from_cql import from_cql
    from segue.bonuses import RND, SERA, VCSE, Both, Nothing, Returns, StateEntropy
    from segue.core.encoders import Encoder
    from segue.core.log import Data
    from segue.core.networks import Networks
    from segue.core.scaling import Scaling
    from segue.core.schedules import Linear
    from segue.core.types import SegueError, Slot, Spec, Transition
    from segue.deploy.export import export
    from segue.engine.diagnostics import handover
    from segue.engine.evaluate import Evaluator
    from segue.engine.loop import run
    from segue.engine.phase import Phase, fresh, from_slot
    from segue.engine.sharing import Guide
    from segue.engine.state import Record, RunState
    from segue.filming.film import Film, film
    from segue.recipes import Recipe
    from segue.report import write_report
    from segue.runs.evaluation import Evaluated, evaluate
    from segue.runs.policy import Policy, load, save_policy
    from segue.runs.request import Request
    from segue.runs.train import resume, train
    from segue.runs.watch import STOP
    from segue.samplers import Balanced, Blend, Halves, Last, Mix, Oversample, Prefix, Subset, Union
    from segue.tasks import GymTask, find_task
else:
    __getattr__, __dir__ = face(__name__)

__version__ = "0.3.0"
prepare()

__all__ = [
    "AWAC",
    "BC",
    "BFN",
    "CQL",
    "FQL",
    "IQL",
    "OPT",
    "PEX",
    "RLPD",
    "RND",
    "SAC",
    "SERA",
    "SPOT",
    "STOP",
    "TD3",
    "TD3BC",
    "VCSE",
    "Balanced",
    "Blend",
    "Both",
    "CalQL",
    "Data",
    "Encoder",
    "Evaluated",
    "Evaluator",
    "Film",
    "Guide",
    "GymTask",
    "Halves",
    "Last",
    "Linear",
    "Mix",
    "Networks",
    "Nothing",
    "Oversample",
    "Phase",
    "Policy",
    "Prefix",
    "ReBRAC",
    "Recipe",
    "Record",
    "Request",
    "Returns",
    "RunState",
    "Scaling",
    "SegueError",
    "Slot",
    "Spec",
    "StateEntropy",
    "Subset",
    "Transition",
    "Union",
    "data",
    "evaluate",
    "export",
    "film",
    "find_task",
    "fresh",
    "from_cql",
    "from_slot",
    "handover",
    "load",
    "recipes",
    "report",
    "resume",
    "run",
    "save_policy",
    "study",
    "train",
    "write_report",
]
