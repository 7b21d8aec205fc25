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
_FACTORISED = 20_000  # points up to which the whole matrix is factorised
_LARGEST = 4096  # points of a free set
_PROXIMAL = 20  # proximal problems


class Found(NamedTuple):
    """The best point, its certificate, and the number of linear systems solved."""

    alpha: np.ndarray
    certificate: Certificate  # of floats
    systems: int
    final: bool  # solved to rounding, or the data are not separable


def solve(
    operator: Operator, x: np.ndarray, y: np.ndarray, first_equal: np.ndarray, tol: float, most: int
) -> Found:
    """Minimise until the relative duality gap is well below `tol`, or progress ends."""
    data = SignedGram(operator, x, y.astype(float))
    slack = max(tol / 32, 4 * data.eps)
    # Of equal rows with equal labels one is enough.
    points = np.sort(np.unique(2 * first_equal + (data.y > 0), return_index=True)[1])
    ones, free = np.full(data.size, -np.inf), np.zeros(data.size, bool)
    ones[points] = 1
    free[points[np.arange(first := min(_FIRST, len(points))) * len(points) // first]] = True
    factors, alpha, rho, systems = Factors(data), np.zeros(data.size), data.least, 0
    best = Found(alpha, certify(alpha, alpha), 0, False)
    for _ in range(_PROXIMAL):
        anchor, target = alpha, ones + rho * alpha
        attempt = partial(exchange, factors, rho, target, free, 4 * slack, most - systems)
        minimum = limit_blas_threads(0, partial(attempt, max(_SMALL, data.size) // 8, _LARGEST))
        whole = minimum.nearly_all
        systems, free = systems + minimum.systems, minimum.free
        if whole and len(points) <= (_LARGEST if data.gram is None else _FACTORISED):
            complement = partial(solve_complement, data, points, slack, systems, most)
            alpha[points], systems = limit_blas_threads(len(points), complement)
        elif minimum.z is not None:
            z = minimum.z
            if minimum.solved:  # another proximal step on the same set costs next to nothing
                anchor = z
                z = factors.solve(free, rho, ones + rho * z)
            alpha = np.maximum(z, 0)
        elif rho <= data.scale:
            alpha, free, rho = anchor, anchor > 0 if anchor.any() else free, 10 * rho
            continue
        alpha = alpha.astype(data.dtype).astype(float)
        certificate = certify(alpha, data.product(alpha, accurate=True))
        moved = rho * np.max(np.abs(alpha - anchor))
        final = (minimum.solved and moved <= slack / 2) or not certificate.upper**2 > data.zero
        if (certificate.gap, certificate.upper) <= (best.certificate.gap, best.certificate.upper):
            best = Found(alpha.astype(data.dtype), certificate, systems, final)
        ended = minimum.z is None or whole or not (minimum.solved or systems < most)
        if ended or final or certificate.gap <= tol / 10:
            break
        rho = max(rho / 10, data.least) if minimum.solved else 10 * rho
    return best._replace(systems=systems)
