"""The live view: the right numbers, in a log and on a terminal, and no harm from either."""

import io
import math
import re

import pytest
from rich.console import Console

from segue.runs.live import LiveView, PlainView, Progress, RichView, sparkline, view

PLAN = [
    {"name": "offline", "gradient_steps": 100_000, "environment_steps": None, "utd_ratio": 1.0},
    {"name": "online", "gradient_steps": 0, "environment_steps": 50_000, "utd_ratio": 1.0},
]


@pytest.fixture(autouse=True)
def an_able_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("CI", raising=False)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class Run:
    """A run in which an update costs 1 ms and an environment step 2 ms."""

    def __init__(self, face, seeds=2, plan=PLAN, **options):
        self.clock, self.seeds, self.plan = Clock(), list(range(seeds)), plan
        self.progress = Progress(plan, self.seeds, self.clock)
        self.view = LiveView(self.progress, face(self.progress, **options))
        self.step = self.update = 0

    def row(self, kind, index, phase_step, values=None, **more):
        clocks = {
            "phase_step": phase_step,
            "environment_step": self.step,
            "update": self.update,
            "wall_s": self.clock.now,
        }
        name = self.plan[index]["name"] if index < len(self.plan) else "extra"
        head = {"kind": kind, "phase": name, "phase_index": index, "seeds": self.seeds}
        self.view.row({**head, **clocks, "values": values or {}, **more})

    def go(self, index, before, last, every=1_000):
        """Go on from one step of a phase to another, with a sign of life every so many."""
        phase = self.plan[index]
        collects = phase["environment_steps"] is not None
        for step in range(before + every, last + 1, every):
            updates = int(every * phase["utd_ratio"]) if collects else every
            self.clock.now += 1e-3 * updates + 2e-3 * every * collects
            self.step += every * collects
            self.update += updates
            self.view.pulse(index, step, self.step, self.update)

    def story(self):
        """Do the offline phase and half of the online one."""
        with self.view:
            self.row("phase", 0, 0, event="begin")
            self.go(0, 0, 100_000, 10_000)
            losses = {"other": [1.0] * len(self.seeds), "critic_loss": [0.25, *[0.75] * (len(self.seeds) - 1)]}
            self.row("training", 0, 100_000, losses | {"actor_loss": [None] * len(self.seeds)})
            self.row(
                "evaluation", 0, 100_000, {"success": [0.25 for _ in self.seeds], "return": [5.0 for _ in self.seeds]}
            )
            self.row("phase", 0, 100_000, event="end")
            self.row("handover", 0, 100_000, {"drop": [0.5 for _ in self.seeds]}, points=[])
            self.row("phase", 1, 0, event="begin")
            self.go(1, 0, 25_000, 2_500)
            self.row("evaluation", 1, 25_000, {"success": [1.0, *[0.5] * (len(self.seeds) - 1)]})
            self.view.message("a message")
        assert self.view.well
        return self


def test_a_log_has_whole_lines_with_the_right_numbers():
    stream = io.StringIO()
    Run(PlainView, stream=stream).story()
    lines = stream.getvalue().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \| ", line) for line in lines)
    assert all(line.isprintable() and line.isascii() for line in lines)
    assert not [line for line in lines if "phase" not in line and "message" not in line]

    (offline,) = [line for line in lines if "success: mean 25 %" in line]
    assert "phase 1/2 offline 100.0 % | 100,000/100,000 step 0 update 100,000 | 0 steps/s 1,000 updates/s" in offline
    (online,) = [line for line in lines if "seed 0 100 %, seed 1 50 %" in line]
    assert "phase 2/2 online 50.0 % | 25,000/50,000 step 25,000 update 125,000" in online
    assert "333 steps/s 333 updates/s" in online
    assert "ETA phase 0:01:15 run 0:01:15" in online
    assert "success: mean 75 %" in online
    assert any(line.endswith("handover, offline: drop 0.5") for line in lines)
    assert any(line.endswith("| begin") for line in lines)


def test_a_log_is_not_flooded():
    stream = io.StringIO()
    run = Run(PlainView, stream=stream, interval=15.0)
    run.go(0, 0, 100_000)
    assert len(stream.getvalue().splitlines()) == 7  # 100 s of pulses: at 1 s, then every 15 s
    assert "ETA phase 0:00:09 run >0:00:09" in stream.getvalue()  # what a step costs is not known yet


def test_a_row_of_training_shows_what_tells_most():
    stream = io.StringIO()
    run = Run(PlainView, stream=stream)
    run.row("training", 0, 1, {"zeal": [2.0, 2.0], "critic_loss": [0.25, 0.75], "temperature": [math.nan, None]})
    assert stream.getvalue().rstrip().endswith("critic_loss 0.5, zeal 2")


def test_later_phases_are_estimated_from_their_parts():
    plan = [
        *PLAN[:1],
        {"name": "warm-up", "gradient_steps": 0, "environment_steps": 5_000, "utd_ratio": 0.0},
        *PLAN[1:],
    ]
    run = Run(PlainView, stream=io.StringIO(), plan=plan)
    run.go(0, 0, 100_000)
    run.go(1, 0, 2_500, 250)
    assert run.progress.left() == "ETA phase 0:00:05 run 0:02:35"  # 5 s, and 50,000 steps of 3 ms that none has seen


