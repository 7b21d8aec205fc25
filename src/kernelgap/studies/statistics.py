"""Intervals for what random experiments measure: means, crossings, exponents, correlations."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import special

from kernelgap.studies.journal import Row

RESAMPLES = 2000
LEVEL = 0.95


class Estimate(NamedTuple):
    """A number with its 95% interval; NaN where the data do not determine it."""

    value: float
    low: float
    high: float


def mean_interval(values: np.ndarray, *, lowest: float = -np.inf) -> Estimate:
    """Mean over seeds with Student's t interval, cut at `lowest`.

    Args:
        values: shape (seeds,), at least one; a single one gives a NaN interval.
        lowest: values cannot lie below this.

    Example:
        >>> from kernelgap.studies.statistics import mean_interval
        >>> [round(float(v), 3) for v in mean_interval([1.0, 2.0, 3.0])]
        [2.0, -0.484, 4.484]
    """
    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Estimate(mean, np.nan, np.nan)
    half = special.stdtrit(n - 1, (1 + LEVEL) / 2) * np.std(values, ddof=1) / np.sqrt(n)
    return Estimate(mean, float(np.maximum(lowest, mean - half)), mean + half)


def group_means(
    rows: Sequence[Row],
    by: Sequence[str],
    shares: Sequence[str] = (),
    numbers: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Means with intervals over the rows that agree in all of `by`, in the order of the rows.

    Args:
        rows: one per grid point and seed.
        by: what identifies a grid point.
        shares: columns that cannot be negative; their intervals are cut at 0.
        numbers: other columns.

    Returns:
        For each grid point `by`, `seeds` (how many rows), and a dict value, low, high per column.

    Example:
        >>> from kernelgap.studies.statistics import group_means
        >>> rows = [{"n": 5, "error": 0.1}, {"n": 5, "error": 0.3}]
        >>> points = group_means(rows, ("n",), ("error",))
        >>> points[0]["n"], points[0]["seeds"], round(points[0]["error"]["value"], 6)
        (5, 2, 0.2)
    """
    points = []
    for identity, members in grouped(rows, by).items():
        point: dict[str, Any] = dict(zip(by, identity, strict=True)) | {"seeds": len(members)}
        for name in (*shares, *numbers):
            values = np.array([member[name] for member in members])
            lowest = 0.0 if name in shares else -np.inf
            point[name] = mean_interval(values, lowest=lowest)._asdict()
        points.append(point)
    return points


