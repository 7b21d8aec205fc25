r"""Bounds that hold in spite of rounding, in float64 on the host.

Notation: u = 2^-53 and gamma_k = k u / (1 - k u). All statements assume that no product underflows.

Sums and products (`gamma`, `above`, `below`). One operation is exact up to a factor 1 + delta with
``|delta| <= u``. Hence a result v of k operations on non-negative numbers, in any order, lies
between (1 - u)^k and (1 + u)^k times the exact one, and (1 + u)^k <= (1 - u)^-k <= 1 + gamma_k. A
computed sum of k + 1 numbers of any sign is off by at most gamma_k times the sum of their absolute
values.

The smallest eigenvalue (`cholesky_bound`). Let A be symmetric of order n and B = fl(A - s I). If a
Cholesky factorisation of B runs to its end, its factor R satisfies R'R = B + E with ``|E| <= g
|R'||R|``, g = gamma_m, in whatever order sums are taken: m = n + 1, or n + 3 where an
implementation multiplies by reciprocals. As the diagonals of ``|R'||R|`` and R'R are equal, ``||E||
<= g tr(R'R) <= g (tr(B) + g tr(R'R))``, so that ``||E|| <= c tr(B)`` with c = g / (1 - g). The
diagonal of B differs from that of A - s I by at most u B_ii <= u tr(B). Together

    lambda_min(A) >= s - c tr(B)    with m = n + 4 in g;

here m = 2 (n + 2), which is at least that. Whatever computed the shift s, this is a proof.

A Rayleigh quotient (`rayleigh_bound`). For a vector v that is taken as exact, v'Av / v'v is at
least lambda_min. Its numerator is computed up to ``gamma_2n |v|'|A||v| <= gamma_2n ||A||_F v'v``,
its denominator and the division change the quotient by a factor within gamma_{n+1}: the error is at
most ``gamma_{3n+2} ||A||_F``, and gamma_{4n+8} leaves room for the rounding of ``||A||_F``.

The spectral norm (`spectral_norm_bound`). ``||A||^2`` is the largest eigenvalue of A A'. The
computed product of A (p, q) with its transpose is off by at most ``gamma_q ||A||_F^2`` in norm.

References:
    N. Higham, "Accuracy and Stability of Numerical Algorithms", 2002, lemma 3.1 and theorem 10.3;
    S. Rump, "Verification of positive definiteness", BIT 46, 2006 (both recalled; the constants
    are derived above).
"""

import math

import numpy as np

UNIT = 2.0**-53
_SMALL = 512  # rows up to which a singular value decomposition costs next to nothing


def gamma(k: int) -> float:
    """Return gamma_k = k u / (1 - k u), rounded up."""
    return math.nextafter(k * UNIT / (1 - k * UNIT), math.inf)  # only the division is rounded


def above(value: float, roundings: int = 1) -> float:
    """Return a number not below the exact result of `roundings` operations on numbers >= 0.

    1 + gamma and the product below are rounded as well, which makes two more operations. Where
    nothing underflows, a sum of numbers >= 0 that is computed as 0 is 0.
    """
    if value == 0:
        return 0.0
    return math.nextafter(float(value) * (1 + gamma(roundings + 2)), math.inf)


def below(value: float, roundings: int = 1) -> float:
    """Return a number not above the exact result of `roundings` operations on numbers >= 0.

    The exact result is at least value / (1 + u)^k, and (1 + u)^-k >= 1 - k u >= 1 - gamma_k.
    """
    return max(math.nextafter(float(value) * (1 - gamma(roundings + 2)), -math.inf), 0.0)


def cholesky_bound(matrix: np.ndarray, shift: float) -> float | None:
    """Return a lower bound on lambda_min just below `shift`; None if the factorisation stops."""
    n = len(matrix)
    shifted = matrix.copy()
    np.fill_diagonal(shifted, np.diagonal(matrix) - shift)
    try:
        np.linalg.cholesky(shifted)
    except np.linalg.LinAlgError:
        return None
    g = gamma(2 * (n + 2))
    lost = above(g / (1 - g) * float(np.trace(shifted)), n + 3)
    return math.nextafter(shift - lost, -math.inf)


def smallest_eigenvalue_bound(matrix: np.ndarray, guess: float) -> float:
    """Return a lower bound on lambda_min of a symmetric matrix, close below the computed `guess`.

    A poor guess costs tightness, never the bound. It is -inf where an entry is not finite.
    """
    n = len(matrix)
    size = largest_row_sum(matrix)
    if not np.isfinite(size):
        return -math.inf
    diagonal = float(np.sum(np.abs(np.diagonal(matrix))))
    step = max(2 * gamma(2 * (n + 2)) * (diagonal + n * abs(guess)), np.finfo(float).tiny)
    while step < 2 * size:
        bound = cholesky_bound(matrix, guess - step)
        if bound is not None:
            return bound
        step *= 4
    return -size


def largest_eigenvalue_bound(matrix: np.ndarray, guess: float | None = None) -> float:
    """Return an upper bound on lambda_max of a symmetric matrix; inf if an entry is not finite."""
    if not np.isfinite(matrix).all():
        return math.inf
    computed = float(np.linalg.eigvalsh(matrix)[-1]) if guess is None else guess
    return -smallest_eigenvalue_bound(-matrix, -computed)


def rayleigh_bound(matrix: np.ndarray, vector: np.ndarray) -> float:
    """Return an upper bound on lambda_min of a symmetric matrix from an approximate eigenvector."""
    quotient = float(vector @ matrix @ vector / (vector @ vector))
    return quotient + gamma(4 * len(matrix) + 8) * float(np.linalg.norm(matrix))


def spectral_norm_bound(matrix: np.ndarray) -> float:
    """Return an upper bound on the largest singular value, within some percent of it."""
    matrix = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    rows, columns = matrix.shape
    square = matrix @ matrix.T
    square = (square + square.T) / 2
    # One more rounding for the symmetric part, and as many again for the sum of squares itself.
    product_error = gamma(2 * columns + 4) * float(np.sum(matrix**2))
    if rows <= _SMALL:
        computed = float(np.linalg.norm(matrix, 2))
        proven = largest_eigenvalue_bound(square, computed**2) + product_error
        return max(computed * (1 + 1e-10), above(math.sqrt(max(proven, 0.0)), 3))
    v = np.random.default_rng(0).normal(size=rows)
    for _ in range(30):  # power iteration
        v = square @ (v / np.linalg.norm(v))
    guess = float(np.linalg.norm(v))
    for factor in (1.01, 1.03, 1.1, 1.3):
        bound = cholesky_bound(-square, -factor * guess)
        if bound is not None:
            return above(math.sqrt(-bound + product_error), 3)
    return above(float(np.linalg.norm(matrix)), matrix.size + 2)


def largest_row_sum(matrix: np.ndarray) -> float:
    """Return an upper bound on ||A||_inf, which is one on the spectral norm of a symmetric A."""
    sums = np.abs(matrix).sum(axis=1)
    return above(float(sums.max()), matrix.shape[1])
