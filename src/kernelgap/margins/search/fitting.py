r"""The network of least regularised loss, by column generation over its units.

Over units of given directions, L = R(F a) + c sum(a) is convex in the coefficients a >= 0, where
the columns of F are +-relu(x . u). At its minimum q = -grad R has ``|sum_i q_i relu(u . x_i)|`` <=
c for the units at hand; a unit that exceeds c lowers the loss and is added. Now and then all
parameters move together by gradient steps.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog, nnls

from kernelgap.margins.losses import ConvexLoss
from kernelgap.margins.search.climb import Adam, random_nets
from kernelgap.margins.search.columns import ADDED, APART, distinct, search_units, unit_rows

_POINTS = 128  # data points among the first units
_CLIMB = 100  # steps of the search for units
_NEWTON = 60  # most steps of a fit
_MOVE = 3  # rounds between gradient steps on all parameters
_RATES = (0.1, 0.002)  # first and last step size of Adam from random weights, over their size
_POLISH = (0.005, 1e-4)  # and from a network


class Signed(NamedTuple):
    """Units (k, d) of length 1, their signs (k,) and coefficients a >= 0."""

    units: np.ndarray
    signs: np.ndarray
    coef: np.ndarray

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Return f(x)."""
        return np.maximum(x @ self.units.T, 0) @ (self.signs * self.coef)

    def joined(self, units: np.ndarray, signs: np.ndarray) -> "Signed":
        """Return the same network with further units of weight 0."""
        return Signed(
            np.concatenate([self.units, units]),
            np.concatenate([self.signs, signs]),
            np.concatenate([self.coef, np.zeros(len(signs))]),
        )


def no_units(d: int) -> Signed:
    """Return the zero network."""
    return Signed(np.zeros((0, d)), np.zeros(0), np.zeros(0))


class Fit(NamedTuple):
    """A network, its loss and dual point q."""

    net: Signed
    loss: float
    q: np.ndarray


