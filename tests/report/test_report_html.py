"""The page: well formed, alone in the world, escaped, and true to the data."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from segue.core.types import SegueError
from segue.report import write_report
from segue.report.card import card_page
from segue.report.notation import MISSING, count, number, percent, short
from segue.report.svg import Scale, line, nice_ticks

REFERENCES = {"src", "href", "xlink:href", "srcset", "data", "poster", "action"}


class Page(HTMLParser):
    """Checks nesting while reading; collects tables, text, identities and what could reach outside."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.written = page
        self.open: list[str] = []
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.within: list[tuple[str, str]] = []
        self.identities: list[str] = []
        self.named: list[str] = []
        self.outside: list[str] = []
        self.tags: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        for key, value in attrs:
            if key == "id":
                self.identities.append(value)
            elif key == "aria-labelledby":
                self.named += value.split()
            elif key in REFERENCES or key.startswith("on"):
                self.outside.append(f"{key}={value}")

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        if "style" not in self.open:
            self.words.append(data)
            self.within.append((self.open[-1] if self.open else "", data))
        if self.open and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def holds(self, text: str) -> set[str]:
        """The elements that show a text."""
        return {tag for tag, data in self.within if text in data}

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row and row[0].startswith(name))


def page_of(folders: list[Path], out: Path) -> tuple[str, Page]:
    written = write_report(folders, out).read_text("utf-8")
    return written, Page(written)


def test_the_page_stands_alone(dipping: Path, tmp_path: Path) -> None:
    written, page = page_of([dipping], tmp_path / "deep" / "report.html")
    assert page.outside == []
    assert not re.search(r"https?://|@import|url\(|<script|<link", written)
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in written
    assert str(tmp_path) not in written
    assert len(set(page.identities)) == len(page.identities)
    assert set(page.named) <= set(page.identities)
    assert page.tags.count("svg") == page.tags.count("desc") > 4
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["report.html"]


def test_the_numbers_are_those_of_the_data(dipping: Path, tmp_path: Path) -> None:
    _, page = page_of([dipping], tmp_path / "report.html")
    headline = (
        "success went from 80 % to 25 % and recovered after 30 environment steps. With 2 seeds this cannot be told "
        "from noise. Success ended at 95 %."
    )
    assert headline in page.text
    assert "2 of 2 seeds fell below" in page.text
    assert (
        "underestimated by 6.00 [6.00, 6.00] at the switch (mean Q 2.00, mean return 8.00, both up to the same cut)"
        in page.text
    )
    cells = ["seed 3", "80 %", "20 %", "90 %", "900", "0.412", "0.500", "60 points", "30 steps"]
    assert page.row("seed 3") == cells
    assert page.row("seed 5")[1:4] == ["80 %", "30 %", "100 %"]
    assert page.row("step 20") == ["step 20", "50 %", "50 %", "50 %"]
    assert page.row("Q on fresh")[1:] == ["2.00", "9.00"]
    assert page.row("note") == ["note", "<script>alert('x')</script>", "settings"]


@pytest.mark.parametrize(
    ("low", "said"),
    [
        ([0.2, 0.3, 0.25], "success dropped by 55 points, from 80 % to 25 %, and recovered after 30 environment steps"),
        ([0.7, 0.9, 0.75], "No drop at the hand-over beyond noise: success went from 80 % to 7"),
    ],
)
def test_a_drop_is_said_where_it_is_more_than_noise(make_run, tmp_path: Path, low: list[float], said: str) -> None:
    online = {10: low, 20: [0.5 + x / 3 for x in low], 30: [0.9] * 3}
    folder = make_run(seeds=(1, 2, 3), offline={100: [0.8] * 3}, online=online)
    assert said in page_of([folder], tmp_path / "report.html")[1].text


def test_the_same_folders_give_the_same_page(make_run, tmp_path: Path) -> None:
    many = [seed * seed / 100 for seed in range(10)]
    folder = make_run(seeds=tuple(range(10)), offline={10: many}, online={10: many[::-1], 20: many})
    first, _ = page_of([folder], tmp_path / "a.html")
    assert page_of([folder], tmp_path / "b.html")[0] == first


