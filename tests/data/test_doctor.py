"""The doctor without an environment: each planted fault is found, clean logs are silent, mends mend."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from segue.core.scaling import Scaling
from segue.core.types import SegueError
from segue.data import write_d4rl
from segue.data.doctor import CHECKS, MENDS, Finding, Report, examine, mend
from segue.data.readers import open_source
from segue.data.recorded import Recorded

Log = list[Recorded]
LIMIT = 60
FACTS = {"source": "test", "environment": {"env_id": "Cart", "max_episode_steps": LIMIT}}


def cart(episodes: int = 60, seed: int = 0, sparse: bool = False) -> Log:
    """Two carts that are pushed at random from near the middle: x, y, speeds.

    Dense: an episode ends where x is far off, and pays for speed.  Sparse: it ends there with reward 1.
    """
    rng, log = np.random.default_rng(seed), []
    for _ in range(episodes):
        place, speed = rng.uniform(-0.05, 0.05, 2), np.zeros(2)
        push = rng.uniform(-0.4, 0.9)
        seen, acted, paid, over = [np.concatenate([place, speed])], [], [], False
        for _ in range(LIMIT):
            action = np.clip(push + rng.uniform(-0.8, 0.8, 2), -0.99, 0.99)
            speed = 0.9 * speed + 0.1 * action + 0.01 * rng.standard_normal(2)
            place = place + 0.1 * speed
            seen.append(np.concatenate([place, speed]))
            acted.append(action)
            over = bool(abs(place[0]) > 0.75)
            paid.append(float(over) if sparse else float(1.0 + speed[0] - 0.5 * action[0]))
            if over:
                break
        arrays = (np.asarray(rows, np.float32) for rows in (seen, acted, paid))
        log.append(Recorded(*arrays, over, float(over) if sparse else np.nan))
    return log


def diagnose(log: Log, scaling: Scaling | None = None, facts: dict[str, object] | None = None) -> Report:
    return examine(lambda: iter(log), FACTS if facts is None else facts, scaling=scaling)


def each(change: Callable[[Recorded], Recorded], some: slice = slice(None)) -> Callable[[Log], Log]:
    """Plant a fault in some episodes."""

    def plant(log: Log) -> Log:
        chosen = set(range(len(log))[some])
        return [change(e) if i in chosen else e for i, e in enumerate(log)]

    return plant


def put(name: str, value: float, steps: slice, column: int = 0) -> Callable[[Recorded], Recorded]:
    """An episode with one column of an array set."""

    def change(episode: Recorded) -> Recorded:
        array = getattr(episode, name).copy()
        (array if array.ndim == 1 else array[:, column])[steps] = value
        return replace(episode, **{name: array})

    return change


def glue(log: Log, every: int = 6) -> Log:
    """Lose some ends: an episode and the next one become one."""
    out: Log = []
    for i, episode in enumerate(log):
        if i % every == 1:
            before = out.pop()
            out.append(
                replace(
                    episode,
                    observation=np.concatenate([before.current, episode.observation]),
                    action=np.concatenate([before.action, episode.action]),
                    reward=np.concatenate([before.reward, episode.reward]),
                    success=np.nan,
                )
            )
        else:
            out.append(episode)
    return out


def stitch(log: Log) -> Log:
    """D4RL's most common fault: what follows an episode's last row is the next episode's first."""
    follows = [*log[1:], log[0]]
    return [
        replace(e, observation=np.concatenate([e.observation[:-1], n.observation[:1]])) for e, n in zip(log, follows)
    ]


def apart(episode: Recorded) -> Recorded:
    return replace(episode, observation=episode.current, next_observation=episode.following)


def shuffled(episode: Recorded) -> Recorded:
    order = np.random.default_rng(0).permutation(len(episode))
    episode = apart(episode)
    then = episode.next_observation
    assert then is not None
    return replace(episode, observation=episode.observation[order], next_observation=then[order])


def cut(episode: Recorded) -> Recorded:
    return replace(episode, terminated=False)


def tall(episode: Recorded) -> Recorded:
    return replace(episode, terminated=episode.terminated or len(episode) >= 999)


