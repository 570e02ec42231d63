"""The dataset doctor: what is wrong with a log, why it matters for learning, and what to do.

    report = examine(lambda: open_source("d4rl:log.hdf5").episodes, facts, task=task)
    report.findings                    errors, warnings and notes, worst first
    mend(report, episodes)             the same episodes with what can be put right safely

A log is read twice, an episode at a time.  The first pass gathers an index of episodes, moments of columns and bounded
random samples of rows (`log`, `sample`).  In the second, each check looks at every episode, knowing these.  Memory
grows by a few numbers for an episode, and not with the observations.  With a task, its sizes are compared as well.
Its simulator is reset and stepped only where that was said, because it may be a machine.

checks/     what is asked             case        what a check is given          examination    the two passes
simulator/  the task's world          finding     what a check says              mend           what can be put right
"""

from segue.data.doctor.checks import CHECKS
from segue.data.doctor.examination import examine, movements
from segue.data.doctor.finding import SEVERITIES, Finding, Report
from segue.data.doctor.mend import MENDS, mend

__all__ = ["CHECKS", "MENDS", "SEVERITIES", "Finding", "Report", "examine", "mend", "movements"]
