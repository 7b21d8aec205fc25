r"""Minimise the bound of `margins.certify.relaxation` by quasi-Newton steps in stages.

In a stage lambda_max is smoothed by a log-sum-exp, each negative point may transfer to a fixed set
of partners, and H is looked at in a subspace only. Between stages the partners are chosen anew,
those whose transfers would lower the bound first (column generation), the subspace grows by those
eigenvectors of H that it misses, and the smoothing is lowered where it is what limits the bound.
Every point met is a valid bound for all of H; the best is kept.
"""

from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import minimize

from kernelgap.margins.certify.relaxation import (
    Multipliers,
    Relaxation,
    Side,
    evaluate,
    multipliers,
    quadratic_form,
    side_multipliers,
    smooth_eigenvalue,
    softmax,
    views,
)

_STAGE = 80  # steps of one stage
_DIMENSIONS = 96  # of the first subspace, along the principal components of the data
_GROWTH = 24  # eigenvectors of each side that join the subspace after a stage
_TOP = 0.2  # those whose eigenvalues are above this share of the largest
_FIRST, _LAST = 3e-2, 3e-4  # smoothing, relative to the bound
_FLOOR = 0.1  # of weights, over their mean, in the scales of the variables
_RHO = 0.5  # the scale of rho over the bound
_PATIENCE = 0.3  # the smoothing is lowered when a stage gains less than this share of it
_REVIVED = 0.02
_TINY = 1e-100
_ZERO = 1e-13  # violations below it, in units of the data, are rounding


class Minimum(NamedTuple):
    """The least bound met, without smoothing, where it was met, and how the search ended."""

    bound: float
    relaxation: Relaxation  # of the points as given, with the partners that belong to theta
    theta: np.ndarray
    status: Literal["converged", "max_iterations", "solver_failed"]


def first_variables(relaxation: Relaxation, p: np.ndarray) -> np.ndarray:
    """Return variables to start from: weights p, transfers along the correlations.

    The scales t_i / p_i are sqrt(x_i'C x_i) with C the second moment of the data over its trace:
    the best ones where the unit is as likely along any direction as the data are.
    """
    x, norms = relaxation.x, relaxation.norms
    theta = np.zeros(relaxation.size)
    theta[: len(x)] = np.log(np.maximum(p, 1e-8 * p.max()))
    moment = x.T @ x
    lengths = np.sum((x @ moment) * x, axis=1) / max(np.trace(moment), 1e-300)
    for side in relaxation.sides:
        logs, _, weights = views(side, theta)
        logs[:] = np.log(np.maximum(lengths[side.positive], 1e-300)) / 2
        weights[0] = 1
        weights[1:3] = 0.05
        points, others = x[side.positive], x[side.negative]
        scale = norms[side.positive][side.partners] * norms[side.negative]
        weights[3:] = np.sum(points[side.partners] * others, axis=2) / np.maximum(scale, 1e-300)
        weights[3:] /= np.maximum(np.linalg.norm(weights[3:], axis=0), 1e-300)
    return theta


