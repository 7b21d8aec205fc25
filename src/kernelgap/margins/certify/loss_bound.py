r"""A lower bound on the regularised loss over two-layer ReLU networks of any width.

    L* = min_alpha R(sum_j alpha_j relu(u_j . x)) + c ||alpha||_1 = max { D(q) : h(q) <= c }

with D(q) = sum_i D(y_i, q_i) (`margins.losses`). For a bound H >= h that is proved for weights p on
given signs, D(t p o signs) with t H <= c is a lower bound on L*. Weights and multipliers of H are
chosen together to make it large, as `upper_bound` chooses them to make H small.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import root_scalar
from scipy.special import expit

from kernelgap._numerics.blas import limit_blas_threads
from kernelgap._numerics.verified import UNIT, above, gamma
from kernelgap.margins.certify import minimiser, relaxation
from kernelgap.margins.certify.multipliers import SideMultipliers, extended, for_all_points
from kernelgap.margins.certify.results import Status
from kernelgap.margins.certify.weak_duality import FEW, bound_violation
from kernelgap.margins.losses import ConvexLoss

_FAINT = 3e-1  # least weight to start from, over the mean
_SHARP = 200  # of the smooth minimum
_TINY = 1e-100  # rows below it, when the largest entry is near 1, count as zero
_EXACT = 3  # dimensions in which the violation of any given weights is enumerated


class LossBound(NamedTuple):
    """D(q) rounded down, the q in question, and how the search for it ended."""

    value: float
    q: np.ndarray
    status: Status
    multipliers: tuple[SideMultipliers, ...] = ()  # for q, where no enumeration proves the bound


def bound_loss(
    x: np.ndarray,
    y: np.ndarray,
    loss: ConvexLoss,
    c: float,
    q: np.ndarray,
    *,
    steps: int,
    tol: float,
    goal: float = np.inf,
) -> LossBound:
    """Return the best lower bound found from the dual point q on, or the first above `goal`.

    Args:
        x: Inputs of largest entry near 1.
        y: Targets.
        loss: The loss.
        c: The cost of a unit, positive.
        q: The dual point of a network, of which the bound takes the signs.
        steps: The largest number of quasi-Newton steps; 0 takes the ray of q alone.
        tol: As in `upper_bound`.
        goal: A value at which the search may end.
    """
    kept = np.abs(x).max(axis=1) > _TINY
    if not kept.all():
        return _with_faint_rows(kept, x, y, loss, c, q, steps=steps, tol=tol, goal=goal)
    n, d = x.shape
    exact = d <= _EXACT or n <= FEW.get(d, 0)
    first = bound_on_ray(x, y, loss, c, q, tol=tol) if steps == 0 or exact else None
    if first is not None and (steps == 0 or first.value >= goal):
        return first
    joint = limit_blas_threads(d, lambda: _jointly(x, y, loss, c, q, steps, tol, goal))
    return joint if first is None else max(first, joint, key=lambda bound: bound.value)


def _with_faint_rows(
    kept: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    loss: ConvexLoss,
    c: float,
    q: np.ndarray,
    *,
    steps: int,
    tol: float,
    goal: float,
) -> LossBound:
    """Give rows that are zero, or nearly, the dual point of output 0; pay for them out of c."""
    point = loss.pull(y, np.zeros(len(y)))
    faint = dual_below(loss, y[~kept], point[~kept])
    paid = above(float(np.abs(point[~kept]) @ np.abs(x[~kept]).sum(axis=1)), 2 * x.size)
    if not kept.any():
        return LossBound(faint if paid <= c else 0.0, point, "converged")
    of_others = bound_loss(
        x[kept], y[kept], loss, max(c - paid, 0.0), q[kept], steps=steps, tol=tol, goal=goal - faint
    )
    point[kept] = of_others.q
    both = extended(of_others.multipliers, kept, 1.0)
    return LossBound((of_others.value + faint) * (1 - gamma(4)), point, of_others.status, both)


def bound_on_ray(
    x: np.ndarray, y: np.ndarray, loss: ConvexLoss, c: float, q: np.ndarray, *, tol: float = 1e-4
) -> LossBound:
    """Return the best bound among the multiples of q."""
    violation = bound_violation(x, q, tol=tol)
    t = best_multiple(loss, y, q, c / violation.value if violation.value > 0 else np.inf)
    both = extended(violation.multipliers, np.ones(len(x), bool), t)
    return LossBound(dual_below(loss, y, t * q), t * q, violation.status, both)


def _jointly(
    x: np.ndarray,
    y: np.ndarray,
    loss: ConvexLoss,
    c: float,
    q: np.ndarray,
    steps: int,
    tol: float,
    goal: float,
) -> LossBound:
    """Maximise D over weights and multipliers together."""
    signs = np.where(q != 0, np.sign(q), np.where(y != 0, np.sign(y), 1.0))
    weights = np.abs(q)
    weights = np.maximum(weights, _FAINT * max(weights.mean(), 1e-300))

    def along_ray(p: np.ndarray, h: float) -> tuple[float, np.ndarray, float]:
        """Minus the largest D on the ray of p."""
        limit = c / h if h > 0 else np.inf
        t = best_multiple(loss, y, p * signs, limit)
        point = t * p * signs
        slope = loss.dual_slope(y, point)
        by_h = float(slope @ point) / h if h > 0 and t > limit * (1 - 1e-9) else 0.0
        return -float(loss.dual(y, point).sum()), -t * slope * signs, by_h

    def in_box(p: np.ndarray, h: float) -> tuple[float, np.ndarray, float]:
        """Minus D = sum p times a smooth minimum of 1 and c / h, for the hinge loss."""
        excess = _SHARP * np.log(max(h, 1e-300) / c)
        t, total = float(np.exp(-np.logaddexp(0, excess) / _SHARP)), float(p.sum())
        return -total * t, np.full(len(p), -t), total * t * float(expit(excess)) / max(h, 1e-300)

    relaxed = relaxation.relax(x, signs, normalised=loss.smooth)
    theta = minimiser.first_variables(relaxed, weights)
    best = minimiser.minimise(
        relaxed, theta, steps=steps, tol=tol, goal=-goal,
        objective=along_ray if loss.smooth else in_box, most=np.inf if loss.smooth else loss.most,
    )  # fmt: skip
    p, multipliers = relaxation.multipliers(best.relaxation, best.theta)
    violation = relaxation.certified_bound(best.relaxation, p, multipliers)
    t = best_multiple(loss, y, p * signs, c / violation if violation > 0 else np.inf)
    both, point = for_all_points(best.relaxation, multipliers, t), t * p * signs
    return LossBound(dual_below(loss, y, point), point, best.status, both)


def best_multiple(loss: ConvexLoss, y: np.ndarray, q: np.ndarray, limit: float) -> float:
    """Return the t below `limit` with the largest D(t q)."""
    most = loss.most / float(np.max(np.abs(q), initial=1e-300))
    largest = min(limit, most, 1e100) * (1 - gamma(16))

    def slope(t: float) -> float:
        return float(loss.dual_slope(y, t * q) @ q)

    if slope(largest) >= 0:
        return largest
    if not slope(0.0) > 0:
        return 0.0
    root = root_scalar(slope, bracket=(0.0, largest), xtol=1e-15 * min(largest, 1.0)).root
    return min(max(float(root), 0.0), largest)


def dual_below(loss: ConvexLoss, y: np.ndarray, q: np.ndarray) -> float:
    """Return a lower bound on D(q) for q that is off by one rounding; at least 0."""
    terms = loss.dual(y, q)
    room = UNIT * float(loss.dual_error(y, q).sum()) * (1 + gamma(2 * len(q) + 16))
    return max(float(terms.sum()) - gamma(2 * len(q) + 16) * float(np.abs(terms).sum()) - room, 0.0)
