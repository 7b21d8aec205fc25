"""Intervals for what random experiments measure: means, crossings and scaling exponents."""

from typing import NamedTuple

import numpy as np
from scipy import special

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
    return Estimate(mean, max(lowest, mean - half), mean + half)


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