def ahead(episode: Recorded) -> Recorded:
    return replace(episode, reward=np.roll(episode.reward, -1))


def lagged(episode: Recorded) -> Recorded:
    return replace(episode, reward=np.roll(episode.reward, 1))


def stream(log: Log) -> Log:
    """Rewards of one stream, one row late: an episode's last reward is paid in the next one's first row."""
    late, out, start = np.roll(np.concatenate([e.reward for e in log]), 1), [], 0
    for episode in log:
        out.append(replace(episode, reward=late[start : start + len(episode)]))
        start += len(episode)
    return out


def whole(episode: Recorded) -> Recorded:
    return replace(episode, terminated=len(episode) == LIMIT or episode.terminated)


def pieces(log: Log) -> Log:
    """Ends marked in wrong rows: one-row pieces."""
    out: Log = []
    for episode in log:
        head = Recorded(episode.observation[:2], episode.action[:1], episode.reward[:1], False)
        tail = replace(
            episode, observation=episode.observation[1:], action=episode.action[1:], reward=episode.reward[1:]
        )
        out += [head, tail]
    return out


def columns(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Recorded], Recorded]:
    return lambda episode: replace(episode, observation=change(episode.observation).astype(np.float32))


def frozen(rows: np.ndarray) -> np.ndarray:
    return np.where(np.arange(len(rows))[:, None] < 20, rows[:1], rows)


def first(episode: Recorded, steps: int) -> Recorded:
    """The first steps of an episode, which is cut there."""
    seen, acted, paid = episode.observation[: steps + 1], episode.action[:steps], episode.reward[:steps]
    return replace(episode, observation=seen, action=acted, reward=paid, terminated=False)


def copied(rows: np.ndarray) -> np.ndarray:
    return np.stack([rows[:, 0], rows[:, 1], rows[:, 2], rows[:, 0]], 1)


def held(episode: Recorded) -> Recorded:
    return replace(episode, action=np.repeat(episode.action[::4], 4, axis=0)[: len(episode)])


def equal(episode: Recorded) -> Recorded:
    return replace(episode, reward=episode.reward - episode.reward.mean())


def early(log: Log) -> Log:
    return [e if i % 3 else first(e, 20) for i, e in enumerate(log)]


def standard(log: Log) -> Log:
    rows = np.concatenate([e.current for e in log])
    return each(columns(lambda x: (x - rows.mean(0)) / rows.std(0)))(log)


def longer(log: Log) -> Log:
    """Copies of rows from elsewhere in the log, appended as if they were new."""
    return [
        *log,
        *(first(e, len(e) - 1) for e in log[:6]),
    ]


class Fault:
    """A fault, the code that names it, and its severity; planted in the dense log unless `sparse`."""

    def __init__(self, code: str, severity: str, plant: Callable[[Log], Log], sparse: bool = False) -> None:
        self.code, self.severity, self.plant, self.sparse = code, severity, plant, sparse


