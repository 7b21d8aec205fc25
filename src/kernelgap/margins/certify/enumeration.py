r"""The most violating ReLU unit for d <= 3, exact by enumeration of activation cells.

F(u) = sum_i q_i relu(u.x_i) is linear, w.u, on each cell of the arrangement of the hyperplanes
u.x_i = 0, with w the sum of q_i x_i over the active points. Over a cell and the unit sphere, w.u is
largest at w / ||w|| if that lies in the cell (value ||w||), else on the cell's boundary.

- d = 1: two cells. d = 2: the 2n boundary angles in order, with running sums.
- d = 3: the boundary is the union of the great circles u.x_i = 0, each a problem in d = 2 with the
  projected points; the arcs of the circles list all cells, each seen from its sides.

Rounding: an arc's pattern can be wrong only for points with u.x_i = 0 up to rounding, so each value
is off by at most a few units of sum ``|q_i| ||x_i||``. In d = 3 points within 2e-5 of a circle's
normal are given the sign of the side looked at. That is right for every cell whose maximiser is
farther than 1e-4 from all circles; nearer, the circle's own maximum is within a factor 1 + 6e-9 of
the cell's. The value returned is increased by these amounts: it is an upper bound.
"""

import math

import numpy as np
from scipy.optimize import linprog

from kernelgap._numerics.verified import gamma

_PARALLEL = 2e-5
_NEAR_CIRCLE = 6e-9
_CHUNK = 4_000_000
_ROUNDS = 60
_CUTS = 40  # units added in one round of cutting planes


def most_violating(x: np.ndarray, q: np.ndarray) -> tuple[float, float, np.ndarray]:
    """Return h(q) rounded up, the violation of the best unit, and that unit.

    Args:
        x: (n, d) points, d <= 3, none zero.
        q: (n,) weights.
    """
    candidates = local_maxima(x, q)
    values, units = zip(*candidates, strict=True)
    best = int(np.argmax(values))
    n, d = x.shape
    size = math.fsum(np.abs(q) * np.linalg.norm(x, axis=1)) * (1 + gamma(2 * (n + d)))
    value = max(values) * (1 + (_NEAR_CIRCLE if d == 3 else 0)) + gamma(8 * n + 200) * size
    unit = units[best]
    attained = float(abs(q @ np.maximum(x @ unit, 0)))
    return value, attained, unit


