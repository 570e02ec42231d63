"""Statistics against hand-computed values and properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segue.report import (
    bootstrap_band,
    dip,
    evaluation_regret,
    interquartile_mean,
    interval,
    probability_of_improvement,
    stratified_bootstrap,
    training_failure_rate,
)

scores = arrays(np.float64, st.integers(1, 12), elements=st.floats(-1e3, 1e3))


def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([5.0], 5.0),
        ([1.0, 2.0, 9.0], 4.0),  # floor(3 / 4) = 0: nothing is cut
        ([0.0, 1.0, 3.0, 100.0], 2.0),
        ([100.0, 0.0, 1.0, 3.0, 8.0], 4.0),
        ([0, 1, 2, 3, 4, 5, 6, 100], 3.5),
        ([0.0, 1.0, 3.0, 100.0, np.nan], 2.0),
        ([np.nan, np.nan], np.nan),
    ],
)
def test_interquartile_mean_by_hand(values: list[float], expected: float) -> None:
    np.testing.assert_allclose(interquartile_mean(values), expected)


def test_interquartile_mean_treats_columns_alone() -> None:
    table = np.array([[0.0, 4.0], [1.0, np.nan], [3.0, 2.0], [100.0, np.nan]])
    np.testing.assert_allclose(interquartile_mean(table), [2.0, 3.0])
    np.testing.assert_allclose(interquartile_mean(table.T, axis=1), [2.0, 3.0])


@given(scores)
def test_interquartile_mean_is_inside_and_ignores_order(values: np.ndarray) -> None:
    centre = interquartile_mean(values)
    assert values.min() - 1e-9 <= centre <= values.max() + 1e-9
    np.testing.assert_allclose(interquartile_mean(values[::-1]), centre)


@settings(deadline=None, max_examples=25)
@given(arrays(np.float64, (5, 3), elements=st.floats(-10, 10)))
def test_band_orders_and_repeats(table: np.ndarray) -> None:
    low, high = bootstrap_band(table, rng(), resamples=100)
    again = bootstrap_band(table, rng(), resamples=100)
    assert np.all(low <= high + 1e-12)
    assert np.all(table.min(0) - 1e-9 <= low)
    assert np.all(high <= table.max(0) + 1e-9)
    np.testing.assert_array_equal([low, high], again)


def test_band_is_the_percentile_interval_of_two_seeds() -> None:
    low, high = bootstrap_band([[0.0], [1.0]], rng())
    assert (low[0], high[0]) == (0.0, 1.0)  # a quarter of resamples is (0, 0), a quarter (1, 1)


def test_band_is_made_of_the_percentiles_of_redrawn_means() -> None:
    values = rng().normal(size=9)
    means = interquartile_mean(values[rng().integers(9, size=(400, 9))], axis=1)
    np.testing.assert_allclose(bootstrap_band(values, rng(), 400), np.percentile(means, [2.5, 97.5]))
    np.testing.assert_allclose(bootstrap_band(values, rng(), 400, level=0.5), np.percentile(means, [25, 75]))
    np.testing.assert_allclose(interval(values, rng(), 400)[1:], np.percentile(means, [2.5, 97.5]))


def test_band_redraws_whole_seeds() -> None:
    curve = np.array([[0.0, 10.0], [1.0, 11.0], [5.0, 15.0]])
    low, high = bootstrap_band(curve, rng(), resamples=200)
    np.testing.assert_allclose(low[1] - low[0], 10.0)
    np.testing.assert_allclose(high[1] - high[0], 10.0)


def test_band_in_blocks_is_the_band_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    table = rng().normal(size=(4, 9))
    whole = bootstrap_band(table, rng(), resamples=50)
    monkeypatch.setattr("segue.report.statistics.CELLS", 400)
    np.testing.assert_array_equal(bootstrap_band(table, rng(), resamples=50), whole)


def test_band_covers_the_mean_about_as_often_as_it_says() -> None:
    source = rng()
    hits = 0
    for _ in range(150):
        low, high = bootstrap_band(source.normal(size=(20, 1)), source, resamples=200)
        hits += bool(low[0] <= 0.0 <= high[0])
    assert 0.84 <= hits / 150 <= 0.995


def test_stratified_bootstrap_keeps_tasks_apart() -> None:
    apart = stratified_bootstrap([[0.0, 0.0, 0.0], [10.0, 10.0, 10.0]], rng())
    pooled = stratified_bootstrap([[0.0, 0.0, 0.0, 10.0, 10.0, 10.0]], rng())
    assert apart == (5.0, 5.0, 5.0)
    assert pooled.low < 5.0 < pooled.high


def test_one_seed_has_no_interval() -> None:
    point, low, high = interval([3.0], rng())
    assert point == 3.0
    assert np.isnan([low, high]).all()
    assert np.isnan(interval([np.nan], rng()).point)


def test_probability_of_improvement_by_hand() -> None:
    assert probability_of_improvement([[1.0, 3.0]], [[2.0, 3.0]], rng()).point == pytest.approx(1.5 / 4)
    assert probability_of_improvement([[5.0, 6.0]], [[1.0, 2.0, 3.0]], rng()) == (1.0, 1.0, 1.0)
    two_tasks = probability_of_improvement([[5.0], [0.0]], [[1.0], [1.0]], rng())
    assert two_tasks.point == 0.5


@given(scores, scores)
@settings(deadline=None, max_examples=25)
def test_improvement_of_both_sides_sums_to_one(x: np.ndarray, y: np.ndarray) -> None:
    there = probability_of_improvement([x], [y], rng(), resamples=20).point
    back = probability_of_improvement([y], [x], rng(), resamples=20).point
    assert there + back == pytest.approx(1.0)


def test_evaluation_regret_weighs_by_steps() -> None:
    regret = evaluation_regret([0, 10, 40], [[0.0, 1.0, 1.0], [1.0, 1.0, 1.0], [0.5, np.nan, 0.5]])
    np.testing.assert_allclose(regret, [1 - 35 / 40, 0.0, 0.5])


def test_evaluation_regret_needs_a_span() -> None:
    assert np.isnan(evaluation_regret([10], [[0.5]])).all()
    assert np.isnan(evaluation_regret([], np.zeros((2, 0)))).all()


def test_training_failure_rate_by_hand() -> None:
    assert training_failure_rate([1, 0, 0, 0, np.nan]) == 0.75
    assert np.isnan(training_failure_rate([]))


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        ([0.8, 0.3, 0.5, 0.8, 0.1], (0.8, 0.5, 300.0)),
        ([0.8, 0.3, 0.2, 0.4, 0.7], (0.8, 0.6, None)),
        ([0.8, 0.9, 0.1, 0.1, 0.1], (0.8, 0.0, 0.0)),  # a later collapse is not the hand-over's
        ([0.8, 0.8, 0.8, 0.8, 0.8], (0.8, 0.0, 0.0)),
        ([0.8, np.nan, 0.3, 0.9, 0.9], (0.8, 0.5, 300.0)),
    ],
)
def test_dip_by_hand(curve: list[float], expected: tuple[float, float, float | None]) -> None:
    value, depth, length = dip([0, 100, 200, 300, 400], curve)
    assert (value, pytest.approx(depth), length) == expected


@given(arrays(np.float64, st.integers(1, 10), elements=st.floats(0, 1)))
def test_dip_is_never_negative_nor_deeper_than_the_minimum(curve: np.ndarray) -> None:
    value, depth, length = dip(np.arange(len(curve)), curve)
    assert 0.0 <= depth <= value - curve.min() + 1e-12
    assert (length is None) == (depth > 0 and not np.any(curve[1:] >= value))
