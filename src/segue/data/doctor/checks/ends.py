"""How episodes end: what was cut must not look ended, and what ended must not look cut.

    timeout marked as terminal      the value of a good state is taught to be its last reward alone
    terminal marked as timeout      the learner bootstraps beyond an end

If the simulator can be put into logged states, it tells what an end is; otherwise lengths and rewards do.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from segue.data.doctor.case import Case, Make, summary
from segue.data.doctor.finding import Finding, Severity, counted
from segue.data.doctor.simulator.replayed import Replayed

# Defaults of ours.
LEAST = 3  # episodes below which nothing is said of a pattern
CHANCE = 10.0  # times as many ends at the limit as at other lengths near it
SHARE = 0.05  # of episodes, or of rows that were done again
SURE = 10  # episodes that need no further proof


def at_limit(case: Case) -> np.ndarray:
    """Terminated episodes (K,) of exactly a time limit's length, if they are far more than chance gives."""
    index, sound = case.log.index, case.log.sound
    if not sound.any():
        return np.zeros(0, np.int64)
    length, ended = index["length"], index["terminated"] & sound
    longest = int(length[sound].max())
    limits = {longest, longest - 1}
    if case.horizon is not None:
        limits |= {case.horizon, case.horizon - 1}
    at = ended & np.isin(length, list(limits)) & (length >= LEAST)
    if case.failure is not None:
        at &= index["reward_last"] == case.failure  # success at the last step is a reason to end
    near = ended & ~at & (length >= 0.8 * longest)
    by_chance = len(limits) * near.sum() / max(0.2 * longest, 1.0)
    everywhere = bool(at.any() and (at == sound).all())
    enough = at.sum() >= LEAST or (everywhere and at.sum() > 1)
    return np.flatnonzero(at) if enough and at.sum() > CHANCE * by_chance else np.zeros(0, np.int64)


def _of(again: Replayed | None, kind: str, episodes: np.ndarray | None = None) -> np.ndarray:
    """Whether the simulator ends (K,) at sampled rows of a kind; empty if it cannot be asked."""
    if again is None or not again.faithful or not again.rewarded:
        return np.zeros(0, bool)
    chosen = again.done & (again.kind == kind)
    if episodes is not None:
        chosen &= np.isin(again.rows["episode"], episodes)
    return again.terminated[chosen]


def timeouts_as_terminals(case: Case) -> Iterator[Finding]:
    """Episodes that end 'terminated' at exactly the time limit."""
    index, at = case.log.index, at_limit(case)
    if not len(at):
        return
    asked = _of(case.replayed, "ended", at)
    if not len(asked) and case.fits and case.simulator is not None:
        asked = case.simulator.ends_at(int(index["length"][at].max()))
    if len(asked) and asked.mean() >= 0.5:
        return  # the environment itself ends there
    known = case.horizon is not None and bool(np.isin(index["length"][at], [case.horizon, case.horizon - 1]).all())
    certain = len(asked) > 0 or known
    # In D4RL's layout the observation after a terminal row is the next episode's first: of a cut row it must go.
    following = np.append(index["first"][1:], np.uint64(0))
    stitched = index["final"][at] == following[at]
    yield Finding(
        "error" if certain or len(at) >= SURE else "warning",
        f"{len(at)} episodes end 'terminated' at exactly {int(index['length'][at].max())} steps, as a time limit does",
        "Nothing is bootstrapped from a terminal step, so the agent learns that late states have no future value.",
        "Mark them as truncated ('timeouts' in D4RL's layout).",
        *counted("episodes", at, index["length"][at] - 1),
        "terminals-to-cuts" if certain else None,
        {
            "lengths": sorted(set(index["length"][at].tolist())),
            "horizon": case.horizon,
            "other terminated": int((index["terminated"] & case.log.sound).sum() - len(at)),
            "not ended by the environment": f"{int((~asked).sum())} of {len(asked)} asked" if len(asked) else None,
        },
        np.stack([at, index["length"][at] - 1, stitched.astype(np.int64)], 1),
    )