def local_maxima(x: np.ndarray, q: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Return values and units of +F and -F, the largest of |F| among them.

    For d = 2 the best unit of every arc, for d = 3 that of every circle and of the best cell.
    """
    d = x.shape[1]
    if d == 1:
        units = np.array([[1.0], [-1.0]])
        values = np.abs(np.maximum(units @ x.T, 0) @ q)
        return list(zip(values.tolist(), units, strict=True))
    if d == 2:
        angles, sums = _sweep(x, q)
        maxima = []
        for sign in (1, -1):
            values, directions = _best_on_arcs(angles, sign * sums)
            maxima += list(zip(values.tolist(), _unit(directions), strict=True))
        return maxima
    return _local_maxima_in_space(x, q)


def _local_maxima_in_space(x: np.ndarray, q: np.ndarray) -> list[tuple[float, np.ndarray]]:
    lengths = np.linalg.norm(x, axis=1)
    maxima: list[tuple[float, np.ndarray]] = []
    cells = []
    for i in _distinct_lines(x / lengths[:, None]):
        normal = x[i] / lengths[i]
        basis = _plane(normal)
        flat, along = x @ basis.T, x @ normal
        aligned = np.hypot(flat[:, 0], flat[:, 1]) <= _PARALLEL * lengths
        angles, sums = _sweep(flat, q)
        for sign in (1, -1):
            values, directions = _best_on_arcs(angles, sign * sums)
            best = int(np.argmax(values))
            maxima.append((float(values[best]), _unit(directions[best]) @ basis))
        # The cells on both sides of every arc, in full: aligned points follow the side.
        free = np.where(aligned, 0.0, q)
        angles, sums = _sweep(x @ basis.T, free, x)
        for side in (1, -1):
            own = (q * (aligned & (side * along > 0))) @ x
            cells.append(sums + own)
    vectors = np.concatenate(cells)
    norms = np.linalg.norm(vectors, axis=1)
    size = float(np.abs(q) @ lengths)
    best = max(value for value, _ in maxima)
    # Only cells that hold their own w or -w count; ask in the order of ||w||.
    order = np.argsort(-norms)
    order = order[norms[order] > best]
    step = max(1, _CHUNK // len(x))
    for start in range(0, len(order), step):
        chosen = order[start : start + step]
        units = vectors[chosen] / norms[chosen, None]
        for sign in (1, -1):
            reached = sign * (np.maximum(sign * units @ x.T, 0) @ q)
            inside = np.flatnonzero(reached >= norms[chosen] - gamma(16 * len(x) + 200) * size)
            if inside.size:
                k = inside[0]
                maxima.append((float(norms[chosen[k]]), sign * units[k]))
        if max(value for value, _ in maxima) >= norms[chosen[-1]]:
            break
    return maxima


def least_violated_weights(x: np.ndarray, y: np.ndarray, tol: float) -> tuple[np.ndarray, bool]:
    """Minimise h(p o y) over weights p: a linear programme, grown by the most violating units.

    Its value, the least violation of the units so far, is a lower bound on the minimum of h.

    Returns:
        The best weights met, and False if the solver of the linear programme failed.
    """
    n, d = x.shape
    features = np.maximum(_grid(d) @ x.T, 0) * y
    best, best_p = np.inf, np.full(n, 1 / n)
    for _ in range(_ROUNDS):
        # The solver's tolerances are absolute: scaled so that the least violation is near 1.
        scale = min(best, np.abs(features).max())
        solution = least_violation(features / scale)
        if solution is None:
            return best_p, False
        lowest, p = solution
        lowest *= scale
        used = p > 0
        candidates = local_maxima(x[used], (p * y)[used])
        candidates.sort(key=lambda pair: -pair[0])
        if candidates[0][0] < best:
            best, best_p = candidates[0][0], p
        if best - lowest <= 0.1 * tol * best or best <= 1e-13:
            break
        units = np.array([unit for value, unit in candidates[:_CUTS] if value > lowest])
        if not len(units):
            break
        features = np.concatenate([features, np.maximum(units @ x.T, 0) * y])
    return best_p, True


def least_violation(features: np.ndarray) -> tuple[float, np.ndarray] | None:
    """Minimise max_k ``|features_k . p|`` over the simplex; None if the solver fails."""
    k, n = features.shape
    both = np.concatenate([features, -features])
    solution = linprog(
        np.append(np.zeros(n), 1.0),
        A_ub=np.concatenate([both, -np.ones((2 * k, 1))], axis=1),
        b_ub=np.zeros(2 * k),
        A_eq=np.append(np.ones(n), 0.0)[None],
        b_eq=np.ones(1),
        bounds=(0, None),
        method="highs",
    )
    if solution.x is None:
        return None
    p = np.maximum(solution.x[:n], 0)
    return float(solution.fun), p / p.sum()


def _sweep(
    flat: np.ndarray, q: np.ndarray, carried: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The angles that part the arcs, (k,), and the sum of active q_i carried_i on each, (k, .).

    Arc j is from angles[j] to angles[j + 1] (the last one back to the first). Four angles that
    part nothing are added, so that no arc is longer than a right angle.
    """
    carried = flat if carried is None else carried
    middle = np.arctan2(flat[:, 1], flat[:, 0])
    # Point i becomes active at middle - pi/2 and inactive at middle + pi/2.
    angles = np.concatenate([middle - np.pi / 2, middle + np.pi / 2, np.arange(4) * np.pi / 2])
    angles = np.mod(angles, 2 * np.pi)
    weighted = q[:, None] * carried
    changes = np.concatenate([weighted, -weighted, np.zeros((4, carried.shape[1]))])
    order = np.argsort(angles, kind="stable")
    angles = angles[order]
    first = np.mod(middle + np.pi / 2, 2 * np.pi) < np.mod(middle - np.pi / 2, 2 * np.pi)
    # `first`: active at angle 0 already.
    sums = weighted[first].sum(axis=0) + np.cumsum(changes[order], axis=0)
    return angles, sums


def _best_on_arcs(angles: np.ndarray, sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each arc the largest value of sums.u and the angle of u."""
    ends = np.append(angles[1:], angles[0] + 2 * np.pi)
    centre = np.arctan2(sums[:, 1], sums[:, 0])
    centre = angles + np.mod(centre - angles, 2 * np.pi)
    options = np.stack([angles, ends], axis=1)
    values = np.sum(_unit(options) * sums[:, None, :], axis=2)
    pick = np.argmax(values, axis=1)[:, None]
    value = np.take_along_axis(values, pick, axis=1)[:, 0]
    angle = np.take_along_axis(options, pick, axis=1)[:, 0]
    inside = centre <= ends
    return (
        np.where(inside, np.hypot(sums[:, 0], sums[:, 1]), value),
        np.where(inside, centre, angle),
    )


def _unit(angles: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angles), np.sin(angles)], axis=-1)


def _plane(normal: np.ndarray) -> np.ndarray:
    """Two orthonormal vectors orthogonal to a unit vector of R^3."""
    other = np.eye(3)[np.argmin(np.abs(normal))]
    first = np.cross(normal, other)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(normal, first)])


def _distinct_lines(normals: np.ndarray) -> np.ndarray:
    """One index for each line, where directions agree to the last digits."""
    leading = np.argmax(np.abs(normals), axis=1)
    signs = np.sign(np.take_along_axis(normals, leading[:, None], axis=1))
    return np.unique(normals * signs, axis=0, return_index=True)[1]


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
