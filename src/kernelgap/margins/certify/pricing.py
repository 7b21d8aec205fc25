"""Choose the partners and triangles of a relaxation by what would lower the bound first."""

import numpy as np

from kernelgap.margins.certify.relaxation import (
    Relaxation,
    Side,
    side_multipliers,
    views,
    weights_of,
)
from kernelgap.margins.certify.smoothed import Seen, look, slopes_of
from kernelgap.margins.certify.triangles import violated

_REVIVED = 0.02  # shares that should grow start at most there
_PROMISE = 0.5  # share that the transfer of steepest descent counts as
_ADDED, _MOST = 2, 10  # triangles that are added after a stage, and in all, for each row of K
_TINY = 1e-100


def reprice(
    relaxation: Relaxation, theta: np.ndarray, smoothing: float, relative: float
) -> tuple[Relaxation, np.ndarray]:
    """Choose partners and triangles anew.

    Where a share is zero its weight has gradient zero, whether it should grow or not: the shares
    that should, by the sign of their own derivative, are started again at a small value.
    """
    p, sides = weights_of(relaxation, theta), []
    parts, start = [theta[: len(relaxation.x)]], len(relaxation.x)
    for side in relaxation.sides:
        m, shares, _ = side_multipliers(relaxation, side, theta, p)
        logs, weights, cuts = views(side, theta)
        seen = look(relaxation, side, p, m, smoothing)
        if seen is not None:
            side, weights = _partners(
                relaxation, side, shares, weights, seen, min(_REVIVED, relative)
            )
            kept = cuts > 0
            count = min(_ADDED * len(logs), _MOST * len(logs) - int(kept.sum()))
            fresh = violated(seen.moments, m.scales, side.triangles, max(count, 0))
            triangles = side.triangles.taken(kept).joined(fresh)
            cuts = np.concatenate([cuts[kept], np.zeros(len(fresh.rows))])
            side = side._replace(triangles=triangles)
        sides.append(side._replace(start=start))
        parts += [logs, weights.ravel(), cuts]
        start = sides[-1].stop
    return relaxation._replace(sides=(sides[0], sides[1])), np.concatenate(parts)


def _partners(
    relaxation: Relaxation,
    side: Side,
    shares: np.ndarray,
    weights: np.ndarray,
    seen: Seen,
    revived: float,
) -> tuple[Side, np.ndarray]:
    """The partners whose transfers matter or would lower the bound first, and their weights."""
    k = len(side.partners)
    if not k or not len(side.negative):
        return side, weights
    dv, direct = slopes_of(relaxation, side, seen)
    slopes = -dv[1:] @ relaxation.x[side.negative].T  # by every T_ij
    carried = np.zeros_like(slopes)
    np.put_along_axis(carried, side.partners, shares[3:], axis=0)
    # Shares of one point sum to 1: growth pays where the slope is below their average.
    average = np.sum(direct * shares[:3], axis=0) + np.sum(slopes * carried, axis=0)
    gain = np.maximum(np.abs(slopes) + average, 0)
    score = np.abs(carried) + _PROMISE * gain / np.maximum(gain.max(axis=0), _TINY)
    partners = np.sort(np.argpartition(-score, k - 1, axis=0)[:k], axis=0)

    now = np.take_along_axis(carried, partners, axis=0)
    grows = np.take_along_axis(gain, partners, axis=0) > 0
    signs = -np.sign(np.take_along_axis(slopes, partners, axis=0))
    now = np.where(grows & (np.abs(now) < revived / k), signs * revived / k, now)
    base = np.where((direct < average) & (shares[:3] < revived), revived, shares[:3])
    fresh = np.concatenate([np.sqrt(base), np.sign(now) * np.sqrt(np.abs(now))])
    return side._replace(partners=partners), fresh