def least_loss(
    x: np.ndarray,
    y: np.ndarray,
    loss: ConvexLoss,
    c: float,
    *,
    rng: np.random.Generator,
    start: Signed,
    width: int,
    restarts: int,
    rounds: int,
    steps: int,
    tol: float,
) -> Fit:
    """Return the network of least loss that was found.

    Args:
        x: Inputs of largest entry near 1.
        y: Targets.
        loss: The loss.
        c: The cost of a unit, positive.
        rng: For random units.
        start: A network to begin with, possibly without units.
        width: Units of each random network.
        restarts: Random networks that Adam brings down first.
        rounds: Most rounds of column generation.
        steps: Steps of Adam for each network.
        tol: The relative violation of c from which units are added.
    """
    n, d = x.shape
    units = [x[rng.permutation(n)[:_POINTS]]]
    for _ in range(restarts):
        random = random_nets(rng, 1, width, d)
        theta = np.concatenate([random.readout[0][:, None], random.hidden[0]], axis=1)
        theta = _descend(x, y, loss, c, theta / np.sqrt(width), steps, _RATES)
        units.append(theta[np.linalg.norm(theta[:, 1:], axis=1) > 1e-8, 1:])
    first = distinct(np.concatenate(units))
    net = start.joined(np.concatenate([first, first]), np.repeat([1.0, -1.0], len(first)))
    best = _fitted(x, y, loss, c, net)
    for k in range(rounds):
        moved, sums = search_units(x, best.q, best.net.units, rng, x.dtype, _CLIMB)
        if abs(sums[0]) <= c * (1 + tol):
            break
        added = distinct(moved[np.abs(sums) > c * (1 + tol / 10)], APART)[:ADDED]
        net = best.net.joined(added, np.sign(np.maximum(added @ x.T, 0) @ best.q))
        if k % _MOVE == 1 and len(best.net.coef):
            root = np.sqrt(best.net.coef)[:, None]
            theta = root * np.concatenate([best.net.signs[:, None], best.net.units], axis=1)
            theta = _descend(x, y, loss, c, theta, steps // 2, _POLISH)
            kept = theta[np.linalg.norm(theta[:, 1:], axis=1) > 1e-8]
            net = net.joined(unit_rows(kept[:, 1:]), np.where(kept[:, 0] < 0, -1.0, 1.0))
        better = _fitted(x, y, loss, c, net)
        if better.loss >= best.loss:
            break
        best = better
    return best


def _fitted(x: np.ndarray, y: np.ndarray, loss: ConvexLoss, c: float, net: Signed) -> Fit:
    """Fit the coefficients; drop units without weight."""
    features = np.maximum(x @ net.units.T, 0) * net.signs
    coef, q = _fit_by_newton(features, y, loss, c, net.coef)
    kept = coef > 1e-6 * np.max(coef, initial=1e-300)
    net = Signed(net.units[kept], net.signs[kept], coef[kept])
    value = float(loss.value(y, net.outputs(x)).sum() + c * net.coef.sum())
    return Fit(net, value, q)


def _fit_by_newton(
    features: np.ndarray, y: np.ndarray, loss: ConvexLoss, c: float, a: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Minimise by Newton steps, each a non-negative least-squares problem, with a line search."""
    diagonal = np.diag_indices(len(a))
    if not len(a):
        return a, loss.pull(y, np.zeros(len(y)))
    f = features @ a
    value = loss.value(y, f).sum() + c * a.sum()
    for _ in range(_NEWTON):
        curvature = loss.curvature(y, f)
        curvature = np.maximum(curvature, 1e-12 * curvature.max())
        gradient = c - features.T @ loss.pull(y, f)
        weighted = features * np.sqrt(curvature)[:, None]
        h = weighted.T @ weighted
        size = float(np.trace(h)) / len(a)
        if not size > 0:  # no unit is active
            break
        h[diagonal] += 1e-11 * size
        try:
            factor = np.linalg.cholesky(h)
        except np.linalg.LinAlgError:
            h[diagonal] += 1e-7 * size
            factor = np.linalg.cholesky(h)
        target = np.linalg.solve(factor, h @ a - gradient)
        step = nnls(factor.T, target, maxiter=30 * len(a))[0] - a
        slope, ahead, t = float(gradient @ step), features @ step, 1.0
        if -slope <= 1e-11 * value:
            break
        while t > 1e-9:
            reached = loss.value(y, f + t * ahead).sum() + c * (a + t * step).sum()
            if reached <= value + 1e-4 * t * slope:
                break
            t /= 2
        else:
            break
        a, value = np.maximum(a + t * step, 0), reached
        f = features @ a
    return a, loss.pull(y, f)


def fit_hinge(x: np.ndarray, y: np.ndarray, c: float, net: Signed) -> Signed:
    """Return the coefficients of least hinge loss for given units, by a linear programme."""
    features = y[:, None] * np.maximum(x @ net.units.T, 0) * net.signs
    n, k = features.shape
    solution = linprog(
        np.r_[np.full(k, c), np.ones(n)],
        A_ub=-np.hstack([features, np.eye(n)]),
        b_ub=-np.ones(n),
        bounds=(0, None),
        method="highs",
    )
    if solution.x is None:
        return net
    coef = np.maximum(solution.x[:k], 0)
    kept = coef > 0
    return Signed(net.units[kept], net.signs[kept], coef[kept])


def _descend(
    x: np.ndarray,
    y: np.ndarray,
    loss: ConvexLoss,
    c: float,
    theta: np.ndarray,
    steps: int,
    rates: tuple[float, float],
) -> np.ndarray:
    """Lower R(f) + c/2 ||Theta||^2 by Adam; a row of theta is a unit, output weight first."""
    theta = theta.copy()
    size = float(np.sqrt(np.mean(theta**2))) or 1.0
    adam = Adam(theta)
    for k in range(steps):
        scores = np.maximum(theta[:, 1:] @ x.T, 0)
        pulls = loss.pull(y, theta[:, 0] @ scores)
        gradient = np.empty_like(theta)
        gradient[:, 0] = scores @ pulls
        gradient[:, 1:] = theta[:, :1] * (((scores > 0) * pulls) @ x)
        gradient -= c * theta
        adam.ascend(theta, gradient, size * rates[0] * (rates[1] / rates[0]) ** (k / steps))
    return theta
