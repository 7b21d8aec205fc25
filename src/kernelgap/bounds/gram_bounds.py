r"""Lower bounds on the smallest eigenvalue of the Gram matrix of diverse units.

G is the Gram matrix of the limit kernel g, `diversity.diversity_kernel`, at n inputs, and D'D that
of the extended features of m units, `diversity.extended_feature_gram`, whose smallest eigenvalue is
s_min(D)^2. `kernelgap.bounds.tail_kernel` derives the bounds on G, from the high degrees of g,
`kernelgap.bounds.random_units` the step from G to D'D.
"""

import math
from typing import Literal, NamedTuple

import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.verified import (
    above,
    gamma,
    largest_row_sum,
    smallest_eigenvalue_bound,
    spectral_norm_bound,
)
from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.bounds import random_units, tail_kernel
from kernelgap.bounds.bound import Status
from kernelgap.typing import ArrayLike

_BLOCK = 2**23  # cosines that are in memory at a time


@saveable()
class EigenvalueBound(NamedTuple):
    """A lower bound on the smallest eigenvalue of a Gram matrix, and the chance that it holds.

    Attributes:
        value: The eigenvalue is at least this, 0 where nothing is proved.
        probability: The statement holds with at least this probability, 1 for given inputs alone.
            It says nothing if that is 0 or less.
        status: As in `Bound`.
        source: The formula and where it comes from.
        constant: False if `value` holds only up to a universal constant that is not known.
    """

    value: float
    probability: float
    status: Status
    source: str
    constant: bool = True

    __repr__ = compact_repr
    _repr_html_ = html_repr

    @property
    def vacuous(self) -> bool:
        """True where nothing is said: no positive value, probability, or constant."""
        return not (self.constant and self.value > 0 and self.probability > 0)


def sample_gram_bound(
    x: ArrayLike,
    *,
    width: int | None = None,
    method: Literal["rows", "eigenvalue"] = "rows",
    degree: int | None = None,
    delta: float = 0.05,
) -> EigenvalueBound:
    r"""Bound lambda_min(G) from below for given inputs, or s_min(D)^2 for random units on them.

    Without `width` the bound is one on lambda_min(G), and certain. With it, on s_min(D)^2 for
    `width` units that are independent of the inputs and uniform in direction, as a net with
    Gaussian weights has at its start; it holds with probability 1 - delta over these.

    Values are computed on the host in float64, with bounds on all rounding errors. Not under `jit`.

    Args:
        x: Inputs of shape (n, d), of any norm.
        width: None, or m >= 1 units.
        method: `"rows"`: Gershgorin's theorem for g without its low degrees, O(n^2 d) time.
            `"eigenvalue"`: the smallest eigenvalue of that matrix, O(n^3) time.
        degree: The largest degree that is left out; -1 leaves out none. By default the best choice:
            for `"rows"` one of up to 12, and for `"eigenvalue"` -1, which gives lambda_min(G)
            itself, up to rounding.
        delta: Probability in (0, 1) with which a bound for random units may fail.

    Returns:
        An `EigenvalueBound` with status `"derived"`.

    Raises:
        TypeError: If x is being traced.

    Example:
        >>> import jax, kernelgap as kg
        >>> x = kg.datasets.sphere(jax.random.key(0), 200, 50)
        >>> rows = kg.bounds.sample_gram_bound(x)
        >>> exact = kg.bounds.sample_gram_bound(x, method="eigenvalue")
        >>> units = kg.bounds.sample_gram_bound(x, method="eigenvalue", width=10_000)
        >>> [round(float(v), 2) for v in (rows.value, exact.value, units.value / 10_000)]
        [0.08, 0.15, 0.13]

    References:
        Derived: `kernelgap.bounds.tail_kernel` for G, `kernelgap.bounds.random_units` for D, by
        second moments for lambda_min(G) itself, otherwise by Chernoff's inequality for matrices.
        Paper B asks for such a bound; its own, `discrepancy_bound`, is vacuous.
    """
    checks.choice(method, "method", ("rows", "eigenvalue"))
    inputs = array_checks.inputs(x)
    if not array_checks.is_concrete(inputs):
        raise TypeError(
            "`sample_gram_bound` runs on the host: call it outside of jit, vmap and grad"
        )
    width, delta = _of_units(width, delta)
    if degree is not None:
        degree = checks.integer(degree, "degree", minimum=-1)
    host = np.asarray(inputs, np.float64)
    largest = float(np.max(np.abs(host)))
    exponent = math.frexp(largest)[1]
    host = np.ldexp(host, -exponent)  # exact, so that squares stay in range
    scale = math.ldexp(1.0, 2 * min(exponent, 511))  # if it overflows or underflows, too small
    d = host.shape[1]
    if d == 1 and degree is None:
        degree = -1  # two inputs on a line are parallel: there are no degrees
    if degree is not None and degree >= 0 and d == 1:
        raise ValueError(f"`degree` must be -1 for inputs in one dimension; got {degree}")
    if method == "rows":
        lower, best = _by_rows(host, tail_kernel.DEGREES if degree is None else (degree,))
        source = f"Gershgorin for the degrees above {best}"
    else:
        best = -1 if degree is None else degree
        if width is not None and best == -1:
            value = _by_moments(host, width, delta)
            source = "second moments of one unit's matrix, from Tropp 2012"
            return EigenvalueBound(scale * value, 1 - delta, "derived", source)
        lower = _by_eigenvalue(host, best)
        source = f"lambda_min of the degrees above {best}" if best >= 0 else "lambda_min(G)"
    lower = max(lower, 0.0)
    if width is None:
        return EigenvalueBound(scale * lower, 1.0, "derived", source)
    squared_norm = above(spectral_norm_bound(host) ** 2)
    value = random_units.chernoff(lower, squared_norm, width=width, n=len(host), delta=delta)
    source += "; Chernoff over units, Tropp 2012"
    return EigenvalueBound(scale * value, 1 - delta, "derived", source)


