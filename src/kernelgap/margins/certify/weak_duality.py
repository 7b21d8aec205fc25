r"""Upper bounds on margins by weak duality, and on the violation that they rest on.

By weak duality of the l1-norm SVM over all ReLU units, for every p in the simplex

    gamma* = max over nets with ||Theta|| <= 1 of min_i y_i f(x_i) <= h(p o y) / 2,
    h(q) = max over ||u|| <= 1 of ``|sum_i q_i relu(u.x_i)|``,

with equality for the best p. No fast algorithm computes h in general. Up to d = 3 it is enumerated
exactly (`margins.certify.enumeration`), for d = 4 and 5 a branch and bound over cones encloses it
(`margins.certify.cones`); beyond, `margins.certify.relaxation` bounds it. Every bound is evaluated
with its rounding errors. Where p is free it is chosen together with the bound.
"""

import math
from functools import partial
from typing import Literal

import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.blas import limit_blas_threads
from kernelgap._numerics.verified import above, below
from kernelgap.margins.certify import cones, cutting_planes, enumeration, minimiser, relaxation
from kernelgap.margins.certify.multipliers import extended, for_all_points
from kernelgap.margins.certify.results import Status as Status, UpperBound, ViolationBound
from kernelgap.margins.problem import (
    Problem,
    divide_by_power_of_two,
    host_inputs,
    prepare_problem,
)
from kernelgap.typing import ArrayLike

_TINY = 1e-100
_EXACT_CELLS = 4_000_000  # cells that are enumerated in a few seconds
_CONES = 400_000  # cones that are evaluated in less than a minute
FEW = {4: 100, 5: 30}  # the largest numbers of points in d dimensions for which cones are tried


def violation_bound(
    x: ArrayLike,
    q: ArrayLike,
    *,
    method: Literal["auto", "exact", "relaxation"] = "auto",
    max_iterations: int = 4000,
    tol: float = 1e-4,
) -> ViolationBound:
    r"""Bound h(q) = max over ||u|| <= 1 of ``|sum_i q_i relu(u.x_i)|`` rigorously from above.

    Args:
        x: Inputs of shape (n, d); taken in double precision as they are, on the host.
        q: (n,) real weights of any signs.
        method: `"exact"` enumerates activation cells, O(n log n) for d <= 2 and O(n^2 log n) for
            d = 3; for d = 4 and 5 it divides the sphere into cones until `value` is within `tol` of
            `attained`, or there are too many. `"relaxation"` minimises the bound of
            `margins.certify.relaxation` over its multipliers, about O(n^2 d + d^3) for each
            iteration. `"auto"` is exact where d <= 2, d = 3 and the cells are at most a few
            million, d = 4 and n <= 100, d = 5 and n <= 30, and relaxes where that fails.
        max_iterations: The largest number of quasi-Newton steps.
        tol: Stop when a stage of smoothing lowers the bound by less than this, relatively.

    Returns:
        A `ViolationBound`.

    Raises:
        ValueError: If `method` is `"exact"` and d > 5.

    Example:
        >>> import numpy as np, kernelgap as kg
        >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> bound = kg.margins.violation_bound(x, np.array([0.3, 0.4, -0.3]))
        >>> print(round(bound.value, 6), bound.exact)
        0.5 True

    References:
        Derived for this project; see `margins.certify.relaxation` and
        `margins.certify.enumeration`.
    """
    inputs, _ = host_inputs(x)
    n, d = inputs.shape
    array_checks.targets(q, n, "q")
    checks.choice(method, "method", ("auto", "exact", "relaxation"))
    max_iterations = checks.integer(max_iterations, "max_iterations", minimum=1)
    checks.number(tol, "tol", minimum=0, exclusive=True)
    if method == "exact" and d > 5:
        raise ValueError(f"`method='exact'` needs d <= 5; got d = {d}")
    scaled, scale = divide_by_power_of_two(inputs)
    bound = bound_violation(scaled, np.asarray(q, np.float64), method, max_iterations, tol)
    return _scaled(bound, scale)


