r"""The most violating ReLU unit in a few dimensions, by branch and bound over cones.

An orthant is a cone of d generators v_k, all with ||v_k||_1 = 1. On such a cone u = sum_k a_k v_k
with a >= 0, and for the points with q_i > 0 (P) and with q_j < 0 (N) and any alpha_j in [0, 1]::

    relu(x_i.u) <= sum_k a_k relu(x_i.v_k)    as relu is convex and positively homogeneous,
    relu(x_j.u) >= alpha_j x_j.u,
    F(u) = sum_i q_i relu(x_i.u) <= c.a,
    c_k = sum_P q_i relu(x_i.v_k) - sum_N ``|q_j|`` alpha_j x_j.v_k.

Every w with v_k.w >= c_k for all k proves F(u) <= ||w|| on the cone's part of the unit ball. The
best w and alpha solve a least-squares problem with bounds (dual to a concave maximisation), here by
coordinate descent and a projection on the faces of the cone. If no point of P changes its sign on
the cone, the bound is exact; so a cone is split where an edge crosses the hyperplanes of such
points. Its number of points falls with its size: points that keep their signs are summed once.

Rounding: a new generator (1 - t) v + t v' has the signs of its orthant, and each entry is right up
to a factor within 1 +- gamma_4. So every u of the orthant is entry by entry within a factor
1 +- gamma_4g of one in a cone after g splits: the cones cover the sphere up to that. In an orthant
sum_k a_k ||v_k|| <= ||u||_1 <= sqrt(d), by which errors of c_k, at most gamma times
``sum_i |q_i| ||x_i|| ||v_k||``, enter the bound. Both are added to the value, and what points lose
whose products with generators are within 1e-12 of 0: they count as points that keep their signs.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from kernelgap._numerics.verified import above, gamma
from kernelgap.margins.certify.cone_bounds import SAME, TINY, Evaluated, Group, evaluate, lengths_of
from kernelgap.margins.search.climb import ascend_units

_BATCH = 1024  # cones evaluated at once, and kept together
_DEPTH = 300  # splits above a cone
_UNITS = 512  # units returned
_MET = 8  # units kept of a group
_ZERO = 1e-9  # violations below it, relative to sum |q_i| ||x_i||, are not told from zero


class ConeBound(NamedTuple):
    """An upper bound on h(q), and what the search met.

    Attributes:
        value: h(q) <= value, rounding errors included.
        attained: The largest violation met, up to rounding.
        direction: (d,) its unit.
        units: (k, d) one violating unit for each local maximum met, best first.
        closed: True if no cone is left above the threshold; else `value` is the largest bound of
            those left.
        cones: The number of cones evaluated.
    """

    value: float
    attained: float
    direction: np.ndarray
    units: np.ndarray
    closed: bool
    cones: int


def most_violating(
    x: np.ndarray,
    q: np.ndarray,
    *,
    starts: np.ndarray | None = None,
    goal: float = 0.0,
    tol: float = 1e-4,
    limit: int = 1_000_000,
) -> ConeBound:
    """Bound h(q) within a factor 1 + tol of it, or by `goal` where that is larger.

    Args:
        x: (n, d) points whose largest entry is near 1.
        q: (n,) weights.
        starts: (k, d) unit vectors from which violating units are climbed to.
        goal: Cones whose bound is at most this are not divided.
        tol: Nor are those within this of the largest violation met.
        limit: The largest number of cones.
    """
    n, d = x.shape
    size = math.fsum(np.abs(q) * np.linalg.norm(x, axis=1))
    starts = first_units(d) if starts is None else starts
    units_seen = _climb(x, q, np.concatenate([starts, x / lengths_of(x)]))
    best, direction = float(violations(x, q, units_seen[:1])[0]), units_seen[0]
    threshold = max(goal, best * (1 + tol), _ZERO * size)
    stack = [Group(_orthants(d), math.inf, x, sign * q, np.zeros(d), 0) for sign in (1.0, -1.0)]
    deepest, count, proved = 0, 0, 0.0
    while stack and count < limit:
        group = stack.pop()
        deepest = max(deepest, group.depth)
        count += len(group.cones)
        result = evaluate(group, threshold)
        places = np.matmul(result.places[:, None], group.cones)[:, 0]
        order = np.argsort(-result.values)[:_MET]
        order = order[result.values[order] > max(goal, best / 2) / (1 + tol)]
        units = np.concatenate([places[order], result.units])
        if len(units):
            units = units / lengths_of(units)
            reached = violations(x, q, units)
            top = int(np.argmax(reached))
            if reached[top] > best:
                units = np.concatenate([units, _climb(x, q, units[top : top + 1])])
                reached = violations(x, q, units)
                top = int(np.argmax(reached))
                best, direction = float(reached[top]), units[top]
                threshold = max(threshold, best * (1 + tol))
            units_seen = np.concatenate(
                [units_seen, units[reached > max(goal, best / 2) / (1 + tol)]]
            )
        left = result.bounds > threshold
        proved = max(proved, float(result.bounds[~left].max(initial=0)))
        if left.any():
            bound = min(group.bound, float(result.bounds[left].max()))
            if group.depth == _DEPTH:
                stack.append(group._replace(bound=bound))
                break
            children = _split(group, result, left)
            stack += _regroup(group._replace(cones=children, bound=bound, depth=group.depth + 1))
    value = max([proved, *(group.bound for group in stack)])
    # See the module's docstring; twice as much leaves room for the rounding of all this.
    error = 2 * math.sqrt(d) * gamma(2 * n + 8 * (deepest + d) + 100) * (size + value)
    error += 2 * math.sqrt(d) * SAME * float(np.abs(q).sum())
    units_seen = np.concatenate([direction[None], units_seen])
    order = np.argsort(-violations(x, q, units_seen), kind="stable")[:_UNITS]
    attained = float(violations(x, q, direction[None])[0])
    return ConeBound(
        above(value + error, n + 20), attained, direction, units_seen[order], not stack, count
    )


def violations(x: np.ndarray, q: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return ``|sum_i q_i relu(u.x_i)|`` for each unit."""
    return np.abs(np.maximum(units @ x.T, 0) @ q)


