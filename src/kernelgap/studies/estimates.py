"""Estimates with intervals from random experiments: means, crossings, exponents."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from kernelgap._numerics import checks

Row = dict[str, Any]
Range = tuple[float, float]

RESAMPLES = 2000
LEVEL = 0.95
SHARE: Range = (0.0, 1.0)
POSITIVE: Range = (0.0, np.inf)
REAL: Range = (-np.inf, np.inf)
NAN = float("nan")


class Interval(NamedTuple):
    """A number with its 95% interval; NaN where the data do not determine it."""

    value: float
    low: float = NAN
    high: float = NAN


class Estimate(NamedTuple):
    """One line of the summary of a study.

    Attributes:
        metric: The quantity that was measured.
        keys: Where it was measured, such as `{"learner": "net", "n": 40}`.
        value: The estimate.
        low: Lower end of its 95% interval; NaN where there is none.
        high: Upper end of its 95% interval; NaN where there is none.
    """

    metric: str
    keys: dict[str, Any]
    value: float
    low: float = NAN
    high: float = NAN

    @property
    def name(self) -> str:
        """The metric and its keys on one line."""
        return " ".join([self.metric, *(f"{k}={plain(v)}" for k, v in self.keys.items())])


def plain(value: Any) -> str:
    """Return a key as text."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def select(
    estimates: Iterable[Estimate], metric: str, keys: Mapping[str, Any] | None = None
) -> list[Estimate]:
    """Return the estimates of one metric that have the given keys, in their order.

    Example:
        >>> from kernelgap.studies.estimates import Estimate, select
        >>> summary = [Estimate("error", {"learner": k, "n": 5}, 0.25) for k in ("net", "svm")]
        >>> select(summary, "error", {"learner": "svm"})[0].name
        'error learner=svm n=5'
    """
    wanted = (keys or {}).items()
    return [e for e in estimates if e.metric == metric and wanted <= e.keys.items()]


def mean_interval(values: Any, within: Range = REAL) -> Interval:
    """Return the mean over seeds with Student's t interval, cut to the range of the values.

    Args:
        values: Shape (seeds,), at least one value; a single value gives a NaN interval.
        within: The smallest and the largest possible value.

    Example:
        >>> from kernelgap.studies.estimates import SHARE, mean_interval
        >>> [round(float(v), 3) for v in mean_interval([0.1, 0.2, 0.3])]
        [0.2, -0.048, 0.448]
        >>> mean_interval([0.1, 0.2, 0.3], SHARE).low
        0.0
    """
    values = np.asarray(values, float)
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean)
    return t_interval(mean, float(np.std(values, ddof=1)), n, within)


def t_interval(mean: float, deviation: float, n: int, within: Range = REAL) -> Interval:
    """Return Student's t interval from the mean and standard deviation of n values."""
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * deviation / np.sqrt(n)
    return Interval(mean, *(float(np.clip(end, *within)) for end in (mean - half, mean + half)))


def grouped(rows: Iterable[Row], by: Sequence[str]) -> dict[tuple, list[Row]]:
    """Return the rows that agree in the columns `by`, by their values, in order of appearance."""
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in by), []).append(row)
    return groups


def means(
    rows: Sequence[Row],
    by: Sequence[str],
    metrics: Mapping[str, Range],
    *,
    of: Callable[[Any, Range], Interval] = mean_interval,
) -> list[Estimate]:
    """Return means with intervals over the rows that agree in the columns `by`.

    Args:
        rows: One row per grid point and seed.
        by: Columns that identify a grid point; the keys of the estimates.
        metrics: Columns to average, each with the range of its values, to which intervals are cut:
            (0, 1) for errors, (0, inf) for norms, (-inf, inf) where there are no limits.
        of: Function that returns an interval from the values of a grid point and their range.

    Example:
        >>> from kernelgap.studies import means
        >>> rows = [{"n": 5, "error": 0.125}, {"n": 5, "error": 0.375}]
        >>> means(rows, ["n"], {"error": (0, 1)})[0]
        Estimate(metric='error', keys={'n': 5}, value=0.25, low=0.0, high=1.0)
    """
    if not isinstance(rows, list | tuple) or not all(isinstance(row, dict) for row in rows):
        raise TypeError(f"`rows` must be a list of dicts; got {rows!r:.40}")
    if not isinstance(by, list | tuple):
        raise TypeError(f"`by` must be a list of columns; got {by!r:.40}")
    if not isinstance(metrics, Mapping) or not all(np.shape(v) == (2,) for v in metrics.values()):
        raise TypeError(f"`metrics` must map columns to (lowest, highest); got {metrics!r:.40}")
    checks.function(of, "of", "(values, range) -> Interval")
    return [
        Estimate(name, dict(zip(by, group, strict=True)), *of([r[name] for r in members], within))
        for group, members in grouped(rows, by).items()
        for name, within in metrics.items()
    ]


