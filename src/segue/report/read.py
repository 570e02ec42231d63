"""The only reader of run folders: `run.json` and `metrics.jsonl` become a `Run`."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from segue.core.types import SegueError
from segue.report.run import Curve, Episodes, Handover, Logged, PhaseLine, Run, Setting, is_bonus

MOMENTS = 240  # at which means of training episodes stand for evaluations
ALWAYS = {"kind", "phase_index", "environment_step", "update", "seeds"}  # what every row has
Numbers = Sequence[float | None]


class Row(TypedDict):
    """A line of `metrics.jsonl`; `values` hold a number for each seed."""

    kind: str
    phase: NotRequired[str]
    phase_index: int
    environment_step: int
    update: int
    seeds: list[int]
    phase_step: NotRequired[int]
    tick: NotRequired[int]  # its name before version 0.3
    values: NotRequired[Mapping[str, Numbers]]
    wall_s: NotRequired[float]
    remark: NotRequired[str]
    points: NotRequired[Mapping[str, Numbers]]
    episodes: NotRequired[Mapping[str, Sequence[Numbers]]]


class NotEvaluated(SegueError):
    """A run that has nothing to report yet."""


def title_of(folder: Path) -> str:
    """A run's name: that of its folder, or of its cell in a study, whose runs have numbers for names."""
    folder = folder.resolve()
    return folder.parent.name if folder.name.isdecimal() and folder.parent.parent.name == "cells" else folder.name


def read_run(folder: Path) -> Run:
    """Read a run folder; a last line cut off by a crash is left out.

    Raises SegueError where the folder is no run or a file is damaged, and NotEvaluated where no evaluation is there.
    """
    about = read_about(folder)
    rows = _read_rows(folder / "metrics.jsonl")
    seeds = tuple(int(seed) for seed in about["seeds"])
    origin = (about.get("request") or {}).get("origin") or {"count": 0, "run": ""}
    phases = tuple(
        PhaseLine(
            str(phase.get("name", index)),
            str(phase.get("slot", "agent")),
            _short(phase.get("learner", "")),
            *_clocks(phase),
            int(phase.get("validation") or 0),
            Path(origin["run"]).name if index < int(origin["count"]) else "",
        )
        for index, phase in enumerate(about.get("phases", []))
    )
    switch = _switch(phases, rows)
    beside = _beside(phases, switch)
    retrained = {i: [r for r in rows if r["kind"] == "evaluation" and r["phase_index"] == i] for i in beside}
    rows = [row for row in rows if row["phase_index"] not in beside or row["kind"] == "phase"]
    offline_updates = _offline_updates(phases, rows, switch)
    kinds = {kind: [row for row in rows if row["kind"] == kind] for kind in ("training", "evaluation", "handover")}
    said = {key: item.get("value") for key, item in _config(about).items()}
    if not kinds["evaluation"] and said.get("evaluation.episodes") != 0:
        raise NotEvaluated(f"{folder.name}: no evaluation in metrics.jsonl yet; report again after the first one")
    stand_in = 0 if kinds["evaluation"] else int(said.get("evaluation.training_episodes") or 0)
    if stand_in:
        at_random = [i for i, phase in enumerate(phases) if said.get(f"{phase.name}.actor") == "random"]
        lived = [row for row in rows if row["kind"] == "episode" and row["phase_index"] not in at_random]
        kinds["evaluation"] = _means(lived, seeds, stand_in)
    return Run(
        name=title_of(folder),
        recipe=str(about.get("recipe", "?")),
        task=str(about.get("task", "?")),
        status=str(about.get("status", "?")),
        version=str(about.get("segue", "?")),
        created=str(about.get("created", "?")),
        command=tuple(str(word) for word in about.get("command", [])),
        seeds=seeds,
        config={key: Setting(item.get("value"), str(item.get("source", "?"))) for key, item in _config(about).items()},
        phases=phases,
        provenance=about.get("provenance") or {},
        switch=switch,
        offline_updates=offline_updates,
        wall_s=_wall(rows),
        training=_curve(kinds["training"], seeds, switch, offline_updates),
        evaluation=_scored(about, _curve(kinds["evaluation"], seeds, switch, offline_updates)),
        stand_in=stand_in,
        episodes=_episodes([row for row in rows if row["kind"] == "episode"], seeds),
        handovers=tuple(_handover(row, seeds, kinds["training"]) for row in kinds["handover"]),
        retrained={i: _from_zero(_curve(found, seeds, None, 0), rows, i) for i, found in retrained.items() if found},
        folder=folder,
        beside=_beside_options(about),
        inherited=frozenset(path.rpartition(".")[2] for path in _inherited(about.get("request") or {})),
        logged=_logged(about.get("task_card") or {}),
        request=about.get("request") or {},
        horizon=int((about.get("task_card") or {}).get("horizon") or 0),
        remarks=tuple(f"Phase '{row.get('phase')}': {row['remark']}." for row in rows if row.get("remark")),
        kept=any((folder / "phases").glob(f"{(switch or 0) - 1}-*")),
    )


