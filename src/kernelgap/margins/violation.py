r"""How much one ReLU unit can violate: a rigorous upper bound on h(q).

h(q) = max over ||u|| <= 1 of ``|sum_i q_i relu(u.x_i)|`` is what weak duality needs and what no
fast algorithm computes in general. Up to d = 3 it is enumerated exactly (`margins.enumeration`);
beyond, `margins.relaxation` bounds it, and the bound is evaluated with its rounding errors.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from kernelgap import _checks
from kernelgap._display import compact_repr, html_repr
from kernelgap.margins import enumeration, relaxation, rounding, search
from kernelgap.typing import ArrayLike

_TINY = 1e-100
_EXACT_CELLS = 4_000_000  # cells that are enumerated in a few seconds


class ViolationBound(NamedTuple):
    """An upper bound on h(q), and a unit that shows how far below it h(q) can be.

    Attributes:
        value: h(q) <= value, rounding errors included.
        attained: ``|sum_i q_i relu(u.x_i)|`` at `direction`, a lower bound on h(q) up to rounding.
        direction: (d,) a unit vector, the maximiser where `exact`.
        exact: whether `value` is h(q) itself, but for a relative 1e-8.
    """

    value: float
    attained: float
    direction: Float[np.ndarray, " d"]
    exact: bool

    __repr__ = compact_repr
    _repr_html_ = html_repr


def violation_bound(
    x: ArrayLike,
    q: ArrayLike,
    *,
    method: Literal["auto", "exact", "relaxation"] = "auto",
    max_iterations: int = 4000,
    tol: float = 1e-4,
) -> ViolationBound:
    r"""A rigorous upper bound on h(q) = max over ||u|| <= 1 of ``|sum_i q_i relu(u.x_i)|``.

    Args:
        x: inputs of shape (n, d); taken in double precision as they are, on the host.
        q: (n,) real weights of both signs.
        method: `"exact"` enumerates activation cells, O(n log n) for d <= 2 and O(n^2 log n) for
            d = 3; `"relaxation"` minimises the bound of `margins.relaxation` over its multipliers,
            about O(n^2 d + d^3) for each iteration; `"auto"` enumerates where d <= 3 and the
            cells are at most a few million.
        max_iterations: at most this many quasi-Newton steps.
        tol: stop when a stage of smoothing lowers the bound by less than this, relatively.

    Returns:
        A `ViolationBound`.

    Raises:
        TypeError: if x or q is not floating, or `max_iterations` no integer.
        ValueError: if shapes disagree, an entry is not finite, `max_iterations` < 1, `tol` <= 0,
            `method` is unknown, or it is `"exact"` and d > 3.

    Example:
        >>> import numpy as np, kernelgap as kg
        >>> x = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
        >>> bound = kg.margins.violation_bound(x, np.array([0.3, 0.4, -0.3]))
        >>> print(round(bound.value, 6), bound.exact)
        0.5 True

    References:
        Derived for this project; see `margins.relaxation` and `margins.enumeration`.
    """
    points = host_inputs(x)
    n, d = points.shape
    _checks.targets(q, n, "q")
    weights = np.asarray(q, np.float64)
    _checks.choice(method, "method", ("auto", "exact", "relaxation"))
    max_iterations = _checks.integer(max_iterations, "max_iterations", minimum=1)
    _checks.number(tol, "tol", minimum=0, exclusive=True)
    if method == "exact" and d > 3:
        raise ValueError(f"`method='exact'` needs d <= 3; got d = {d}")

    points, x_scale = unit_scale(points)
    weights, q_scale = unit_scale(weights)
    # What is far below the rounding of the rest is paid for in full: its square would underflow.
    sizes = np.abs(weights) * np.abs(points).max(axis=1)
    kept = (sizes > 0) & (np.abs(points).max(axis=1) > _TINY) & (np.abs(weights) > _TINY)
    dropped = rounding.above(d * float(sizes[~kept].sum()), n + 4) if sizes[~kept].any() else 0.0
    points, weights = points[kept], weights[kept]
    if not len(points):
        return ViolationBound(dropped * x_scale * q_scale, 0.0, np.eye(d)[0], dropped == 0)
    if method == "exact" or (method == "auto" and enumerable(len(points), d)):
        value, attained, direction = enumeration.most_violating(points, weights)
        exact = True
    else:
        value, attained, direction = _relaxed(points, weights, max_iterations, tol)
        exact = False
    scale = x_scale * q_scale
    return ViolationBound((value + dropped) * scale, attained * scale, direction, exact)


def host_inputs(x: ArrayLike) -> np.ndarray:
    """Checked inputs in double precision, as they came: not rounded to JAX's default dtype."""
    if not _checks.is_concrete(x):
        raise TypeError("`x` is traced: bounds are computed on the host, call them outside of jit")
    _checks.inputs(x)
    return np.asarray(x, np.float64)


def enumerable(n: int, d: int) -> bool:
    """Whether enumeration is quick."""
    return d <= 2 or (d == 3 and 4 * n * n <= _EXACT_CELLS)


def unit_scale(a: np.ndarray) -> tuple[np.ndarray, float]:
    """The array divided by a power of two, largest entry near 1."""
    largest = float(np.max(np.abs(a), initial=0.0))
    if largest == 0:
        return a, 1.0
    exponent = math.frexp(largest)[1]
    return np.ldexp(a, -exponent), math.ldexp(1.0, exponent)


def _relaxed(
    x: np.ndarray, q: np.ndarray, steps: int, tol: float
) -> tuple[float, float, np.ndarray]:
    total = float(np.abs(q).sum())
    problem = relaxation.relax(x, np.sign(q))
    theta = search.first_variables(problem, np.abs(q))
    theta[: len(x)] = np.log(np.abs(q) / total)
    problem, theta = search.minimise(problem, theta, steps=steps, tol=tol, fixed=True)
    # The multipliers belong to the softmax; scaled, they fit the weights themselves.
    p, found = relaxation.multipliers(problem, theta)
    value = rounding.certified_bound(problem, p, found)
    # |q| = total * p (1 + rounding): by homogeneity and the triangle inequality.
    gap = math.fsum(np.abs(np.abs(q) - total * p) * problem.norms)
    value = rounding.above(total * value + gap, len(x) + 8)
    direction = search.candidate(problem, theta, q)
    return value, float(abs(q @ np.maximum(x @ direction, 0))), direction