NAN, INF = float("nan"), float("inf")
FAULTS = {
    "timeouts marked as terminals": Fault("timeouts-as-terminals", "error", each(whole)),
    "terminals marked as timeouts": Fault("terminals-as-timeouts", "error", each(cut), True),
    "final observation of the next episode": Fault("stitched", "error", stitch),
    "lost ends": Fault("jumps", "error", glue),
    "rows not in order": Fault("broken-chain", "error", each(shuffled, slice(5))),
    "next observation of the row itself": Fault(
        "broken-chain", "error", each(lambda e: replace(apart(e), next_observation=e.current))
    ),
    "final observation made up": Fault(
        "final-repeated", "warning", each(lambda e: replace(e, observation=np.concatenate([e.current, e.current[-1:]])))
    ),
    "sparse reward a row late": Fault("reward-off-by-one", "error", stream, True),
    "sparse reward a row early": Fault("reward-off-by-one", "error", each(ahead), True),
    "dense reward a row late": Fault("reward-off-by-one", "warning", each(lagged)),
    "NaN observation": Fault("nan", "error", each(put("observation", NAN, slice(3, 5)), slice(2, 4))),
    "NaN reward": Fault("nan", "error", each(put("reward", NAN, slice(1)), slice(1))),
    "infinite action": Fault("infinite", "error", each(put("action", INF, slice(1)), slice(1))),
    "glitch": Fault("outliers", "warning", each(put("observation", 1e6, slice(7, 8)), slice(1))),
    "dead sensor": Fault("constant-observation", "note", each(put("observation", 0.5, slice(None), 1))),
    "dead motor": Fault("constant-action", "warning", each(put("action", 0.0, slice(None), 1))),
    "copied column": Fault("duplicate-columns", "note", each(columns(copied))),
    "columns of two sizes": Fault("observation-scale", "warning", each(columns(lambda x: x * [1, 1, 1e5, 1]))),
    "standardised": Fault("standardised-observations", "warning", standard),
    "copied episodes": Fault("duplicate-episodes", "warning", lambda log: [*log, *log[:4]]),
    "copied rows": Fault("duplicate-rows", "warning", longer),
    "frozen sensors": Fault("frozen", "warning", each(columns(frozen), slice(9))),
    "actions beyond the bounds": Fault("action-range", "error", each(lambda e: replace(e, action=e.action * 2))),
    "actions beyond by rounding": Fault("action-range", "error", each(put("action", 1.0005, slice(2)), slice(3))),
    "small actions": Fault("action-unit", "note", each(lambda e: replace(e, action=e.action * 0.1))),
    "saturated actions": Fault("saturated-actions", "warning", each(lambda e: replace(e, action=np.sign(e.action)))),
    "held actions": Fault("repeated-actions", "warning", each(held)),
    "empty episode": Fault(
        "empty", "warning", each(lambda e: first(e, 0), slice(1))
    ),
    "another shape": Fault("shapes", "error", each(columns(lambda x: x[:, :3]), slice(4, 5))),
    "one-row episodes": Fault("short-episodes", "warning", pieces),
    "too long": Fault("beyond-horizon", "note", glue),
    "cut early": Fault("cut-early", "note", early),
    "a handful": Fault("few", "note", lambda log: log[:4]),
    "no rewards": Fault("same-reward", "error", each(lambda e: replace(e, reward=np.zeros_like(e.reward)))),
    "equal returns": Fault("same-return", "warning", each(equal)),
    "flags of other episodes": Fault(
        "success-mismatch", "warning", each(lambda e: replace(e, success=1.0 - e.success)), True
    ),
    "flags the wrong way round": Fault(
        "success-mismatch", "warning", each(lambda e: replace(e, success=float(e.reward.sum() < 35)))
    ),
    "reward glitch": Fault("reward-outliers", "warning", each(put("reward", -1e5, slice(3, 4)), slice(1))),
    "huge rewards": Fault("value-range", "warning", each(lambda e: replace(e, reward=e.reward * 1e4))),
    "tiny rewards": Fault("value-range", "warning", each(lambda e: replace(e, reward=e.reward * 1e-6))),
}  # fmt: skip


def only(report: Report, code: str) -> Finding:
    return next(f for f in report.findings if f.code == code)


@pytest.mark.parametrize("sparse", [False, True])
def test_a_clean_log_is_silent(sparse: bool) -> None:
    report = diagnose(cart(sparse=sparse))
    assert report.codes("error", "warning") == ()
    assert set(report.codes()) <= {"goal-coverage"}
    assert report.rows == sum(map(len, cart(sparse=sparse)))


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(name: str) -> None:
    fault = FAULTS[name]
    report = diagnose(fault.plant(cart(sparse=fault.sparse)))
    assert fault.code in report.codes(), report.codes()
    finding = only(report, fault.code)
    assert finding.severity == fault.severity
    assert finding.title
    assert finding.count >= 1
    assert json.loads(json.dumps(report.table(), allow_nan=False))
    assert all(f.code in CHECKS and "\n" not in f.title + f.why + f.cure for f in report.findings)
    assert all(f.fix is None or f.fix in MENDS for f in report.findings)


def test_every_check_has_a_fault() -> None:
    from tests.data.test_doctor_world import CODES

    assert {fault.code for fault in FAULTS.values()} | CODES | {"goal-coverage"} == set(CHECKS)


