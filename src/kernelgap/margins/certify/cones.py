r"""The most violating ReLU unit in a few dimensions, by branch and bound over cones.

An orthant is a cone of d generators v_k, all with ||v_k||_1 = 1. On such a cone u = sum_k a_k v_k
with a >= 0, and for the points with q_i > 0 (P) and with q_j < 0 (N) and any alpha_j in [0, 1]::

    relu(x_i.u) <= sum_k a_k relu(x_i.v_k)    as relu is convex and positively homogeneous,
    relu(x_j.u) >= alpha_j x_j.u,
    F(u) = sum_i q_i relu(x_i.u) <= c.a,
    c_k = sum_P q_i relu(x_i.v_k) - sum_N ``|q_j|`` alpha_j x_j.v_k.

Every w with v_k.w >= c_k for all k proves F(u) <= ||w|| on the cone's part of the unit ball. The best
w and alpha solve a least-squares problem with bounds (the dual of a concave maximisation), here by
coordinate descent and a projection on the faces of the cone. If no point of P changes its sign on
the cone, the bound is exact; so a cone is split where an edge crosses the hyperplanes of such
points. Its number of points falls with its size: points that keep their signs are summed once.

Rounding: a new generator (1 - t) v + t v' has non-negative entries up to the signs of the orthant,
each right up to a factor within gamma_4. So every u of the orthant is entry by entry within a factor
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
from kernelgap.margins.search.climb import ascend_units

_BATCH = 1024  # cones evaluated at once, and kept together
_DEPTH = 300  # splits above a cone
_SELECTED = 16  # negative points whose alpha is optimised, the heaviest first
_SWEEPS = 8  # of coordinate descent
_CELL_ROUNDS = 25  # of as many sweeps, on a cell
_ROUNDS = 1  # of coordinate descent and projection
_RELAXED = 1.3  # over-relaxation of a coordinate's step
_FLAT = 1e-7  # volume of a cone over that of an orthant, below which its dual basis is not used
_TINY = 1e-300
_UNITS = 512  # units returned
_MET = 8  # units kept of a group
_SAME = 1e-12  # scores up to it do not make a point change its sign
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


class _Group(NamedTuple):
    """Cones (m, d, d) that share points (n, d) with weights (n,); the others sum to `linear`."""

    cones: np.ndarray
    bound: float
    points: np.ndarray
    weights: np.ndarray
    linear: np.ndarray
    depth: int


class _Evaluated(NamedTuple):
    bounds: np.ndarray  # (m,)
    scores: np.ndarray  # (m, d, n): x_i.v_k
    mixed: np.ndarray  # (m, n): the points that change their signs on a cone
    places: np.ndarray  # (m, d): coordinates of the bound's maximiser, a unit vector
    values: np.ndarray  # (m,): F there
    units: np.ndarray  # (k, d): maximisers over whole cells


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
    found = _climb(x, q, np.concatenate([starts, x / _lengths(x)]))
    best, direction = float(violations(x, q, found[:1])[0]), found[0]
    threshold = max(goal, best * (1 + tol), _ZERO * size)
    stack = [_Group(_orthants(d), math.inf, x, sign * q, np.zeros(d), 0) for sign in (1.0, -1.0)]
    deepest, count, proved = 0, 0, 0.0
    while stack and count < limit:
        group = stack.pop()
        deepest = max(deepest, group.depth)
        count += len(group.cones)
        result = _evaluate(group, threshold)
        places = np.matmul(result.places[:, None], group.cones)[:, 0]
        order = np.argsort(-result.values)[:_MET]
        order = order[result.values[order] > max(goal, best / 2) / (1 + tol)]
        units = np.concatenate([places[order], result.units])
        if len(units):
            units = units / _lengths(units)
            reached = violations(x, q, units)
            top = int(np.argmax(reached))
            if reached[top] > best:
                units = np.concatenate([units, _climb(x, q, units[top : top + 1])])
                reached = violations(x, q, units)
                top = int(np.argmax(reached))
                best, direction = float(reached[top]), units[top]
                threshold = max(threshold, best * (1 + tol))
            found = np.concatenate([found, units[reached > max(goal, best / 2) / (1 + tol)]])
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
    error += 2 * math.sqrt(d) * _SAME * float(np.abs(q).sum())
    found = np.concatenate([direction[None], found])
    order = np.argsort(-violations(x, q, found), kind="stable")[:_UNITS]
    attained = float(violations(x, q, direction[None])[0])
    return ConeBound(
        above(value + error, n + 20), attained, direction, found[order], not stack, count
    )


def violations(x: np.ndarray, q: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return ``|sum_i q_i relu(u.x_i)|`` for each unit."""
    return np.abs(np.maximum(units @ x.T, 0) @ q)


