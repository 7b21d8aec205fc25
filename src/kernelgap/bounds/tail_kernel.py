r"""The kernel g of `diversity.diversity_kernel` without its low degrees, and its row sums.

As a function of the cosine, g = sum_t mu_t P_t with Gegenbauer's polynomials, P_t(1) = 1, and
shares mu_t = N(d, t) lambda_t >= 0. Without the degrees up to T it is

    h_T = g - sum_{t<=T} mu_t P_t.

The Gram matrix of the subtracted part is positive semi-definite, so that that of g is at least that
of h_T. As h_T(1) = sum_{t>T} mu_t falls slowly in T, while h_T(c) is tiny where c is, the high
degrees of g act like h_T(1) times the identity: by Gershgorin,

    lambda_min(G) >= h_T(1) - max_i sum_{j != i} abs(h_T(<x_i, x_j>))    for inputs of norm 1.

For uniform inputs, the cosines of row i are independent given x_i, and c^2 has the distribution
Beta(1/2, (d-1)/2). By Chernoff's inequality and a union bound over the n rows, all row sums are
below

    min_s [(n-1) log E exp(s abs(h_T(c))) + log(n / delta)] / s

with probability 1 - delta. The mean is bounded from above by cells of c: on [a, b], ``|h_T|`` is at
most its larger end plus (b-a)^2 / 8 sup ``|h_T''|``, where g'' = (2 - c^2) / (2 pi (1-c^2)^(3/2))
rises with ``|c|`` and ``|P_t''|`` is largest at 1; and at most h_T(1) everywhere.

Everything in this file is derived by this project.
"""

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from scipy import optimize, special

from kernelgap._numerics.verified import UNIT, gamma
from kernelgap.diversity import diversity_kernel
from kernelgap.kernels import zonal_spectrum

DEGREES = (-1, 0, 1, 2, 4, 6, 8, 10, 12)
"""Values of T among which the best is taken; mu_t = 0 for odd t >= 3, and -1 keeps all of g."""

_CELLS = 4000


def shares(d: int, degree: int) -> np.ndarray:
    """Return mu_0, ..., mu_degree, rounded down: less may be subtracted than there is."""
    if degree < 0:
        return np.zeros(0)
    return (1 - 1e-11) * zonal_spectrum(diversity_kernel(), d, degree=degree).shares


def at_one(mu: np.ndarray) -> float:
    """Return h_T(1), rounded down."""
    return 0.5 - math.fsum(mu) - 4 * UNIT


class Values(NamedTuple):
    """h_T at cosines.

    Attributes:
        degree: T.
        at_one: h_T(1).
        values: h_T at the cosines.
        error: Bound on the errors of the values, for cosines that are off by at most `off`.
    """

    degree: int
    at_one: float
    values: np.ndarray
    error: np.ndarray


def tails(
    cosines: np.ndarray, d: int, degrees: tuple[int, ...], off: float = 0.0
) -> Iterator[Values]:
    """Yield h_T at the cosines for each T of the ascending `degrees`.

    Cosines may be off by `off`; those on the diagonal of a matrix are not, and their error is
    for the caller.
    """
    mu = shares(d, degrees[-1])
    size = np.minimum(np.abs(cosines) + off, 1)
    error = size * angle_error(cosines, off) / (2 * math.pi) + off / 2 + 4 * UNIT
    cosines = np.clip(cosines, -1, 1)
    values = cosines * (0.5 - np.arccos(cosines) / (2 * np.pi))
    below, now = np.zeros_like(cosines), np.ones_like(cosines)
    off_below, off_now, lost = 0.0, 0.0, 0.0  # errors of two polynomials and of their sum
    for t in range(-1, degrees[-1] + 1):
        if t >= 0:
            values = values - mu[t] * now
            lost += mu[t] * (off_now + 8 * UNIT) + 2 * UNIT
            if t == 0:
                below, now = now, cosines
                off_below, off_now = off_now, off
            else:
                p, q = (2 * t + d - 2) / (t + d - 2), t / (t + d - 2)
                below, now = now, p * cosines * now - q * below
                rounding = 8 * UNIT * (p + q)
                off_below, off_now = off_now, p * (off_now + off) + q * off_below + rounding
        if t in degrees:
            yield Values(t, at_one(mu[: t + 1]), values, (error + lost) * (1 + 1e-9))


