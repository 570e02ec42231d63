"""Episodes as wholes: how many, how long, the same twice, of other shapes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segue.data.doctor.case import Case, Make, summary
from segue.data.doctor.finding import Finding, counted
from segue.data.doctor.sample import Repeats, row_hashes
from segue.data.recorded import Recorded

# Defaults of ours.
SHORT = 2  # rows
MANY = 0.01  # share of episodes or rows from which a note becomes a warning
FEW_EPISODES, FEW_ROWS = 5, 1_000
HASHES = 500_000  # rows that are looked at for repetitions


def empty(case: Case) -> Iterator[Finding]:
    """No rows at all, or episodes without any."""
    none = np.flatnonzero(case.log.index["length"] == 0)
    if not case.log.rows:
        yield Finding(
            "error", "the log has no step", "There is nothing to learn from.", "Give a log with episodes.",
            numbers={"episodes": len(case.log)},
        )  # fmt: skip
    elif len(none):
        yield Finding(
            "warning",
            f"{len(none)} episodes have no step",
            "Their ends were logged but their steps were not, so rows were lost.",
            "Check how the log was written.",
            *counted("episodes", none, 0),
        )


def shapes(case: Case) -> Iterator[Finding]:
    """Episodes of other shapes than the first."""
    odd = np.flatnonzero(case.log.index["odd"])
    if len(odd):
        yield Finding(
            "error",
            f"{len(odd)} episodes have observations or actions of a shape or type other than the first episode's",
            "A network takes one shape, so such a log cannot be read as one dataset.",
            "Split the log, or give all episodes one layout.",
            *counted("episodes", odd, 0),
            numbers={"first": str(case.log.shape)},
        )


def short(case: Case) -> Iterator[Finding]:
    """Episodes of one or two rows."""
    brief = np.flatnonzero(case.log.sound & (case.log.index["length"] <= SHORT))
    if len(brief):
        share = len(brief) / len(case.log)
        yield Finding(
            "warning" if share > MANY and (case.horizon is None or case.horizon > 10 * SHORT) else "note",
            f"{len(brief)} episodes have at most {SHORT} rows",
            "They come from ends that are marked twice or in wrong rows, and each adds a start state that "
            "the task does not have.",
            "Check where the log marks ends.",
            *counted("episodes", brief, 0),
            numbers={"share": share, "one row": int(np.sum(case.log.index["length"][brief] == 1))},
        )


def beyond(case: Case) -> Iterator[Finding]:
    """Episodes longer than the task lets one be."""
    if case.horizon is None:
        return
    length = case.log.index["length"]
    long = np.flatnonzero(case.log.sound & (length > case.horizon))
    if len(long):
        yield Finding(
            "note",
            f"{len(long)} episodes go on beyond the task's horizon of {case.horizon} steps (up to {length.max()})",
            "Their returns count steps beyond the end of an evaluation, so they cannot be compared with it.",
            "Harmless if rewards are sparse; otherwise compare returns per step, or cut episodes at the horizon.",
            *counted("episodes", long, case.horizon),
            numbers={"horizon": case.horizon, "longest": int(length.max()), "share": len(long) / len(case.log)},
        )


def few(case: Case) -> Iterator[Finding]:
    """A log too small to say much."""
    if case.log.rows and (case.log.rows < FEW_ROWS or len(case.log) < FEW_EPISODES):
        yield Finding(
            "note",
            f"the log has {case.log.rows} rows in {len(case.log)} episodes",
            "Most checks compare distributions and are less reliable with so few rows.",
            "Log more, if you can.",
            numbers={"rows": case.log.rows, "episodes": len(case.log)},
        )


def copies(case: Case) -> np.ndarray:
    """Episodes (K,) that are bit for bit an earlier one."""
    sound = np.flatnonzero(case.log.sound)
    _, first = np.unique(case.log.index["digest"][sound], return_index=True)
    return np.delete(sound, first)


def duplicate_episodes(case: Case) -> Iterator[Finding]:
    """Episodes that are there twice."""
    again = copies(case)
    if len(again):
        yield Finding(
            "warning",
            f"{len(again)} episodes are copies of earlier ones",
            "A copy doubles the weight of its episode, and may leak rows into data that are held out for validation.",
            "Drop the copies.",
            *counted("episodes", again, 0),
            "drop-duplicates",
            {"share": len(again) / len(case.log)},
            np.stack([again, np.zeros_like(again)], 1),
        )


class _DuplicateRows:
    """Steps that occur more than once, in episodes that are not copies."""

    def __init__(self, case: Case) -> None:
        self.skipped = set(copies(case).tolist())
        self.seen = Repeats(HASHES)

    def see(self, number: int, episode: Recorded) -> None:
        if number not in self.skipped:
            self.seen.add(row_hashes(episode.current, episode.action))

    def judge(self) -> Iterator[Finding]:
        share, looked = self.seen.share()
        if looked and share > MANY:
            yield Finding(
                "warning",
                f"{share:.0%} of the steps repeat an earlier one: same observation, same action",
                "Such values do not repeat by chance: parts were logged twice, or nothing moved.",
                "Check how the parts of the log were joined.",
                round(share * looked),
                "rows",
                numbers={"share": share, "looked at": looked},
            )


CHECKS: dict[str, Make] = {
    "empty": summary(empty),
    "shapes": summary(shapes),
    "short-episodes": summary(short),
    "beyond-horizon": summary(beyond),
    "few": summary(few),
    "duplicate-episodes": summary(duplicate_episodes),
    "duplicate-rows": _DuplicateRows,
}
