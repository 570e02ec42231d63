"""Mistakes in words give one line that helps; right words do what they say."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from segue.cli.app import LISTS
from segue.cli.running import parse_seeds
from segue.cli.words import gather
from segue.core.types import SegueError
from segue.recipes import RECIPES, find_recipe
from segue.recipes.plan import apply
from segue.runs.request import resolved
from segue.tasks import find_task

BASE = ("run", "cal-ql", "pointmaze-umaze", "--dry-run")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("rnu",), "there is no 'rnu'; did you mean 'run'?"),
        (("run", "calql", "pointmaze-umaze"), "did you mean 'cal-ql'?"),
        (("run", "cal-ql", "pointmase-umaze"), "did you mean pointmaze-umaze"),
        (("run", "cal-ql", "zzz"), "there are pointmaze-{umaze,medium,large}, "),
        (("explain", "calql"), "did you mean 'cal-ql'?"),
        (("report",), "name at least one run's folder"),
        ((*BASE, "--set", "online.environment_step=3"), "did you mean 'environment_steps'?"),
        ((*BASE, "--set", "onlin.n_steps=3"), "did you mean 'online'?"),
        ((*BASE, "--set", "online.environment_steps=few"), "online.environment_steps: 'few' is not a whole number"),
        ((*BASE, "--set", "agent.actor_hidden=(1.5,)"), "a tuple of whole numbers"),
        ((*BASE, "--set", "agent.lagrange=maybe"), "true or false"),
        ((*BASE, "--set", "online.batch.visible=some"), "one of 'all', 'closed'"),
        ((*BASE, "--set", "agent.gap=0.3"), "agent.gap: has no effect here"),
        (
            (*BASE, "--set", "offline.utd_ratio=2"),
            "offline.utd_ratio: has no effect here; it needs a phase that collects",
        ),
        ((*BASE, "--set", "agent=3"), "name a field of it"),
        ((*BASE, "--set", "online.batch=3"), "'batch' has fields"),
        ((*BASE, "--set", "online.environment_steps"), "write it as name=value"),
        ((*BASE, "--set", "=3"), "write it as name=value"),
        ((*BASE, "--set"), "at least one name=value"),
        ((*BASE, "--set", "online.environment_steps=3", "--set", "online.environment_steps=4"), "given twice"),
        ((*BASE, "--set", "online.environment_steps=-5"), "phase 'online': steps, utd_ratio"),
        ((*BASE, "--set", "online.log_every=0"), "log_every and train_every must be at least 1"),
        ((*BASE, "--set", "evaluation.episodes=-1"), "episodes=-1 is out of range"),
        ((*BASE, "--set", "batch_size=3"), "batch_size: 3 rows cannot be shared as Mix shares 128 (offline=64)"),
        ((*BASE, "--set", "gama=0.9"), "did you mean 'gamma'?"),
        ((*BASE, "--set", "policy_freq=2"), "policy_freq: no learner of this recipe has policy_delay"),
        ((*BASE, "--set", "experience.capacity=0"), "capacity=0 is out of range"),
        ((*BASE, "--set", "experience.capacity=most"), "experience.capacity: 'most' is not a whole number"),
        ((*BASE, "--set", "experience.capacity=20"), "capacity=20 keeps less than one episode"),
        ((*BASE, "--set", "offline.batch.offline=0"), "phase 'offline': its batch is empty"),
        ((*BASE, "--set", "online.actor=ghost"), "slot 'ghost'"),
        ((*BASE, "--seeds", "x"), "--seeds x"),
        ((*BASE, "--seeds", "0"), "at least one seed"),
        ((*BASE, "--seeds", "3,3"), "none twice"),
        ((*BASE, "--seeds", "100000"), "the one seed 100000 is '100000,'"),
        ((*BASE, "--seeds", "99999999999,"), "2147483647"),
        (("run", "cal-ql", "hopper-medium"), "set SEGUE_DATA"),
        (("run", "cal-ql", "hdf5:nowhere.hdf5"), "no such file"),
        (("run", "cal-ql", "hdf5:nowhere.hdf5?reward=x"), "?reward=x"),
    ],
)
def test_a_mistake_is_one_line(words, says, mistake, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in mistake(*words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("run",), ("RECIPE", "TASK", "required")),
        (("run", "cal-ql"), ("TASK", "required")),
        (("resume",), ("FOLDER", "required")),
        (("run", "cal-ql", "pointmaze-umaze", "--sedes", "3"), ("--sedes", "--seeds")),
        (("run", "cal-ql", "pointmaze-umaze", "--track", "paper"), ("tensorboard", "wandb")),
        (("list", "everything"), ("recipes", "tasks")),
        ((), ("run", "resume", "report", "list", "explain", "data")),
    ],
)
def test_the_parser_is_short_and_names_what_it_wants(words, says, say) -> None:
    code, out, err = say(*words)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) < 14
    assert all(word in err for word in says), err
    assert "Traceback" not in err


def test_save_every_must_be_a_number(mistake, monkeypatch) -> None:
    monkeypatch.setenv("SEGUE_SAVE_EVERY", "often")
    assert "SEGUE_SAVE_EVERY=often" in mistake(*BASE)


def test_dry_run_writes_nothing(say, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, err = say(*BASE, "--seeds", "3,5", "--out", tmp_path / "new")
    assert (code, err) == (0, "")
    assert "seeds 3, 5; nothing was run" in out
    assert not list(tmp_path.iterdir())


def test_seeds_are_counted_or_named() -> None:
    assert parse_seeds("3") == (0, 1, 2)
    assert parse_seeds("3,5") == (3, 5)
    assert parse_seeds("7,") == (7,)


@pytest.mark.parametrize(
    ("words", "means"),
    [
        ("a b --set x=1 y=-2 --seeds 2 --set=z=3 --set w=4", "a b --seeds 2 --set x=1 y=-2 z=3 w=4"),
        ("--set x=1 a b", "a b --set x=1"),
        ("--track wandb a b", "a b --track wandb"),
        ("--track wandb tensorboard a b --dry-run", "a b --dry-run --track wandb tensorboard"),
        ("--rules warm_up=5,policy=random 'opt(iql)' b", "opt(iql) b --rules warm_up=5,policy=random"),
        ("--set x=1 a --seeds 3 hdf5:c?reward=binary", "a hdf5:c?reward=binary --seeds 3 --set x=1"),
        ("a --set x=1 --dry-run b", "a b --dry-run --set x=1"),
        ("--rules freze_actor=3 a b", "a b --rules freze_actor=3"),
        ("--no-untrained a b --set x=1", "a b --no-untrained --set x=1"),
        ("--with-experience a b", "a b --with-experience"),
        ("a", "a"),
    ],
)
def test_a_recipe_and_a_task_may_stand_behind_an_option(words: str, means: str) -> None:
    assert sorted(gather(shlex.split(words), LISTS, 2)) == sorted(means.split())
    assert gather(shlex.split(words), LISTS, 2)[: means.count(" b") + 1][0] == means.split()[0]


def test_settings_of_several_flags_are_all_kept(say) -> None:
    with pytest.raises(SegueError, match="at least one name=value"):
        gather(["--set"], LISTS, 2)
    _, out, _ = say("explain", "cal-ql", "--set", "online.environment_steps=5", "--set", "offline.gradient_steps=6")
    assert out.count("settings") == 2


def test_explain_names_every_option_its_source_and_its_meaning(say) -> None:
    code, out, err = say("explain", "cal-ql", "pointmaze-umaze", "--set", "online.utd_ratio=2")
    assert (code, err) == (0, "")
    table = resolved(find_recipe("cal-ql"), find_task("pointmaze-umaze"), {"online.utd_ratio": "2"}).explained()
    shown = {line.split("\t")[0]: line.split("\t")[1:] for line in out.splitlines()}
    assert shown == {path: [str(row["value"]), row["source"], row["meaning"]] for path, row in table.items()}
    assert shown["online.utd_ratio"][:2] == ["2.0", "settings"]
    assert shown["scaling.failure"][1] == "task"
    assert shown["scaling.reward_scale"][1] == "preset pointmaze"


@pytest.mark.parametrize(
    ("recipe", "words", "stands_for", "shows"),
    [
        ("cal-ql", "gamma=0.98", "scaling.discount", {"scaling.discount": 0.98}),
        ("cal-ql", "buffer_size=1e5", "experience.capacity", {"experience.capacity": 100_000}),
        (
            "iql",
            "batch_size=64",
            "offline.batch_size, online.batch_size",
            {"offline.batch.offline": 64, "online.batch.batch": 64, "online.batch_size": 64},
        ),
        ("wsrl", "batch_size=32", "offline.batch_size, online.batch_size", {"online.batch.online": 128}),
        (
            "ooo(iql)",
            "exploit-1.batch_size=512",
            "",
            {"exploit-1.batch.inner.beside.batch": 496, "exploit-1.batch.inner.rows": 16, "exploit-1.batch_size": 512},
        ),
        ("ooo(iql)", "value_lr=1e-5", "agent.value_learning_rate, exploiter.value_learning_rate", {}),
        (
            "spot",
            "lr=1e-5",
            "density.learner.learning_rate, agent.learning_rate",
            {"density.learner.learning_rate": 1e-5},
        ),
        ("rlpd", "n_steps=3", "online.n_steps", {"online.n_steps": 3, "warm-up.n_steps": 1}),
        ("cal-ql", "agent.tau=0.1", "agent.target_rate", {"online.learner.base.base.target_rate": 0.1}),
        ("recommend-better(sac,iql)", "tau=0.1", "agent.target_rate, student.target_rate", {}),
        ("cal-ql", "agent.target_rate=0.1", "", {}),
    ],
)
def test_names_of_other_libraries_are_told_once(recipe: str, words: str, stands_for: str, shows, say) -> None:
    code, out, err = say("explain", recipe, "pointmaze-umaze", "--json", "--set", words)
    name, _, value = words.partition("=")
    assert (code, err) == (0, f"segue: {name} is Segue's {stands_for}\n" if stands_for else "")
    rows = json.loads(out)
    assert {path: rows[path]["value"] for path in shows} == shows
    assert {row["source"] for path, row in rows.items() if path in shows and row["value"] != 1} <= {"settings"}
    last = stands_for.rpartition(".")[2]
    learners = [row["value"] for path, row in rows.items() if path.endswith(f".{last}") and ".learner." in path]
    assert set(learners) <= {float(value)}


def test_explain_shows_a_part(say) -> None:
    rates = say("explain", "cal-ql", "pointmaze-umaze", "learning_rate")[1]
    assert "offline.learner.base.base.actor_learning_rate\t" in rates
    assert all("learning_rate" in line.split("\t")[0] for line in rates.splitlines())
    changed = json.loads(say("explain", "cal-ql", "--changed", "--json")[1])
    assert changed["scaling.reward_scale"]["source"] == "preset pointmaze"
    assert "default" not in {row["source"] for row in changed.values()}


WHOLE = (
    "type",
    "scaling",
    "init_from",
    "actor",
    "parts",
)  # chosen by the recipe: what is set is a part of it, or its class is fixed
EXPRESSIONS = ("opt(td3-bc)", "opt(spot)", "ooo(iql)", "ooo(rlpd)", "cal-ql+sera", "iql+vcse", "cql+rnd")
EXPRESSIONS += ("sac+state-entropy", "recommend(sac,iql)", "alternate(sac,iql)", "recommend-better(sac,iql)")


PIXELS = [(name, "pointmaze-umaze-pixels") for name in ("cal-ql", "rlpd", "td3-bc")]


@pytest.mark.parametrize(("name", "task"), [(n, "pointmaze-umaze") for n in (*RECIPES, *EXPRESSIONS)] + PIXELS)
def test_what_is_listed_means_something_and_can_be_set(name: str, task: str) -> None:
    decided = resolved(find_recipe(name), find_task(task), {})
    rows = decided.explained()
    assert not [path for path, row in rows.items() if not row["meaning"]]
    values = decided.options()
    for path, row in rows.items():
        value = values.get(path, row["value"])
        if row["value"] is None and path.endswith(".scaling"):
            assert f"{path}.reward_scale=2" in row["meaning"]
            assert apply(decided, f"{path}.reward_scale", "2.0")[0] != decided
        if path.rpartition(".")[2] not in WHOLE:
            assert apply(decided, path, value)[0] == decided, path


@pytest.mark.parametrize("what", ["all", "recipes", "tasks", "agents"])
def test_list(what, say) -> None:
    code, out, err = say("list", what)
    assert (code, err) == (0, "")
    assert "\x1b" not in out
    assert ("cal-ql" in out) == (what in ("all", "recipes"))
    assert ("hdf5:PATH" in out) == (what in ("all", "tasks"))


def test_version_and_help(say) -> None:
    assert say("--version")[1].startswith("segue 0.")
    code, out, _ = say("run", "--help")
    assert code == 0
    assert "--dry-run" in out


def test_a_reader_that_leaves_is_no_bug(launch) -> None:
    process = launch("list")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) in (0, 1)
    assert err == ""