def test_no_drop_and_overestimation(make_run, tmp_path: Path) -> None:
    diagnostics = {"q_data": [9.0, 9.0], "mc_return_data": [3.0, 3.0], "q_fresh": [None, None]}
    folder = make_run(offline={100: [0.5, 0.5]}, online={10: [0.6, 0.7], 20: [0.1, 0.2]}, handover=diagnostics)
    _, page = page_of([folder], tmp_path / "report.html")
    assert "No drop at the hand-over: success was 50 % at the switch and ended at 15 %." in page.text
    assert "overestimated" not in page.text  # whoever made the log earned that, not the critic's policy
    assert "Q was not compared with fresh episodes at the switch" in page.text
    assert page.row("seed 3")[-2:] == ["0 points", "no dip"]


def test_a_collapse_after_an_improvement_is_told(make_run, tmp_path: Path) -> None:
    folder = make_run(offline={100: [0.5, 0.5]}, online={10: [0.6, 0.4], 20: [0.0, 0.2], 30: [0.9, 0.8]})
    _, page = page_of([folder], tmp_path / "report.html")
    assert (
        "No drop at the hand-over: success was 50 % at the switch, fell to 10 % later, and ended at 85 %." in page.text
    )
    assert "2 of 2 seeds fell below their value at the switch, 1 of them in the first evaluation after it." in page.text


def test_never_back_in_score_of_one_seed(make_run, tmp_path: Path) -> None:
    folder = make_run(seeds=(4,), success=False, offline={100: [0.5]}, online={10: [0.2], 20: [0.3]}, handover={})
    _, page = page_of([folder], tmp_path / "report.html")
    assert "the score went from 50.0 to 20.0 and did not recover. With one seed this cannot be told" in page.text
    assert "Q was not compared with fresh episodes" in page.text
    assert page.row("seed 4")[-1] == "not within the run"
    assert "95 % interval" not in page.text


def test_runs_without_one_of_the_parts(make_run, tmp_path: Path) -> None:
    offline = make_run("offline", offline={10: [0.5, 0.7]})
    scratch = make_run("scratch", online={10: [0.1, 0.1], 20: [0.4, 0.4]})
    assert (
        "The run has no online part, so nothing was handed over; success ended offline at 60 %."
        in page_of([offline], tmp_path / "offline.html")[1].text
    )
    assert (
        "The run has no offline part, so nothing was handed over; success ended at 40 %."
        in page_of([scratch], tmp_path / "scratch.html")[1].text
    )


def test_two_runs_of_a_task_are_compared(dipping: Path, make_run, tmp_path: Path) -> None:
    other = make_run("other", "wsrl", offline={100: [0.8, 0.8]}, online={20: [1.0, 1.0], 40: [1.0, 1.0]})
    written, page = page_of([dipping, other], tmp_path / "report.html")
    assert "2 runs compared" in page.text
    row = next(row for row in page.rows if row[0] == "wsrl" and len(row) > 8)
    assert row[1:4] == ["2", "80 %[80, 80]", "100 %[100, 100]"]
    assert row[-3].startswith("0.050")  # 0.8 to 1.0 in the first half, then 1.0
    assert row[-1].startswith("0.750")  # (1.0, 1.0) against (0.9, 1.0): two wins and two ties of four pairs
    assert 'class="centre run0"' in written
    assert 'class="centre run1"' in written


def test_one_number_has_one_interval_throughout(make_run, tmp_path: Path) -> None:
    many = [seed * seed / 100 for seed in range(7)]
    folders = [make_run(name, name, seeds=tuple(range(7)), offline={9: many}, online={5: many}) for name in ("a", "b")]
    _, page = page_of(folders, tmp_path / "report.html")
    rows = [row for row in page.rows if row[0] in ("a", "b", "IQM95 % interval")]
    shown = {cell for row in rows for cell in row if cell.startswith("11 %[")}
    assert len(shown) == 1


def test_a_run_that_blew_up_still_has_a_report(dipping: Path, tmp_path: Path) -> None:
    about, metrics = dipping / "run.json", dipping / "metrics.jsonl"
    about.write_text(about.read_text().replace('"finished"', '"failed"'))
    metrics.write_text(
        metrics.read_text()
        .replace('loss": [0.5, 0.5]', 'loss": [Infinity, 1e30]')
        .replace("[-60.0, -60.0, -60.0]]", "[NaN, 1e31, 1e31]]")
    )
    written, page = page_of([dipping], tmp_path / "report.html")
    assert "Success was last at 95 %" in page.text
    assert "underestimated by 6.00" in page.text  # of the seed that is finite
    assert not re.search(r'="[^"]*(nan|inf)\b', written.split("</style>")[1])