def uniform_gram_bound(
    n: int, d: int, *, width: int | None = None, delta: float = 0.05
) -> EigenvalueBound:
    r"""Bound lambda_min(G) or s_min(D)^2 from below for n inputs uniform on the sphere of R^d.

    No sample is needed. Without `width` this bounds lambda_min(G), with probability 1 - delta over
    the inputs; with it, s_min(D)^2 for `width` independent units of uniform direction, with
    probability 1 - delta over inputs and units.

    For n up to about d^2 the bound is near 1/11, the weight of the degrees above 2, and for more
    inputs slowly falls; lambda_min(G) itself is about twice to three times as large.

    Args:
        n: Number of inputs, at least 1.
        d: Dimension, at least 2; the inputs have norm 1.
        width: None, or m >= 1 units. For n = 3000 and d = 300, a value above 0 takes 3,000.
        delta: Probability in (0, 1) with which the bound may fail.

    Returns:
        An `EigenvalueBound` with status `"derived"`.

    Example:
        >>> import kernelgap as kg
        >>> bound = kg.bounds.uniform_gram_bound(3000, 300)
        >>> print(f"{bound.value:.3f} with probability {bound.probability}")
        0.086 with probability 0.95
        >>> kg.bounds.uniform_gram_bound(3000, 300, width=1000).vacuous
        True

    References:
        Derived: `kernelgap.bounds.tail_kernel` (Chernoff for sums of ``|h_T(c)|``, with the best T
        up to 12) and `kernelgap.bounds.random_units`.
    """
    n = checks.integer(n, "n", minimum=1)
    d = checks.integer(d, "d", minimum=2)
    width, delta = _of_units(width, delta)
    for_rows = delta if width is None else 0.45 * delta
    sums = {degree: tail_kernel.row_sums(d, degree) for degree in tail_kernel.DEGREES}
    bounds = {t: part.at_one - part.bound(n, for_rows) - 1e-12 for t, part in sums.items()}
    best = max(bounds, key=lambda degree: bounds[degree])
    lower = max(bounds[best], 0.0)
    source = f"Gershgorin for the degrees above {best}, Chernoff over inputs"
    if width is None:
        return EigenvalueBound(lower, 1 - delta, "derived", source)
    squared_norm = random_units.spectral_norm_of_uniform(n, d, 0.1 * delta)
    value = random_units.chernoff(lower, squared_norm, width=width, n=n, delta=0.45 * delta)
    return EigenvalueBound(value, 1 - delta, "derived", source + " and units, Tropp 2012")