def crossing(sizes: Any, errors: Any, target: float) -> np.ndarray:
    """Return the n at which a curve of errors first falls to `target`, interpolated in log n.

    For errors of shape (..., grid) the result has shape (...). It is NaN where the curve starts at
    or below the target, and inf where it stays above.

    Example:
        >>> from kernelgap.studies.estimates import crossing
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
    sizes: Any, errors: np.ndarray, target: float, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """Return the crossing of the mean curve, and those of 2000 means of resampled seeds.

    Errors have shape (grid, seeds). Each seed is resampled as a whole curve, because its training
    sets are nested and its errors are dependent.
    """
    seeds = errors.shape[1]
    drawn = rng.integers(seeds, size=(RESAMPLES, seeds))
    resampled = errors[:, drawn].mean(axis=2).T
    return float(crossing(sizes, errors.mean(axis=1), target)), crossing(sizes, resampled, target)


def n_at_target(
    rows: Iterable[Row], target: float, rng: np.random.Generator
) -> tuple[float, np.ndarray]:
    """Return `bootstrap_crossings` of rows with n and error, one per n and seed."""
    sizes = grouped(rows, ("n",))
    errors = np.array([[row["error"] for row in members] for members in sizes.values()])
    return bootstrap_crossings([n for (n,) in sizes], errors, target, rng)


def slope(dims: Any, n: Any) -> np.ndarray:
    """Return the least-squares slope of log n against log d: the exponent of n in d.

    For n of shape (..., dims) the result has shape (...); it is NaN where an n is not finite.

    Example:
        >>> from kernelgap.studies.estimates import slope
        >>> print(slope([10, 20, 40], [100, 400, 1600]).round(3))
        2.0
    """
    log_d = np.log(np.asarray(dims, float))
    centred = log_d - log_d.mean()
    with np.errstate(invalid="ignore", divide="ignore"):
        log_n = np.where(np.isfinite(n), np.log(n), np.nan)
    return log_n @ centred / (centred @ centred)


_LAWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "d": lambda d: d,
    "d log d": lambda d: d * np.log(d),
    "d^2": np.square,
}


def law_likelihoods(dims: Any, n: Any, resampled: Any) -> dict[str, float]:
    """Return the log-likelihoods of n = a d, a d log d and a d^2, less that of the best of them.

    log n is Gaussian around the law, with the standard deviation of its resamples; a is the most
    likely one. Dimensions whose n or resamples are not finite are left out; with fewer than two
    left, or no deviation, all are NaN.

    Args:
        dims: Shape (dims,), each at least 2.
        n: Shape (dims,).
        resampled: Shape (resamples, dims), as of `bootstrap_crossings`.

    Example:
        >>> import numpy as np
        >>> from kernelgap.studies.estimates import law_likelihoods
        >>> dims, factors = np.array([10, 20, 40]), np.exp([[-0.1], [0.1]])
        >>> law_likelihoods(dims, 3 * dims, 3 * dims * factors)["d"]
        0.0
    """
    dims, n, resampled = (np.asarray(a, float) for a in (dims, n, resampled))
    used = np.isfinite(n) & np.isfinite(resampled).all(axis=0)
    deviation = np.std(np.log(np.where(used, resampled, 1)), axis=0)
    used &= deviation > 0
    if used.sum() < 2:
        return dict.fromkeys(_LAWS, NAN)
    weight = 1 / np.square(deviation[used])
    values = {}
    for name, law in _LAWS.items():
        apart = np.log(n[used]) - np.log(law(dims[used]))
        apart = apart - weight @ apart / weight.sum()
        values[name] = -float(weight @ np.square(apart)) / 2
    best = max(values.values())
    return {name: value - best for name, value in values.items()}


def paired_changes(
    values: Any, reference: Any, rng: np.random.Generator
) -> tuple[Interval, Interval]:
    """Return the mean paired difference over seeds, and that over the mean of the reference."""
    pairs = np.stack([values, reference], axis=1)
    relative = bootstrap(pairs, lambda both: np.divide(*np.mean(both, axis=0)) - 1, rng)
    return mean_interval(pairs[:, 0] - pairs[:, 1]), relative


def percentile_interval(value: float, resampled: np.ndarray) -> Interval:
    """Return `value` with the 95% percentile interval; NaN ends where resamples are not finite."""
    tail = 100 * (1 - LEVEL) / 2
    if not np.isfinite(value):
        return Interval(NAN)
    ordered = np.where(np.isnan(resampled), np.inf, resampled)
    low, high = np.percentile(ordered, [tail, 100 - tail], method="nearest")
    if np.isnan(resampled).any() or not np.isfinite(high):
        return Interval(float(value), float(low) if np.isfinite(low) else NAN)
    return Interval(float(value), float(low), float(high))


def bootstrap(
    values: Any, function: Callable[[np.ndarray], Any], rng: np.random.Generator
) -> Interval:
    """Return a function of all seeds' values, with the percentile interval of resampled seeds.

    SciPy's bootstrap gives a NaN interval as soon as one resample is infinite; this one does not.
    The values have the seeds along their first axis.
    """
    values = np.asarray(values, float)
    drawn = rng.integers(len(values), size=(RESAMPLES, len(values)))
    resampled = np.array([function(values[seeds]) for seeds in drawn])
    return percentile_interval(float(function(values)), resampled)