def test_folders_of_one_configuration_are_one_run(make_run, tmp_path: Path) -> None:
    monday = make_run("monday", seeds=(1, 2), offline={9: [0.5, 0.5]})
    friday = make_run("friday", seeds=(2, 3), offline={9: [0.5, 0.7]})
    _, page = page_of([monday, friday], tmp_path / "report.html")
    assert "friday: seed 2 does not count, since monday has the same." in page.text
    assert [row[0] for row in page.rows if row[0].startswith("seed ")] == ["seed 1", "seed 2", "seed 3"]
    assert "Written by Segue from 2 run folders." in page.text


def test_a_folder_as_target_and_no_folder_at_all(dipping: Path, tmp_path: Path) -> None:
    assert write_report([dipping], tmp_path) == tmp_path / "report.html"
    assert write_report([dipping, dipping], tmp_path) == tmp_path / "report.html"
    with pytest.raises(SegueError, match="no run folder"):
        write_report([], tmp_path / "x.html")


def test_a_place_that_cannot_be_written(dipping: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SegueError, match=r"cannot be written .* give another place with --out"):
        write_report([dipping], tmp_path / "file" / "report.html")


HOSTILE = """"><i onload='x'>&amp;{{ 1 }}"""


def hostile(value):
    """The value with HOSTILE as every text in it, and in every name of a metric, setting or fact."""
    if isinstance(value, dict):
        named = {"values", "config", "provenance", "versions", "environment", "notes", "left_out"}
        return {
            key: {name + HOSTILE: hostile(v) for name, v in entry.items()} | entry if key in named else hostile(entry)
            for key, entry in value.items()
        }
    if isinstance(value, list):
        return [hostile(entry) for entry in value]
    return HOSTILE if isinstance(value, str) else value


def test_text_of_a_run_is_escaped_wherever_it_is_shown(dipping: Path, tmp_path: Path) -> None:
    about, metrics = dipping / "run.json", dipping / "metrics.jsonl"
    about.write_text(json.dumps(hostile(json.loads(about.read_text()))))
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    metrics.write_text("".join(json.dumps(hostile(row) | {"kind": row["kind"]}) + "\n" for row in rows))
    other = tmp_path / "other"
    shutil.copytree(dipping, other)
    changed = about.read_text().replace('"discount": {"value": 0.99', '"discount": {"value": 0.9')
    (other / "run.json").write_text(changed)
    everywhere = {"title", "th", "td", "code", "figcaption", "desc"}
    for folders, more in (([dipping], {"h1", "dd"}), ([dipping, other], {"p", "h3", "summary", "caption"})):
        _, page = page_of(folders, tmp_path / "report.html")
        assert "i" not in page.tags
        assert page.outside == []
        assert everywhere | more <= page.holds(HOSTILE)


def test_text_of_a_card_is_escaped_wherever_it_is_shown() -> None:
    bars, size = {"edges": [0.0, 1.0], "counts": [3]}, {"mean": 1.0, "min": 0.0, "max": 2.0}
    finding = {"severity": "error", "code": "a", "title": "b", "why": "c", "cure": "d", "of": "rows", "count": 2}
    card = {
        "name": "log",
        "sha256": "0" * 64,
        "columns": {"observation": {"row": [2], "dtype": "<f4"}, "action": {"row": [1]}},
        "observation_parts": [["camera", [5, 4], "uint8"]],
        "environment": {"env_id": "maze"},
        "notes": {"by": "me"},
        "findings": [finding | {"rows": [[0, 1]]}],
        "left_out": {"reward": "why"},
        **dict.fromkeys(("transitions", "episodes", "sampled_rows"), 3),
        **dict.fromkeys(("returns", "lengths", "rewards"), bars),
        **dict.fromkeys(("episode_return", "episode_length"), size),
        **dict.fromkeys(("terminated_fraction", "success_fraction"), 0.5),
        "positions": {"x": [0.0, 1.0, 2.0], "y": [0.0, 1.0], "counts": [[3], [0]]}
        | {"starts": [[0.5, 0.5]], "ends": [[1.5, 0.5]], "succeeded": [True]},
        "actions": [bars | {"at_bounds": 0.0}],
        "observations": [bars | size],
    }
    clean = Page(card_page(card, {"front": [b"png"]}))
    assert clean.row("error") == ["errora", "b2 rows: episode 0 step 1", "c", "d"]
    assert "camera 5 × 4 uint8" in clean.text
    assert clean.written.count("figure wide") == clean.written.count("figure narrow")  # one of them is always hidden
    page = Page(card_page({**hostile(card), "columns": card["columns"]}, {HOSTILE: [b"png"]}))
    assert "i" not in page.tags
    assert [place.split(",")[0] for place in clean.outside + page.outside] == ["src=data:image/png;base64"] * 2
    assert {"title", "h1", "p", "td", "th", "dd", "strong", "small", "figcaption"} <= page.holds(HOSTILE)