def _of_units(width: int | None, delta: float) -> tuple[int | None, float]:
    if width is not None:
        width = checks.integer(width, "width", minimum=1)
    return width, checked_delta(delta)


def checked_delta(delta: float) -> float:
    """Return a probability in (0, 1) that is known before tracing."""
    delta = checks.static_number(delta, "delta", minimum=0, exclusive=True)
    if delta >= 1:
        raise ValueError(f"`delta` must be a probability in (0, 1); got {delta:g}")
    return delta


def _norms(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.sum(x**2, axis=1))


def _cosines(x: np.ndarray, norms: np.ndarray, rows: slice) -> np.ndarray:
    """Cosines of some inputs to all, exactly 1 on the diagonal; 0 for zero inputs."""
    units = x / np.where(norms > 0, norms, 1)[:, None]
    cosines = units[rows] @ units.T
    index = np.arange(len(x))[rows]
    cosines[np.arange(len(index)), index] = 1
    return cosines


def _by_rows(x: np.ndarray, degrees: tuple[int, ...]) -> tuple[float, int]:
    """Return Gershgorin's bound on lambda_min(G) for the best of the degrees, and that degree."""
    n, d = x.shape
    norms, off = _norms(x), tail_kernel.off_cosine(d)
    lengths = gamma(2 * d + 20)  # relative error of a product of two norms
    least = dict.fromkeys(degrees, math.inf)
    side = max(_BLOCK // n, 1)
    for start in range(0, n, side):
        rows = slice(start, start + side)
        cosines = _cosines(x, norms, rows)
        sizes = norms[rows, None] * norms[None]
        diagonal = np.arange(start, min(start + side, n))
        sizes[np.arange(len(diagonal)), diagonal] = 0
        for tail in tail_kernel.tails(cosines, d, degrees, off):
            sums = np.sum(sizes * (np.abs(tail.values) + tail.error), axis=1)
            beside = sums * (1 + 2 * (lengths + gamma(n + 4)))
            ends = tail.at_one * norms[rows] ** 2 * (1 - lengths) - beside
            least[tail.degree] = min(least[tail.degree], float(ends.min()))
    best = max(degrees, key=lambda degree: least[degree])
    return least[best] - 4 * gamma(4) * abs(least[best]), best


def _tail_gram(x: np.ndarray, degree: int) -> tuple[np.ndarray, float]:
    """Return the Gram matrix of h_T and a bound on the norm of its error."""
    d, norms = x.shape[1], _norms(x)
    cosines, sizes = _cosines(x, norms, slice(None)), norms[:, None] * norms[None]
    (tail,) = tail_kernel.tails(cosines, d, (degree,), tail_kernel.off_cosine(d))
    gram = sizes * tail.values
    np.fill_diagonal(gram, norms**2 * tail.at_one)
    error = sizes * tail.error
    np.fill_diagonal(error, 8e-16 * norms**2)  # h_T(1) is rounded down by up to that
    error += 2 * gamma(2 * d + 20) * np.abs(gram)
    return (gram + gram.T) / 2, largest_row_sum(error)


def _by_eigenvalue(x: np.ndarray, degree: int) -> float:
    gram, error = _tail_gram(x, degree)
    return smallest_eigenvalue_bound(gram, float(np.linalg.eigvalsh(gram)[0])) - error


def _by_moments(x: np.ndarray, width: int, delta: float) -> float:
    d, norms = x.shape[1], _norms(x)
    gram, error = _tail_gram(x, -1)
    if not norms.all():
        return 0.0  # a zero input makes G singular
    cosines, off = _cosines(x, norms, slice(None)), tail_kernel.off_cosine(d)
    angles = np.arccos(np.clip(cosines, -1, 1))
    angles = (angles + angles.T) / 2
    angle_error = tail_kernel.angle_error(cosines, off)
    np.fill_diagonal(angle_error, 0)
    return random_units.second_moment_bound(
        gram, error, cosines * np.outer(norms, norms), angles, angle_error,
        d=d, width=width, delta=delta,
    )  # fmt: skip
