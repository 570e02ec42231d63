"""Trackers: what each is sent, in a stand-in for its package, and in the package itself where it is installed."""

import sys
from types import SimpleNamespace

import pytest
from tests.record.test_record import a_row

from segue.core.types import SegueError
from segue.runs import trackers
from segue.runs.trackers import TRACKERS, Page, track

CONFIG = {"scaling.reward_scale": float("inf"), "recipe": "cal-ql"}


def page(folder, resumed_at=None):
    return Page(folder, CONFIG, resumed_at)


def twice(name, folder):
    """A run that is resumed: a row each time; every warning is an error."""
    for update in (1, 2):
        told = []
        sink = track(name, page(folder, None if update == 1 else 1), told.append)
        sink.write(a_row(update, loss=[1.0, update + 1.0]))
        sink.close()
        sink.close()
        assert not told


@pytest.mark.parametrize("name", TRACKERS)
def test_an_absent_package_names_its_extra(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, TRACKERS[name].package, None)
    with pytest.raises(SegueError) as caught:
        track(name, page(tmp_path))
    assert f'pip install "segue[{name}]"' in str(caught.value)


class FakeTensorBoard:
    class SummaryWriter:
        last = None

        def __init__(self, folder, purge_step):
            self.scalars, self.purge_step = [], purge_step
            type(self).last = self

        def add_scalar(self, *scalar):
            self.scalars.append(scalar)

        def close(self):
            self.scalars.append("closed")


def test_tensorboard_steps_are_updates(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "package", lambda name: FakeTensorBoard)
    sink = track("tensorboard", page(tmp_path, 40))
    sink.write(a_row(41, loss=[1.0, 2.0]))
    sink.close()
    sink.close()
    writer = FakeTensorBoard.SummaryWriter.last
    assert writer.purge_step == 40
    assert ("training/loss/mean", 1.5, 41) in writer.scalars
    assert writer.scalars.count("closed") == 1


class FakeWandB:
    def __init__(self):
        self.begun, self.logged, self.defined = [], [], []

    Settings = dict

    def init(self, *project, **options):
        self.begun.append(options)
        return self

    def define_metric(self, name, step_metric=None):
        self.defined.append((name, step_metric))

    def log(self, numbers, step=None):
        assert step in (None, numbers["clock/update"])
        self.logged.append(numbers)

    def finish(self):
        self.logged.append("finished")


@pytest.mark.parametrize(("name", "key"), [("wandb", "id"), ("trackio", "name")])
def test_a_resumed_run_keeps_its_page(tmp_path, monkeypatch, name, key):
    fake = FakeWandB()
    monkeypatch.setattr(trackers, "package", lambda name: fake)
    twice(name, tmp_path / "run")
    first, second = fake.begun
    assert first[key] == second[key] == (tmp_path / "run" / f"{name}_id").read_text()
    assert first["resume"] == "allow"
    assert first["config"] == {"scaling.reward_scale": None, "recipe": "cal-ql"}
    assert name != "wandb" or ("*", "clock/update") in fake.defined
    assert [x if x == "finished" else x["clock/update"] for x in fake.logged] == [1.0, "finished", 2.0, "finished"]


class FakeMLflow:
    """MlflowClient as far as it is used."""

    entities = SimpleNamespace(Param=lambda *given: given, Metric=lambda *given: given)

    def __init__(self):
        self.experiments, self.runs = {}, {}

    def MlflowClient(self):
        return self

    def get_experiment_by_name(self, name):
        return self.experiments.get(name)

    def create_experiment(self, name):
        self.experiments[name] = SimpleNamespace(experiment_id="7")

    def create_run(self, experiment, run_name):
        assert (experiment, run_name) == ("7", "run")
        self.runs["r1"] = SimpleNamespace(status="RUNNING", params=[], metrics=[])
        return SimpleNamespace(info=SimpleNamespace(run_id="r1"))

    def update_run(self, run, status):
        self.runs[run].status = status

    def log_batch(self, run, metrics=(), params=()):
        assert len(metrics) <= 1000
        assert len(params) <= 100
        self.runs[run].metrics += metrics
        self.runs[run].params += params

    def set_terminated(self, run):
        self.runs[run].status = "FINISHED"


def test_a_resumed_run_keeps_its_page_of_mlflow(tmp_path, monkeypatch):
    fake = FakeMLflow()
    monkeypatch.setattr(trackers, "package", lambda name: fake)
    twice("mlflow", tmp_path / "run")
    (run,) = fake.runs.values()
    assert run.status == "FINISHED"
    assert run.params == [("scaling.reward_scale", "inf"), ("recipe", "cal-ql")]
    sent = [(key, value, step) for key, value, _, step in run.metrics if key == "training/loss/mean"]
    assert sent == [("training/loss/mean", 1.5, 1), ("training/loss/mean", 2.0, 2)]


@pytest.mark.filterwarnings("default")
def test_mlflow_itself(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    twice("mlflow", tmp_path / "run")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("segue").experiment_id])
    assert run.info.run_id == (tmp_path / "run" / "mlflow_id").read_text()
    assert (run.info.run_name, run.info.status) == ("run", "FINISHED")
    assert run.data.params == {"scaling.reward_scale": "inf", "recipe": "cal-ql"}
    history = client.get_metric_history(run.info.run_id, "training/loss/mean")
    assert [(point.step, point.value) for point in history] == [(1, 1.5), (2, 2.0)]


@pytest.mark.filterwarnings("default")
def test_trackio_itself(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    trackio = pytest.importorskip("trackio", reason="the extra trackio is not installed")
    twice("trackio", tmp_path / "run")
    assert capsys.readouterr().out == ""
    (run,) = trackio.Api().runs("segue")
    assert run.name == (tmp_path / "run" / "trackio_id").read_text()
    assert run.config["recipe"] == "cal-ql"
    points = trackio.SQLiteStorage.get_metric_values("segue", run.name, "training/loss/mean")
    assert [(point["step"], point["value"]) for point in points] == [(1, 1.5), (2, 2.0)]
