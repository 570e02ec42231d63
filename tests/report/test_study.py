"""Many runs: statistics over tasks, the page, the files, and the list of runs."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from tests.report.test_report_html import HOSTILE, Page, hostile

from segue.cli.main import command
from segue.core.types import SegueError
from segue.report import performance_profile, saved, stratified_band, stratified_bootstrap, write_report, write_study
from segue.report.listed import runs_below
from segue.report.over_tasks import on_grid
from segue.report.saved import all_figures, latex
from segue.report.standalone import convert, standalone
from segue.report.study import study_of
from segue.report.tables import Cell, Row, Table


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_profile_is_the_share_above_and_its_area_the_mean() -> None:
    tasks = [generator().uniform(0, 100, size=n) for n in (3, 7)]
    grid = np.linspace(0, 100, 100_001)
    profile = performance_profile(tasks, grid, generator(), resamples=50)
    np.testing.assert_allclose(profile.centre[:-1].mean() * 100, np.mean([t.mean() for t in tasks]), rtol=1e-3)
    assert (profile.low <= profile.centre + 1e-12).mean() > 0.99
    assert profile.centre[0] == 1
    assert profile.centre[-1] == 0


def test_the_intervals_of_profiles_and_bands_cover() -> None:
    """Of 200 draws of ten seeds on each of three tasks, about 95 % have the truth in the interval."""
    random, hits = generator(), np.zeros(2)
    for _ in range(200):
        tasks = [random.normal(0, 1, size=10) for _ in range(3)]
        profile = performance_profile(tasks, [0.0], random, resamples=300)
        band = stratified_band([task[:, None] for task in tasks], random, resamples=300)
        hits += [profile.low[0] <= 0.5 <= profile.high[0], band.low[0] <= 0 <= band.high[0]]
    assert ((hits > 170) & (hits < 200)).all()


def test_a_band_at_one_point_is_the_interval_there() -> None:
    tasks = [generator().normal(size=(n, 4)) for n in (5, 6)]
    band = stratified_band(tasks, generator())
    for point in range(4):
        interval = stratified_bootstrap([task[:, point] for task in tasks], generator())
        np.testing.assert_allclose([ends[point] for ends in band], interval)
    assert np.isnan(stratified_band([np.ones((1, 4))], generator()).low).all()


def test_curves_on_another_grid_are_linear_and_end_where_they_end() -> None:
    found = on_grid([0, 10, 10, 20], [[0, 1, 2, 4], [np.nan, 1, np.nan, 3]], [0, 5, 10, 15, 20, 30])
    np.testing.assert_array_equal(found, [[0, 1, 2, 3, 4, np.nan], [np.nan, np.nan, 1, 2, 3, np.nan]])


@pytest.fixture
def folders(make_run) -> list[Path]:
    """Return two recipes on two tasks with scores, one without; one that failed, and a part of a third recipe."""
    made = [
        make_run(f"{recipe}-{task}", recipe, task, offline={9: [0.5, 0.5]}, online={5: [low, low], 10: [end, end]})
        for task in ("maze", "kitchen")
        for recipe, low, end in (("calql", 0.2, 0.5), ("wsrl", 0.6, 1.0))
    ]
    hopper = make_run("hopper", "calql", "hopper", offline={9: [0.5, 0.5]}, success=False)
    about = json.loads((hopper / "run.json").read_text())
    (hopper / "run.json").write_text(json.dumps({**about, "task_card": {"score": "none"}}))
    some = make_run("some", "iql", "maze", offline={9: [0.5, 0.5]})
    failed = make_run("failed", "wsrl", "maze", (8, 9), {9: [0.5, 0.5]}, {5: [0.0, 0.0]}, status="failed")
    return [*made, hopper, some, failed]


def test_the_page_of_several_tasks(folders: list[Path], tmp_path: Path) -> None:
    assert write_report(folders, tmp_path) == tmp_path / "study.html"
    written = write_study(folders, tmp_path / "study.html", [("cell-7", "no worker took it")]).read_text("utf-8")
    page = Page(written)
    assert (page.outside, str(tmp_path) in written) == ([], False)
    assert len(set(page.identities)) == len(page.identities)
    assert page.row("calql")[1:] == ["4", *["50.0[50.0, 50.0]"] * 2, "−30.0[−30.0, −30.0]", "0.650[0.650, 0.650]", "0"]
    assert page.row("wsrl")[-1] == "1"
    assert ["wsrl", "1.00[1.00, 1.00]", "–"] in page.rows
    assert page.row("failed")[1:] == [
        *("maze", "8, 9", "failed", "second, step 5", "0 %", "an error stopped it; its output says which")
    ]
    assert page.row("cell-7")[-1] == "no worker took it"
    assert "normalised score on maze, kitchen." in page.text
    assert "Not part of this: hopper has no score" in page.text
    assert "Not part of this, because a task is missing: iql." in page.text


def test_what_cannot_be_put_together(folders: list[Path], make_run, tmp_path: Path) -> None:
    page = Page(write_study([folders[4], folders[5]], tmp_path / "a.html").read_text("utf-8"))
    assert "success" in page.text  # iql alone has a score, on its one task
    page = Page(write_study([folders[4]], tmp_path / "b.html").read_text("utf-8"))
    assert "Nothing is put together: no task has a score." in page.text
    hall = make_run("hall", "calql", "hall", offline={9: [0.5, 0.5]})  # one task more of one method takes nothing away
    page = Page(write_study([*folders[:4], hall], tmp_path / "e.html").read_text("utf-8"))
    assert page.row("wsrl")[1] == "4"
    assert "Not part of this: hall, on which some of these methods have no finished run." in page.text
    nothing = make_run("nothing", status="running")
    (nothing / "metrics.jsonl").write_text("")
    with pytest.raises(SegueError, match="none of the 3 runs has finished"):
        write_study([folders[6], nothing, tmp_path], tmp_path / "c.html")
    page = Page(write_study([*folders[:2], nothing], tmp_path / "d.html").read_text("utf-8"))
    assert page.row("nothing")[3:6] == ["running", "–", "–"]
    assert page.row("nothing")[6].startswith("no evaluation in metrics.jsonl yet")


def test_text_is_escaped_on_the_page_and_in_the_figures(folders: list[Path], tmp_path: Path) -> None:
    for folder in folders:
        about = hostile(json.loads((folder / "run.json").read_text()))
        about |= {"recipe": folder.name.split("-")[0] + HOSTILE, "task": folder.name[-4:] + HOSTILE}
        (folder / "run.json").write_text(json.dumps({**about, "status": "finished"}))
    page = Page(write_study(folders, tmp_path / "study.html", [(HOSTILE, HOSTILE)]).read_text("utf-8"))
    assert "i" not in page.tags
    assert page.outside == []
    drawn = [standalone(figure, legend) for figure, legend in all_figures(study_of(folders)).values()]
    assert len(drawn) > 4
    assert all(not list(ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}i")) for svg in drawn)


def test_files(folders: list[Path], tmp_path: Path, capsys, monkeypatch) -> None:
    def missing(svg: str, path: Path) -> None:
        raise SegueError("needs cairosvg")

    monkeypatch.setattr(saved, "convert", missing)
    out = tmp_path / "paper"
    assert command(["report", *map(str, folders), "--out", str(tmp_path / "x.html"), "--files", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[1:] == ["files: needs cairosvg", f"files: {out}"]
    names = {file.name for file in out.iterdir()}
    assert {"overall.md", "improvement.tex", "task-maze.tex", "left-out.md", "curves.csv"} <= names
    assert {"scores.svg", "profiles.svg", "sample-efficiency.svg", "curve-kitchen.svg"} <= names
    rows = list(csv.DictReader((out / "outcomes.csv").read_text().splitlines()))
    assert {row["quantity"] for row in rows if row["recipe"] == "wsrl"} >= {"success_end", "score_end", "regret"}
    (fall,) = [
        row["value"]
        for row in rows
        if [row[name] for name in ("label", "task", "seed", "quantity")] == ["calql", "maze", "3", "success_fall"]
    ]
    assert float(fall) == pytest.approx(-0.3)
    table = (out / "overall.tex").read_text()
    assert table.count("\\\\") == 3
    assert re.search(r"^calql & 4 & 50\.0 \[50\.0, 50\.0\] & .* \$-\$30\.0 ", table, re.M)
    for file in out.glob("*.svg"):
        assert "var(" not in file.read_text()
        ET.parse(file)


def test_figures_as_pdf_and_png(folders: list[Path], tmp_path: Path) -> None:
    svg = standalone(*all_figures(study_of(folders))["profiles"])
    try:
        convert(svg, tmp_path / "x.pdf")
    except SegueError as error:
        pytest.skip(str(error))
    convert(svg, tmp_path / "x.png")
    assert (tmp_path / "x.pdf").read_bytes().startswith(b"%PDF")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_signs_in_latex() -> None:
    table = Table("50 % & more", ["", "a_b"], [Row(Cell("x\\y", "{z}"), [Cell("−5 %", "#")])])
    head, _, row, _ = latex(table).splitlines()[3:7]
    assert (head, row) == (r" & a\_b \\", r"x\textbackslash{}y \{z\} & $-$5\,\% \# \\")


def test_the_list_of_runs(folders: list[Path], make_run, tmp_path: Path, capsys) -> None:
    long = make_run("long", offline={9: [0.5, 0.25]})
    with (long / "metrics.jsonl").open("a") as file:  # an evaluation far from the end, and a row that is not whole
        row = json.dumps({"kind": "training", "phase": "second", "phase_index": 1, "phase_step": 7, "pad": "x" * 9000})
        file.write(20 * f"{row}\n")
        file.write('{"kind": "evalu')
    (tmp_path / "deep" / "damaged").mkdir(parents=True)
    (tmp_path / "deep" / "damaged" / "run.json").write_text("{")
    found = {run.name: run for run in runs_below(tmp_path)}
    assert found["long"][1:7] == ("calql", "maze", "2", "finished", "second 7", "success 37.5 %")
    assert found["hopper"].last == "return 500"
    assert found[str(Path("deep", "damaged"))].status == "damaged"
    assert len(found) == len(folders) + 2
    assert command(["list", "runs", str(tmp_path)]) == 0
    assert f"Runs in {tmp_path}" in " ".join(capsys.readouterr().out.split())
    assert command(["list", "tasks", str(tmp_path)]) == 1
    assert command(["list", "runs", str(tmp_path / "none")]) == 1
