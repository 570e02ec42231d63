"""Two episodes in one: steps inside an episode that no step of the log is like.

A step's score is the geometric mean of how far columns move and how far they are from a linear rule (`Steps`).  A step
into what looks like a start needs less of it.  Where the simulator can be asked, it has the last word.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segue.data.doctor.case import Case, Entry
from segue.data.doctor.finding import MARKS, Finding, shown
from segue.data.doctor.sample import Sample
from segue.data.doctor.steps import Steps
from segue.data.recorded import Recorded

# Defaults of ours.
FAR = 8.0  # score of a jump; clean logs of locomotion, mazes and hands stay below 4.5
AGAIN = 1.25  # distance from the linear rule of a jump into a state that looks like a start
ROOM = 0.5  # by which the range of starts is widened, in its own widths
SPECIAL = 1e-3  # share of steps into a start above which a start is no special place
LATE = 10  # steps after which an episode has left its start
FEWEST = 1_000  # sampled steps
KEPT = 200  # jumps that are done again in the simulator


class Jumps:
    """Jumps inside episodes."""

    def __init__(self, case: Case) -> None:
        self.case, self.count = case, 0
        self.found: list[np.ndarray] = []
        self.kept = Sample(KEPT, 6)
        self.highest = 0.0
        self.steps: Steps | None = None
        rows, log = case.sampled, case.log
        inner = rows["step"] < rows["length"] - 1 if rows else np.zeros(0, bool)
        if not log.flat or inner.sum() < FEWEST:
            return
        seen, then, action = (rows[name][inner] for name in ("observation", "following", "action"))
        self.steps = Steps(seen, then, action, log.seen.mean, log.seen.std + 1e-6)
        starts = log.starts.columns()["observation"]
        if case.fits and case.simulator is not None:
            starts = np.concatenate([starts, case.simulator.resets])
        room = ROOM * np.ptp(starts, axis=0) + 1e-3 * log.seen.std
        self.low, self.high = starts.min(0) - room, starts.max(0) + room
        # Lost ends must not make a start look like any other place.
        usual = (rows["step"][inner] >= LATE) & (self.steps.measure(seen, then, action)[1] <= AGAIN)
        self.special = bool(usual.any()) and float(np.mean(self._start(then[usual]))) < SPECIAL

    def _start(self, rows: np.ndarray) -> np.ndarray:
        return np.asarray(((rows >= self.low) & (rows <= self.high)).all(1))

    def see(self, number: int, episode: Recorded) -> None:
        """Score every step but the last, whose next observation is `stitched`'s business."""
        if self.steps is None or len(episode) < 2:
            return
        seen, then, action = episode.current[:-1], episode.following[:-1], episode.action[:-1]
        plain, away = self.steps.measure(seen, then, action)
        with np.errstate(invalid="ignore", over="ignore"):  # of infinite numbers, which are another check's business
            # Without a rule, no distance is far: forces of contact are nearly always 0, and then huge.
            score = np.sqrt(plain * away) if self.steps.ruled else np.zeros(len(plain))
        again = (away > AGAIN) & self._start(then) & ~self._start(seen) & self.special
        bad = np.flatnonzero((score > FAR) | again)
        self.highest = max(self.highest, float(np.nan_to_num(score).max()))
        if not len(bad):
            return
        self.count += len(bad)
        marks = np.stack([np.full(len(bad), number), bad, again[bad]], 1)
        if self.count <= MARKS:
            self.found.append(marks)
        chosen = self.kept.draw(len(bad))
        rows = bad[chosen]
        self.kept.put(
            {"observation": seen[rows], "following": then[rows], "action": action[rows], "mark": marks[chosen]}
        )

    def judge(self) -> Iterator[Finding]:
        """One finding, of the jumps that the simulator does not make."""
        if not self.count:
            return
        found = np.concatenate(self.found) if self.found else self.kept.columns()["mark"]
        asked, true = self._true()
        if asked and len(true) > 0.5 * asked and self.count > KEPT:
            return
        known = {(int(e), int(s)) for e, s in true}
        found = found[[(int(e), int(s)) not in known for e, s in found[:, :2]]] if known else found
        count, starts = self.count - len(known), int(found[:, 2].sum())
        if not count:
            return
        certain = asked > 0 or starts > 0.5 * len(found)
        yield Finding(
            "jumps",
            "error" if certain else "warning",
            f"{count} steps inside episodes jump farther than any step of the log's kind"
            + (f", {starts} of them to what looks like a start" if starts else "")
            + (", and not in the environment" if asked else ""),
            "Two episodes were written as one: the value of another episode's start flows into the step before it.",
            "End an episode at each of these steps, and drop the step.",
            count,
            "rows",
            shown(found[:, 0], found[:, 1]),
            "split-stitched" if certain and self.count <= MARKS else None,
            {"highest score": self.highest, "threshold": FAR, "into a start": starts, "done again": asked},
            np.concatenate([found[:, :2], np.ones((len(found), 1), np.int64)], 1),
        )

    def _true(self) -> tuple[int, np.ndarray]:
        """How many jumps the simulator was asked about, and which of them (K, 2) it makes as well."""
        case, rows = self.case, self.kept.columns()
        if case.simulator is None or case.replayed is None or not case.replayed.faithful:
            return 0, np.zeros((0, 2), np.int64)
        same = case.simulator.same(rows["observation"], rows["action"], rows["following"], case.log.seen.std)
        return int(np.isfinite(same).sum()), rows["mark"][same == 1.0, :2]


CHECKS: dict[str, Entry] = {"jumps": Entry("jumps inside an episode, as of two episodes in one", Jumps)}
