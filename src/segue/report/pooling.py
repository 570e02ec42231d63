"""Seeds of several folders as one run, where the folders have the same configuration (see `labels.configuration`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from segue.report.labels import configuration, labels_of
from segue.report.run import Curve, Episodes, Handover, Run
from segue.report.statistics import Floats

STATUSES = ("failed", "interrupted", "running", "finished")  # the first that a folder has is the group's


@dataclass(frozen=True)
class Group:
    """Runs of one configuration as one run with all their seeds."""

    label: str
    run: Run
    members: tuple[Run, ...]
    """The runs whose seeds count."""
    left_out: tuple[str, ...] = ()
    """A line for each folder of which seeds do not count."""


def pooled(runs: Sequence[Run], labels: Sequence[str] | None = None) -> list[Group]:
    """Put runs of the same configuration together, in the order in which they were given.

    A seed that two folders have counts once: that of the first folder.  `labels` has a name for each run, by default
    those of `labels_of`.
    """
    found: dict[str, list[tuple[Run, str]]] = {}
    for run, label in zip(runs, labels or labels_of(runs), strict=True):
        found.setdefault(configuration(run), []).append((run, label))
    return [_group([run for run, _ in same], same[0][1]) for same in found.values()]


def _group(runs: Sequence[Run], label: str) -> Group:
    seen: dict[int, str] = {}
    members, left_out = [], []
    for run in runs:
        twice = [seed for seed in run.seeds if seed in seen]
        kept = [place for place, seed in enumerate(run.seeds) if seed not in seen]
        if twice:
            names, first = ", ".join(map(str, twice)), ", ".join(dict.fromkeys(seen[seed] for seed in twice))
            left_out.append(f"{run.name}: seed {names} does not count, since {first} has the same")
        if kept:
            members.append(_chosen(run, kept) if twice else run)
        seen |= {seed: run.name for seed in run.seeds if seed not in seen}
    return Group(label, _joined(members) if len(members) > 1 else members[0], tuple(members), tuple(left_out))


def _chosen(run: Run, kept: Sequence[int]) -> Run:
    """The run with only the seeds in some places."""
    places = list(kept)
    mine = np.isin(run.episodes.seed, places)

    def of(curve: Curve) -> Curve:
        return replace(curve, values={name: table[places] for name, table in curve.values.items()})

    return replace(
        run,
        seeds=tuple(run.seeds[place] for place in places),
        training=of(run.training),
        evaluation=of(run.evaluation),
        episodes=Episodes(
            np.searchsorted(places, run.episodes.seed[mine]),
            run.episodes.environment_step[mine],
            {name: values[mine] for name, values in run.episodes.values.items()},
        ),
        handovers=tuple(
            replace(
                one,
                values={name: values[places] for name, values in one.values.items()},
                episodes={name: tuple(sums[place] for place in places) for name, sums in one.episodes.items()},
            )
            for one in run.handovers
        ),
        retrained={phase: of(curve) for phase, curve in run.retrained.items()},
    )


def _joined(runs: Sequence[Run]) -> Run:
    """One run with the seeds of all."""
    first, sizes = runs[0], [len(run.seeds) for run in runs]
    held = first.stand_in > 0
    beside = dict.fromkeys(phase for run in runs for phase in run.retrained)
    return replace(
        first,
        name=", ".join(run.name for run in runs),
        status=min((run.status for run in runs), key=lambda s: STATUSES.index(s) if s in STATUSES else -1),
        version=", ".join(dict.fromkeys(run.version for run in runs)),
        created=min(run.created for run in runs),
        command=tuple(" ; ".join(" ".join(run.command) for run in runs).split()),
        seeds=tuple(seed for run in runs for seed in run.seeds),
        provenance={run.name: run.provenance for run in runs},
        switch=min((run.switch for run in runs if run.switch is not None), default=None),
        wall_s={
            phase: sum(run.wall_s.get(phase, 0.0) for run in runs)
            for phase in sorted({phase for run in runs for phase in run.wall_s})
        },
        training=_curves([run.training for run in runs], sizes),
        evaluation=_curves([run.evaluation for run in runs], sizes, held),
        episodes=_episodes(runs, sizes),
        handovers=_handovers(runs),
        remarks=tuple(dict.fromkeys(remark for run in runs for remark in run.remarks)),
        retrained={phase: _curves([run.retrained.get(phase) for run in runs], sizes) for phase in beside},
    )


def _curves(curves: Sequence[Curve | None], sizes: Sequence[int], held: bool = False) -> Curve:
    """One curve with the seeds of all, at the moments that every folder has that has come so far.

    After the end of a shorter run, its seeds are NaN.  Where `held`, a value stands until the next one of its folder.
    """
    whole = [curve for curve in curves if curve is not None]
    places = [{} if curve is None else {moment: i for i, moment in enumerate(_moments(curve))} for curve in curves]
    union = sorted({moment for own in places for moment in own})
    kept = [m for m in union if held or all(m in own or m > max(own, default=()) for own in places)]
    names = dict.fromkeys(name for curve in whole for name in curve.values)
    values = {name: np.full((sum(sizes), len(kept)), np.nan) for name in names}
    start = 0
    for curve, own, size in zip(curves, places, sizes):
        columns = _columns(own, kept, held)
        for name, table in curve.values.items() if curve is not None else ():
            values[name][start : start + size] = np.where(columns >= 0, table[:, columns], np.nan)
        start += size
    where = [next((c, own[m]) for c, own in zip(curves, places) if c is not None and m in own) for m in kept]
    return Curve(
        np.array([curve.x[i] for curve, i in where], np.float64),
        np.array([curve.online[i] for curve, i in where], bool),
        np.array([curve.phase[i] for curve, i in where], np.int64),
        np.array([curve.environment_step[i] for curve, i in where], np.int64),
        np.array([curve.update[i] for curve, i in where], np.int64),
        values,
    )


def _moments(curve: Curve) -> list[tuple[int, ...]]:
    """Moments that can be compared over folders: updates count from the switch, as a phase may have stopped early."""
    before = (curve.update - curve.x)[~curve.online][:1].sum()  # 0 where nothing is before it
    return [tuple(map(int, row)) for row in zip(curve.phase, curve.environment_step, curve.update - before)]


def _columns(own: Mapping[tuple[int, ...], int], kept: Sequence[tuple[int, ...]], held: bool) -> np.ndarray:
    """Column of each kept moment in a folder's curve; -1 where it has none."""
    if not held:
        return np.array([own.get(moment, -1) for moment in kept], np.int64)
    mine = sorted(own)
    return np.array([own[before[-1]] if (before := [m for m in mine if m <= moment]) else -1 for moment in kept], int)


