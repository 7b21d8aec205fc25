r"""The least h(p o y) over weights p of the simplex, by cutting planes with a certified oracle.

Over units u_1, ..., u_k the least of max_k ``|sum_i p_i y_i relu(u_k.x_i)|`` is a linear programme;
its value is at most that over all units, and its dual variables are a network of that margin over
these units. Units that violate p are added: those that a local search finds, and when it finds no
more, those that `margins.certify.cones` meets while it proves that there are none.
"""

from typing import NamedTuple

import numpy as np

from kernelgap.margins.certify import cones
from kernelgap.margins.certify.enumeration import least_violation
from kernelgap.margins.search.climb import ascend_units
from kernelgap.margins.search.columns import distinct, unit_rows

_ROUNDS = 150  # linear programmes
_ADDED = 48  # units added at a time, for each of two weights
_APART = 1e-4  # 1 - cosine between units added at a time
_KEPT = 3  # units that are kept, over the number of points
_STARTS = 256
_CLOSE = 1e-12


class LeastViolation(NamedTuple):
    """Weights p, a bound on h(p o y), and units whose best network has nearly half of it.

    Attributes:
        weights: (n,) p.
        bound: The bound of `cones.most_violating` for p o y.
        lowest: The value of the last linear programme; no p has a smaller h(p o y), up to rounding.
        units: (k, d) its units.
        solved: False if the solver of a linear programme failed.
    """

    weights: np.ndarray
    bound: cones.ConeBound
    lowest: float
    units: np.ndarray
    solved: bool


def least_violated_weights(
    x: np.ndarray,
    y: np.ndarray,
    *,
    units: np.ndarray | None = None,
    goal: float = 0.0,
    tol: float = 9e-4,
    limit: int = 1_000_000,
) -> LeastViolation:
    """Minimise h(p o y) to a relative `tol`, or until it is at most `goal`.

    Args:
        x: (n, d) points whose largest entry is near 1, none zero.
        y: (n,) labels.
        units: (k, d) unit vectors to begin with, besides some of our own.
        goal: A violation that is small enough.
        tol: The relative gap between the bound and the linear programme.
        limit: The largest number of cones in all.
    """
    n, d = x.shape
    rng = np.random.default_rng(0)
    pool = unit_rows(np.concatenate([x, -x, cones.first_units(d)]))
    pool = pool if units is None else np.concatenate([unit_rows(units), pool])
    centre, least_seen = np.full(n, 1 / n), np.inf  # as far as the local search sees
    best = None
    lowest, solved = 0.0, True
    for _ in range(_ROUNDS):
        features = np.maximum(pool @ x.T, 0) * y
        scale = min(least_seen, float(np.abs(features).max()))
        solution = least_violation(features / scale)
        if solution is None:
            solved = False
            break
        value, p = solution
        lowest = max(lowest, value * scale)
        if lowest <= _CLOSE:
            break
        tight = np.abs(features @ p)
        if len(pool) > 2 * _KEPT * n + 200:  # slack units are dropped, all at once
            pool = pool[np.argsort(-tight, kind="stable")[: _KEPT * n + 100]]
        fresh = []
        for weights in (p, (p + centre) / 2):
            heaviest = pool[np.argsort(-np.abs((np.maximum(pool @ x.T, 0) * y) @ weights))[:100]]
            starts = np.concatenate([unit_rows(rng.standard_normal((_STARTS, d))), heaviest])
            climbed = unit_rows(ascend_units(x, weights * y, starts, steps=60, kept=100))
            reached = cones.violations(x, weights * y, climbed)
            order = np.argsort(-reached)
            if reached[order[0]] < least_seen:
                least_seen, centre = float(reached[order[0]]), weights
            violating = climbed[order][reached[order] > lowest * (1 + 0.01 * tol)]
            fresh.append(distinct(violating[: 4 * _ADDED], _APART)[:_ADDED])
        if least_seen <= max(goal, lowest * (1 + tol / 2)):
            target = max(goal, lowest * (1 + tol))
            starts = np.concatenate(fresh)
            bound = _prove(x, y, centre, starts, target, tol / 4, limit)
            limit -= bound.cones
            if best is None or bound.value < best[1].value:
                best = (centre, bound)
            if best[1].value <= target * (1 + 1e-9) or limit <= 0:
                break
            # The search saw too little: what it missed is known now.
            least_seen = bound.attained
            used = centre > 0
            met = ascend_units(x[used], (centre * y)[used], bound.units, steps=40, kept=200)
            reached = cones.violations(x[used], (centre * y)[used], met)
            met = met[np.argsort(-reached)][: np.sum(reached > lowest * (1 + 0.01 * tol))]
            fresh.append(distinct(met, _APART)[: 2 * _ADDED])
        if not sum(map(len, fresh)):
            fresh.append(unit_rows(rng.standard_normal((_ADDED, d))))
        pool = np.concatenate([pool, *fresh])
    if best is None:
        best = centre, _prove(x, y, centre, np.zeros((0, d)), goal, tol, max(limit, 1))
    return LeastViolation(best[0], best[1], lowest, pool, solved)


def _prove(
    x: np.ndarray,
    y: np.ndarray,
    p: np.ndarray,
    starts: np.ndarray,
    goal: float,
    tol: float,
    limit: int,
) -> cones.ConeBound:
    used = p > 0
    starts = np.concatenate([starts, cones.first_units(x.shape[1])])
    return cones.most_violating(
        x[used], (p * y)[used], starts=starts, goal=goal, tol=tol, limit=limit
    )