def first_units(d: int) -> np.ndarray:
    """Return units to climb from: the axes, and random ones, the same in every call."""
    drawn = np.random.default_rng(0).standard_normal((64 * d, d))
    return np.concatenate([np.eye(d), -np.eye(d), drawn / _lengths(drawn)])


def _climb(x: np.ndarray, q: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Units of large violation, best first."""
    units = ascend_units(x, q, starts, steps=60, kept=64)
    units = units / _lengths(units)
    return units[np.argsort(-violations(x, q, units))]


def _lengths(v: np.ndarray) -> np.ndarray:
    return np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), _TINY)


def _orthants(d: int) -> np.ndarray:
    signs = np.array(list(itertools.product((1.0, -1.0), repeat=d)))
    return signs[:, :, None] * np.eye(d)


def _evaluate(group: _Group, threshold: float) -> _Evaluated:
    """Bound F on every cone, as far as it takes to see whether it is at most the threshold."""
    cones, points, weights = group.cones, group.points, group.weights
    d = points.shape[1]
    scores = cones @ points.T
    active = np.maximum(scores, 0)
    sums = active.sum(axis=1)
    mixed = np.minimum(scores.max(axis=1), -scores.min(axis=1)) > _SAME
    alpha = sums / np.maximum(2 * sums - scores.sum(axis=1), _TINY)
    negative = np.maximum(-weights, 0)
    c = cones @ group.linear + active @ np.maximum(weights, 0)
    c -= np.matmul(scores, (alpha * negative)[..., None])[..., 0]

    # The unit generators, and the vector whose product with each of them is at least 1.
    lengths = _lengths(cones)[..., 0]
    frames = cones / lengths[..., None]
    c /= lengths
    middle = frames.sum(axis=1)
    middle /= np.min(np.matmul(frames, middle[..., None])[..., 0], axis=1)[:, None]
    largest = np.maximum(c.max(axis=1), 0)
    w = largest[:, None] * middle
    bounds = np.linalg.norm(w, axis=1)
    places = np.zeros_like(c)
    places[np.arange(len(c)), np.argmax(c, axis=1)] = 1

    live = np.flatnonzero(bounds > threshold)
    if len(live):
        weight = np.where(mixed[live], np.abs(scores[live]).max(axis=1) * negative, 0)
        chosen = np.argsort(-weight, axis=1)[:, : min(_SELECTED, int((weight > 0).sum(1).max()))]
        upper = (np.take_along_axis(weight, chosen, axis=1) > 0).astype(float)
        shares = np.take_along_axis(alpha[live], chosen, axis=1) * upper
        pulls = points[chosen] * negative[chosen][..., None]
    for turn in range(_ROUNDS):
        if not len(live):
            break
        new_w, moved = _descend(w[live], c[live], frames[live], pulls, shares, upper)
        change = ((moved - shares)[..., None] * pulls).sum(axis=1)
        c[live] -= np.matmul(frames[live], change[..., None])[..., 0]
        shares = moved
        short = np.maximum(
            (c[live] - np.matmul(frames[live], new_w[..., None])[..., 0]).max(axis=1), 0
        )
        new_w += short[:, None] * middle[live]
        w[live] = new_w
        bounds[live] = np.minimum(bounds[live], np.linalg.norm(new_w, axis=1))
        open_ = np.flatnonzero(bounds[live] > threshold)
        which = live[open_]
        new_w, new_places = _project(frames[which], c[which], middle[which], threshold)
        w[which], places[which] = new_w, new_places
        bounds[which] = np.minimum(bounds[which], np.linalg.norm(new_w, axis=1))
        keep = bounds[live] > threshold
        live, pulls, shares, upper = live[keep], pulls[keep], shares[keep], upper[keep]
    leaves = np.flatnonzero((bounds > threshold) & ~(mixed & (weights > 0)).any(axis=1))
    if len(leaves):
        units, in_cell = _bound_cells(group, cones[leaves], threshold)
        bounds[leaves] = np.minimum(bounds[leaves], in_cell)
    else:
        units = np.zeros((0, d))
    places /= lengths
    at = np.matmul(places[:, None, :], cones)[:, 0]
    size = _lengths(at)
    at, places = at / size, places / size
    values = at @ group.linear + np.maximum(at @ points.T, 0) @ weights
    return _Evaluated(bounds, scores, mixed, places, values, units)


def _descend(w, c, frames, pulls, shares, upper):
    """Coordinate descent on ||w||, w = V^-1 (c + slack), over alpha and slack >= 0; alpha."""
    d = frames.shape[1]
    flat = np.abs(np.linalg.det(frames)) < _FLAT
    basis = np.linalg.inv(np.where(flat[:, None, None], np.eye(d), frames)).transpose(0, 2, 1)
    basis = np.where(flat[:, None, None], 0.0, basis)
    slack = np.maximum(np.matmul(frames, w[..., None])[..., 0] - c, 0)
    columns = np.concatenate([basis, -pulls], axis=1)
    variables = np.concatenate([slack, shares], axis=1)
    largest = np.concatenate([np.full(slack.shape, np.inf), upper], axis=1)
    w, variables = _descend_columns(w, columns, variables, largest)
    return w, variables[:, d:]


def _descend_columns(w, columns, variables, largest):
    """Lower ||w||, where variable k in [0, largest_k] moves w along column k; (m, d), (m, k)."""
    columns = np.ascontiguousarray(columns.transpose(1, 2, 0))
    squares = np.maximum((columns**2).sum(axis=1), _TINY) / _RELAXED
    w, variables, largest = w.T.copy(), variables.T.copy(), largest.T
    for _ in range(_SWEEPS):
        for k, column in enumerate(columns):
            step = (w * column).sum(axis=0) / squares[k]
            moved = np.minimum(np.maximum(variables[k] - step, 0), largest[k])
            w += (moved - variables[k]) * column
            variables[k] = moved
    return w.T.copy(), variables.T.copy()


def _bound_cells(group: _Group, cones: np.ndarray, threshold: float):
    """Bound F on cones where no point of P changes its sign, at once for all of one cell.

    The cell is where these points keep their signs s_i: s_i x_i.u >= 0. For all alpha in [0, 1] and
    mu >= 0 the norm of sum_P,active q_i x_i - sum_N alpha_j ``|q_j|`` x_j + sum_P mu_i s_i x_i
    bounds F on those of its cones that are here. Points far from the cell's middle keep alpha in
    {0, 1} and mu = 0.

    Returns:
        The directions of the vectors of least norm, and the bound of each cone.
    """
    points, weights = group.points, group.weights
    middles = cones.sum(axis=1)
    middles /= _lengths(middles)
    scores = middles @ points.T
    convex = weights > 0
    _, which = np.unique(scores[:, convex] > 0, axis=0, return_inverse=True)
    which = which.ravel()
    count = int(which.max(initial=0)) + 1
    middle = np.zeros((count, points.shape[1]))
    np.add.at(middle, which, middles)
    scores = middle @ points.T
    signs = np.sign(scores)
    first = np.zeros(count, int)
    first[which] = np.arange(len(which))
    signs[:, convex] = np.where((middles @ points.T)[first][:, convex] > 0, 1.0, -1.0)
    active = signs > 0
    w = group.linear + (active * weights) @ points
    near = np.abs(scores) / _lengths(points)[:, 0]
    chosen = [
        np.argsort(np.where(kind, near, np.inf), axis=1)[:, : min(_SELECTED, int(kind.sum()))]
        for kind in (~convex, convex)
    ]
    negative, positive = chosen
    columns = np.concatenate(
        [
            points[negative] * weights[negative][..., None],
            points[positive] * np.take_along_axis(signs, positive, axis=1)[..., None],
        ],
        axis=1,
    )
    variables = np.concatenate(
        [np.take_along_axis(active, negative, axis=1).astype(float), np.zeros(positive.shape)],
        axis=1,
    )
    largest = np.concatenate([np.ones(negative.shape), np.full(positive.shape, np.inf)], axis=1)
    # Sums are taken anew, not from the steps; a sign may be wrong where x_i.u is 0 up to `_SAME`.
    base = w - np.matmul(variables[:, None], columns)[:, 0]
    room = math.sqrt(w.shape[1]) * (2 * _SAME + gamma(100))
    costs = room * (1 + _lengths(points)[positive][..., 0])
    bounds = np.full(count, np.inf)
    units = np.zeros_like(w)
    live = np.arange(count)
    for _ in range(_CELL_ROUNDS):
        _, variables = _descend_columns(w, columns, variables, largest)
        w = base + np.matmul(variables[:, None], columns)[:, 0]
        length = np.linalg.norm(w, axis=1)
        units[live] = w / np.maximum(length, _TINY)[:, None]
        length += (costs * variables[:, negative.shape[1] :]).sum(axis=1)
        bounds[live] = np.minimum(bounds[live], length)
        keep = length > threshold
        if not keep.any():
            break
        live, base, w, columns, variables, largest, costs = (
            part[keep] for part in (live, base, w, columns, variables, largest, costs)
        )
    return units, bounds[which]


def _project(frames, c, middle, threshold):
    """Return the shortest w met with v_k.w >= c_k, and the coordinates of its multiple in the cone.

    On each face of the cone w is the least-norm solution for its generators, raised by a multiple
    of `middle` where it falls short of the others.
    """
    m, d = c.shape
    best = np.full(m, np.inf)
    w, places = np.zeros((m, d)), np.zeros((m, d))
    live = np.arange(m)
    for k in range(d, 0, -1):
        gram = frames @ frames.transpose(0, 2, 1)
        done = np.zeros(len(live), bool)
        for face in map(np.array, itertools.combinations(range(d), k)):
            matrix = gram[:, face[:, None], face] + 1e-14 * np.eye(k)
            a = np.linalg.solve(matrix, c[:, face, None])[..., 0]
            on_face = np.matmul(a[:, None], frames[:, face])[:, 0]
            short = (c - np.matmul(frames, on_face[..., None])[..., 0]).max(axis=1)
            on_face += np.maximum(short, 0)[:, None] * middle
            length = np.linalg.norm(on_face, axis=1)
            better = np.flatnonzero(length < best[live])
            which = live[better]
            best[which], w[which], places[which] = length[better], on_face[better], 0.0
            places[which[:, None], face] = np.maximum(a[better], 0)
            done |= ((a.min(axis=1) >= 0) & (short <= 1e-12)) | (length <= threshold)
        live, frames, c, middle = live[~done], frames[~done], c[~done], middle[~done]
        if not len(live):
            break
    return w, places


def _split(group: _Group, result: _Evaluated, left: np.ndarray) -> np.ndarray:
    """Divide cones at the hyperplane of a point, on the edge where most is lost.

    Where only points of N are left whose alpha is not at its best, at theirs; else the longest edge.
    """
    cones, scores, mixed = group.cones[left], result.scores[left], result.mixed[left]
    places = result.places[left]
    m, d, _ = cones.shape
    rows = np.arange(m)
    first, second = np.triu_indices(d, 1)
    convex = mixed & (group.weights > 0)
    weights = np.where(convex.any(axis=1)[:, None], convex, mixed) * np.abs(group.weights)
    # A point is lost on an edge as far as the function relu is below its chord, about.
    scores_up = np.maximum(scores, 0)
    scores_down = scores_up - scores
    lost = np.minimum(scores_up[:, first], scores_down[:, second])
    lost += np.minimum(scores_down[:, first], scores_up[:, second])
    lost *= weights[:, None]
    share = np.maximum(places, 0.1 * places.max(axis=1, keepdims=True))
    loss = lost.sum(axis=2) * np.minimum(share[:, first], share[:, second])
    edges = ((cones[:, first] - cones[:, second]) ** 2).sum(axis=2)
    some = loss.max(axis=1) > _SAME
    edge = np.where(some[:, None], loss, edges).argmax(axis=1)
    a, b = first[edge], second[edge]
    lost = lost[rows, edge]
    start, end = np.abs(scores[rows, a]), np.abs(scores[rows, b])
    crossing = start / np.maximum(start + end, _TINY)
    mean = (lost * crossing).sum(axis=1) / np.maximum(lost.sum(axis=1), _TINY)
    nearest = np.where(lost > 0, np.abs(crossing - mean[:, None]), np.inf).argmin(axis=1)
    t = np.where(some, crossing[rows, nearest], 0.5)[:, None]
    new = (1 - t) * cones[rows, a] + t * cones[rows, b]
    children = np.repeat(cones[:, None], 2, axis=1)
    children[rows, 0, a] = new
    children[rows, 1, b] = new
    return children.reshape(2 * m, d, d)


def _regroup(group: _Group) -> list[_Group]:
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
