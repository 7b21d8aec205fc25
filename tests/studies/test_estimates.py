import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from kernelgap.studies import Table
from kernelgap.studies.estimates import (
    POSITIVE,
    REAL,
    SHARE,
    Estimate,
    bootstrap,
    bootstrap_crossings,
    crossing,
    mean_interval,
    means,
    percentile_interval,
    select,
    slope,
)
from kernelgap.studies.tables import text


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=20))
def test_mean_interval_is_students_t(values):
    found = mean_interval(values)
    if np.std(values) > 1e-9:
        expected = stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values))
        np.testing.assert_allclose([found.low, found.high], expected, rtol=1e-6, atol=1e-9)
    assert mean_interval(values, POSITIVE).low >= 0
    within = (min(values), max(values))
    assert within[0] <= mean_interval(values, within).low <= mean_interval(values, within).high
    assert mean_interval(values, within).high <= within[1]


def test_mean_interval_covers():
    rng = np.random.default_rng(0)
    covered = sum(
        i.low <= 0 <= i.high for i in (mean_interval(rng.normal(size=10)) for _ in range(4000))
    )
    assert stats.binomtest(covered, 4000, 0.95).pvalue > 1e-6


def test_single_seed_has_no_interval():
    assert np.isnan(mean_interval([0.3]).high)


@given(st.floats(0.05, 0.45), st.floats(10, 1000), st.floats(0.1, 2))
def test_crossing_of_a_line_in_log_n_is_exact(target, start, width):
    sizes = start * np.exp(np.linspace(0, width, 7))
    errors = 0.5 - 0.5 * np.linspace(0, 1, 7)
    expected = start * np.exp(width * (0.5 - target) / 0.5)
    np.testing.assert_allclose(crossing(sizes, errors, target), expected, rtol=1e-9)


def test_crossing_is_the_first_one_and_says_when_there_is_none():
    sizes = [1, 10, 100, 1000]
    assert 1 < crossing(sizes, [0.4, 0.1, 0.3, 0.0], 0.2) < 10
    assert crossing(sizes, [0.4, 0.3, 0.3, 0.25], 0.2) == np.inf
    assert np.isnan(crossing(sizes, [0.1, 0.0, 0.0, 0.0], 0.2))


@given(st.floats(-1, 3), st.floats(0.1, 100))
def test_slope_recovers_a_power_law(exponent, factor):
    dims = np.array([10, 14, 20, 28, 40])
    np.testing.assert_allclose(slope(dims, factor * dims**exponent), exponent, rtol=1e-9, atol=1e-9)


def test_bootstrap_interval_of_a_crossing_covers():
    """Logistic curves with a random shift per seed: the truth is where their mean crosses."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(10, 1000, 9)
    shifts = np.log(100) + 0.3 * rng.normal(size=(200_000, 1))
    truth = float(crossing(
        sizes, (0.5 / (1 + np.exp(3 * (np.log(sizes) - shifts)))).mean(axis=0), 0.1))  # fmt: skip
    covered, runs = 0, 200
    for _ in range(runs):
        shifts = np.log(100) + 0.3 * rng.normal(size=(1, 12))
        errors = 0.5 / (1 + np.exp(3 * (np.log(sizes)[:, None] - shifts)))
        value, resampled = bootstrap_crossings(sizes, errors, 0.1, rng)
        interval = percentile_interval(value, resampled)
        assert interval.low <= value <= interval.high
        covered += interval.low <= truth <= interval.high
    # Percentile intervals of 12 seeds cover less than 95%: between 85% and all.
    assert covered / runs > 0.85


def test_percentile_interval_with_resamples_that_never_cross():
    resampled = np.r_[np.full(1900, 5.0), np.full(100, np.inf)]
    found = percentile_interval(5.0, resampled)
    assert found.low == 5
    assert np.isnan(found.high)
    assert np.isnan(percentile_interval(np.inf, resampled).value)


@pytest.mark.parametrize("n", [[1.0, np.inf], [np.nan, 1.0]])
def test_slope_without_a_value_is_nan(n):
    assert np.isnan(slope([10, 20], n))


def test_means_are_those_of_their_rows():
    rng = np.random.default_rng(0)
    rows = [
        {"a": a, "b": b, "seed": s, "share": rng.uniform(0, 0.2), "number": rng.normal()}
        for a in ("x", "y") for b in (2, 1) for s in range(5)
    ]  # fmt: skip
    ranges = {"share": SHARE, "number": REAL}
    estimates = means(rows, ("a", "b"), ranges)
    assert [tuple(e.keys.values()) for e in select(estimates, "share")] == [
        ("x", 2), ("x", 1), ("y", 2), ("y", 1)]  # fmt: skip
    for e in estimates:
        values = [
            row[e.metric] for row in rows if (row["a"], row["b"]) == (e.keys["a"], e.keys["b"])
        ]
        assert (e.value, e.low, e.high) == mean_interval(values, ranges[e.metric])
        assert e.value == np.mean(values)
    assert [e.keys["b"] for e in select(estimates, "number", {"a": "y"})] == [2, 1]
    assert select(estimates, "number", {"a": "z"}) == []


def test_bootstrap_draws_seeds_as_a_whole():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 1, 400)
    np.testing.assert_allclose(bootstrap(values, np.mean, rng), mean_interval(values), atol=0.02)
    pair = np.stack([values, values + 1], axis=1)  # their difference has no spread
    interval = bootstrap(pair, lambda both: np.mean(both[:, 1] - both[:, 0]), rng)
    np.testing.assert_allclose(interval, 1)


def test_columns_of_tables_never_meet():
    """Numbers of any size, with signs, of keys that some lines lack."""
    estimates = [
        Estimate("error", {"learner": k, "n": n}, value, -value, 1e6 * value)
        for k in ("net", "a long name") for n in (1, 1000) for value in (0.5, -123456.0)
    ] + [Estimate("margin", {"learner": "svm"}, -0.0), Estimate("gap", {"learner": "svm", "d": 3}, 2)]  # fmt: skip
    table = Table({"error": ".3f", "margin": ".4f", "gap": "+.1f"}, "title", across="d")
    title, head, *lines = text(estimates, table).splitlines()
    assert title == "title"
    assert head.split("  ")[0] == "learner"
    assert "d=3" in head
    assert len(lines) == 5
    for line in lines:
        assert "]-" not in line
        assert "][" not in line
    assert lines[-1].split() == ["svm", "0.0000", "+2.0"]
    assert text(estimates, Table({"other": ".3f"})) == ""