def minimise(
    relaxation: Relaxation,
    theta: np.ndarray,
    *,
    steps: int,
    tol: float,
    fixed: bool,
    goal: float = 0.0,
) -> Minimum:
    """Minimise the bound in at most `steps` steps, with p held where `fixed`, or until `goal`."""
    # The multipliers do not depend on coordinates: here the principal ones, without zeros.
    _, singular, rows = np.linalg.svd(relaxation.x, full_matrices=False)
    whole = relaxation._replace(x=relaxation.x @ rows[singular > 1e-12 * singular[0]].T)
    rank = whole.x.shape[1]
    basis = np.eye(rank)[:, :_DIMENSIONS]
    first = evaluate(whole, theta, 1.0).bound
    best = Minimum(first, relaxation, theta, "max_iterations")
    relative = _FIRST
    while steps > 0 and best.bound > max(_ZERO, goal):
        smoothing = relative * best.bound
        part = whole if basis.shape[1] == rank else whole._replace(x=whole.x @ basis)
        stage, theta, spent = _stage(
            part, theta, smoothing, best.bound, min(_STAGE, steps), tol, fixed, goal
        )
        steps -= spent
        seen = stage.bound
        if part is not whole:
            bound, basis = _widen(whole, stage.theta, basis, seen * (1 + tol))
            stage = stage._replace(bound=bound)
        stage = stage._replace(relaxation=relaxation._replace(sides=whole.sides))
        gain = (best.bound - stage.bound) / max(stage.bound, _TINY)
        best = stage if stage.bound < best.bound else best
        if stage.bound <= seen * (1 + tol):  # the subspace has what matters
            if gain < tol and relative <= max(_LAST, tol):
                return best._replace(status=stage.status)
            if gain < _PATIENCE * relative:
                relative = max(relative / 3, _LAST)
        part, theta = reprice(part, theta, smoothing)
        whole = whole._replace(sides=part.sides)
    return best._replace(status="max_iterations" if best.bound > max(_ZERO, goal) else "converged")


class _Reached(Exception):
    """The bound is as low as was asked for."""


