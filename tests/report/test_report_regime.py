"""The regime at the switch: planted cases, the interval, and what the page says."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from segue.report import write_report
from segue.report.advice import advice
from segue.report.read import read_run
from segue.report.regime import MARGIN, Regime, Spread, regime
from segue.report.summary import summarise

Folder = Callable[..., Path]
WIDE = Spread(0.5, 0.2, 400)
CARD = {"score": [0.0, 1.0], "horizon": 4, "dataset": {"episodes": 500, "success_fraction": 0.25, "episode_return": {}}}
GOOD = {"offline": {100: [0.8, 0.82, 0.78]}, "online": {10: [0.8, 0.8, 0.8], 30: [0.9, 0.9, 0.9]}, "seeds": (0, 1, 2)}


@pytest.mark.parametrize(
    ("values", "data", "shares_of", "name", "why"),
    [
        ([0.9, 0.92, 0.88, 0.91], WIDE, 0, "superior", ""),
        ([0.2, 0.22, 0.18, 0.21], WIDE, 0, "inferior", ""),
        ([0.5, 0.51, 0.49, 0.5], WIDE, 0, "comparable", ""),
        ([0.5, 0.6, 0.55, 0.57], WIDE, 0, "unknown", "over an end of the margin"),
        ([0.1, 0.9], WIDE, 0, "unknown", "over an end of the margin"),
        ([1.0, 1.0, 1.0], Spread(0.9, 0.3, 400), 0, "superior", ""),
        ([1.0, 1.0, 1.0], Spread(0.9, 0.3, 400), 5, "unknown", "over an end"),  # 15 episodes that have all succeeded
        ([1.0, 1.0], Spread(0.3, 0.46, 200), 10, "superior", ""),
        ([0.0, 0.0, 0.0], Spread(0.0, 0.0, 400), 400, "comparable", ""),
        ([0.9], WIDE, 0, "unknown", "one seed"),
        ([np.nan, np.nan], WIDE, 0, "unknown", "not evaluated"),
        ([0.9, 0.9], WIDE._replace(std=np.nan), 0, "unknown", "spread of the returns"),
        ([0.9, 0.9], WIDE._replace(number=1), 0, "unknown", "spread of the returns"),
    ],
)
def test_planted_cases(values: list[float], data: Spread, shares_of: int, name: str, why: str) -> None:
    found = regime(values, data, shares_of=shares_of)
    assert found.name == name
    assert why in found.why
    assert bool(why) == bool(found.why)


def test_the_interval_is_welchs() -> None:
    """As SciPy's; and at the margin's end the wrong word comes as rarely as the level says."""
    draw = np.random.default_rng(0)
    policy, data = draw.normal(0.4, 0.1, 6), draw.normal(0.1, 0.3, 40)
    found = regime(policy, Spread(float(data.mean()), float(data.std()), len(data)))
    true = stats.ttest_ind(policy, data, equal_var=False).confidence_interval(0.9)
    np.testing.assert_allclose(found.difference[1:], true)
    drawn = draw.normal(WIDE.mean + MARGIN, 0.1, (2000, 8))
    exact = Spread(WIDE.mean, 0.0, 10**6)
    names = [regime(values, exact).name for values in drawn]
    assert 0.035 < names.count("superior") / len(names) < 0.065


def with_card(folder: Path, **more: Any) -> Path:
    about = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(about | {"task_card": CARD | more}))
    return folder


def text_of(folder: Path, place: Path) -> str:
    page = write_report([folder], place / "report.html").read_text()
    return " ".join(re.sub(r"<[^>]+>", " ", page).replace("\u00a0", " ").split())


def test_the_page_names_the_regime(make_run: Folder, tmp_path: Path) -> None:
    folder = with_card(make_run(**GOOD))
    text = text_of(folder, tmp_path)
    assert "Superior: the pre-trained policies are better than the dataset." in text
    assert "80 % at the switch, mean over seeds; 25 % in the dataset" in text
    assert "margin 5 points" in text
    assert "no command for a fork: the end of its offline phase was not kept" in text


def test_the_unit_is_the_tasks(make_run: Folder) -> None:
    """A normalised score; or returns of a task without score, beside the dataset's span."""
    returns = {"mean": 250.0, "std": 100.0, "min": 0.0, "max": 1000.0}
    data = {"episodes": 500, "success_fraction": None, "episode_return": returns}
    folder = make_run(**GOOD)
    for score, quantity, policy, logged, margin in (
        ([0.0, 500.0], "score", 0.8, 0.5, MARGIN),
        ("raw return", "return", 800.0, 250.0, 50.0),
    ):
        run = read_run(with_card(folder, score=score, dataset=data))
        found = summarise(run, "success").regime
        assert found is not None
        assert (found.name, found.quantity) == ("superior", quantity)
        np.testing.assert_allclose((found.policy, found.data, found.margin), (policy, logged, margin))
    for old in ({}, {"dataset": data | {"episode_return": {"mean": 250.0}}, "score": "raw return"}):  # earlier versions
        (folder / "run.json").write_text(json.dumps(json.loads((folder / "run.json").read_text()) | {"task_card": old}))
        run = read_run(folder)
        found = summarise(run, "success").regime
        assert found is not None
        assert found.name == "unknown"
        assert advice(run, found) is None


def test_without_a_switch_there_is_none(make_run: Folder, tmp_path: Path) -> None:
    for number, phases in enumerate(({"offline": GOOD["offline"]}, {"online": GOOD["online"]})):
        folder = with_card(make_run(str(number), seeds=(0, 1, 2), **phases))
        assert summarise(read_run(folder), "success").regime is None
        text = text_of(folder, tmp_path)
        assert "against its dataset" not in text


def test_a_policy_that_was_not_evaluated(make_run: Folder) -> None:
    folder = with_card(make_run(**GOOD))
    rows = [line for line in (folder / "metrics.jsonl").read_text().splitlines() if '"handover"' not in line]
    (folder / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    found = summarise(read_run(folder), "success").regime
    assert found == Regime("unknown", "the pre-trained policy was not evaluated at the switch")