@pytest.mark.parametrize(
    "name",
    [
        "final observation of the next episode",
        "timeouts marked as terminals",
        "lost ends",
        "NaN observation",
        "actions beyond by rounding",
        "copied episodes",
        "final observation made up",
    ],
)
def test_a_mended_log_is_silent(name: str) -> None:
    fault = FAULTS[name]
    bad = fault.plant(cart(120))
    report = diagnose(bad)
    mended = list(mend(report, bad))
    again = diagnose(mended)
    assert fault.code not in again.codes("error", "warning")
    assert set(again.codes("error", "warning")) <= set(report.codes("error", "warning")) - {fault.code}
    assert 0.9 * report.rows < sum(map(len, mended)) <= report.rows


def test_a_mend_takes_exactly_what_is_wrong() -> None:
    log = cart(200)
    bad = glue(log)
    report = diagnose(bad)
    found = {(int(e), int(s)) for e, s, _ in only(report, "jumps").marked}  # type: ignore[union-attr]
    planted, out = set(), 0
    for i in range(len(log)):
        if i % 6 == 1:
            planted.add((out - 1, len(log[i - 1]) - 1))
        else:
            out += 1
    assert found <= planted
    assert len(found) >= 0.9 * len(planted)
    mended = list(mend(report, bad))
    assert len(mended) == len(bad) + len(found)
    assert sum(map(len, mended)) == sum(map(len, bad)) - len(found)
    assert all(len(e.observation) == len(e) + 1 for e in mended)


def test_terminals_become_cuts_and_lose_a_row_that_another_episode_follows() -> None:
    bad = stitch(each(whole)(cart(200)))
    report = diagnose(bad)
    mended = list(mend(report, bad))
    late = [i for i, e in enumerate(bad) if len(e) == LIMIT]
    assert all(not mended[i].terminated and len(mended[i]) == LIMIT - 1 for i in late)
    assert all(m is b for i, (m, b) in enumerate(zip(mended, bad)) if i not in late)


def test_a_file_whose_timeouts_are_marked_as_terminals_reads_as_the_true_one_once_mended(tmp_path: Path) -> None:
    log = [e for e in cart(100) if not (e.terminated and len(e) == LIMIT)]
    over = np.concatenate([[False] * (len(e) - 1) + [e.terminated] for e in log])
    late = np.concatenate([[False] * (len(e) - 1) + [not e.terminated] for e in log])
    arrays = {
        "observations": np.concatenate([e.current for e in log]),
        "actions": np.concatenate([e.action for e in log]),
        "rewards": np.concatenate([e.reward for e in log]),
    }
    for name, flags in (("true", (over, late)), ("false", (over | late, np.zeros_like(late)))):
        ends = dict(zip(("terminals", "timeouts"), flags))
        write_d4rl(tmp_path / f"{name}.hdf5", arrays | ends, {"env_id": "Cart", "max_episode_steps": LIMIT})
    good, bad = (list(open_source(f"d4rl:{tmp_path / name}.hdf5").episodes) for name in ("true", "false"))
    facts = open_source(f"d4rl:{tmp_path / 'false.hdf5'}").facts
    report = diagnose(bad, facts=facts)
    assert report.codes("error", "warning") == ("timeouts-as-terminals",)
    mended = list(mend(report, bad))
    assert [len(e) for e in mended] == [len(e) for e in good]
    assert [e.terminated for e in mended] == [e.terminated for e in good]
    for ours, true in zip(mended, good):
        np.testing.assert_array_equal(ours.observation, true.observation)
        np.testing.assert_array_equal(ours.reward, true.reward)


def test_a_chain_is_split_where_it_breaks() -> None:
    log = [apart(e) for e in cart()]
    joined = [
        replace(
            b,
            observation=np.concatenate([a.observation, b.observation]),
            next_observation=np.concatenate([a.following, b.following]),
            action=np.concatenate([a.action, b.action]),
            reward=np.concatenate([a.reward, b.reward]),
        )
        for a, b in zip(log[:6:2], log[1:6:2])
    ] + log[6:]
    report = diagnose(joined)
    finding = only(report, "broken-chain")
    assert finding.count == 3
    assert finding.rows[0] == (0, len(log[0]) - 1)
    mended = list(mend(report, joined))
    assert [len(e) for e in mended] == [len(e) for e in log]  # both steps at the break are true
    np.testing.assert_array_equal(mended[1].following, log[1].following)