def _inherited(request: Mapping[str, Any]) -> Iterator[str]:
    """Paths of the settings of the runs that a run began from, and of those that they began from."""
    origin = (request.get("origin") or {}).get("request")
    if origin:
        yield from origin.get("settings") or ()
        yield from _inherited(origin)


def _beside_options(about: Mapping[str, Any]) -> dict[str, object]:
    request, made = about.get("request") or {}, about.get("provenance") or {}
    return {
        "rules": tuple(request.get("rules") or ()),
        "data": str((made.get("dataset") or {}).get("sha256", "")),
        "own": dict(made.get("own") or {}),
        "changes": list(made.get("changes") or ()),
        "inherited experience": bool((request.get("origin") or {}).get("experience")),
    }


def _clocks(phase: Mapping[str, Any]) -> tuple[int, int | None, float]:
    """Gradient steps, environment steps and updates per environment step; runs before 0.3 have them by ticks."""
    if "ticks" not in phase:
        steps = phase.get("environment_steps")
        return int(phase.get("gradient_steps") or 0), steps, float(phase.get("utd_ratio") or 0)
    ticks, collect, updates = (int(phase[key] or 0) for key in ("ticks", "collect", "updates"))
    return (0, ticks * collect, updates / collect) if collect else (ticks * updates, None, 1.0)


def _means(episodes: Sequence[Row], seeds: Sequence[int], last: int) -> list[Row]:
    """Rows as evaluations have them: where an episode of the policy's own ended, means of each seed's last ones.

    An episode of another phase is of another policy and does not count.  At most MOMENTS rows, evenly spread.
    """
    rows: dict[tuple[int, int, int, int], Row] = {}
    lived: dict[tuple[int, int], deque[Mapping[str, Numbers]]] = {}
    for row in sorted(episodes, key=_moment):
        values = row["values"]
        if not row["seeds"] or row["seeds"][0] not in seeds or values.get("own", [1.0])[0] == 0:
            continue
        lived.setdefault((row["phase_index"], row["seeds"][0]), deque(maxlen=last)).append(values)
        mine = [lived.get((row["phase_index"], seed), ()) for seed in seeds]
        means = {n: [_mean(v[n][0] for v in of if n in v) for of in mine] for n in values if n != "own"}
        rows[_moment(row)] = {**row, "seeds": list(seeds), "values": means}
    kept = list(rows.values())
    return [kept[i] for i in sorted({round(i) for i in np.linspace(0, len(kept) - 1, min(len(kept), MOMENTS))})]


def _mean(values: Iterable[object]) -> float:
    numbers = [_float(value) for value in values]
    return float(np.mean(numbers)) if numbers else float("nan")


def _scored(about: dict[str, Any], curve: Curve) -> Curve:
    """The curve, without its scores where the task has no reference scores: they would repeat the raw returns."""
    if isinstance((about.get("task_card") or {}).get("score"), str):
        return replace(curve, values={name: table for name, table in curve.values.items() if name != "score"})
    return curve


def _logged(card: Mapping[str, Any]) -> Logged | None:
    """What a task's card says about its dataset's episodes."""
    data, score = card.get("dataset"), card.get("score")
    if not data:
        return None
    returns = data.get("episode_return") or {}
    mean, std, low, high = (_float(returns.get(name)) for name in ("mean", "std", "min", "max"))
    scored = isinstance(score, Sequence) and not isinstance(score, str) and list(score) != [0.0, 1.0]  # by success
    reference = (float(score[0]), float(score[1])) if scored and score is not None else None
    return Logged(int(data.get("episodes") or 0), mean, std, low, high, _float(data.get("success_fraction")), reference)


def _beside(phases: Sequence[PhaseLine], switch: int | None) -> list[int]:
    """Phases after the switch that train another policy than the one that learns online."""
    learning = next((p for p in phases if p.collects and p.updates), None)
    if switch is None or learning is None:
        return []
    return [i for i, p in enumerate(phases) if i > switch and not p.collects and p.slot != learning.slot]


def _from_zero(curve: Curve, rows: Sequence[Row], phase: int) -> Curve:
    """The curve of one phase, counted in updates from the phase's beginning."""
    began = min((row["update"] for row in rows if row["phase_index"] == phase), default=0)
    return replace(curve, x=(curve.update - began).astype(np.float64))


def read_about(folder: Path) -> dict[str, Any]:
    """Read run.json of a run folder; raises SegueError where there is none, or it is damaged."""
    path = folder / "run.json"
    try:
        about = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise SegueError(f"{path.parent}: no run.json here; give the folder that a run wrote") from None
    except (OSError, ValueError) as error:
        raise SegueError(f"{path}: cannot be read ({error}); restore it, or leave out this run") from None
    if not isinstance(about, dict) or not about.get("seeds"):
        raise SegueError(f"{path}: names no seeds, so this is not a run of Segue; give the folder that a run wrote")
    return about


