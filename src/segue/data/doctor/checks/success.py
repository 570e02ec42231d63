"""Success: there in a sparse log, and of one mind with the rewards."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segue.data.doctor.case import Case, Make, summary
from segue.data.doctor.finding import Finding, counted

LEAST = 3  # episodes of each kind (default of ours)
FEW = 0.02  # share of episodes that may be flagged otherwise (default of ours)


def no_success(case: Case) -> Iterator[Finding]:
    """A sparse task whose log has no success."""
    index, sound = case.log.index, case.log.sound
    failure = case.failure
    if failure is None or not sound.any():
        return
    solved = sound & (index["best"] > failure)
    if not solved.any():
        yield Finding(
            "warning",
            f"no episode has a reward above {failure:g}, the reward of a failing step",
            "Offline, all actions have the same value; online, success must be found by chance.",
            "Add demonstrations or a broader log, or explore with a bonus (bonus=rnd).",
            int(sound.sum()),
            "episodes",
        )


def success_mismatch(case: Case) -> Iterator[Finding]:
    """Success flags that say something else than the rewards."""
    index = case.log.index
    told = case.log.sound & np.isfinite(index["success"])
    if not told.any():
        return
    flag = index["success"] > 0.5
    if case.failure is not None:
        wrong = told & (flag != (index["best"] > case.failure))
        # A flag may speak of the observation behind the last row, whose reward was not logged.
        if wrong.sum() > max(FEW * told.sum(), 1):
            at = np.flatnonzero(wrong)
            yield Finding(
                "warning",
                f"in {len(at)} episodes the success flag disagrees with the rewards",
                "The agent learns from rewards, but success is counted by the flags: these are two tasks.",
                "Compute rewards from the flags, or remove the flags.",
                *counted("episodes", at, index["length"][at] - 1),
                numbers={
                    "flagged": int((flag & told).sum()),
                    "rewarded": int((told & (index["best"] > case.failure)).sum()),
                },
            )
        return
    won, lost = index["total"][told & flag], index["total"][told & ~flag]
    if min(len(won), len(lost)) < LEAST:
        return
    more = np.searchsorted(np.sort(lost), won)
    no_less = np.searchsorted(np.sort(lost), won, side="right")
    above = float((more + no_less).mean() / 2 / len(lost))
    if above < 0.5:
        yield Finding(
            "warning",
            f"successful episodes have lower returns: in only {above:.0%} of pairs the successful one is higher",
            "The agent learns from rewards, but these favour episodes without success.",
            "Check that flags and rewards belong to the same episodes, and their signs.",
            int(told.sum()),
            "episodes",
            numbers={"share of pairs": above, "mean with": won.mean(), "mean without": lost.mean()},
        )


CHECKS: dict[str, Make] = {"no-success": summary(no_success), "success-mismatch": summary(success_mismatch)}
