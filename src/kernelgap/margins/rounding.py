r"""The bound of `margins.relaxation` with every rounding error accounted for.

Multipliers may be any floating-point numbers: what they fail to satisfy is paid for. Errors of sums
are bounded by gamma_k = k u / (1 - k u) times the sum of absolute values, with u = 2^-53, in
whatever order they are added; largest eigenvalues are verified by a Cholesky factorisation, which
is a proof, whatever computed them.

References:
    N. Higham, Accuracy and Stability of Numerical Algorithms, 2002, ch. 3 (gamma_k) and 10.
    S. Rump, Verification of positive definiteness, BIT 46, 2006 (Cholesky as a proof).
"""

import math

import numpy as np

from kernelgap.margins.relaxation import Multipliers, Relaxation, Side, quadratic_form

_UNIT = 2.0**-53


def gamma(k: int) -> float:
    """Relative error bound of k roundings, with a factor two for the error of error bounds."""
    return 2 * k * _UNIT / (1 - k * _UNIT)


def above(value: float, roundings: int = 1) -> float:
    """A number not below the exact result of `roundings` operations on non-negative numbers."""
    return float(value) * (1 + gamma(roundings)) + 5e-324


def largest_eigenvalue_bound(matrix: np.ndarray) -> float:
    """A proved upper bound on the largest eigenvalue of a symmetric matrix, and on 0."""
    d = len(matrix)
    if not np.isfinite(matrix).all():
        return math.inf
    computed = max(float(np.linalg.eigvalsh(matrix)[-1]), 0.0)
    size = max(float(np.abs(matrix).sum(axis=0).max()), computed)
    if size == 0:
        return 0.0
    inflation = gamma(4 * (d + 4)) * d * size
    while True:
        # If Cholesky runs to its end on B, then lambda_min(B) >= -gamma_{d+1} trace(B).
        bound = computed + 2 * inflation
        shifted = -matrix
        shifted[np.diag_indices(d)] += bound - inflation
        try:
            np.linalg.cholesky(shifted)
        except np.linalg.LinAlgError:
            inflation *= 4
            continue
        return bound


def certified_bound(relaxation: Relaxation, p: np.ndarray, found: list[Multipliers]) -> float:
    """An upper bound on max_s s sum_i q_i relu(u.x_i), q = p o signs, for p taken as exact."""
    pairs = zip(relaxation.sides, found, strict=True)
    return max(_certified_side(relaxation, side, p, m) for side, m in pairs)


def _certified_side(relaxation: Relaxation, side: Side, p: np.ndarray, m: Multipliers) -> float:
    n, d = relaxation.x.shape
    if len(side.positive) == 0:
        return 0.0
    relative = gamma(2 * (n + d + 8))
    norms = relaxation.norms * (1 + gamma(d + 4))
    own, other = norms[side.positive], norms[side.negative]

    v, h = quadratic_form(relaxation, side, p, m)
    moved = abs(m.transfer)
    rows, columns = np.asarray(moved @ other), np.asarray(moved.sum(axis=0))
    # What the negative terms were charged beyond |q_j|, at most r_j on the ball for each unit.
    charged = columns + np.abs(m.linear) + m.quadratic * other
    excess = np.maximum(charged - p[side.negative], 0) + relative * (charged + p[side.negative])
    # Errors of v_i, of b and of M; the last two are at most their Frobenius norms.
    v_error = relative * (p[side.positive] * own + rows)
    lengths = np.sum(v * v, axis=1) / (2 * m.scales)
    form_error = relative * (lengths.sum() + (m.quadratic * other**2).sum())
    b_error = relative * ((p * norms).sum() + (np.abs(m.linear) * other).sum())

    # The bound without multipliers, should they be of no use: relu(u.x_i) <= ||x_i||.
    trivial = above(float(p[side.positive] @ own), n + 4)
    top = largest_eigenvalue_bound(h)
    if math.isinf(top):
        return trivial
    terms = np.concatenate([m.scales / 2, excess * other, v_error])
    total = math.fsum([*terms, form_error, b_error, 2 * top, -m.rho])
    size = float(terms.sum()) + 2 * top + abs(m.rho)
    return min(max(total + relative * size, 0.0) / 2, trivial)
