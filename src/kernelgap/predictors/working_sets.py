r"""The dual of the hard-margin SVM on the host, over working sets that grow.

min_{alpha >= 0} alpha' Q alpha / 2 - 1' alpha, Q = (y y') o K. In most data few points are support
vectors. `solve` therefore solves the problem on a small set of points, adds those that fall short
of the margin, and so on, until none does. On one set, `_minimise` solves proximal problems,
with rho ||alpha - anchor||^2 / 2 in addition, whose matrix is definite although Q may be singular
to rounding; each solution is the next anchor. On inseparable data, where the dual is unbounded, the
bound on the margin tends to 0. Where nearly all points are support vectors, `complement.py` solves
for the others instead.

The loops run on the host, so that next to nothing is compiled. Of equal points with equal labels
only the first is needed.

References: E. Osuna, R. Freund, F. Girosi, NNSP 1997 (working sets); R. Rockafellar, SIAM J.
Control Optim. 1976 (proximal points). The combination is this project's own.
"""

from functools import partial
from typing import NamedTuple

import jax
import numpy as np

from kernelgap._numerics.blas import limit_blas_threads
from kernelgap.predictors.complement import solve_complement
from kernelgap.predictors.dual import Certificate, certify
from kernelgap.predictors.exchanges import Factors, exchange
from kernelgap.predictors.operators import Operator
from kernelgap.predictors.signed_gram import SignedGram

_FIRST = 128  # points of the first set
_NEARLY_ALL = 0.85  # share of support vectors from which the others are solved for
_SHORT = 0.4  # and share of the others that fall short of the margin
_SMALL = 600  # points up to which that is no faster
_FACTORISED = 20_000  # points up to which the whole matrix is factorised
_LARGEST = 4096  # points of a working set
_FAR = 1.5  # points with a larger output leave the set
_SPARE = 3  # times the support vectors: sets that are larger lose some points
_ROUGH = 0.05  # share of wrong signs that is good enough while the set grows
_GROWTH = 8  # rounds of which only rough solutions are asked
_ROUNDS = 100
_PROXIMAL = 20  # proximal problems on one set


class Found(NamedTuple):
    """The best point, its certificate, and the number of linear systems solved."""

    alpha: np.ndarray
    certificate: Certificate  # of floats
    systems: int
    final: bool  # solved to rounding, or the data are not separable


class _Point(NamedTuple):
    """A point on a working set."""

    alpha: np.ndarray  # feasible
    free: np.ndarray  # where it may be positive
    rho: float  # strength of the proximal term
    systems: int


def solve(
    operator: Operator, x: jax.Array, y: np.ndarray, first_equal: np.ndarray, tol: float, most: int
) -> Found:
    """Minimise until the relative duality gap is well below `tol`, or progress ends."""
    data = SignedGram(operator, np.asarray(x), y)
    slack = max(tol / 32, 4 * data.eps)
    # Of equal rows with equal labels one is enough.
    points = np.sort(np.unique(2 * first_equal + (data.y > 0), return_index=True)[1])
    first = min(_FIRST, len(points))
    chosen = points[np.arange(first) * len(points) // first]
    point = _Point(np.zeros(first), np.ones(first, bool), data.least, 0)
    last, solved = first == len(points), False
    for number in range(_ROUNDS):
        minimise = partial(_minimise, data, chosen, point, slack, last, most)
        point, going, outputs = limit_blas_threads(0, minimise)
        outside = np.zeros(data.size, bool)
        outside[points] = True
        outside[chosen] = False
        short = np.flatnonzero(outside & (outputs < 1 - 4 * slack))
        solved = last and going and not len(short)
        if not going or solved:
            break
        support = int(np.sum(point.alpha > 0))
        nearly_all = support > _NEARLY_ALL * len(chosen)
        nearly_all &= len(short) > _SHORT * np.sum(outside)
        whole = nearly_all and len(chosen) > max(_SMALL, data.size) // 8
        last = last or len(short) <= _ROUGH * support or number > _GROWTH
        room = max(64, support) * (4 if nearly_all else 1)
        if len(short) > room:
            short = short[np.argpartition(outputs[short], room)[:room]]
        # What leaves may come back, and must not do so for ever.
        kept = (point.alpha > 0) | (outputs[chosen] < _FAR) | last
        kept |= len(chosen) < _SPARE * support
        count = int(np.sum(kept)) + len(short)
        if whole and len(points) <= (_LARGEST if data.gram is None else _FACTORISED):
            complement = partial(solve_complement, data, points, slack, point.systems, most)
            alpha, systems = limit_blas_threads(len(points), complement)
            if alpha.any():
                chosen, point = points, point._replace(alpha=alpha, systems=systems)
                break
        elif whole or count > _LARGEST:
            break
        chosen = np.concatenate([chosen[kept], short])
        point = point._replace(
            alpha=np.concatenate([point.alpha[kept], np.zeros(len(short))]),
            free=np.concatenate([point.free[kept], np.ones(len(short), bool)]),
        )
    alpha = np.zeros(data.size, data.dtype)
    alpha[chosen] = point.alpha
    exact = alpha.astype(float)
    outputs = data.outputs(chosen, exact[chosen], accurate=True)
    certificate = certify(exact, outputs)
    final = solved or not certificate.upper**2 > data.zero
    return Found(alpha, certificate, point.systems, final)


def _minimise(
    data: SignedGram, chosen: np.ndarray, point: _Point, slack: float, last: bool, most: int
) -> tuple[_Point, bool, np.ndarray]:
    """Return a better point of the working set, whether going on makes sense, and all outputs."""
    going = True
    q = data.block(chosen, np.dtype(float))
    factors = Factors(q)
    for _ in range(_PROXIMAL if last else 1):
        anchor, free, rho, systems = point
        rough = 0 if last else _ROUGH
        minimum = exchange(factors, rho, 1 + rho * anchor, free, slack, rough, most - systems)
        systems += minimum.systems
        if minimum.z is None:
            point = _Point(anchor, anchor > 0 if anchor.any() else free, 10 * rho, systems)
            going = systems < most and point.rho <= data.scale
            if going:
                continue
            break
        alpha = np.maximum(minimum.z, 0)
        moved = rho * np.max(np.abs(alpha - anchor))
        rho = max(rho / 10, data.least) if minimum.solved else 10 * rho
        point, total = _Point(alpha, minimum.free, rho, systems), alpha.sum()
        inseparable = not (alpha @ (q @ alpha) > data.zero * total**2)
        going = systems < most and not (total > 0 and inseparable)
        if not going or (minimum.solved and moved <= slack / 2):
            break
    return point, going, data.outputs(chosen, point.alpha)
