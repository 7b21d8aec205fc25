"""Angles and arc-cosine functions from cosines, without arccos: one root and a polynomial."""

import math
from fractions import Fraction
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np


@lru_cache
def tail(p: int, double: bool) -> tuple[float, ...]:
    """Coefficients of J_p(theta) / w^(p+1/2) in w = (1 + c) / 2 = sin^2((pi - theta) / 2) <= 1/2.

    J_p are the arc-cosine functions of Cho and Saul (2009); J_0 = pi - theta = 2 arcsin(sqrt(w))
    has a power series with positive coefficients, and J_p' = p^2 J_{p-1} integrates it term by
    term. Chebyshev interpolation shortens it to relative errors of 1e-7 (float32) and 3e-15
    (float64). XLA's own arccos takes most of the time of a kernel; this is one root and a
    polynomial, and has no cancellation as theta nears pi.
    """
    series = []
    for k in range(80):
        term = Fraction(2 * math.comb(2 * k, k), 4**k * (2 * k + 1))
        for j in range(1, p + 1):
            term *= Fraction(4 * j * j, 2 * (k + j) + 1)
        series.append(float(term))
    degree = (17 if double else 7) - p
    nodes = (1 + np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))) / 4
    values = np.polynomial.polynomial.polyval(nodes, series)
    fit = np.polynomial.Chebyshev.fit(nodes, values, degree, domain=[0, 0.5])
    return tuple(fit.convert(kind=np.polynomial.Polynomial).coef.tolist())


def tail_polynomial(p: int, w: jax.Array) -> jax.Array:
    """J_p(theta) / w^(p+1/2) for w = sin^2((pi - theta) / 2) in [0, 1/2]."""
    coefficients = tail(p, w.dtype == jnp.float64)
    found = jnp.full_like(w, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        found = found * w + coefficient
    return found