def terminals_as_timeouts(case: Case) -> Iterator[Finding]:
    """Cut episodes that ended: at their success, or because the environment ends there."""
    index, sound = case.log.index, case.log.sound
    why = "The learner bootstraps from the last state, although the episode never continues there."
    cure = "Mark these episodes as terminated."
    asked = _of(case.replayed, "cut")
    if case.replayed is not None and asked.any() and (asked.sum() > 1 or asked.mean() > SHARE):
        again = case.replayed
        rows = np.flatnonzero(again.done & (again.kind == "cut") & again.terminated)
        yield Finding(
            "error" if asked.mean() > SHARE else "warning",
            f"the environment terminates {asked.sum()} of {len(asked)} sampled episodes that the log truncates",
            why,
            cure,
            *counted("sampled episodes", again.rows["episode"][rows], again.rows["step"][rows]),
            numbers={"asked": len(asked), "ended": int(asked.sum())},
        )
        return
    if case.failure is None:
        return
    solved = sound & (index["best"] > case.failure)
    only_last = solved & (index["hits"] == 1) & (index["reward_last"] > case.failure)
    cut = np.flatnonzero(only_last & ~index["terminated"])
    # Where episodes go on after a success, success is no end.
    if not len(cut) or only_last.sum() < 0.9 * solved.sum():
        return
    yield Finding(
        "error" if len(cut) >= LEAST else "warning",
        f"{len(cut)} episodes are truncated at the step of their success, and no episode continues after a success",
        why,
        cure,
        *counted("episodes", cut, index["length"][cut] - 1),
        numbers={"successful episodes": int(solved.sum()), "cut at success": len(cut)},
    )


def cut_early(case: Case) -> Iterator[Finding]:
    """Cut episodes that are shorter than the time limit, apart from the last of each part of the log."""
    index, sound = case.log.index, case.log.sound
    cut = sound & ~index["terminated"]
    if not cut.any():
        return
    limit = int(index["length"][sound].max()) if case.horizon is None else case.horizon
    limit = min(limit, int(index["length"][cut].max()))
    early = cut & (index["length"] < limit - 1)
    _, last = np.unique(index["part"][::-1], return_index=True)
    early[len(early) - 1 - last] = False  # a part may stop in the middle of an episode
    episodes = np.flatnonzero(early)
    if not len(episodes):
        return
    share, never = len(episodes) / sound.sum(), not (index["terminated"] & sound).any()
    ends = case.fits and case.simulator is not None and bool(case.simulator.rollouts.terminated.any())
    sparse = case.task is not None and case.task.failure is not None
    severity: Severity = "note"
    if share > SHARE and len(episodes) >= LEAST and (ends or sparse):
        severity = "error" if ends and never else "warning"
    yield Finding(
        severity,
        f"{len(episodes)} episodes are truncated before the limit of {limit} steps"
        + (", none is terminated, but the environment does terminate episodes" if ends and never else ""),
        "If these episodes in fact ended, the learner bootstraps beyond their end.",
        "Find out why they stop: mark those that ended as terminated.",
        *counted("episodes", episodes, index["length"][episodes] - 1),
        numbers={"share": share, "limit": limit, "terminated": int((index["terminated"] & sound).sum())},
    )


def ends_mismatch(case: Case) -> Iterator[Finding]:
    """Ends of the log that are none in the environment, and the other way round within episodes."""
    again = case.replayed
    if again is None or not again.faithful or not again.rewarded:
        return
    usual = ~np.isin(again.rows["episode"], at_limit(case))
    wrong = again.done & (again.kind == "ended") & ~again.terminated & usual
    asked = int((again.done & (again.kind == "ended") & usual).sum())
    inside = again.done & again.terminated & ~again.rows["terminated"] & (again.rows["step"] < again.rows["length"] - 1)
    for rows, total, what, cure in (
        (wrong, asked, "terminated in the log and continue in the environment",
         "Mark them as truncated, or fix the task."),
        (inside, int(again.done.sum()), "continue in the log and end in the environment",
         "Split episodes there, or give the task the environment's keywords (env_kwargs) of the log."),
    ):  # fmt: skip
        at = np.flatnonzero(rows)
        if len(at) > 1 and (rows is inside or len(at) / total > SHARE):
            yield Finding(
                "warning",
                f"{len(at)} of {total} sampled steps {what}",
                "The offline and the online rows disagree about where values end.",
                cure,
                *counted("sampled rows", again.rows["episode"][at], again.rows["step"][at]),
                numbers={"asked": total},
            )


CHECKS: dict[str, Make] = {
    "timeouts-as-terminals": summary(timeouts_as_terminals),
    "terminals-as-timeouts": summary(terminals_as_timeouts),
    "cut-early": summary(cut_early),
    "ends-mismatch": summary(ends_mismatch),
}