def test_numbers_as_people_write_them() -> None:
    nan = float("nan")
    assert [number(v) for v in (0, -0.5, 12.34, 1234.5, nan, None, 2e9)] == [
        "0", "−0.500", "12.3", "1,234", MISSING, MISSING, "2.00e+09"
    ]  # fmt: skip
    assert [percent(v) for v in (0.5, 0.3333, 1.0, -0.1, nan)] == ["50 %", "33.3 %", "100 %", "−10 %", MISSING]
    assert [short(v) for v in (0, -250_000, 1.5e6, 0.25, 1e-5)] == ["0", "−250k", "1.5M", "0.25", "1e−5"]
    assert short(-2e30) == "−2e30"
    assert count(1234567) == "1,234,567"


def test_ticks_are_nice_and_inside() -> None:
    assert nice_ticks(0.0, 1.0, 4) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert nice_ticks(-3.0, 103.0, 5) == [0.0, 25.0, 50.0, 75.0, 100.0]
    assert Scale(0.5, 2000.0, 0.0, 1.0, log=True).ticks(5) == [1.0, 10.0, 100.0, 1000.0]
    np.testing.assert_allclose(Scale(1.0, 100.0, 0.0, 10.0, log=True)([1.0, 10.0, 100.0]), [0.0, 5.0, 10.0])


def test_a_line_breaks_at_a_gap() -> None:
    x = np.arange(5.0)
    assert line(x, np.array([0.0, 1.0, np.nan, 3.0, 4.0]), "s").count("M") == 2


def test_policies_trained_beside_the_explorer_have_a_table_of_their_own(dipping: Path, tmp_path: Path) -> None:
    before = write_report([dipping], tmp_path / "before.html").read_text("utf-8")
    described = json.loads((dipping / "run.json").read_text())
    described["phases"].append({"name": "exploit-1", "slot": "exploiter", "learner": "IQL", "gradient_steps": 60})
    (dipping / "run.json").write_text(json.dumps(described))
    clock = {"phase": "exploit-1", "phase_index": 2, "environment_step": 40, "wall_s": 99.0, "seeds": [3, 5]}
    lines = [{"kind": "phase", "event": "begin", "update": 140, "values": {}} | clock]
    for update, success in ((160, 0.1), (180, 0.3), (200, 0.5)):
        values = {"success": [success, success], "return": [0.0, 0.0], "score": [0.0, 0.0]}
        lines.append({"kind": "evaluation", "update": update, "values": values} | clock)
    with (dipping / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    page = write_report([dipping], tmp_path / "after.html").read_text("utf-8")
    row = next(r for r in Page(page).rows if r[0] == "exploit-1" and "60" in r[1:2])
    assert row[2].startswith("50 %")
    assert row[3].startswith("30 %")
    # What is said of the policy that explored stays as it was.
    assert next(r for r in Page(page).rows if r[0] == "seed 3") == next(
        r for r in Page(before).rows if r[0] == "seed 3"
    )


def test_a_bonus_has_a_section_of_its_own(dipping: Path, tmp_path: Path) -> None:
    assert "Reward augmentation" not in write_report([dipping], tmp_path / "before.html").read_text("utf-8")
    log = dipping / "metrics.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    for row in rows:
        if row["kind"] == "training":
            row["values"] |= {"sera_bonus": [0.9, 0.9], "sera_bonus_share": [0.5, 0.5]}
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_report([dipping], tmp_path / "after.html").read_text("utf-8")
    assert "Reward augmentation" in page
    assert "includes the bonus" in page
    training = page[page.index("<h2>Training") :]
    assert "Sera bonus" in page
    assert "Sera bonus" not in training[: training.index("<h2>Configuration")]
