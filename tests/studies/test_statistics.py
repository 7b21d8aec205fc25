import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kernelgap.studies import statistics


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=20))
def test_mean_interval_is_students_t(values):
    found = statistics.mean_interval(values)
    if np.std(values) > 1e-9:
        expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-6, atol=1e-9)
    assert statistics.mean_interval(values, lowest=0.0).low >= 0


def test_mean_interval_covers():
    rng = np.random.default_rng(0)
    covered = sum(
        i.low <= 0 <= i.high
        for i in (statistics.mean_interval(rng.normal(size=10)) for _ in range(4000))
    )
    assert stats.binomtest(covered, 4000, 0.95).pvalue > 1e-6


def test_single_seed_has_no_interval():
    assert np.isnan(statistics.mean_interval([0.3]).high)


@given(st.floats(0.05, 0.45), st.floats(10, 1000), st.floats(0.1, 2))
def test_crossing_of_a_line_in_log_n_is_exact(target, start, width):
    sizes = start * np.exp(np.linspace(0, width, 7))
    errors = 0.5 - 0.5 * np.linspace(0, 1, 7)
    expected = start * np.exp(width * (0.5 - target) / 0.5)
    np.testing.assert_allclose(statistics.crossing(sizes, errors, target), expected, rtol=1e-9)


def test_crossing_is_the_first_one_and_says_when_there_is_none():
    sizes = [1, 10, 100, 1000]
    assert 1 < statistics.crossing(sizes, [0.4, 0.1, 0.3, 0.0], 0.2) < 10
    assert statistics.crossing(sizes, [0.4, 0.3, 0.3, 0.25], 0.2) == np.inf
    assert np.isnan(statistics.crossing(sizes, [0.1, 0.0, 0.0, 0.0], 0.2))


@given(st.floats(-1, 3), st.floats(0.1, 100))
def test_slope_recovers_a_power_law(exponent, factor):
    dims = np.array([10, 14, 20, 28, 40])
    np.testing.assert_allclose(
        statistics.slope(dims, factor * dims**exponent), exponent, rtol=1e-9, atol=1e-9
    )


def test_bootstrap_interval_of_a_crossing_covers():
    """Logistic curves with a random shift per seed: the truth is where their mean crosses."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(10, 1000, 9)
    shifts = np.log(100) + 0.3 * rng.normal(size=(200_000, 1))
    truth = float(statistics.crossing(
        sizes, (0.5 / (1 + np.exp(3 * (np.log(sizes) - shifts)))).mean(axis=0), 0.1))  # fmt: skip
    covered, runs = 0, 200
    for _ in range(runs):
        shifts = np.log(100) + 0.3 * rng.normal(size=(1, 12))
        errors = 0.5 / (1 + np.exp(3 * (np.log(sizes)[:, None] - shifts)))
        value, resampled = statistics.bootstrap_crossings(sizes, errors, 0.1, rng)
        interval = statistics.percentile_interval(value, resampled)
        assert interval.low <= value <= interval.high
        covered += interval.low <= truth <= interval.high
    # Percentile intervals of 12 seeds cover less than 95%: between 85% and all.
    assert covered / runs > 0.85


def test_percentile_interval_with_resamples_that_never_cross():
    resampled = np.r_[np.full(1900, 5.0), np.full(100, np.inf)]
    found = statistics.percentile_interval(5.0, resampled)
    assert found.low == 5
    assert np.isnan(found.high)
    assert np.isnan(statistics.percentile_interval(np.inf, resampled).value)


@pytest.mark.parametrize("n", [[1.0, np.inf], [np.nan, 1.0]])
def test_slope_without_a_value_is_nan(n):
    assert np.isnan(statistics.slope([10, 20], n))