def upper_bound(
    x: ArrayLike,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    max_iterations: int = 4000,
    tol: float = 1e-4,
) -> UpperBound:
    r"""Bound the normalised margin of two-layer ReLU nets of any width rigorously from above.

    gamma* <= h(p o y) / 2 for every p in the simplex, h(q) = max ``|sum_i q_i relu(u.x_i)|`` over
    ||u|| <= 1. For d <= 3 the best p is found by cutting planes with the exact h, and to a relative
    1e-3 for d = 4, n <= 100 and d = 5, n <= 30, if 400,000 cones are enough. Beyond, p and the
    multipliers of `margins.certify.relaxation` minimise a convex bound on h together, by
    quasi-Newton steps. Every iterate is a valid bound; the one returned is evaluated in double
    precision with its rounding errors, on the host.

    Args:
        x: Inputs of shape (n, d); taken in double precision as they are.
        y: (n,) labels, each -1 or +1. One class alone is a valid problem too.
        weights: (n,) p to start from, in the simplex, such as p_i proportional to
            sigmoid(-y_i f(x_i)) of a trained net; uniform when None. Not used by cutting planes.
        max_iterations: The largest number of quasi-Newton steps; not used by cutting planes.
        tol: Stop when a stage of smoothing lowers the bound by less than this, relatively; for
            d <= 3, when h(p o y) is that close to its minimum.

    Returns:
        An `UpperBound`. Its value is 0, or 0 but for rounding, where no net separates the data:
        a zero row, one point with both labels.

    Raises:
        ValueError: If `weights` are not in the simplex.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 64, 4)
        >>> bound = kg.margins.upper_bound(x, y)  # the planted net has 1/8: no net has more
        >>> print(round(bound.value, 3), bound.status)
        0.125 converged

    References:
        Paper A: the best margin is half that of the l1-norm SVM over all ReLU units. The dual and
        the bound are derived for this project.
    """
    problem = prepare_problem(x, y)
    n = len(problem.y)
    max_iterations = checks.integer(max_iterations, "max_iterations", minimum=1)
    checks.number(tol, "tol", minimum=0, exclusive=True)
    start = np.full(n, 1 / n)
    if weights is not None:
        array_checks.targets(weights, n, "weights")
        start = np.asarray(weights, np.float64)
        if start.min() < 0 or abs(start.sum() - 1) > 1e-3:
            raise ValueError(
                "`weights` must be non-negative and sum to 1; got a least entry of "
                f"{start.min():g} and a sum of {start.sum():g}"
            )
        start = start / start.sum()
    return bound_margin(problem, start=start, max_iterations=max_iterations, tol=tol)


def bound_margin(
    problem: Problem,
    *,
    start: np.ndarray | None = None,
    max_iterations: int = 4000,
    tol: float = 1e-4,
    goal: float = 0.0,
) -> UpperBound:
    """Return the `upper_bound` of a prepared problem, or the first one that is at most `goal`."""
    return bound_with_units(problem, None, start, max_iterations, tol, goal)[0]


def bound_with_units(
    problem: Problem,
    units: np.ndarray | None = None,
    start: np.ndarray | None = None,
    max_iterations: int = 4000,
    tol: float = 1e-4,
    goal: float = 0.0,
) -> tuple[UpperBound, np.ndarray]:
    """Return `bound_margin`, and units (k, d) whose best network has about that margin.

    Cutting planes start from the given units; where they are not used there are no units.
    """
    x, y = problem.x, problem.y
    solution = np.zeros((0, x.shape[1]))
    n, d = x.shape
    if problem.conflict is not None:
        p = problem.conflict.weights
        violation = ViolationBound(
            problem.conflict.violation, 0.0, np.eye(d)[0], exact=True, status="converged"
        )
    elif d <= 3:
        p, solved = enumeration.least_violated_weights(x, y, tol)
        violation = bound_violation(x, p * y)
        violation = violation if solved else violation._replace(status="solver_failed")
    else:
        goal *= 2 / problem.scale
        p, violation = np.full(n, 1 / n), None
        if n <= FEW.get(d, 0):
            search = partial(cutting_planes.least_violated_weights, units=units, goal=goal)
            least = limit_blas_threads(d, lambda: search(x, y, limit=_CONES))
            p, violation, solution = least.weights, _in_cones(least.bound), least.units
            if not least.solved:
                violation = violation._replace(status="solver_failed")
        if violation is None or not violation.exact:
            start = p if start is None else start
            relaxed = limit_blas_threads(
                d, lambda: _relaxed_margin(x, y, start, max_iterations, tol, goal)
            )
            if violation is None or relaxed[1].value < violation.value:
                p, violation = relaxed
    # p sums to 1 but for rounding: h is divided by a lower bound on the sum.
    violation = violation._replace(value=above(violation.value / below(float(p.sum()), n)))
    violation = _scaled(violation, problem.scale)
    return UpperBound(violation.value / 2, p, violation, violation.status), solution


