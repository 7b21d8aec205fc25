"""The dual of the hard-margin SVM where nearly all points are support vectors.

The conditions Q z = 1 + mu, with z and mu nonnegative and nowhere both positive, are solved for
the few positive entries of mu. With N the points where z would be negative and the columns
P = Q^{-1} E_N, z is w + P mu with w = Q^{-1} 1, and mu minimises mu' P_N mu / 2 + w_N' mu over
mu >= 0. One Cholesky factorisation in the dtype of the kernel serves all systems, and residuals of
accurate products correct its rounding. The method is this project's own.
"""

import numpy as np

from kernelgap.predictors.exchanges import Dense, Factors, cholesky, exchange, solve_factored
from kernelgap.predictors.signed_gram import SignedGram

_MOST = 0.2  # share of the points that may be no support vectors
_PATIENCE = 3  # corrections that may fail to lower the shortfall by 30%


def solve_complement(
    data: SignedGram, points: np.ndarray, slack: float, systems: int, most: int
) -> tuple[tuple[np.ndarray, np.ndarray], int]:
    """Return alpha, 0 on failure, with its outputs, and the number of linear systems."""
    n, alpha, outputs = len(points), np.zeros(len(points)), np.zeros(data.size)
    best = outputs, outputs
    rho = data.least
    while (factor := cholesky(data.block(points, data.dtype), rho)) is None:
        rho *= 10
        if rho > 1e-2 * data.scale:
            return best, systems
    smallest, idle = np.inf, 0
    chosen, columns, mu = np.zeros(0, int), np.zeros((n, 0), data.dtype), np.zeros(0)
    while systems < most and idle < _PATIENCE:
        systems += 1
        left = 1 - outputs[points]
        left[chosen] += mu
        moved, before = alpha + solve_factored(factor, left.astype(data.dtype)), mu
        while True:
            before = np.pad(before, (0, len(chosen) - len(before)))
            mu = _multipliers(columns[chosen].astype(float), moved[chosen], before)
            # Only changes are multiplied by the columns, so that their rounding dies out.
            z = moved + columns @ (mu - before)
            z[chosen[mu > 0]] = 0
            new = np.setdiff1d(np.flatnonzero(z < 0), chosen)
            if len(new) == 0:
                break
            if len(chosen) + len(new) > _MOST * n:
                return best, systems
            unit = np.zeros((n, len(new)), data.dtype, order="F")
            unit[new, np.arange(len(new))] = 1
            chosen = np.append(chosen, new)
            columns = np.hstack([columns, solve_factored(factor, unit)])
        alpha = np.maximum(z, 0).astype(data.dtype).astype(float)
        whole = np.zeros(data.size)
        whole[points] = alpha
        outputs = data.product(whole, accurate=True)
        energy = whole @ outputs
        shortfall = 1 - outputs.min() * alpha.sum() / energy if energy > 0 else np.inf
        idle = 0 if shortfall < 0.7 * smallest else idle + 1
        if shortfall < smallest:
            best, smallest = (whole, outputs), shortfall
        if shortfall <= 2 * slack:  # the gap is twice that
            break
    return best, systems


def _multipliers(q: np.ndarray, z: np.ndarray, mu: np.ndarray) -> np.ndarray:
    """Return the minimiser of mu' q mu / 2 + w' mu over mu >= 0, w = z - q mu at the old mu."""
    if len(mu) == 0:
        return mu
    q = (q + q.T) / 2
    w = z - q @ mu
    ridge, slack = 1e-7 * np.trace(q) / len(q), 1e-6 * np.max(np.abs(w))
    minimum = exchange(Factors(Dense(q)), ridge, ridge * mu - w, (w < 0) | (mu > 0), slack, 500)
    return np.zeros(len(w)) if minimum.z is None else np.maximum(minimum.z, 0)