def _episodes(runs: Sequence[Run], sizes: Sequence[int]) -> Episodes:
    starts = np.cumsum([0, *sizes[:-1]])
    names = dict.fromkeys(name for run in runs for name in run.episodes.values)
    steps = np.concatenate([run.episodes.environment_step for run in runs])
    order = np.argsort(steps, kind="stable")
    tables = {
        name: [run.episodes.values.get(name, np.full(len(run.episodes.seed), np.nan)) for run in runs] for name in names
    }
    seeds = np.concatenate([run.episodes.seed + start for run, start in zip(runs, starts)])
    return Episodes(seeds[order], steps[order], {name: np.concatenate(of)[order] for name, of in tables.items()})


def _handovers(runs: Sequence[Run]) -> tuple[Handover, ...]:
    phases = sorted({one.phase for run in runs for one in run.handovers})
    return tuple(_handover(runs, phase) for phase in phases)


def _handover(runs: Sequence[Run], phase: int) -> Handover:
    """The diagnostics of one phase's end; NaN for the seeds of folders that have not come so far."""
    pairs = [(run, next((one for one in run.handovers if one.phase == phase), None)) for run in runs]
    there = [one for _, one in pairs if one is not None]

    def of(name: str) -> Floats:
        unknown = [np.full(len(run.seeds), np.nan) for run, _ in pairs]
        found = [nan if one is None else one.values.get(name, nan) for (_, one), nan in zip(pairs, unknown)]
        return np.concatenate(found)

    return Handover(
        phase,
        {name: of(name) for name in dict.fromkeys(name for one in there for name in one.values)},
        np.concatenate([one.q for one in there]),
        np.concatenate([one.mc_return for one in there]),
        {
            name: tuple(sums for one in there for sums in one.episodes.get(name, ()))
            for name in dict.fromkeys(name for one in there for name in one.episodes)
        },
        any(one.bonus for one in there),
    )
