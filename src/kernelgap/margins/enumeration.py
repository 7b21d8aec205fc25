r"""The most violating ReLU unit, found exactly by enumerating activation cells, for d <= 3.

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

from kernelgap.margins.rounding import gamma

_PARALLEL = 2e-5
_NEAR_CIRCLE = 6e-9
_CHUNK = 4_000_000


def most_violating(x: np.ndarray, q: np.ndarray) -> tuple[float, float, np.ndarray]:
    """An upper bound that is h(q) but for rounding, what the best unit attains, and that unit.

    Args:
        x: (n, d) points, d <= 3, none zero.
        q: (n,) weights.
    """
    candidates = local_maxima(x, q)
    values, units = zip(*candidates, strict=True)
    best = int(np.argmax(values))
    n, d = x.shape
    size = math.fsum(np.abs(q) * np.linalg.norm(x, axis=1)) * (1 + gamma(n + d))
    value = max(values) * (1 + (_NEAR_CIRCLE if d == 3 else 0)) + gamma(4 * n + 100) * size
    unit = units[best]
    attained = float(abs(q @ np.maximum(x @ unit, 0)))
    return value, attained, unit


def local_maxima(x: np.ndarray, q: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """Values and units of +F and -F among which is the largest of |F|.

    For d = 2 the best unit of every arc, for d = 3 that of every circle and of the best cell.
    """
    d = x.shape[1]
    if d == 1:
        units = np.array([[1.0], [-1.0]])
        values = np.abs(np.maximum(units @ x.T, 0) @ q)
        return list(zip(values.tolist(), units, strict=True))
    if d == 2:
        angles, sums = _sweep(x, q)
        found = []
        for sign in (1, -1):
            values, directions = _best_on_arcs(angles, sign * sums)
            found += list(zip(values.tolist(), _unit(directions), strict=True))
        return found
    return _three(x, q)


def _three(x: np.ndarray, q: np.ndarray) -> list[tuple[float, np.ndarray]]:
    lengths = np.linalg.norm(x, axis=1)
    found: list[tuple[float, np.ndarray]] = []
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
            found.append((float(values[best]), _unit(directions[best]) @ basis))
        # The cells on both sides of every arc, in full: aligned points follow the side.
        free = np.where(aligned, 0.0, q)
        angles, sums = _sweep(x @ basis.T, free, x)
        for side in (1, -1):
            own = (q * (aligned & (side * along > 0))) @ x
            cells.append(sums + own)
    vectors = np.concatenate(cells)
    norms = np.linalg.norm(vectors, axis=1)
    size = float(np.abs(q) @ lengths)
    best = max(value for value, _ in found)
    # Only cells that hold their own w or -w count; ask in the order of ||w||.
    order = np.argsort(-norms)
    order = order[norms[order] > best]
    step = max(1, _CHUNK // len(x))
    for start in range(0, len(order), step):
        chosen = order[start : start + step]
        units = vectors[chosen] / norms[chosen, None]
        for sign in (1, -1):
            reached = sign * (np.maximum(sign * units @ x.T, 0) @ q)
            inside = np.flatnonzero(reached >= norms[chosen] - gamma(8 * len(x) + 100) * size)
            if inside.size:
                k = inside[0]
                found.append((float(norms[chosen[k]]), sign * units[k]))
        if max(value for value, _ in found) >= norms[chosen[-1]]:
            break
    return found


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
