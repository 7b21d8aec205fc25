r"""Upper bounds on a sum of ReLUs over many simplicial cones at once.

See `margins.certify.cones` for the inequalities.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np

from kernelgap._numerics.verified import gamma

_SELECTED = 16  # negative points whose alpha is optimised, the heaviest first
_SWEEPS = 8  # of coordinate descent
_CELL_ROUNDS = 25  # of as many sweeps, on a cell
_RELAXED = 1.3  # over-relaxation of a coordinate's step
_FLAT = 1e-7  # volume of a cone over that of an orthant, below which its dual basis is not used
TINY = 1e-300
SAME = 1e-12  # scores up to it do not make a point change its sign


class Group(NamedTuple):
    """Cones (m, d, d) that share points (n, d) with weights (n,); the others sum to `linear`."""

    cones: np.ndarray
    bound: float
    points: np.ndarray
    weights: np.ndarray
    linear: np.ndarray
    depth: int


class Evaluated(NamedTuple):
    """Bounds of m cones, and where their maximisers lie."""

    bounds: np.ndarray  # (m,)
    scores: np.ndarray  # (m, d, n): x_i.v_k
    mixed: np.ndarray  # (m, n): the points that change their signs on a cone
    places: np.ndarray  # (m, d): coordinates of the bound's maximiser, a unit vector
    values: np.ndarray  # (m,): F there
    units: np.ndarray  # (k, d): maximisers over whole cells


def lengths_of(v: np.ndarray) -> np.ndarray:
    """Return the lengths of vectors along the last axis, which is kept; never zero."""
    return np.maximum(np.linalg.norm(v, axis=-1, keepdims=True), TINY)


def evaluate(group: Group, threshold: float) -> Evaluated:
    """Bound F on every cone, as far as it takes to see whether it is at most the threshold."""
    cones, points, weights = group.cones, group.points, group.weights
    d = points.shape[1]
    scores = cones @ points.T
    active = np.maximum(scores, 0)
    sums = active.sum(axis=1)
    mixed = np.minimum(scores.max(axis=1), -scores.min(axis=1)) > SAME
    alpha = sums / np.maximum(2 * sums - scores.sum(axis=1), TINY)
    negative = np.maximum(-weights, 0)
    c = cones @ group.linear + active @ np.maximum(weights, 0)
    c -= np.matmul(scores, (alpha * negative)[..., None])[..., 0]

    # The unit generators, and the vector whose product with each of them is at least 1.
    lengths = lengths_of(cones)[..., 0]
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
        new_w, moved = _descend(w[live], c[live], frames[live], pulls, shares, upper)
        change = ((moved - shares)[..., None] * pulls).sum(axis=1)
        c[live] -= np.matmul(frames[live], change[..., None])[..., 0]
        short = (c[live] - np.matmul(frames[live], new_w[..., None])[..., 0]).max(axis=1)
        new_w += np.maximum(short, 0)[:, None] * middle[live]
        bounds[live] = np.minimum(bounds[live], np.linalg.norm(new_w, axis=1))
        live = live[bounds[live] > threshold]
        new_w, places[live] = _project(frames[live], c[live], middle[live], threshold)
        bounds[live] = np.minimum(bounds[live], np.linalg.norm(new_w, axis=1))
    leaves = np.flatnonzero((bounds > threshold) & ~(mixed & (weights > 0)).any(axis=1))
    if len(leaves):
        units, in_cell = _bound_cells(group, cones[leaves], threshold)
        bounds[leaves] = np.minimum(bounds[leaves], in_cell)
    else:
        units = np.zeros((0, d))
    places /= lengths
    at = np.matmul(places[:, None, :], cones)[:, 0]
    size = lengths_of(at)
    at, places = at / size, places / size
    values = at @ group.linear + np.maximum(at @ points.T, 0) @ weights
    return Evaluated(bounds, scores, mixed, places, values, units)


def _descend(
    w: np.ndarray,
    c: np.ndarray,
    frames: np.ndarray,
    pulls: np.ndarray,
    shares: np.ndarray,
    upper: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
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


def _descend_columns(
    w: np.ndarray, columns: np.ndarray, variables: np.ndarray, largest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Lower ||w||, where variable k in [0, largest_k] moves w along column k; (m, d), (m, k)."""
    columns = np.ascontiguousarray(columns.transpose(1, 2, 0))
    squares = np.maximum((columns**2).sum(axis=1), TINY) / _RELAXED
    w, variables, largest = w.T.copy(), variables.T.copy(), largest.T
    for _ in range(_SWEEPS):
        for k, column in enumerate(columns):
            step = (w * column).sum(axis=0) / squares[k]
            moved = np.minimum(np.maximum(variables[k] - step, 0), largest[k])
            w += (moved - variables[k]) * column
            variables[k] = moved
    return w.T.copy(), variables.T.copy()


def _bound_cells(
    group: Group, cones: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
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
    middles /= lengths_of(middles)
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
    near = np.abs(scores) / lengths_of(points)[:, 0]
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
    # Sums are taken anew, not from the steps; a sign may be wrong where x_i.u is 0 up to `SAME`.
    base = w - np.matmul(variables[:, None], columns)[:, 0]
    room = math.sqrt(w.shape[1]) * (2 * SAME + gamma(100))
    costs = room * (1 + lengths_of(points)[positive][..., 0])
    bounds = np.full(count, np.inf)
    units = np.zeros_like(w)
    live: np.ndarray = np.arange(count)
    for _ in range(_CELL_ROUNDS):
        _, variables = _descend_columns(w, columns, variables, largest)
        w = base + np.matmul(variables[:, None], columns)[:, 0]
        length = np.linalg.norm(w, axis=1)
        units[live] = w / np.maximum(length, TINY)[:, None]
        length += (costs * variables[:, negative.shape[1] :]).sum(axis=1)
        bounds[live] = np.minimum(bounds[live], length)
        keep = length > threshold
        if not keep.any():
            break
        live, base, w, costs = live[keep], base[keep], w[keep], costs[keep]
        columns, variables, largest = columns[keep], variables[keep], largest[keep]
    return units, bounds[which]


def _project(
    frames: np.ndarray, c: np.ndarray, middle: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray]:
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