class RowSums(NamedTuple):
    """Cells of the cosine of uniform inputs, and bounds on ``|h_T|`` there.

    Attributes:
        at_one: h_T(1).
        logs: Logarithms of the probabilities of the cells.
        largest: Bounds on ``|h_T|`` in the cells.
    """

    at_one: float
    logs: np.ndarray
    largest: np.ndarray

    def bound(self, n: int, delta: float) -> float:
        """Return a bound on the largest row sum that holds with probability 1 - delta."""
        if n == 1:
            return 0.0
        level = math.log(n / delta)

        def exponent(log_s: float) -> float:
            s = math.exp(log_s)
            exponents = self.logs + s * self.largest
            top = float(exponents.max())
            mean = top + math.log(float(np.sum(np.exp(exponents - top))))
            return ((n - 1) * mean + level) / s

        # The minimum is over a perspective of a convex function, which has no other local ones.
        start = -math.log(self.at_one)
        best: Any = optimize.minimize_scalar(
            exponent, bounds=(start - 3, start + 30), method="bounded", options={"xatol": 1e-4}
        )
        return float(best.fun) * (1 + 1e-9)  # any s gives a bound


def row_sums(d: int, degree: int) -> RowSums:
    """Return the distribution of ``|h_T(c)|`` for a uniform input and a fixed one."""
    ((_, top, _, _),) = tails(np.zeros(1), d, (degree,))
    bulk = min(12 / math.sqrt(d), 0.999)  # 12 standard deviations of c
    edges = np.concatenate([np.linspace(0, bulk, _CELLS), np.linspace(bulk, 1, _CELLS // 8)[1:]])
    beyond = special.betainc((d - 1) / 2, 0.5, (1 - edges) * (1 + edges))  # P(|c| > edge)
    with np.errstate(divide="ignore"):
        curvature = (2 - edges[1:] ** 2) / (2 * np.pi * (1 - edges[1:] ** 2) ** 1.5)
        logs = np.log(np.maximum(beyond[:-1] - beyond[1:], 0) + 1e-11 * beyond[:-1])
    t = np.arange(degree + 1)
    at_the_end = t * (t - 1) * (t + d - 2) * (t + d - 1) / (d**2 - 1)  # P_t''(1)
    curvature += float(shares(d, degree) @ at_the_end)
    parts = []
    for sign in (1, -1):
        ((_, _, values, error),) = tails(sign * edges, d, (degree,))
        ends = np.abs(values) + error
        inside = np.maximum(ends[:-1], ends[1:]) + np.diff(edges) ** 2 / 8 * curvature
        parts.append(np.minimum(inside, top + 1e-15))
    both = np.concatenate([logs, logs]) - math.log(2)
    return RowSums(top, both, np.concatenate(parts))


def angle_error(cosines: np.ndarray, off: float) -> np.ndarray:
    """Bound the errors of the angles of cosines that are off by at most `off`.

    An angle changes by at most pi sqrt(off / 2), as from 1 to 1 - off, and by off / sin where that
    is less. The arc cosine itself is assumed to be accurate to 4 units.
    """
    size = np.minimum(np.abs(cosines) + off, 1)
    sine = np.sqrt(np.maximum((1 - size) * (1 + size), np.finfo(float).tiny))
    return np.minimum(math.pi * math.sqrt(off / 2), off / sine) + 16 * UNIT


def off_cosine(d: int) -> float:
    """Bound the error of a cosine computed as <x, z> / (||x|| ||z||) in float64."""
    return gamma(3 * d + 20)
