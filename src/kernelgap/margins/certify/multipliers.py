"""Multipliers of `margins.certify.relaxation` by numbers of points, for results and proofs."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from kernelgap._support.display import compact_repr, html_repr
from kernelgap._support.registry import saveable
from kernelgap.margins.certify import relaxation


@saveable(quadratic="n", transfer="k", rows="k", columns="k", weights="c", triangles="ct")
class SideMultipliers(NamedTuple):
    """Multipliers that prove an upper bound on sum_i q_i relu(u.x_i) over the unit ball.

    Points are numbered from 1; the linear part sum_i q_i u.x_i has the number 0. A point is
    positive or negative as q_i is. The page on proofs derives the bound.

    Attributes:
        scales: (n + 1,) t_0, and t_i > 0 of positive points.
        quadratic: (n,) k_j >= 0 of negative points.
        transfer: (k,) entries T_ij.
        rows: (k,) their numbers i, of positive points or 0.
        columns: (k,) their numbers j, of negative points.
        weights: (c,) mu_c >= 0 of triangle inequalities.
        triangles: (c, 3) the three numbers in each, negative where their sign is; 0 has sign +1.
    """

    scales: Float[np.ndarray, " n+1"]
    quadratic: Float[np.ndarray, " n"]
    transfer: Float[np.ndarray, " k"]
    rows: Int[np.ndarray, " k"]
    columns: Int[np.ndarray, " k"]
    weights: Float[np.ndarray, " c"]
    triangles: Int[np.ndarray, "c 3"]

    __repr__ = compact_repr
    _repr_html_ = html_repr


def for_all_points(
    relaxed: relaxation.Relaxation,
    multipliers: list[relaxation.Multipliers],
    factor: float = 1.0,
) -> tuple[SideMultipliers, ...]:
    """Return the multipliers of both signs by the numbers of points, for weights p * factor."""
    both = []
    for side, m in zip(relaxed.sides, multipliers, strict=True):
        scales, quadratic = np.zeros(1 + len(relaxed.x)), np.zeros(len(relaxed.x))
        numbers = np.append(0, 1 + side.positive)
        scales[numbers], quadratic[side.negative] = m.scales, m.quadratic
        moved = m.transfer.tocoo()
        used = moved.data != 0
        active = m.weights > 0
        both.append(SideMultipliers(
            scales, quadratic, moved.data[used],
            numbers[moved.row[used]], 1 + side.negative[moved.col[used]],
            m.weights[active],
            numbers[m.triangles.rows[active]] * m.triangles.signs[active].astype(int),
        ))  # fmt: skip
    return extended(tuple(both), np.ones(len(relaxed.x), bool), factor)


def extended(
    both: tuple[SideMultipliers, ...], kept: np.ndarray, factor: float
) -> tuple[SideMultipliers, ...]:
    """Return multipliers of some of the points, by a mask, for all of them and weights * factor."""
    numbers = np.append(0, 1 + np.flatnonzero(kept))

    def spread(values: np.ndarray, where: np.ndarray, size: int) -> np.ndarray:
        full = np.zeros(size)
        full[where] = values * factor
        return full

    return tuple(
        SideMultipliers(
            spread(side.scales, numbers, len(kept) + 1),
            spread(side.quadratic, numbers[1:] - 1, len(kept)),
            side.transfer * factor, numbers[side.rows], numbers[side.columns],
            side.weights * factor,
            np.sign(side.triangles) * numbers[np.abs(side.triangles)],
        )
        for side in both
    )  # fmt: skip
