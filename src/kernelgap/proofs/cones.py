"""Divide the unit ball of few dimensions into cones, on each of which a linear bound is enough.

On the cone of vectors g_1, ..., g_d, F(u) = sum_i q_i relu(u.x_i) is at most w.u if w.g_k >= c_k
for all k, where c_k is F(g_k) with relu(z) replaced by slope * z from below in the negative terms
whose sign the cone does not decide. The shortest such w proves ``F(u) <= ||w||``.
"""

from itertools import product
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from kernelgap.proofs.exact import exactly

DIMENSIONS = 3
_CONES = 40_000
_UNDECIDED = 8  # negative terms whose slopes are optimised; beyond, the cone is divided
_SOFT = 1e-3  # of slopes in the norm that is minimised
_ROOM = 1e-10


class Division(NamedTuple):
    """Pairs of generators between which cones are cut, [0, 0] for none; then w and the slopes."""

    splits: list[list[int]]
    vectors: np.ndarray
    slopes: np.ndarray


class _Generator(NamedTuple):
    """A vector of integers, its products with all inputs, and their exact signs."""

    g: np.ndarray
    z: np.ndarray  # integers of any size, in the unit of the inputs
    signs: np.ndarray


def divide(x: np.ndarray, q: np.ndarray, bound: float) -> Division | None:
    """Divide until F <= bound is proved on each cone; None if that takes too many."""
    n, d = x.shape
    columns = np.array(exactly(x)["entries"], object).reshape(n, d).T
    waiting = [
        [_generator(s * np.eye(d)[k], s * columns[k]) for k, s in enumerate(orthant)]
        for orthant in product((-1, 1), repeat=d)
    ]
    splits, vectors, slopes = [], [], []
    while waiting:
        cone = waiting.pop()
        leaf = _linear_bound(x, q, cone, bound)
        if leaf is not None:
            splits.append([0, 0])
            vectors.append(leaf[0])
            slopes.extend(leaf[1])
            continue
        k, m = _longest_edge(np.array([generator.g for generator in cone]))
        if k == m or len(splits) > _CONES:
            return None
        splits.append([k, m])
        middle = _generator(cone[k].g + cone[m].g, cone[k].z + cone[m].z)
        waiting += [[middle if r == gone else cone[r] for r in range(d)] for gone in (k, m)]
    return Division(splits, np.array(vectors), np.array(slopes, float))


def _generator(g: np.ndarray, z: np.ndarray) -> _Generator:
    return _Generator(g, z, (z > 0).astype(np.int8) - (z < 0).astype(np.int8))


def _longest_edge(cone: np.ndarray) -> tuple[int, int]:
    units = cone / np.linalg.norm(cone, axis=1, keepdims=True)
    k, m = np.unravel_index(np.argmin(units @ units.T), (len(cone), len(cone)))
    return int(k), int(m)


def _linear_bound(
    x: np.ndarray, q: np.ndarray, cone: list[_Generator], bound: float
) -> tuple[np.ndarray, list[float]] | None:
    """Return a vector w and slopes that prove F <= bound on the cone, if there are any."""
    d = len(cone)
    g = np.array([generator.g / np.linalg.norm(generator.g) for generator in cone])
    z = g @ x.T
    signs = np.array([generator.signs for generator in cone])
    low, high = signs.min(axis=0), signs.max(axis=0)
    free = np.flatnonzero((q < 0) & (low < 0) & (high > 0))
    on = (q < 0) & (low >= 0) & (high > 0)
    values = np.maximum(z, 0) @ np.maximum(q, 0) + z[:, on] @ q[on]
    vertex = values + np.maximum(z[:, free], 0) @ q[free]
    if np.max(vertex) > bound or len(free) > _UNDECIDED:
        return None
    # Minimise |w|^2 + soft |slopes|^2 with w.g >= values + sum of slopes q z, 0 <= slopes <= 1.
    soft = _SOFT * bound
    rows = [np.hstack([g, -z[:, free] * q[free] / soft])]
    limits = [values + _ROOM * bound]
    if len(free):
        box = np.hstack([np.zeros((len(free), d)), np.eye(len(free)) / soft])
        rows += [box, -box]
        limits += [np.full(len(free), 0.0), np.full(len(free), -1.0)]
    y = _least_norm(np.vstack(rows), np.concatenate(limits))
    if y is None:
        return None
    slopes = np.clip(y[d:] / soft, 0, 1)
    short = values + z[:, free] @ (q[free] * slopes) + _ROOM / 2 * bound - g @ y[:d]
    if np.max(short) > 0 or np.linalg.norm(y[:d]) > bound * (1 - 1e-12):
        return None
    return y[:d], slopes.tolist()


def _least_norm(a: np.ndarray, b: np.ndarray) -> np.ndarray | None:
    """Minimise ||y|| subject to a y >= b, by non-negative least squares (Lawson and Hanson)."""
    system = np.vstack([a.T, b])
    target = np.zeros(len(system))
    target[-1] = 1
    try:
        multipliers, _ = nnls(system, target)
    except RuntimeError:
        return None
    residual = system @ multipliers - target
    if residual[-1] >= 0:
        return np.zeros(a.shape[1]) if np.max(b) <= 0 else None
    return -residual[:-1] / residual[-1]
