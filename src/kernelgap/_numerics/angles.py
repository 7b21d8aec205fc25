"""Arc-cosine functions from a square root and a polynomial, without calling arccos."""

import math
from fractions import Fraction
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np


@lru_cache
def tail_coefficients(p: int, double: bool) -> tuple[float, ...]:
    """Return the coefficients of J_p(theta) / w^(p+1/2), a polynomial in w, for 0 <= w <= 1/2.

    Here w = (1 + c) / 2 = sin^2((pi - theta) / 2) for an angle theta >= pi/2 of cosine c.

    The J_p are the arc-cosine functions of Cho and Saul (2009). J_0 = pi - theta =
    2 arcsin(sqrt(w)) has a power series with positive coefficients, and J_p' = p^2 J_{p-1}
    integrates it term by term. Chebyshev interpolation truncates it with relative errors of 1e-7
    (float32) and 3e-15 (float64). XLA's arccos would take most of the time of a kernel; this
    polynomial is cheaper and has no cancellation as theta approaches pi.
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
    """Evaluate J_p(theta) / w^(p+1/2) for w = sin^2((pi - theta) / 2) in [0, 1/2]."""
    coefficients = tail_coefficients(p, w.dtype == jnp.float64)
    value = jnp.full_like(w, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * w + coefficient
    return value
