"""The dual of the hard-margin SVM on the host, over free sets that grow.

min_{alpha >= 0} alpha' Q alpha / 2 - 1' alpha, Q = (y y') o K. In most data few points are support
vectors. `solve` starts from a small free set, which exchanges enlarge by the points that fall
short of the margin, until none does. It solves proximal problems, with rho ||alpha - anchor||^2 / 2
in addition, whose matrix is definite although Q may be singular to rounding; each solution is the
next anchor. On inseparable data, where the dual is unbounded, the bound on the margin tends to 0.
Where nearly all points are support vectors, `complement.py` solves for the others instead.

The loops run on the host, so that next to nothing is compiled. Of equal points with equal labels
only the first is needed.

Reference: R. Rockafellar, SIAM J. Control Optim. 1976 (proximal points). The combination with
exchanges is this project's own.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from kernelgap._numerics.blas import limit_blas_threads
from kernelgap.predictors.complement import solve_complement
from kernelgap.predictors.dual import Certificate, certify
from kernelgap.predictors.exchanges import Factors, exchange
from kernelgap.predictors.operators import Operator
from kernelgap.predictors.signed_gram import SignedGram

_FIRST = 128  # points of the first set
_SMALL = 600  # points up to which solving for the others is no faster
_LARGEST = 4096  # points of a free set
_PROXIMAL = 20  # proximal problems


class Found(NamedTuple):
    """The best point, its certificate, and the number of linear systems solved."""

    alpha: np.ndarray
    certificate: Certificate  # of floats
    systems: int
    final: bool  # solved to rounding, or the data are not separable


def solve(
    operator: Operator,
    x: np.ndarray,
    y: np.ndarray,
    first_equal: np.ndarray,
    tol: float,
    most: int,
    block: int,
) -> Found:
    """Minimise until the relative duality gap is well below `tol`, or progress ends."""
    data = SignedGram(operator, x, y.astype(float))
    slack = max(tol / 32, 4 * data.eps)
    # Of equal rows with equal labels one is enough.
    points = np.sort(np.unique(2 * first_equal + (data.y > 0), return_index=True)[1])
    grow = partial(_grow, data, points, slack, tol, most, min(block, _LARGEST))
    best, nearly_all = limit_blas_threads(0, partial(grow, max(_SMALL, data.size) // 8, 0))
    if nearly_all and len(points) <= block:
        complement = partial(solve_complement, data, points, slack, best.systems, most)
        (alpha, outputs), systems = limit_blas_threads(len(points), complement)
        if not alpha.any():  # too many others
            return limit_blas_threads(0, partial(grow, np.inf, systems))[0]
        best = _better(best, alpha, outputs, systems, False, data)
    return best


def _grow(
    data: SignedGram,
    points: np.ndarray,
    slack: float,
    tol: float,
    most: int,
    largest: int,
    enough: float,
    systems: int,
) -> tuple[Found, bool]:
    """Return what free sets that grow find, and whether nearly all points are support vectors."""
    ones, free = np.full(data.size, -np.inf), np.zeros(data.size, bool)
    ones[points] = 1
    first = min(_FIRST, len(points))
    free[points[np.arange(first) * len(points) // first]] = True
    alpha, rho, factors = np.zeros(data.size), data.least, Factors(data)
    best = Found(alpha, certify(alpha, alpha), systems, False)
    for _ in range(_PROXIMAL):
        left = most - systems
        step = exchange(factors, rho, ones + rho * alpha, free, 4 * slack, left, enough, largest)
        systems, free, solved = systems + step.systems, step.free, step.solved
        if step.z is None:
            free = alpha > 0 if alpha.any() else free
        else:
            anchor, z = alpha, step.z
            if solved:  # another proximal step on the same set costs next to nothing
                anchor, z = z, factors.solve(free, rho, ones + rho * z)
            alpha = np.maximum(z, 0).astype(data.dtype).astype(float)
            outputs = data.product(alpha, accurate=True)
            # Far from the anchor of the exchange, that set may no longer be right.
            to_rounding = solved and rho * np.max(np.abs(alpha - anchor)) <= slack / 2
            to_rounding &= bool(np.min(outputs[points]) >= 1 - 8 * slack)
            best = _better(best, alpha, outputs, systems, to_rounding, data)
            ended = step.nearly_all or np.sum(free) > largest or not (solved or systems < most)
            if best.final or best.certificate.gap <= tol / 10 or ended:
                return best, step.nearly_all
        rho = max(rho / 10, data.least) if solved else 10 * rho
        if rho > 10 * data.scale:
            break
    return best._replace(systems=systems), False


def _better(
    best: Found,
    alpha: np.ndarray,
    outputs: np.ndarray,
    systems: int,
    solved: bool,
    data: SignedGram,
) -> Found:
    """Return the better of two points."""
    after, before = certify(alpha, outputs), best.certificate
    if (after.gap, after.upper) > (before.gap, before.upper):
        return best._replace(systems=systems)
    final = solved or not after.upper**2 > data.zero
    return Found(alpha.astype(data.dtype), after, systems, final)