@pytest.mark.parametrize("kind", ["phase", "training"])
def test_compilation_and_a_resumed_step_do_not_count(kind):
    run = Run(PlainView, stream=io.StringIO())
    run.row(kind, 0, 50_000, event="begin")
    assert run.progress.left() == "ETA phase ? run ?"
    run.clock.now += 1000.0  # compiles
    run.go(0, 50_000, 55_000)
    assert run.progress.left() == "ETA phase 0:00:45 run >0:00:45"
    assert "1,000 updates/s" in run.progress.speed()


def test_a_phase_that_was_not_planned_is_shown():
    stream = io.StringIO()
    run = Run(PlainView, stream=stream)
    run.view.pulse(2, 1, 0, 0)
    run.row("phase", 2, 5, event="end")
    assert "phase 3/3 extra 100.0 % | 5/0" in stream.getvalue()
    assert run.view.well


@pytest.mark.parametrize(("width", "seeds"), [(80, 1), (80, 8), (60, 8), (80, 16), (60, 16)])
def test_a_terminal_shows_it_all(width, seeds):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, height=24, legacy_windows=False)
    run = Run(RichView, console=console, seeds=seeds).story()

    assert "\x1b[" in stream.getvalue()
    assert "a message" in stream.getvalue()
    assert "handover, offline: drop 0.5" in stream.getvalue()
    picture = picture_of(run, width)
    lines = picture.splitlines()
    assert max(map(len, lines)) == width
    assert len(lines) < 24
    assert "✓ 1/2 offline" in picture
    assert re.search(r"▸ 2/2 online .* 50 %", picture)
    assert "25,000/50,000 step 25,000 update 125,000" in picture
    assert "ETA phase 0:01:15 run 0:01:15" in picture
    assert "success at 2 evaluations" in picture
    assert re.search(r"seed 0 +100 % ▃█", picture)
    assert all(f"seed {k} " in picture for k in range(seeds))
    assert re.search(r"critic_loss +0\.\d+", picture)


def picture_of(run, width, encoding="utf-8"):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=stream, force_terminal=True, color_system=None, width=width, height=24)
    console.print(RichView(run.progress, console).panel())
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


def test_an_ascii_terminal_gets_ascii():
    plan = [{**PLAN[0], "name": "öffline → Cal-QL"}, PLAN[1]]
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    console = Console(file=stream, force_terminal=True, width=60, height=24)
    run = Run(RichView, console=console, plan=plan).story()
    picture = picture_of(run, 60, "ascii")
    assert "?ffline ? Cal-QL" in picture
    assert re.search(r"seed 0 +100 % :#", picture)


def test_redraws_are_few():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, height=24)
    run = Run(RichView, console=console, plan=[{**PLAN[0], "gradient_steps": 10_000}])
    with run.view:
        run.go(0, 0, 2000, 1)  # 2 s
    assert 8 <= stream.getvalue().count("elapsed") <= 11


def test_many_phases_fit():
    plan = [{**PLAN[k % 2], "name": f"cycle {k}"} for k in range(40)]
    run = Run(PlainView, stream=io.StringIO(), plan=plan)
    run.view.pulse(20, 3, 0, 0)
    picture = picture_of(run, 80)
    assert "21/40 cycle 20" in picture
    assert picture.count("cycle") == 6
    assert re.search(r"✓ 20/40 cycle 19 .* 100 %", picture)  # also where an earlier process has done it


class Torn(io.StringIO):
    def write(self, text):
        raise BrokenPipeError("gone")


@pytest.mark.parametrize("face", ["plain", "rich"])
def test_a_broken_terminal_ends_the_view_and_not_the_run(face, capsys):
    stream = Torn()
    if face == "plain":
        run = Run(PlainView, stream=stream)
    else:
        stream.write = lambda text: (_ for _ in ()).throw(OSError(5, "hung up"))
        run = Run(RichView, console=Console(file=stream, force_terminal=True, width=80))
    with run.view:
        run.go(0, 0, 3_000)
        run.row("phase", 0, 3, event="end")
    assert not run.view.well
    assert capsys.readouterr().err.count("the live view stopped, the run goes on") == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_view_fits_the_stream(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # as CI does: a pipe stays a pipe
    assert isinstance(view(PLAN, [0], io.StringIO()).face, PlainView)
    assert isinstance(view(PLAN, [0], Terminal()).face, RichView)
    monkeypatch.setenv("CI", "true")
    assert isinstance(view(PLAN, [0], Terminal()).face, PlainView)
    monkeypatch.delenv("CI")
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(view(PLAN, [0], Terminal()).face, PlainView)
    closed = io.StringIO()
    closed.close()
    with view(PLAN, [0], closed) as closed_view:
        closed_view.message("\x1b[31m nothing")
    with view(PLAN, [0]) as standard:
        standard.message("\x1b[31mred\nnext")
    assert "red next" in capsys.readouterr().out


def test_sparklines_show_the_shape():
    assert sparkline([0.0, 0.5, 1.0], 8, 0.0, 1.0) == "▁▅█"
    assert sparkline([0.0, math.nan, 1.0], 8, 0.0, 1.0) == "▁ █"
    assert sparkline(list(range(100)), 4, 0, 99) == "▂▄▅▇"
    assert sparkline([7.0], 4, 7.0, 7.0) == "▁"
    assert sparkline([], 4, 0.0, 1.0) == ""
    assert sparkline([1.0], 0, 0.0, 1.0) == ""