def _stage(
    relaxation: Relaxation,
    theta: np.ndarray,
    smoothing: float,
    scale: float,
    steps: int,
    tol: float,
    fixed: bool,
    goal: float,
) -> tuple[Minimum, np.ndarray, int]:
    """The best of one stage, where it ended, and the steps it took."""
    best = Minimum(float(np.inf), relaxation, theta, "converged")
    n, taken = len(relaxation.x), 0
    units = _scales(relaxation, theta, scale)

    def objective(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        variables = scaled * units
        value = evaluate(relaxation, variables, smoothing)
        if value.bound < best.bound:
            best = best._replace(bound=value.bound, theta=variables)
            if value.bound <= goal:
                raise _Reached
        if fixed:
            value.gradient[:n] = 0
        # Scaled, so that the tolerances of the line search mean the same for all data.
        return value.smooth / scale, value.gradient * units / scale

    def count(_: np.ndarray) -> None:
        nonlocal taken
        taken += 1

    options = {"maxiter": steps, "maxfun": 2 * steps, "maxcor": 12,
               "ftol": 1e-3 * min(tol, smoothing / scale), "gtol": 1e-12}  # fmt: skip
    try:
        # A line search may try steps that overflow; their bounds are inf or NaN and are not kept.
        with np.errstate(all="ignore"):
            ended = minimize(objective, theta / units, jac=True, method="L-BFGS-B", callback=count,
                             options=options)  # fmt: skip
    except _Reached:
        return best, best.theta, max(taken, 1)
    if ended.status not in (0, 1):  # converged, or as many steps or evaluations as allowed
        best = best._replace(status="solver_failed")
    return best, ended.x * units, max(int(ended.nit), 1)


def _scales(relaxation: Relaxation, theta: np.ndarray, bound: float) -> np.ndarray:
    """Return units of the variables in which the curvatures of the bound are about equal.

    What belongs to a point is curved in proportion to its weight times its norm; a line search in
    the variables themselves would be as short as the stiffest of them, rho, needs.
    """
    weights = softmax(theta[: len(relaxation.x)]) * relaxation.norms
    by_point = 1 / np.sqrt(weights / weights.mean() + _FLOOR)
    units = np.empty_like(theta)
    units[: len(by_point)] = by_point
    for side in relaxation.sides:
        logs, rho, shares = views(side, units)
        logs[:], rho[:], shares[:] = by_point[side.positive], _RHO * bound, by_point[side.negative]
    return units


def _widen(
    whole: Relaxation, theta: np.ndarray, basis: np.ndarray, seen: float
) -> tuple[float, np.ndarray]:
    """Return the bound for all of H, and a basis with its top eigenvectors where it is not seen."""
    p, both = multipliers(whole, theta)
    bound, columns = -np.inf, [basis]
    for side, m in zip(whole.sides, both, strict=True):
        _, h = quadratic_form(whole, side, p, m)
        eigenvalues, vectors = np.linalg.eigh(h)
        largest = max(float(eigenvalues[-1]), 0.0)
        bound = max(bound, (m.scales.sum() / 2 - m.rho + 2 * largest) / 2)
        columns.append(vectors[1:, -_GROWTH:][:, eigenvalues[-_GROWTH:] > _TOP * largest])
    if bound <= seen:
        return bound, basis
    return bound, np.linalg.qr(np.hstack(columns)[:, : len(basis)])[0]


def reprice(
    relaxation: Relaxation, theta: np.ndarray, smoothing: float
) -> tuple[Relaxation, np.ndarray]:
    """Choose partners anew: those that carry a transfer, and those whose transfer lowers the bound.

    Where a share is zero its weight has gradient zero, whether it should grow or not: the shares
    that should, by the sign of their own derivative, are started again at a small value.
    """
    p, fresh, sides = softmax(theta[: len(relaxation.x)]), theta.copy(), []
    for side in relaxation.sides:
        k = len(side.partners)
        if not k or not len(side.negative):
            sides.append(side)
            continue
        m, shares, _ = side_multipliers(relaxation, side, theta, p)
        slopes, direct = _derivatives(relaxation, side, p, m, smoothing)
        carried = np.zeros_like(slopes)
        np.put_along_axis(carried, side.partners, shares[3:], axis=0)
        # Shares of one point sum to 1: growth pays where the slope is below their average.
        average = np.sum(direct * shares[:3], axis=0) + np.sum(slopes * carried, axis=0)
        gain = np.maximum(np.abs(slopes) + average, 0)
        score = np.abs(carried) + _REVIVED * gain / np.maximum(gain.max(axis=0), _TINY)
        partners = np.sort(np.argpartition(-score, k - 1, axis=0)[:k], axis=0)

        now = np.take_along_axis(carried, partners, axis=0)
        grows = np.take_along_axis(gain, partners, axis=0) > 0
        signs = -np.sign(np.take_along_axis(slopes, partners, axis=0))
        now = np.where(grows & (np.abs(now) < _REVIVED / k), signs * _REVIVED / k, now)
        base = np.where((direct < average) & (shares[:3] < _REVIVED), _REVIVED, shares[:3])
        _, _, weights = views(side, fresh)
        weights[:3] = np.sqrt(base)
        weights[3:] = np.sign(now) * np.sqrt(np.abs(now))
        sides.append(side._replace(partners=partners))
    return relaxation._replace(sides=tuple(sides)), fresh


def _derivatives(
    relaxation: Relaxation, side: Side, p: np.ndarray, m: Multipliers, smoothing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives by every T_ij, and by the shares of k_j r_j, l_j and -l_j, over p_j."""
    others = relaxation.x[side.negative]
    v, h = quadratic_form(relaxation, side, p, m)
    _, _, g = smooth_eigenvalue(h, smoothing)
    along, squared = others @ g[0, 1:], np.sum((others @ g[1:, 1:]) * others, axis=1)
    direct = np.stack([-squared / relaxation.norms[side.negative], -along, along])
    return -(v @ g[1:, 1:] / m.scales[:, None]) @ others.T, direct


def candidate(relaxation: Relaxation, theta: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the most violating of the relaxation's top eigenvectors, as a unit vector."""
    d = relaxation.x.shape[1]
    units = [np.eye(d)[0]]
    for h in evaluate(relaxation, theta, 1.0).matrices:
        for vector in np.linalg.eigh(h)[1][:, -3:].T:
            units += [vector[1:], -vector[1:]]
    u = np.stack([unit / max(np.linalg.norm(unit), 1e-300) for unit in units])
    violations = np.abs(np.maximum(u @ relaxation.x.T, 0) @ q)
    return u[np.argmax(violations)]