def test_a_mend_asks_for_the_log_that_was_examined() -> None:
    bad = FAULTS["NaN observation"].plant(cart(10))
    report = diagnose(bad)
    assert report.fixes == ("drop-broken",)
    assert len(list(mend(report, bad, only=()))) == 10
    with pytest.raises(SegueError, match="9 episodes instead of the 10"):
        list(mend(report, bad[:-1]))
    with pytest.raises(SegueError, match="has no fix clip-actions"):
        list(mend(report, bad, only=("clip-actions",)))


def test_actions_are_clipped_only_where_all_are_off_by_rounding() -> None:
    slight = FAULTS["actions beyond by rounding"].plant(cart(10))
    assert only(diagnose(slight), "action-range").fix == "clip-actions"
    far = each(put("action", 1.3, slice(4, 5)), slice(1))(slight)
    finding = only(diagnose(far), "action-range")
    assert finding.fix is None
    assert finding.numbers["largest"] == pytest.approx(1.3)


def test_units_are_looked_at() -> None:
    log = cart()
    assert "value-range" not in diagnose(log, Scaling(reward_scale=1.0)).codes()
    assert "value-range" in diagnose(log, Scaling(reward_scale=1e4)).codes()
    assert "value-range" not in diagnose(log, Scaling(reward_scale=1e4, reward_span=1_000.0)).codes()
    wide = FAULTS["columns of two sizes"].plant(log)
    assert "observation-scale" not in diagnose(wide, Scaling(standardise=True)).codes()


def test_terminal_rows_of_the_d4rl_layout_are_a_note() -> None:
    log = [e for e in cart(300) if e.terminated]
    report = diagnose(stitch(log))
    assert only(report, "stitched").severity == "note"
    assert report.codes("error", "warning") == ()


def test_without_a_limit_the_longest_episodes_speak() -> None:
    bad = each(whole)(cart(200))
    finding = only(diagnose(bad, facts={}), "timeouts-as-terminals")
    assert finding.severity == "error"
    assert finding.fix is None  # nothing says that it is a time limit


def test_images() -> None:
    rng = np.random.default_rng(0)
    log = [
        Recorded(rng.integers(0, 255, (31, 8, 8, 3), np.uint8), rng.uniform(-1, 1, (30, 2)).astype(np.float32),
                 rng.standard_normal(30).astype(np.float32), False)
        for _ in range(50)
    ]  # fmt: skip
    assert diagnose(log, facts={}).codes() == ()
    assert "stitched" in diagnose(stitch(log), facts={}).codes("error")
    assert "duplicate-episodes" in diagnose([*log, log[3]], facts={}).codes()


def test_nothing_and_next_to_nothing() -> None:
    assert diagnose([]).codes("error") == ("empty",)
    one = Recorded(np.zeros((2, 3), np.float32), np.zeros((1, 1), np.float32), np.zeros(1, np.float32), True)
    assert "few" in diagnose([one]).codes()
    bad = replace(one, observation=np.full((2, 3), np.nan, np.float32))
    assert "nan" in diagnose([bad, bad]).codes("error")


def test_two_passes_must_see_the_same() -> None:
    log = cart(5)
    lengths = iter((5, 4))
    with pytest.raises(SegueError, match="4 episodes instead of 5"):
        examine(lambda: iter(log[: next(lengths)]), {})


def test_memory_does_not_grow_with_the_log() -> None:
    def many(blocks: int) -> Iterator[Recorded]:
        for seed in range(blocks):
            rng = np.random.default_rng(seed)
            rows = rng.standard_normal((20, 501, 20)).astype(np.float32).cumsum(1)
            for seen in rows:
                yield Recorded(
                    seen, rng.uniform(-1, 1, (500, 2)).astype(np.float32), rng.random(500).astype(np.float32), False
                )

    peaks = []
    for blocks in (2, 8):  # 2 and 8 MB of observations
        tracemalloc.start()
        examine(lambda blocks=blocks: many(blocks), {})  # type: ignore[misc]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.25 * peaks[0], peaks