def _read_rows(path: Path) -> list[Row]:
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        raise NotEvaluated(
            f"{path.parent}: no readable metrics.jsonl, so there is no evaluation yet; report later"
        ) from None
    rows: list[Row] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        whole = isinstance(row, dict) and row.keys() >= ALWAYS
        if not whole:
            if number == len(lines):  # no newline behind it: the write was cut off
                break
            raise SegueError(f"{path}: line {number} is not a metrics row; remove that line") from None
        rows.append(row)
    return rows


def _switch(phases: Sequence[PhaseLine], rows: Sequence[Row]) -> int | None:
    """First phase that collects, as planned or as logged (the plan lacks phases that a decision has added)."""
    planned = [index for index, phase in enumerate(phases) if phase.collects]
    seen = [row["phase_index"] for row in rows if row["environment_step"] > 0]
    return min(planned[:1] + seen, default=None)


def _offline_updates(phases: Sequence[PhaseLine], rows: Sequence[Row], switch: int | None) -> int:
    """Updates before the switch: as logged once the switch is reached (a phase may stop early), else as planned."""
    end = len(phases) if switch is None else switch
    done = max((row["update"] for row in rows if switch is None or row["phase_index"] < switch), default=0)
    if switch is not None and any(row["phase_index"] >= switch for row in rows):
        return int(done)
    return max(int(done), sum(phase.updates for phase in phases[:end]))


def _curve(rows: Sequence[Row], seeds: Sequence[int], switch: int | None, offline_updates: int) -> Curve:
    """Rows of the same moment become one column: seeds may be logged apart, and a resumed run may repeat itself."""
    moments: dict[tuple[int, int, int, int], int] = {}
    for row in rows:
        moments.setdefault(_moment(row), len(moments))
    names = dict.fromkeys(name for row in rows for name in row.get("values", {}))
    values = {name: np.full((len(seeds), len(moments)), np.nan) for name in names}
    place = {seed: index for index, seed in enumerate(seeds)}
    for row in rows:
        column = moments[_moment(row)]
        for name, numbers in row.get("values", {}).items():
            for seed, value in zip(row["seeds"], numbers):
                if seed in place:
                    values[name][place[seed], column] = _float(value)
    clock = np.array(list(moments), np.int64).reshape(-1, 4)
    online = np.zeros(len(clock), bool) if switch is None else clock[:, 0] >= switch
    x = np.where(online, clock[:, 2], clock[:, 3] - offline_updates).astype(np.float64)
    return Curve(x, online, clock[:, 0], clock[:, 2], clock[:, 3], values)


def _moment(row: Row) -> tuple[int, int, int, int]:
    return row["phase_index"], row.get("phase_step") or row.get("tick") or 0, row["environment_step"], row["update"]


def _episodes(rows: Sequence[Row], seeds: Sequence[int]) -> Episodes:
    place = {seed: index for index, seed in enumerate(seeds)}
    rows = [row for row in rows if row["seeds"] and row["seeds"][0] in place]
    names = dict.fromkeys(name for row in rows for name in row.get("values", {}))
    return Episodes(
        np.array([place[row["seeds"][0]] for row in rows], np.int64),
        np.array([row["environment_step"] for row in rows], np.int64),
        {name: np.array([_float((row["values"].get(name) or [None])[0]) for row in rows]) for name in names},
    )


def _handover(row: Row, seeds: Sequence[int], training: Sequence[Row]) -> Handover:
    column = _curve([row], seeds, None, 0)
    points = row.get("points") or {}
    pairs = [(_float(q), _float(mc)) for q, mc in zip(points.get("q", []), points.get("mc_return", []))]
    q, mc_return = np.array([pair for pair in pairs if np.isfinite(pair).all()], np.float64).reshape(-1, 2).T
    bonus = any(is_bonus(n) for r in training if r["phase_index"] <= row["phase_index"] for n in r.get("values", {}))
    sums = {
        name: tuple(np.array([_float(x) for x in seed], np.float64) for seed in of_seeds)
        for name, of_seeds in (row.get("episodes") or {}).items()
    }
    values = {name: table[:, 0] for name, table in column.values.items()}
    if not sums:  # of an earlier version: another measure under this name
        values.pop("q_fresh", None)
    return Handover(row["phase_index"], values, q, mc_return, sums, bonus)


def _wall(rows: Sequence[Row]) -> dict[int, float]:
    """Seconds from a phase's first row (its beginning) to its last."""
    spans: dict[int, tuple[float, float]] = {}
    for row in rows:
        wall = float(row.get("wall_s") or 0.0)
        low, high = spans.get(row["phase_index"], (wall, wall))
        spans[row["phase_index"]] = min(low, wall), max(high, wall)
    return {phase: high - low for phase, (low, high) in spans.items()}


def _config(about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    config = about.get("config") or {}
    return {key: item if isinstance(item, dict) else {"value": item} for key, item in config.items()}


def _float(value: object) -> float:
    """The number, or NaN for null and for what is no number; infinities stay, they are a finding."""
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _short(learner: object) -> str:
    """A learner's name: `run.json` may give a word or a dictionary with its hyper-parameters."""
    return str(learner.get("name", "?")) if isinstance(learner, dict) else str(learner)
