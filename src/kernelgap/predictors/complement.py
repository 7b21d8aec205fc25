"""The dual of the hard-margin SVM where nearly all points are support vectors.

The conditions Q z = 1 + mu, with z and mu nonnegative and nowhere both positive, are solved for
the few positive entries of mu. With N the points where z would be negative and the columns
P = Q^{-1} E_N, z is w + P mu with w = Q^{-1} 1, and mu minimises mu' P_N mu / 2 + w_N' mu over
mu >= 0. One Cholesky factorisation in the dtype of the kernel serves all systems, and residuals of
accurate products correct its rounding. The method is this project's own.
"""

from typing import Protocol

import numpy as np
from scipy.linalg import get_lapack_funcs

from kernelgap.predictors.exchanges import Factors, exchange

_MOST = 0.2  # share of the points that may be no support vectors
_PATIENCE = 3  # corrections that may fail to halve the shortfall


class Data(Protocol):
    """All points, and Q on any of them; see `working_sets.py`."""

    y: np.ndarray
    dtype: np.dtype
    least: float
    scale: float

    def signed(self, chosen: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Return Q on a working set."""
        ...

    def outputs(self, chosen: np.ndarray, alpha: np.ndarray, accurate: bool = False) -> np.ndarray:
        """Return Q alpha at all points."""
        ...


def solve_complement(
    data: Data, points: np.ndarray, slack: float, systems: int, most: int
) -> tuple[np.ndarray, int]:
    """Return a solution on the points, 0 on failure, and the number of linear systems."""
    n, alpha = len(points), np.zeros(len(points))
    potrf, potrs = get_lapack_funcs(("potrf", "potrs"), dtype=data.dtype)
    factor, failed, rho = None, True, data.least
    while failed:
        if rho > 1e-2 * data.scale:
            return alpha, systems
        system = data.signed(points, data.dtype)
        system.flat[:: n + 1] += rho
        factor, failed = potrf(system.T, lower=True, clean=False, overwrite_a=True)
        rho *= 10
    best, smallest, idle, outputs = alpha, np.inf, 0, np.zeros(n)
    chosen, columns, mu = np.zeros(0, int), np.zeros((n, 0), data.dtype), np.zeros(0)
    while systems < most and idle < _PATIENCE:
        systems += 1
        left = 1 - outputs
        left[chosen] += mu
        moved, before = alpha + potrs(factor, left.astype(data.dtype), lower=True)[0], mu
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
            columns = np.hstack([columns, potrs(factor, unit, lower=True)[0]])
        alpha = np.maximum(z, 0).astype(data.dtype).astype(float)
        outputs = data.outputs(points, alpha, accurate=True)[points]
        energy = alpha @ outputs
        shortfall = 1 - outputs.min() * alpha.sum() / energy if energy > 0 else np.inf
        idle = 0 if shortfall < 0.7 * smallest else idle + 1
        if shortfall < smallest:
            best, smallest = alpha, shortfall
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
    minimum = exchange(Factors(q), ridge, ridge * mu - w, (w < 0) | (mu > 0), slack, 0, 500)
    return np.zeros(len(w)) if minimum.z is None else np.maximum(minimum.z, 0)