REAL = {"hopper-mixed": slice(150), "halfcheetah-medium": slice(20), "antmaze-umaze-diverse": slice(30),
        "adroit-door-expert25": slice(0, 300, 6)}  # fmt: skip
PLANTED: list[tuple[str, str, str, Callable[[Log], Log]]] = [
    ("hopper-mixed", "timeouts-as-terminals", "error", each(tall)),
    ("hopper-mixed", "stitched", "error", stitch),
    ("hopper-mixed", "jumps", "error", lambda log: glue(log, 40)),
    ("hopper-mixed", "reward-off-by-one", "warning", stream),
    ("hopper-mixed", "nan", "error", each(put("observation", NAN, slice(3, 4), 2), slice(7, 8))),
    ("hopper-mixed", "saturated-actions", "warning", each(lambda e: replace(e, action=np.sign(e.action)))),
    ("halfcheetah-medium", "timeouts-as-terminals", "error", each(lambda e: replace(e, terminated=True))),
    ("halfcheetah-medium", "jumps", "error", lambda log: glue(log, 7)),
    ("halfcheetah-medium", "reward-off-by-one", "warning", each(lagged)),
    ("halfcheetah-medium", "standardised-observations", "warning", standard),
    ("halfcheetah-medium", "duplicate-episodes", "warning", lambda log: [*log, log[3]]),
    ("halfcheetah-medium", "constant-observation", "note", each(put("observation", 0.0, slice(None), 4))),
    ("antmaze-umaze-diverse", "timeouts-as-terminals", "error", each(lambda e: replace(e, terminated=True))),
    ("antmaze-umaze-diverse", "terminals-as-timeouts", "error", each(cut)),
    ("antmaze-umaze-diverse", "reward-off-by-one", "error", stream),
    ("antmaze-umaze-diverse", "jumps", "error", lambda log: glue(log, 10)),
    ("antmaze-umaze-diverse", "frozen", "warning", each(columns(frozen), slice(5))),
    ("adroit-door-expert25", "stitched", "error", stitch),
    ("adroit-door-expert25", "jumps", "error", lambda log: glue(log, 25)),
    ("adroit-door-expert25", "timeouts-as-terminals", "error", each(lambda e: replace(e, terminated=True))),
    ("adroit-door-expert25", "infinite", "error", each(put("reward", INF, slice(1)), slice(1))),
    ("adroit-door-expert25", "value-range", "warning", each(lambda e: replace(e, reward=e.reward * 100))),
]  # fmt: skip


@pytest.fixture(scope="module")
def real(shared_data: Path) -> dict[str, tuple[Log, dict[str, object]]]:
    """Parts of real logs."""
    out = {}
    for name, part in REAL.items():
        if not (path := shared_data / f"{name}.hdf5").is_file():
            pytest.skip(f"no {name}.hdf5 in {shared_data} (set SEGUE_DATA to its folder)")
        source = open_source(f"d4rl:{path}")
        out[name] = (list(source.episodes)[part], source.facts)
    return out


@pytest.mark.parametrize(("name", "code", "severity", "plant"), PLANTED, ids=[f"{p[0]}-{p[1]}" for p in PLANTED])
def test_a_fault_planted_in_a_real_log_is_found(
    real: dict[str, tuple[Log, dict[str, object]]], name: str, code: str, severity: str, plant: Callable[[Log], Log]
) -> None:
    log, facts = real[name]
    found = {f.code: f.severity for f in reversed(diagnose(plant(log), facts=facts).findings)}
    assert found.get(code) == severity, found


@pytest.mark.parametrize("name", REAL)
def test_a_real_log_is_silent_without_its_task(real: dict[str, tuple[Log, dict[str, object]]], name: str) -> None:
    log, facts = real[name]
    assert diagnose(log, facts=facts).codes("error", "warning") == ()
