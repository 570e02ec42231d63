"""All checks, by the code of what they find.

values      NaN, infinity, outliers
columns     columns that are constant, copied, of very different sizes
actions     bounds, units, saturation, repetition
lengths     episodes that are empty, short, long, copied
ends        timeouts that look like terminals, and terminals that look like timeouts
chain       next observations that do not follow; sensors that stand still
jumps       two episodes in one
rewards     the same reward everywhere, the wrong row, the wrong range
success     none in a sparse task, or flags that disagree
coverage    the task's starts and its goal
layout      the environment's columns and rewards
again       logged steps, done again in the simulator

A new check is a class (`Check`) or a function (`summary`) in one of these, and a line in its table.  Each says in its
docstring what it finds.
"""

from segue.data.doctor.case import Make
from segue.data.doctor.checks import (
    actions,
    again,
    chain,
    columns,
    coverage,
    ends,
    jumps,
    layout,
    lengths,
    rewards,
    success,
    values,
)

CHECKS: dict[str, Make] = {
    **values.CHECKS,
    **columns.CHECKS,
    **actions.CHECKS,
    **lengths.CHECKS,
    **layout.CHECKS,  # before those that put logged states into a simulator
    **ends.CHECKS,
    **chain.CHECKS,
    **jumps.CHECKS,
    **rewards.CHECKS,
    **success.CHECKS,
    **coverage.CHECKS,
    **again.CHECKS,
}
