"""Small quadratic programmes with nonnegative variables, by exchanges.

min_{z >= 0} z' (Q + rho I) z / 2 - b' z. The programme is solved on a free set, and every index
that violates an optimality condition moves to the other side. This ends after a few systems as a
rule; where it does not, one index at a time moves, which cannot cycle.

References: K. Murty, Opsearch 1974 (one at a time); L. Portugal, J. Judice, L. Vicente, Math. Comp.
1994 (all at once).
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import get_lapack_funcs

_PATIENCE = 3  # exchanges of all that may fail to lower the number of violations
_GIVE_UP = 40  # exchanges that may


class Exchanged(NamedTuple):
    """The last solution on a free set, of any sign; None if the matrix is not definite there."""

    z: np.ndarray | None
    free: np.ndarray
    solved: bool
    systems: int


def cholesky(system: np.ndarray, rho: float) -> np.ndarray | None:
    """Factorise system + rho I in its own memory and dtype; None if it is not definite."""
    system.flat[:: len(system) + 1] += rho
    # The transpose of a symmetric matrix is in the order that LAPACK expects.
    (potrf,) = get_lapack_funcs(("potrf",), dtype=system.dtype)
    factor, failed = potrf(system.T, lower=True, clean=False, overwrite_a=True)
    return None if failed else factor


def solve_factored(factor: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Solve with a factor of `cholesky`."""
    (potrs,) = get_lapack_funcs(("potrs",), dtype=factor.dtype)
    return potrs(factor, b, lower=True)[0]


class Factors:
    """Cholesky's method for parts of Q + rho I, in double precision; the last is remembered."""

    def __init__(self, q: np.ndarray) -> None:
        self.q = q
        self._index, self._rho, self._factor = np.zeros(0, int), -1.0, np.zeros((0, 0))

    def solve(self, free: np.ndarray, rho: float, b: np.ndarray) -> np.ndarray | None:
        """Return the solution on the free set, 0 elsewhere; None if Q + rho I is not definite."""
        index = np.flatnonzero(free)
        if rho != self._rho or not np.array_equal(index, self._index):
            factor = cholesky(self.q[np.ix_(index, index)], rho)
            if factor is None:
                return None
            self._index, self._rho, self._factor = index, rho, factor
        z = np.zeros(len(free))
        if len(index):
            z[index] = solve_factored(self._factor, b[index])
        return z


def exchange(
    factors: Factors,
    rho: float,
    b: np.ndarray,
    free: np.ndarray,
    slack: float,
    rough: float,
    most: int,
) -> Exchanged:
    """Minimise from a free set, until at most a share `rough` of it violates the conditions."""
    fewest, stalled, z, systems = np.inf, 0, np.zeros(len(b)), 0
    while systems < most:
        solution, systems = factors.solve(free, rho, b), systems + 1
        if solution is None:
            return Exchanged(None, free, False, systems)
        z = solution
        wrong = np.where(free, z < 0, factors.q @ z + rho * z - b < -slack)
        count = int(np.sum(wrong))
        if count <= rough * np.sum(free):
            return Exchanged(z, free ^ wrong, True, systems)
        stalled, fewest = (0, count) if count < fewest else (stalled + 1, fewest)
        if stalled >= _GIVE_UP:
            break
        if stalled >= _PATIENCE:
            wrong[: np.flatnonzero(wrong)[-1]] = False
        free = free ^ wrong
    return Exchanged(z, free, False, systems)