def grouped(rows: Sequence[Row], by: Sequence[str]) -> dict[tuple, list[Row]]:
    """Rows that agree in the columns `by`, by their values there, in order of appearance.

    Example:
        >>> from kernelgap.studies.statistics import grouped
        >>> grouped([{"n": 5, "seed": 0}, {"n": 8, "seed": 0}, {"n": 5, "seed": 1}], ("n",))[5,]
        [{'n': 5, 'seed': 0}, {'n': 5, 'seed': 1}]
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    return groups


def interval_text(estimate: dict[str, float], form: str) -> str:
    """An estimate as it stands in tables: value [low, high].

    Example:
        >>> from kernelgap.studies.statistics import interval_text
        >>> interval_text({"value": 0.5, "low": 0.4, "high": 0.6}, ".2f")
        '0.50 [0.40, 0.60]'
    """
    value, low, high = (estimate[k] for k in ("value", "low", "high"))
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def crossing(sizes: np.ndarray, errors: np.ndarray, target: float) -> np.ndarray:
    """The n at which a curve of errors first falls to `target`, interpolated in log n.

    Args:
        sizes: increasing n, shape (grid,).
        errors: shape (..., grid).
        target: the error to reach.

    Returns:
        Shape (...): NaN where the curve starts at or below the target, inf where it stays above.

    Example:
        >>> from kernelgap.studies.statistics import crossing
        >>> print(crossing([10, 100], [[0.3, 0.1], [0.3, 0.2], [0.1, 0.0]], 0.2).round(2))
        [ 31.62 100.     nan]
    """
    log_n, errors = np.log(np.asarray(sizes, float)), np.asarray(errors, float)
    reached = errors <= target
    last = np.argmax(reached, axis=-1)  # first grid point at or below the target
    before = np.maximum(last - 1, 0)
    high = np.take_along_axis(errors, before[..., None], -1)[..., 0]
    low = np.take_along_axis(errors, last[..., None], -1)[..., 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        share = (high - target) / (high - low)
        n = np.exp(log_n[before] + share * (log_n[last] - log_n[before]))
    n = np.where(last == 0, np.nan, n)
    return np.where(reached.any(axis=-1), n, np.inf)


def bootstrap_crossings(
    sizes: np.ndarray, errors: np.ndarray, target: float, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """The crossing of the mean curve, and of `RESAMPLES` curves with seeds drawn anew.

    A seed is drawn as a whole curve: its training sets are nested, so its errors go together.

    Args:
        sizes: increasing n, shape (grid,).
        errors: shape (grid, seeds).
        target: the error to reach.
        rng: source of the resampling.

    Returns:
        (the crossing, resampled crossings of shape (RESAMPLES,)).

    Example:
        >>> import numpy as np
        >>> from kernelgap.studies.statistics import bootstrap_crossings
        >>> errors = np.array([[0.4, 0.4], [0.1, 0.1]])
        >>> value, resampled = bootstrap_crossings([10, 40], errors, 0.25, np.random.default_rng(0))
        >>> round(value, 6), resampled.shape
        (20.0, (2000,))
    """
    seeds = errors.shape[1]
    drawn = rng.integers(seeds, size=(RESAMPLES, seeds))
    resampled = errors[:, drawn].mean(axis=2).T
    return float(crossing(sizes, errors.mean(axis=1), target)), crossing(sizes, resampled, target)


def slope(dims: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Least-squares slope of log n against log d: the exponent of n in d.

    Args:
        dims: shape (dims,), at least two different.
        n: shape (..., dims).

    Returns:
        Shape (...); NaN where an n is not finite.

    Example:
        >>> from kernelgap.studies.statistics import slope
        >>> print(slope([10, 20, 40], [100, 400, 1600]).round(3))
        2.0
    """
    log_d = np.log(np.asarray(dims, float))
    centred = log_d - log_d.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        log_n = np.where(np.isfinite(n), np.log(n), np.nan)
    return log_n @ centred / (centred @ centred)


def percentile_interval(value: float, resampled: np.ndarray) -> Estimate:
    """`value` with the 95% percentile interval; NaN bounds where resamples are not finite."""
    tail = 100 * (1 - LEVEL) / 2
    if not np.isfinite(value):
        return Estimate(np.nan, np.nan, np.nan)
    ordered = np.where(np.isnan(resampled), np.inf, resampled)
    low, high = np.percentile(ordered, [tail, 100 - tail], method="nearest")
    if np.isnan(resampled).any() or not np.isfinite(high):
        return Estimate(float(value), float(low) if np.isfinite(low) else np.nan, np.nan)
    return Estimate(float(value), float(low), float(high))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation, with mean ranks for equal values; NaN if one is constant.

    Args:
        a: shape (n,).
        b: shape (n,).

    Example:
        >>> from kernelgap.studies.statistics import rank_correlation
        >>> round(rank_correlation([1, 2, 3, 4], [1, 4, 9, 8]), 6)
        0.8
    """
    ranks = []
    for values in (np.asarray(a, float), np.asarray(b, float)):
        ordered = np.sort(values)
        below, up_to = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
        centred = (below + up_to) / 2
        ranks.append(centred - np.mean(centred))
    size = np.sqrt(np.sum(ranks[0] ** 2) * np.sum(ranks[1] ** 2))
    return float(ranks[0] @ ranks[1] / size) if size > 0 else float("nan")


def bootstrap(values: np.ndarray, function: Any, rng: np.random.Generator) -> Estimate:
    """A function of all seeds' values, with the 95% interval of seeds drawn anew, each as a whole.

    Args:
        values: shape (seeds, ...).
        function: maps arrays of this shape to a number.
        rng: source of the resampling.

    Example:
        >>> import numpy as np
        >>> from kernelgap.studies.statistics import bootstrap
        >>> found = bootstrap(np.arange(50.0), np.mean, np.random.default_rng(0))
        >>> found.value, bool(19 < found.low < 22 < 27 < found.high < 30)
        (24.5, True)
    """
    values = np.asarray(values, float)
    drawn = rng.integers(len(values), size=(RESAMPLES, len(values)))
    resampled = np.array([function(values[some]) for some in drawn])
    return percentile_interval(float(function(values)), resampled)
