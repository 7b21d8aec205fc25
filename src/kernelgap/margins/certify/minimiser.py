r"""Minimise the bound of `margins.certify.relaxation` by quasi-Newton steps in stages.

In a stage lambda_max is smoothed by a log-sum-exp, each negative point may transfer to a fixed set
of partners, and H is looked at in a subspace only. Between stages the partners are chosen anew,
those whose transfers would lower the bound first (column generation), the subspace grows by those
eigenvectors of H that it misses, and the smoothing is lowered where it is what limits the bound.
Every point met is a valid bound for all of H; the best is kept.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
from scipy.optimize import minimize

from kernelgap.margins.certify.pricing import reprice
from kernelgap.margins.certify.relaxation import (
    Relaxation,
    multipliers,
    views,
    weights_of,
)
from kernelgap.margins.certify.smoothed import by_logits, evaluate
from kernelgap.margins.certify.triangles import scaled

_STAGE = 160  # steps of one stage
_DIMENSIONS = 96  # of the first subspace, along the principal components of the data
_GROWTH = 24  # eigenvectors of each side that join the subspace after a stage
_TOP = 0.2  # those whose eigenvalues are above this share of the largest
_FIRST, _LAST = 3e-2, 3e-4  # smoothing, relative to the bound
_FLOOR = 0.1  # of weights, over their mean, in the scales of the variables
_ROOM = 0.1  # least first t_0 over the sum of the others
_LEAST = 1e-4  # least t_0 over the bound; at 0 it would never leave it
_PATIENCE = 0.3  # the smoothing is lowered when a stage gains less than this share of it
_IDLE = 2  # stages without gain that end the search
_TINY = 1e-100
_ZERO = 1e-13  # violations below it, in units of the data, are rounding


# What is minimised: a function of p and of a bound h on the violation, and its derivatives.
Objective = Callable[[np.ndarray, float], tuple[float, np.ndarray | float, float]]


def violation(p: np.ndarray, h: float) -> tuple[float, float, float]:
    """The objective h itself."""
    return h, 0.0, 1.0


class Minimum(NamedTuple):
    """The least value met, without smoothing, where it was met, and how the search ended."""

    value: float
    bound: float  # h
    relaxation: Relaxation  # of the points as given, with the layout that belongs to theta
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
    moment = x.T @ x / max(np.sum(norms**2), 1e-300)
    sums = (weights_of(relaxation, theta) * relaxation.signs) @ x
    lengths = np.sum((x @ moment) * x, axis=1)
    # A t_0 far too small would leave no room for T_0j.
    least = _ROOM * float(weights_of(relaxation, theta) @ np.sqrt(np.maximum(lengths, 0)))
    for side in relaxation.sides:
        logs, weights, _ = views(side, theta)
        logs[0] = np.log(max(np.sqrt(sums @ moment @ sums), least, 1e-300))
        logs[1:] = np.log(np.maximum(lengths[side.positive], 1e-300)) / 2
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
    objective: Objective = violation,
    fixed: bool = False,
    most: float = np.inf,
    goal: float = -np.inf,
) -> Minimum:
    """Minimise the objective in at most `steps` steps, with p held where `fixed`, or until `goal`.

    `most` is an upper limit of weights that need not sum to 1.
    """
    # The multipliers do not depend on coordinates: here the principal ones, without zeros.
    _, singular, rows = np.linalg.svd(relaxation.x, full_matrices=False)
    whole = relaxation._replace(x=relaxation.x @ rows[singular > 1e-12 * singular[0]].T)
    rank = whole.x.shape[1]
    basis = np.eye(rank)[:, :_DIMENSIONS]
    first = evaluate(whole, theta, 1.0).bound
    value = objective(weights_of(whole, theta), first)[0]
    best = Minimum(value, first, relaxation, theta, "max_iterations")
    relative, idle = _FIRST, 0
    while steps > 0 and best.value > goal and best.bound > _ZERO:
        smoothing = relative * best.bound
        part = whole if basis.shape[1] == rank else whole._replace(x=whole.x @ basis)
        stage, theta, spent = _stage(
            part, theta, smoothing, best, min(_STAGE, steps), tol, objective, fixed, most, goal
        )
        steps -= spent
        if not np.isfinite(stage.value):  # no point of it could be evaluated
            return best._replace(status="solver_failed")
        seen = stage.bound
        if part is not whole:
            bound, basis = _widen(whole, stage.theta, basis, seen * (1 + tol))
            p = weights_of(whole, stage.theta)
            stage = stage._replace(bound=bound, value=objective(p, bound)[0])
        stage = stage._replace(relaxation=relaxation._replace(sides=whole.sides))
        gain = (best.value - stage.value) / max(abs(stage.value), _TINY)
        best = stage if stage.value < best.value else best
        if stage.bound <= seen * (1 + tol):  # the subspace has what matters
            idle = idle + 1 if gain < tol and relative <= max(_LAST, tol) else 0
            if idle == _IDLE:
                return best._replace(status=stage.status)
            if gain < _PATIENCE * relative:
                relative = max(relative / 3, _LAST)
        part, theta = reprice(part, theta, smoothing, relative)
        whole = whole._replace(sides=part.sides)
    ended = best.value <= goal or best.bound <= _ZERO
    return best._replace(status="converged" if ended else "max_iterations")


class _Reached(Exception):
    """The value is as low as was asked for."""


def _stage(
    relaxation: Relaxation,
    theta: np.ndarray,
    smoothing: float,
    start: Minimum,
    steps: int,
    tol: float,
    objective: Objective,
    fixed: bool,
    most: float,
    goal: float,
) -> tuple[Minimum, np.ndarray, int]:
    """The best of one stage, where it ended, and the steps it took."""
    best = Minimum(float(np.inf), float(np.inf), relaxation, theta, "converged")
    n, taken = len(relaxation.x), 0
    scale = max(abs(start.value), _TINY)
    units, lower = _scales(relaxation, theta, start.bound)
    upper = np.full(len(theta), np.inf)
    upper[:n] = np.log(most) / units[:n]

    def smoothed(scaled: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        variables = scaled * units
        seen = evaluate(relaxation, variables, smoothing)
        p = weights_of(relaxation, variables)
        value = objective(p, seen.bound)[0]
        if value < best.value:
            best = best._replace(value=value, bound=seen.bound, theta=variables)
            if value <= goal:
                raise _Reached
        value, by_p, by_h = objective(p, seen.smooth)
        gradient = by_h * seen.gradient
        gradient[:n] += by_logits(relaxation, p, np.broadcast_to(by_p, n))
        if fixed:
            gradient[:n] = 0
        # Scaled, so that the tolerances of the line search mean the same for all data.
        return value / scale, gradient * units / scale

    def count(_: np.ndarray) -> None:
        nonlocal taken
        taken += 1

    options = {"maxiter": steps, "maxfun": 2 * steps, "maxcor": 20,
               "ftol": 1e-3 * min(tol, smoothing / start.bound), "gtol": 1e-12}  # fmt: skip
    try:
        # A line search may try steps that overflow; their bounds are inf or NaN and are not kept.
        with np.errstate(all="ignore"):
            ended = minimize(smoothed, theta / units, jac=True, method="L-BFGS-B", callback=count,
                             bounds=np.stack([lower, upper], axis=1), options=options)  # fmt: skip
    except _Reached:
        return best, best.theta, max(taken, 1)
    if ended.status not in (0, 1):  # converged, or as many steps or evaluations as allowed
        best = best._replace(status="solver_failed")
    return best, ended.x * units, max(int(ended.nit), 1)


def _scales(
    relaxation: Relaxation, theta: np.ndarray, bound: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return units of the variables in which the curvatures are about equal, and lower limits.

    What belongs to a point is curved in proportion to its weight times its norm; a line search in
    the variables themselves would be as short as the stiffest of them, t_0, needs.
    """
    p, both = multipliers(relaxation, theta)
    weights = p * relaxation.norms
    mean = weights.mean()

    def unit(weight: np.ndarray | float) -> np.ndarray:
        return 1 / np.sqrt(weight / mean + _FLOOR)

    by_point = unit(weights)
    units, lower = np.empty_like(theta), np.full(len(theta), -np.inf)
    units[: len(by_point)] = by_point
    for side, m in zip(relaxation.sides, both, strict=True):
        logs, shares, triangles = views(side, units)
        logs[0], logs[1:], shares[:] = (
            unit(bound), by_point[side.positive], by_point[side.negative],
        )  # fmt: skip
        triangles[:] = unit(scaled(m.scales, m.triangles))
        views(side, lower).triangles[:] = 0
        views(side, lower).logs[0] = np.log(_LEAST * bound) / views(side, units).logs[0]
    return units, lower


def _widen(
    whole: Relaxation, theta: np.ndarray, basis: np.ndarray, seen: float
) -> tuple[float, np.ndarray]:
    """Return the bound for all of H, and a basis with its top eigenvectors where it is not seen."""
    value, columns = evaluate(whole, theta, 1.0), [basis]
    if value.bound <= seen:
        return value.bound, basis
    for h in value.matrices:
        eigenvalues, vectors = np.linalg.eigh(h)
        columns.append(vectors[:, -_GROWTH:][:, eigenvalues[-_GROWTH:] > _TOP * eigenvalues[-1]])
    return value.bound, np.linalg.qr(np.hstack(columns)[:, : len(basis)])[0]


def candidate(relaxation: Relaxation, theta: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return the most violating of the relaxation's top eigenvectors, as a unit vector."""
    d = relaxation.x.shape[1]
    units = [np.eye(d)[0]]
    for h in evaluate(relaxation, theta, 1.0).matrices:
        for vector in np.linalg.eigh(h)[1][:, -3:].T:
            units += [vector, -vector]
    u = np.stack([unit / max(np.linalg.norm(unit), 1e-300) for unit in units])
    violations = np.abs(np.maximum(u @ relaxation.x.T, 0) @ q)
    return u[np.argmax(violations)]