def bound_violation(
    x: np.ndarray,
    q: np.ndarray,
    method: Literal["auto", "exact", "relaxation"] = "auto",
    max_iterations: int = 4000,
    tol: float = 1e-4,
) -> ViolationBound:
    """Return the `violation_bound` for inputs whose largest entry is near 1."""
    n, d = x.shape
    q, scale = divide_by_power_of_two(q)
    # What is far below the rounding of the rest is paid for in full: its square would underflow.
    sizes = np.abs(q) * np.abs(x).max(axis=1)
    kept = (sizes > 0) & (np.abs(x).max(axis=1) > _TINY) & (np.abs(q) > _TINY)
    dropped = above(d * float(sizes[~kept].sum()), n + 4) if sizes[~kept].any() else 0.0
    x, q = x[kept], q[kept]
    if not len(x):
        return ViolationBound(dropped * scale, 0.0, np.eye(d)[0], dropped == 0, "converged")
    quick = d <= 2 or (d == 3 and 4 * len(x) ** 2 <= _EXACT_CELLS)
    if d <= 3 and (method == "exact" or (method == "auto" and quick)):
        value, attained, direction = enumeration.most_violating(x, q)
        bound = ViolationBound(value, attained, direction, True, "converged")
    else:
        bound = None
        if method == "exact" or (method == "auto" and len(x) <= FEW.get(d, 0)):
            bound = limit_blas_threads(
                d, lambda: _in_cones(cones.most_violating(x, q, tol=tol, limit=_CONES))
            )
        if bound is None or (method == "auto" and not bound.exact):
            relaxed = limit_blas_threads(d, lambda: _relaxed_violation(x, q, max_iterations, tol))
            relaxed = relaxed._replace(multipliers=extended(relaxed.multipliers, kept, scale))
            bound = relaxed if bound is None or relaxed.value < bound.value else bound
    if dropped:
        bound = bound._replace(value=above(bound.value + dropped))
    return _scaled(bound, scale)


def _scaled(bound: ViolationBound, scale: float) -> ViolationBound:
    """The bound for inputs or weights times a power of two."""
    return bound._replace(value=bound.value * scale, attained=bound.attained * scale)


def _in_cones(bound: cones.ConeBound) -> ViolationBound:
    status = "converged" if bound.closed else "max_iterations"
    return ViolationBound(bound.value, bound.attained, bound.direction, bound.closed, status)


def _relaxed_violation(x: np.ndarray, q: np.ndarray, steps: int, tol: float) -> ViolationBound:
    """The relaxation for given weights."""
    total = float(np.abs(q).sum())
    relaxed = relaxation.relax(x, np.sign(q))
    theta = minimiser.first_variables(relaxed, np.abs(q))
    theta[: len(x)] = np.log(np.abs(q) / total)
    best = minimiser.minimise(relaxed, theta, steps=steps, tol=tol, fixed=True)
    # The multipliers belong to the softmax; scaled, they fit the weights themselves.
    p, multipliers = relaxation.multipliers(best.relaxation, best.theta)
    value = relaxation.certified_bound(best.relaxation, p, multipliers)
    # |q| = total * p (1 + rounding): by homogeneity and the triangle inequality.
    gap = math.fsum(np.abs(np.abs(q) - total * p) * best.relaxation.norms)
    value = above(total * value + gap, 2 * len(x) + 16)
    direction = minimiser.candidate(best.relaxation, best.theta, q)
    attained = float(abs(q @ np.maximum(x @ direction, 0)))
    both = for_all_points(best.relaxation, multipliers, total)
    return ViolationBound(value, attained, direction, False, best.status, both)


def _relaxed_margin(
    x: np.ndarray, y: np.ndarray, start: np.ndarray, steps: int, tol: float, goal: float
) -> tuple[np.ndarray, ViolationBound]:
    """The relaxation with weights that are chosen together with its multipliers."""
    relaxed = relaxation.relax(x, y)
    theta = minimiser.first_variables(relaxed, start)
    best = minimiser.minimise(relaxed, theta, steps=steps, tol=tol, goal=goal)
    p, multipliers = relaxation.multipliers(best.relaxation, best.theta)
    value = relaxation.certified_bound(best.relaxation, p, multipliers)
    direction = minimiser.candidate(best.relaxation, best.theta, p * y)
    attained = float(abs((p * y) @ np.maximum(x @ direction, 0)))
    both = for_all_points(best.relaxation, multipliers)
    return p, ViolationBound(value, attained, direction, False, best.status, both)
