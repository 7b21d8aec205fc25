r"""Upper bounds on the margin of two-layer ReLU networks of any width.

By weak duality of the l1-norm SVM over all ReLU units, for every p in the simplex

    gamma* = max over nets with ||Theta|| <= 1 of min_i y_i f(x_i) <= h(p o y) / 2,

with h from `margins.violation`, and equality for the best p. Here p is what is searched for.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import linprog

from kernelgap import _checks
from kernelgap._display import compact_repr, html_repr
from kernelgap.margins import enumeration, relaxation, rounding, search
from kernelgap.margins.violation import ViolationBound, host_inputs, unit_scale
from kernelgap.margins.violation import violation_bound as bound_violation
from kernelgap.typing import ArrayLike

_ROUNDS = 60
_CUTS = 40  # units added in one round of cutting planes


class UpperBound(NamedTuple):
    """A margin that no two-layer ReLU network of any width exceeds, and why.

    Attributes:
        value: min_i y_i f(x_i) / ||Theta||^2 <= value for every net; rounding errors included.
        weights: (n,) the weights p >= 0, sum 1, whose violation proves it.
        violation: the bound on h(p o y), which is twice `value`; its `direction` is a unit that a
            better network may need.
    """

    value: float
    weights: Float[np.ndarray, " n"]
    violation: ViolationBound

    __repr__ = compact_repr
    _repr_html_ = html_repr


def upper_bound(
    x: ArrayLike,
    y: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    max_iterations: int = 4000,
    tol: float = 1e-4,
) -> UpperBound:
    r"""A rigorous upper bound on the normalised margin of two-layer ReLU nets of any width.

    gamma* <= h(p o y) / 2 for every p in the simplex, h(q) = max ``|sum_i q_i relu(u.x_i)|`` over
    ||u|| <= 1. For d <= 3 the best p is found by cutting planes with the exact h; beyond, p and
    the multipliers of `margins.relaxation` minimise a convex bound on h together, by quasi-Newton
    steps. Every iterate is a valid bound; the one returned is evaluated in double precision with
    its rounding errors, on the host.

    Args:
        x: inputs of shape (n, d); taken in double precision as they are.
        y: (n,) labels, each -1 or +1. One class alone is a valid problem too.
        weights: (n,) p to start from, in the simplex, such as p_i proportional to
            sigmoid(-y_i f(x_i)) of a trained net; uniform when None. Not used where d <= 3.
        max_iterations: at most this many quasi-Newton steps; not used where d <= 3.
        tol: stop when a stage of smoothing lowers the bound by less than this, relatively; for
            d <= 3, when h(p o y) is that close to its minimum.

    Returns:
        An `UpperBound`. Its value is 0, or 0 but for rounding, where no net separates the data:
        a zero row, one point with both labels.

    Raises:
        TypeError: if x or `weights` is not floating, or `max_iterations` no integer.
        ValueError: if shapes disagree, an entry is not finite, a label is not -1 or +1, `weights`
            is off the simplex, `max_iterations` < 1 or `tol` <= 0.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 64, 4)
        >>> bound = kg.margins.upper_bound(x, y)  # the planted net has 1/8: no net has more
        >>> print(round(bound.value, 4))
        0.125

    References:
        Paper A: the best margin is half that of the l1-norm SVM over all ReLU units. The dual and
        the bound are derived for this project.
    """
    points = host_inputs(x)
    n, d = points.shape
    signs = np.asarray(_checks.signs(y, n), np.float64)
    max_iterations = _checks.integer(max_iterations, "max_iterations", minimum=1)
    _checks.number(tol, "tol", minimum=0, exclusive=True)
    start = np.full(n, 1 / n) if weights is None else _simplex(weights, n)

    points, scale = unit_scale(points)
    hopeless = inseparable(points, signs)
    if hopeless is not None:
        p, value = hopeless
        return _finish(ViolationBound(value, 0.0, np.eye(d)[0], True), p, scale)
    if d <= 3:
        p = _cutting_planes(points, signs, tol)
        return _finish(bound_violation(points, p * signs), p, scale)
    return _relaxed(points, signs, start, max_iterations, tol, scale)


def _finish(violation: ViolationBound, p: np.ndarray, scale: float) -> UpperBound:
    # p sums to 1 but for rounding: h is divided by a lower bound on the sum.
    value = violation.value / float(p.sum()) * (1 + rounding.gamma(len(p) + 4))
    violation = violation._replace(value=value * scale, attained=violation.attained * scale)
    return UpperBound(violation.value / 2, p, violation)


def _simplex(weights: ArrayLike, n: int) -> np.ndarray:
    _checks.targets(weights, n, "weights")
    p = np.asarray(weights, np.float64)
    if p.min() < 0 or abs(p.sum() - 1) > 1e-3:
        raise ValueError("`weights` must be non-negative and sum to 1; got a least entry of "
                         f"{p.min():g} and a sum of {p.sum():g}")  # fmt: skip
    return p / p.sum()


def inseparable(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float] | None:
    """Weights and their h where a row is (next to) zero or a point has both labels; else None."""
    p = np.zeros(len(x))
    sizes = np.abs(x).max(axis=1)
    if sizes.min() < 1e-100:
        p[np.argmin(sizes)] = 1
        return p, rounding.above(x.shape[1] * float(sizes.min())) if sizes.min() else 0.0
    _, which = np.unique(x, axis=0, return_inverse=True)
    which = which.ravel()
    first = np.full(len(x), -1)
    first[which[y > 0]] = np.flatnonzero(y > 0)
    for j in np.flatnonzero(y < 0):
        if first[which[j]] >= 0:
            p[[first[which[j]], j]] = 0.5
            return p, 0.0
    return None


def _relaxed(
    x: np.ndarray, y: np.ndarray, start: np.ndarray, steps: int, tol: float, scale: float
) -> UpperBound:
    problem = relaxation.relax(x, y)
    # The multipliers do not depend on coordinates: search in the span of the data.
    _, singular, rows = np.linalg.svd(x, full_matrices=False)
    rows = rows[singular > 1e-12 * singular[0]]
    spanned = problem._replace(x=x @ rows.T) if len(rows) < x.shape[1] else problem
    theta = search.first_variables(spanned, start)
    spanned, theta = search.minimise(spanned, theta, steps=steps, tol=tol, fixed=False)
    problem = problem._replace(sides=spanned.sides)
    p, found = relaxation.multipliers(problem, theta)
    value = rounding.certified_bound(problem, p, found)
    direction = search.candidate(problem, theta, p * y)
    attained = float(abs((p * y) @ np.maximum(x @ direction, 0)))
    return _finish(ViolationBound(value, attained, direction, False), p, scale)


def _cutting_planes(x: np.ndarray, y: np.ndarray, tol: float) -> np.ndarray:
    """The weights p that minimise h(p o y): a linear programme, grown by the most violating units.

    Its value, the least violation of the units so far, is a lower bound on the minimum of h.
    """
    n, d = x.shape
    features = np.maximum(_grid(d) @ x.T, 0) * y
    best, best_p = np.inf, np.full(n, 1 / n)
    for _ in range(_ROUNDS):
        # The solver's tolerances are absolute: scaled so that the least violation is near 1.
        scale = min(best, np.abs(features).max())
        lowest, p = _least_violation(features / scale)
        lowest *= scale
        used = p > 0
        candidates = enumeration.local_maxima(x[used], (p * y)[used])
        candidates.sort(key=lambda pair: -pair[0])
        if candidates[0][0] < best:
            best, best_p = candidates[0][0], p
        if best - lowest <= 0.1 * tol * best or best <= 1e-13:
            break
        units = np.array([unit for value, unit in candidates[:_CUTS] if value > lowest])
        if not len(units):
            break
        features = np.concatenate([features, np.maximum(units @ x.T, 0) * y])
    return best_p


def _least_violation(features: np.ndarray) -> tuple[float, np.ndarray]:
    """Minimise max_k ``|features_k . p|`` over the simplex."""
    k, n = features.shape
    both = np.concatenate([features, -features])
    found = linprog(
        np.append(np.zeros(n), 1.0),
        A_ub=np.concatenate([both, -np.ones((2 * k, 1))], axis=1),
        b_ub=np.zeros(2 * k),
        A_eq=np.append(np.ones(n), 0.0)[None],
        b_eq=np.ones(1),
        bounds=(0, None),
        method="highs",
    )
    if found.x is None:  # pragma: no cover - the problem is feasible and bounded
        return 0.0, np.full(n, 1 / n)
    p = np.maximum(found.x[:n], 0)
    return float(found.fun), p / p.sum()


def _grid(d: int) -> np.ndarray:
    """Units to start from, spread over the sphere."""
    if d == 1:
        return np.array([[1.0], [-1.0]])
    if d == 2:
        angles = np.arange(64) * (2 * np.pi / 64)
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)
    k = np.arange(256) + 0.5
    height, turn = 1 - 2 * k / 256, np.pi * (1 + 5**0.5) * k
    radius = np.sqrt(1 - height**2)
    return np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)