def first_units(d: int) -> np.ndarray:
    """Return units to climb from: the axes, and random ones, the same in every call."""
    drawn = np.random.default_rng(0).standard_normal((64 * d, d))
    return np.concatenate([np.eye(d), -np.eye(d), drawn / lengths_of(drawn)])


def _climb(x: np.ndarray, q: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Units of large violation, best first."""
    units = ascend_units(x, q, starts, steps=60, kept=64)
    units = units / lengths_of(units)
    return units[np.argsort(-violations(x, q, units))]


def _orthants(d: int) -> np.ndarray:
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=d)))
    return signs[:, :, None] * np.eye(d)


def _split(group: Group, result: Evaluated, left: np.ndarray) -> np.ndarray:
    """Divide cones at the hyperplane of a point, on the edge where most is lost.

    Where no point of P changes its sign, at those of N; where none does, on the longest edge.
    """
    cones, scores, mixed = group.cones[left], result.scores[left], result.mixed[left]
    places = result.places[left]
    m, d, _ = cones.shape
    rows = np.arange(m)
    first, second = np.triu_indices(d, 1)
    convex = mixed & (group.weights > 0)
    weights = np.where(np.any(convex, axis=1, keepdims=True), convex, mixed) * np.abs(group.weights)
    # A point is lost on an edge as far as the function relu is below its chord, about.
    scores_up = np.maximum(scores, 0)
    scores_down = scores_up - scores
    lost = np.minimum(scores_up[:, first], scores_down[:, second])
    lost += np.minimum(scores_down[:, first], scores_up[:, second])
    lost *= weights[:, None]
    share = np.maximum(places, 0.1 * places.max(axis=1, keepdims=True))
    loss = lost.sum(axis=2) * np.minimum(share[:, first], share[:, second])
    edges = ((cones[:, first] - cones[:, second]) ** 2).sum(axis=2)
    crosses = loss.max(axis=1) > SAME
    edge = np.where(crosses[:, None], loss, edges).argmax(axis=1)
    a, b = first[edge], second[edge]
    lost = lost[rows, edge]
    start, end = np.abs(scores[rows, a]), np.abs(scores[rows, b])
    crossing = start / np.maximum(start + end, TINY)
    mean = (lost * crossing).sum(axis=1) / np.maximum(lost.sum(axis=1), TINY)
    nearest = np.where(lost > 0, np.abs(crossing - mean[:, None]), np.inf).argmin(axis=1)
    t = np.where(crosses, crossing[rows, nearest], 0.5)[:, None]
    new = (1 - t) * cones[rows, a] + t * cones[rows, b]
    children = np.repeat(cones[:, None], 2, axis=1)
    children[rows, 0, a] = new
    children[rows, 1, b] = new
    return children.reshape(2 * m, d, d)


def _regroup(group: Group) -> list[Group]:
    """Divide a large group into neighbours, each with the points that change sign within it."""
    m = len(group.cones)
    if m <= _BATCH:
        return [group]
    groups = []
    for cones in np.array_split(group.cones, -(-4 * m // _BATCH)):
        scores = cones.reshape(-1, cones.shape[2]) @ group.points.T
        above_zero, below_zero = scores.max(axis=0) > 0, scores.min(axis=0) < 0
        here = above_zero & below_zero
        fixed = above_zero & ~below_zero
        groups.append(
            group._replace(
                cones=cones,
                points=group.points[here],
                weights=group.weights[here],
                linear=group.linear + group.weights[fixed] @ group.points[fixed],
            )
        )
    return groups
