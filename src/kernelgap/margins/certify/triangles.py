"""Triangle inequalities between signs: a sum of three signs is odd, so its square is at least 1."""

from itertools import product
from typing import NamedTuple

import numpy as np

_PATTERNS = ((1, 1), (1, -1), (-1, 1), (-1, -1))
_ROWS = 160  # the rows of largest scale, among whose triples violated ones are looked for
_VIOLATED = 1e-3  # 1 - b'Mb from which a triangle is added


class Triangles(NamedTuple):
    """Vectors b with three entries -1 or +1: their rows and these entries, each (c, 3)."""

    rows: np.ndarray
    signs: np.ndarray

    def values(self, moments: np.ndarray) -> np.ndarray:
        """Return b'Mb of each triangle."""
        i, j, k = self.rows.T
        a, b, c = self.signs.T
        diagonal = np.diagonal(moments)
        mixed = a * b * moments[i, j] + a * c * moments[i, k] + b * c * moments[j, k]
        return diagonal[i] + diagonal[j] + diagonal[k] + 2 * mixed

    def sums(self, amounts: np.ndarray, rows: int) -> np.ndarray:
        """Add the amount of each triangle to its three rows."""
        return np.bincount(self.rows.ravel(), np.repeat(amounts, 3), rows)

    def taken(self, which: np.ndarray) -> "Triangles":
        """Return some of them."""
        return Triangles(self.rows[which], self.signs[which])

    def joined(self, others: "Triangles") -> "Triangles":
        """Return these and others."""
        return Triangles(*map(np.concatenate, zip(self, others, strict=True)))


def no_triangles() -> Triangles:
    """Return none."""
    return Triangles(np.zeros((0, 3), int), np.ones((0, 3)))


def scaled(scales: np.ndarray, triangles: Triangles) -> np.ndarray:
    """Return for each triangle the largest mu with diag(t) - mu bb' positive semidefinite."""
    return 1 / np.sum(1 / scales[triangles.rows], axis=1)


def sign_form(
    scales: np.ndarray, triangles: Triangles, weights: np.ndarray, *, absolute: bool = False
) -> np.ndarray:
    """Return K = diag(t) - sum_c mu_c b_c b_c', or the sum of the absolute values of its terms."""
    k = np.diag(np.abs(scales) if absolute else scales)
    if len(weights):
        size = len(scales)
        for i, j in product(range(3), repeat=2):
            where = triangles.rows[:, i] * size + triangles.rows[:, j]
            sign = -1 if absolute else triangles.signs[:, i] * triangles.signs[:, j]
            k -= np.bincount(where, weights * sign, size * size).reshape(size, size)
    return k


def violated(moments: np.ndarray, scales: np.ndarray, known: Triangles, count: int) -> Triangles:
    """Return at most `count` new triangles whose mu would lower the bound first.

    The derivative of the bound by mu is (b'Mb - 1) / 4 where M are the second moments of the signs.
    """
    chosen = np.sort(np.argsort(-scales)[:_ROWS])
    m, inverse = moments[np.ix_(chosen, chosen)], 1 / scales[chosen]
    diagonal, taken = np.diagonal(m), _codes(known, len(scales))
    best: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for i in range(len(chosen) - 2):
        row, others = m[i, i + 1 :], m[i + 1 :, i + 1 :]
        own = diagonal[i + 1 :] + diagonal[i] / 2 - 0.5
        for a, b in _PATTERNS:
            gain = -(own + 2 * a * row)[:, None] - (own + 2 * b * row) - 2 * a * b * others
            j, k = np.nonzero(np.triu(gain, 1) > _VIOLATED)
            if j.size:
                rows = np.stack([np.full(j.size, i), j + i + 1, k + i + 1], axis=1)
                height = 1 / inverse[rows].sum(axis=1)
                signs = np.tile([1.0, a, b], (j.size, 1))
                best.append((gain[j, k] * height, chosen[rows], signs))
    if not best:
        return no_triangles()
    score, rows, signs = map(np.concatenate, zip(*best, strict=True))
    violating = Triangles(rows, signs)
    fresh = ~np.isin(_codes(violating, len(scales)), taken)
    order = np.flatnonzero(fresh)
    order = order[np.argsort(-score[order])[:count]]
    return violating.taken(order)


def _codes(triangles: Triangles, size: int) -> np.ndarray:
    """One number for each triangle, whose first sign is +1."""
    i, j, k = triangles.rows.T
    _, a, b = triangles.signs.T
    return ((i * size + j) * size + k) * 4 + (a < 0) * 2 + (b < 0)
