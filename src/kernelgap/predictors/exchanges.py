"""Quadratic programmes with nonnegative variables, by exchanges.

min_{z >= 0} z' (Q + rho I) z / 2 - b' z. The programme is solved on a free set, and indices that
violate an optimality condition move to the other side: all that shall leave, and of those that
shall enter the worst, so that the free set does not grow far beyond the support. This ends after
about ten systems as a rule; where it does not, one index at a time moves, which cannot cycle.

References: K. Murty, Opsearch 1974 (one at a time); L. Portugal, J. Judice, L. Vicente, Math. Comp.
1994 (all at once). The limit on those that enter is this project's own.
"""

from typing import NamedTuple, Protocol

import numpy as np
from scipy.linalg import get_lapack_funcs

_PATIENCE = 3  # exchanges that may fail to lower the number of violations
_GIVE_UP = 40  # exchanges that may
_ROOM = 64  # indices that may enter in any case
_FEW = 0.15  # share of the free set that leaves where nearly all indices belong to the support
_SHARE = 8  # part of an index set that may change before its system is factorised anew
_MANY = 0.8  # and share of the others that violate their condition


class Quadratic(Protocol):
    """A matrix Q, of which `exchange` needs parts and products."""

    def block(
        self, rows: np.ndarray, dtype: np.dtype, columns: np.ndarray | None = None
    ) -> np.ndarray:
        """Return a copy of the entries in the given rows and columns, the rows by default."""
        ...

    def product(self, z: np.ndarray, /) -> np.ndarray:
        """Return Q z."""
        ...


class Dense(NamedTuple):
    """A matrix in memory."""

    q: np.ndarray

    def block(
        self, rows: np.ndarray, dtype: np.dtype, columns: np.ndarray | None = None
    ) -> np.ndarray:
        """Return a copy of the entries in the given rows and columns, the rows by default."""
        return self.q[np.ix_(rows, rows if columns is None else columns)].astype(dtype)

    def product(self, z: np.ndarray) -> np.ndarray:
        """Return Q z."""
        return self.q @ z


class Exchanged(NamedTuple):
    """The last solution on a free set, of any sign; None if the matrix is not definite there."""

    z: np.ndarray | None
    free: np.ndarray  # the next free set; that of z if `solved`
    solved: bool
    systems: int
    nearly_all: bool = False  # of the indices belong to the support


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
    """Cholesky's method for parts of Q + rho I in double precision.

    The last factor serves sets that differ from its own by few indices: with B = Q_{IN} of those
    that entered and E the unit vectors of those that left, the system is bordered by them.
    """

    def __init__(self, q: Quadratic) -> None:
        self.q = q
        self._index, self._rho, self._factor = np.zeros(0, int), -1.0, np.zeros((0, 0))

    def solve(self, free: np.ndarray, rho: float, b: np.ndarray) -> np.ndarray | None:
        """Return the solution on the free set, 0 elsewhere; None if Q + rho I is not definite."""
        z, own = np.zeros(len(free)), np.zeros(len(free), bool)
        own[self._index] = True
        entered, left = np.flatnonzero(free & ~own), np.flatnonzero(own & ~free)
        few = _SHARE * (len(entered) + len(left)) <= len(self._index)
        if rho != self._rho or not few:
            index = np.flatnonzero(free)
            factor = cholesky(self.q.block(index, np.dtype(float)), rho)
            if factor is None:
                return None
            self._index, self._rho, self._factor = index, rho, factor
            entered, left = index[:0], index[:0]
        index, size, total = self._index, len(entered), len(entered) + len(left)
        if not total:
            z[index] = solve_factored(self._factor, b[index]) if len(index) else 0
            return z
        right = np.zeros((len(index), total + 1), order="F")
        corner = np.zeros((total, total + 1))
        if size:
            right[:, :size] = self.q.block(index, np.dtype(float), entered)
            corner[:size, :size] = self.q.block(entered, np.dtype(float)) + rho * np.eye(size)
        right[np.searchsorted(index, left), np.arange(size, total)] = 1
        right[:, -1], corner[:size, -1] = b[index], b[entered]
        solved = solve_factored(self._factor, right)
        corner -= right[:, :-1].T @ solved
        if size and cholesky(corner[:size, :size].copy(), 0.0) is None:
            self._rho = -1.0  # not definite with those that entered: a factorisation decides
            return self.solve(free, rho, b)
        border = np.linalg.solve(corner[:, :-1], corner[:, -1])
        z[index] = solved[:, -1] - solved[:, :-1] @ border
        z[entered], z[left] = border[:size], 0
        return z


def exchange(
    factors: Factors,
    rho: float,
    b: np.ndarray,
    free: np.ndarray,
    slack: float,
    most: int,
    enough: float = np.inf,
    largest: float = np.inf,
) -> Exchanged:
    """Minimise from a free set over the indices with b > -inf.

    This ends early with free sets that exceed `largest`, or `enough` and nearly all are support.
    """
    z, systems, fewest, widest, stalled = np.zeros(len(b)), 0, np.inf, 0, 0
    while systems < most:
        solution, systems = factors.solve(free, rho, b), systems + 1
        if solution is None:
            return Exchanged(None, free, False, systems)
        z = solution
        slopes = factors.q.product(z) + rho * z - b
        wrong = np.where(free, z < 0, slopes < -slack)
        count, size = int(np.sum(wrong)), int(np.sum(free))
        if count == 0:
            return Exchanged(z, free, True, systems)
        # A set that is larger than all before it is progress too, whatever it violates.
        stalled = 0 if count < fewest or size > widest else stalled + 1
        fewest, widest = min(count, fewest), max(size, widest)
        short = np.flatnonzero(wrong & ~free)
        leaving, outside = count - len(short), np.sum(b > -np.inf) - size
        nearly_all = leaving < _FEW * size and len(short) > _MANY * outside
        if nearly_all and size > enough:
            return Exchanged(z, free, False, systems, True)
        if stalled >= _GIVE_UP or size > largest:
            break
        if stalled >= _PATIENCE:
            wrong[: np.flatnonzero(wrong)[-1]] = False
        room = max(_ROOM, int(min(4 * size, enough)) if nearly_all else (size - leaving) // 2)
        if len(short) > room:
            wrong[short[np.argpartition(slopes[short], room)[room:]]] = False
        free = free ^ wrong
    return Exchanged(z, free, False, systems)
