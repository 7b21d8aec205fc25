r"""The best network over given units, by a linear programme, and column generation.

Over units u_1, ..., u_k on the sphere, gamma_l1 = max_{||alpha||_1 <= 1} min_i y_i f(x_i) with
f = sum_j alpha_j relu(u_j . x). Half of it is the best normalised margin of a two-layer network
with these directions (paper A, T4). Its dual weights p on the samples make
|sum_i p_i y_i relu(u_j . x_i)| <= gamma_l1 for all units at hand; a unit that exceeds it is added,
and the programme solved anew: column generation.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import linprog

from kernelgap.margins.search.climb import ascend_units

_ROWS = 600  # rows up to which the programme is solved with all of them at once
_SAME = 1e-10  # 1 - cosine below which two directions count as one
ADDED = 48  # most units added at a time
APART = 1e-4  # 1 - cosine between units added at a time
_STARTS = 128  # random starts of the search, and data points among the starts


class L1SVM(NamedTuple):
    """The l1-SVM over given features: its margin, coefficients alpha (k,), dual weights p (n,)."""

    margin: float
    coef: np.ndarray
    weights: np.ndarray


def l1_svm(features: np.ndarray, y: np.ndarray, signs: np.ndarray | None = None) -> L1SVM:
    """Maximise min_i y_i (features alpha)_i over ||alpha||_1 <= 1; return dual weights as well.

    Only rows that matter are given to the solver where there are many: rows that its solution
    violates are added until there are none, which leaves the optimum of all rows.

    Args:
        features: Shape (n, k), float64.
        y: Labels -1 and +1, shape (n,), float64.
        signs: The only sign that each alpha may have, shape (k,), in half of the time; None for
            any.

    Returns:
        `L1SVM(margin, coef, weights)`; the margin is never negative, and 0 where these features
        do not separate the data.

    Raises:
        RuntimeError: If the solver (SciPy's HiGHS) fails.
    """
    signed = y[:, None] * features
    if signs is None:
        signs = np.repeat([1.0, -1.0], signed.shape[1])
        signed = np.hstack([signed, signed])
    signed = signed * signs
    n = len(signed)
    rows = np.arange(n)
    if n > _ROWS:
        rows = np.argsort(signed.sum(axis=1))[:_ROWS]
    while True:
        solution = _solve(signed[rows])
        coef = np.maximum(-solution.ineqlin.marginals, 0)
        coef /= max(np.sum(coef), 1.0)
        margins = signed @ coef
        missed = np.setdiff1d(np.flatnonzero(margins < solution.fun - 1e-7), rows)
        if not len(missed):
            break
        rows = np.r_[rows, missed[np.argsort(margins[missed])[:_ROWS]]]
    weights = np.zeros(n)
    weights[rows] = np.maximum(solution.x[:-1], 0)
    total = weights.sum()
    weights = weights / total if total > 0 else np.full(n, 1 / n)
    coef = (signs * coef).reshape(-1, features.shape[1]).sum(axis=0)
    return L1SVM(max(float(margins.min()), 0.0), coef, weights)


def _solve(signed: np.ndarray) -> Any:
    """Minimise s with signed' p <= s over the simplex; return SciPy's solution (p, s).

    It is the dual, which the simplex method solves up to twice as fast as the primal. Some methods
    of HiGHS give up on degenerate problems: the first that does not is used.
    """
    n, k = signed.shape
    for method, presolve in (("highs-ds", False), ("highs", True), ("highs-ipm", True)):
        solution = linprog(
            np.r_[np.zeros(n), 1.0],
            A_ub=np.hstack([signed.T, np.full((k, 1), -1.0)]),
            b_ub=np.zeros(k),
            A_eq=np.r_[np.ones(n), 0.0][None],
            b_eq=[1.0],
            bounds=[(0, None)] * n + [(None, None)],
            method=method,
            options={"presolve": presolve},
        )
        if solution.status == 0:
            return solution
    raise RuntimeError(f"the linear programme of the l1-SVM with {n} samples and {k} units failed: "
                       f"{solution.message}")  # fmt: skip


class UnitNetwork(NamedTuple):
    """Units (k, d) of length 1 with coefficients (k,), their l1 margin and dual weights (n,)."""

    units: np.ndarray
    coef: np.ndarray
    margin: float
    weights: np.ndarray


class DualPoint(NamedTuple):
    """Weights p (n,) on the simplex, and the largest violation h(p o y) that a search found."""

    weights: np.ndarray
    violation: float


def over_units(x: np.ndarray, y: np.ndarray, w: np.ndarray, hidden: np.ndarray) -> UnitNetwork:
    """Return the network of given weights, ||alpha||_1 = 1, without dual weights."""
    lengths = np.linalg.norm(hidden, axis=1)
    keep = lengths * np.abs(w) > 1e-10
    units, coef = hidden[keep] / lengths[keep, None], (w * lengths)[keep]
    coef = coef / max(np.sum(np.abs(coef)), 1e-300)
    margin = float(np.min(y * (np.maximum(x @ units.T, 0) @ coef)))
    return UnitNetwork(units, coef, margin, np.full(len(x), np.nan))


def best_over(
    x: np.ndarray, y: np.ndarray, units: np.ndarray, weights: np.ndarray | None = None
) -> UnitNetwork:
    """Solve the l1-SVM over the directions of the given units; drop those without weight.

    With dual `weights`, units enter with the sign with which they violate these.
    """
    units = distinct(units)
    features = np.maximum(x @ units.T, 0)
    signs = None if weights is None else np.where((weights * y) @ features < 0, -1.0, 1.0)
    solved = l1_svm(features, y, signs)
    keep = np.abs(solved.coef) > 1e-10
    return UnitNetwork(units[keep], solved.coef[keep], solved.margin, solved.weights)


def column_generation(
    x: np.ndarray,
    y: np.ndarray,
    start: UnitNetwork,
    centre: DualPoint,
    *,
    rng: np.random.Generator,
    rounds: int,
    dtype: np.dtype,
    steps: int = 100,
    tol: float = 1e-6,
) -> tuple[UnitNetwork, DualPoint]:
    """Add violating units and solve again, until the search finds none, gains end or rounds do.

    The dual weights of the programme jump from vertex to vertex; units are also looked for at the
    midpoint between them and the best weights so far, which the search sees violated least.

    Args:
        x: Inputs (n, d), float64, of order one.
        y: Labels (n,), float64.
        start: The network to begin with, from `best_over`.
        centre: The best dual weights so far.
        rng: For the random starts of the search.
        rounds: The largest number of linear programmes.
        dtype: Dtype of the search; its units are evaluated in float64.
        steps: Steps of the local ascent.
        tol: The relative violation of the margin from which units are added.

    Returns:
        The last network, its margin at least that of `start`, and the best dual weights.
    """
    current = start
    for _ in range(rounds):
        middle = (current.weights + centre.weights) / 2
        fresh = []
        for weights in (current.weights, middle):
            units, sums = search_units(x, weights * y, current.units, rng, dtype, steps)
            values = np.abs(sums)
            if values[0] < centre.violation:
                centre = DualPoint(weights, float(values[0]))
            violating = units[values > current.margin * (1 + tol)]
            fresh.append(distinct(violating[: 8 * ADDED], APART)[:ADDED])
        if not len(fresh[0]) + len(fresh[1]):
            break
        better = best_over(x, y, np.vstack([current.units, *fresh]), current.weights)
        gain = better.margin - current.margin
        if gain >= 0:  # or the solver's tolerance made it less
            current = better
        if gain <= 1e-5 * current.margin:
            break
    return current, centre


def search_units(
    x: np.ndarray,
    q: np.ndarray,
    active: np.ndarray,
    rng: np.random.Generator,
    dtype: np.dtype,
    steps: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Search units from data points, random and active units; best first, with sum_i q_i relu."""
    points = rng.permutation(len(x))[:_STARTS]
    random = rng.standard_normal((_STARTS, x.shape[1]))
    starts = unit_rows(np.concatenate([x[points], random, active]))
    moved = ascend_units(x.astype(dtype), q, starts, steps=steps, kept=ADDED)
    units = unit_rows(moved.astype(float))
    sums = np.maximum(units @ x.T, 0) @ q
    order = np.argsort(-np.abs(sums))
    return units[order], sums[order]


def distinct(units: np.ndarray, spread: float = _SAME) -> np.ndarray:
    """Scale rows to length 1; leave out zero rows and near repetitions of earlier rows."""
    units = unit_rows(units)
    units = units[np.linalg.norm(units, axis=1) > 0.5]
    repeated = np.tril(units @ units.T > 1 - spread, -1).any(axis=1)
    return units[~repeated]


def unit_rows(v: np.ndarray) -> np.ndarray:
    """Scale rows to length 1; zero rows stay zero."""
    size = np.max(np.abs(v), axis=1, keepdims=True)
    v = np.divide(v, size, out=np.zeros_like(v), where=size > 0)
    lengths = np.linalg.norm(v, axis=1, keepdims=True)
    return np.divide(v, lengths, out=np.zeros_like(v), where=lengths > 0)
