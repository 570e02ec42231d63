"""Whether observations follow each other: a step's next observation must be the observation of the next step.

observation   s0 s1 s2 | r0 r1 ...      two episodes whose end was lost: s2 -> r0 is no step, though it looks like one
next          s1 s2 r0                  the same fault at the end of an episode: what followed s2 was never logged
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segue.data.doctor.case import Case, Make, summary
from segue.data.doctor.finding import MARKS, Finding, Rows, counted
from segue.data.recorded import Recorded

# Defaults of ours.
LEAST = 3  # episodes from which a pattern is no accident
SHARE = 0.01  # of rows or episodes
RUN = 5  # equal observations in a row from which a sensor has stopped
FROZEN = 1e-3  # share of rows


def stitched(case: Case) -> Iterator[Finding]:
    """Episodes whose final observation is the first of the next one."""
    index, sound = case.log.index, case.log.sound
    if len(case.log) < 2:
        return
    meets = np.append((index["final"][:-1] == index["first"][1:]) & sound[:-1] & sound[1:], False)
    # A log that begins every episode alike and stands still at its ends would look stitched.
    meets &= index["final"] != index["first"]
    cut, ended = np.flatnonzero(meets & ~index["terminated"]), np.flatnonzero(meets & index["terminated"])
    if len(cut):
        share = len(cut) / max(int((sound & ~index["terminated"]).sum()), 1)
        yield Finding(
            "error" if len(cut) >= LEAST or share > SHARE else "warning",
            f"in {len(cut)} truncated episodes the last next observation is the first observation of the next episode",
            "The learner bootstraps from it: the value of a start state enters the state where the episode was cut.",
            "Drop the last row of these episodes: its true next observation was not logged.",
            *counted("episodes", cut, index["length"][cut] - 1),
            "split-stitched",
            {"share of cut episodes": share},
            np.stack([cut, index["length"][cut] - 1, np.ones_like(cut)], 1),
        )
    if len(ended):
        yield Finding(
            "note",
            f"in {len(ended)} terminal rows the next observation is the first observation of the next episode",
            "Nothing bootstraps from a terminal row, so values are right; but a dynamics model or a novelty bonus uses "
            "next observations and sees a jump.",
            "This is usual in D4RL's layout, which does not store it.  Nothing to do.",
            *counted("episodes", ended, index["length"][ended] - 1),
            numbers={"share of terminated episodes": len(ended) / max(int((sound & index["terminated"]).sum()), 1)},
        )


class _BrokenChain:
    """`next_observation` that is not the next row's observation, within an episode; and final observations that
    repeat the one before.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.broken = case, Rows()
        self.steps: list[np.ndarray] = []
        self.pairs, self.still = 0, 0

    def see(self, number: int, episode: Recorded) -> None:
        then = episode.next_observation
        if then is None or len(episode) < 2:
            return
        seen = episode.observation
        apart = (then[:-1] != seen[1:]).reshape(len(seen) - 1, -1)
        # NaN is another check's business.
        apart &= ~(np.isnan(then[:-1]) | np.isnan(seen[1:])).reshape(apart.shape) if seen.dtype.kind == "f" else True
        bad = apart.any(1)
        self.pairs += len(bad)
        if bad.any():
            self.broken.add(number, bad)
            if self.broken.count <= MARKS:
                steps = np.flatnonzero(bad)
                self.steps.append(np.stack([np.full(len(steps), number), steps, np.zeros_like(steps)], 1))
            self.still += int((then[:-1] == seen[:-1]).reshape(len(bad), -1).all(1)[bad].sum())

    def judge(self) -> Iterator[Finding]:
        count = self.broken.count
        if not count:
            return
        share = count / self.pairs
        same = self.still > 0.5 * count
        few = share <= 0.1 and count <= MARKS
        yield Finding(
            "error" if share > SHARE else "warning",
            f"{count} next observations ({share:.1%}) are not the next row's observation"
            + (": they repeat the observation of their own row" if same else "")
            + (": the rows are not in the order of time" if share > 0.5 and not same else ""),
            "Returns, episodes and n-step sums are computed along rows that do not follow each other.",
            "Put rows into the order of time, and end an episode where the chain breaks.",
            count,
            "rows",
            tuple(self.broken.first),
            "split-stitched" if few and not same else None,
            {"share": share},
            np.concatenate(self.steps) if few else None,
        )


class _FinalRepeated:
    """Episodes whose final observation repeats the one before: a placeholder for what was never logged."""

    def __init__(self, case: Case) -> None:
        self.cut = 0
        self.found: list[tuple[int, int]] = []
        self.moves = False

    def see(self, number: int, episode: Recorded) -> None:
        if episode.terminated or len(episode) < 2:
            return
        self.cut += 1
        seen = episode.current
        self.moves |= bool((seen[-1] != seen[-2]).any())
        if np.array_equal(episode.following[-1], seen[-1]):
            self.found.append((number, len(episode) - 1))

    def judge(self) -> Iterator[Finding]:
        if self.moves and len(self.found) >= LEAST and len(self.found) > 0.5 * self.cut:
            at = np.asarray(self.found, np.int64)
            yield Finding(
                "warning",
                f"{len(at)} of {self.cut} truncated episodes repeat their last observation as the final one",
                "There the learner bootstraps a state from itself, so its value counts its own reward for ever.",
                "Log the final observation, or drop the last row of each episode.",
                *counted("episodes", at[:, 0], at[:, 1]),
                "split-stitched",
                {"share of cut episodes": len(at) / self.cut},
                np.concatenate([at, np.ones((len(at), 1), np.int64)], 1),
            )


class _Frozen:
    """Observations that stand still over several rows while actions change."""

    def __init__(self, case: Case) -> None:
        self.case, self.rows = case, Rows()
        self.longest = 0

    def see(self, number: int, episode: Recorded) -> None:
        seen = episode.current
        if len(seen) <= RUN:
            return
        same = (seen[1:] == seen[:-1]).reshape(len(seen) - 1, -1).all(1)
        if not same.any():
            return
        acted = (episode.action[1:] != episode.action[:-1]).any(1)
        edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
        bad = np.zeros(len(seen), bool)
        for start, stop in zip(edges[::2], edges[1::2]):
            if stop - start + 1 >= RUN and acted[start:stop].any():
                bad[start : stop + 1] = True
                self.longest = max(self.longest, int(stop - start + 1))
        self.rows.add(number, bad)

    def judge(self) -> Iterator[Finding]:
        if self.rows.count:
            share = self.rows.count / self.case.log.rows
            yield Finding(
                "warning" if share > FROZEN else "note",
                f"observations do not change for {RUN} rows or more while actions change (up to {self.longest} rows)",
                "A sensor or recorder probably stopped: from these steps the agent learns that actions have no effect.",
                "Drop these episodes, or cut them where the sensor stops.",
                *self.rows.found,
                numbers={"share": share, "longest": self.longest, "episodes": len(self.rows.episodes)},
            )


CHECKS: dict[str, Make] = {
    "stitched": summary(stitched),
    "broken-chain": _BrokenChain,
    "final-repeated": _FinalRepeated,
    "frozen": _Frozen,
}
