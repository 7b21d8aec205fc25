r"""KKT multipliers: the hard-margin SVM of a net's own tangent features.

It is the least convex combination of gradients.

Given the margins q_i of a net, find weights p of the simplex and gradients g_i of q_i for which
||sum_i p_i g_i|| is least. At a kink of the activation there are many g_i: for a two-layer net with
slopes between `low` and `high` at 0,

    g_i = grad of sum_j w_j s_ij <u_j, x_i>,    every s_ij in [low, high] where u_j . x_i = 0.

They are found as they are needed: for the current combination V, the s_ij that make <V, g_i> least
are known in closed form, and the gradient joins the list if it is below ||V||^2.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from scipy import optimize
from scipy.linalg import LinAlgWarning

from kernelgap._support.warning_filters import ignore_warnings
from kernelgap.models import Activation, Model, Params
from kernelgap.models.model import homogeneous_degree
from kernelgap.typing import ArrayLike

_ROUNDS = 50
_ENOUGH = 1e-5  # the squared norm is within this share of the least
ROUNDING = 1e-10  # of products, in units of the least squared norm without kinks
Constraints = Callable[[Model, Params, jax.Array, jax.Array], jax.Array]


class Combination(NamedTuple):
    """Weights of the constraints, of the shape of q, and the combination of their gradients.

    `converged` says that it is the least one, up to the share `_ENOUGH` of its squared norm.
    """

    weights: np.ndarray
    gradient: np.ndarray
    converged: bool


def least_combination(
    model: Model,
    params: Params,
    x: ArrayLike,
    y: ArrayLike,
    q: np.ndarray,
    *,
    constraints: Constraints,
    candidates: int,
    kinks: float,
) -> Combination:
    """Return the least convex combination of gradients; constraints with q = inf have none."""
    flat = q.ravel()
    chosen = np.argsort(flat, kind="stable")[: min(candidates, int(np.isfinite(flat).sum()))]
    rows, columns = (chosen, None) if q.ndim == 1 else np.divmod(chosen, q.shape[1])
    norm = np.sqrt(
        sum(float(np.sum(np.asarray(w, np.float64) ** 2)) for w in jax.tree.leaves(params))
    )
    # Without kinks no combination is shorter.
    unit = homogeneous_degree(model) * float(flat.min()) / norm
    owners = np.arange(len(rows))
    x, y = np.asarray(x)[rows], np.asarray(y)[rows]  # on the host: no program for each size
    if kinks == 0:
        leaves = jax.tree.leaves(_gradients(model, constraints, params, x, y, columns))
        gradients = [np.asarray(g, np.float64).reshape(len(rows), -1) for g in leaves]
        gradients = np.concatenate(gradients, axis=1)
        weights, converged = shortest_combination(gradients / unit)
    else:
        lower = _lower(model, params, x, y, columns, kinks)
        gradients = lower(np.zeros(sum(np.size(w) for w in params)))
        weights, solved = shortest_combination(gradients / unit)
        converged = False
        for _ in range(_ROUNDS):
            total = weights @ gradients
            fresh = lower(total)
            below = fresh @ total < (1 - _ENOUGH) * (total @ total) - ROUNDING * unit**2
            if not below.any():
                converged = solved
                break
            used = weights > 0
            gradients = np.concatenate([gradients[used], fresh[below]])
            owners = np.concatenate([owners[used], np.flatnonzero(below)])
            weights, solved = shortest_combination(gradients / unit)
    by_constraint = np.zeros(flat.shape)
    np.add.at(by_constraint, chosen[owners], weights)
    return Combination(by_constraint.reshape(q.shape), weights @ gradients, converged)


def shortest_combination(vectors: np.ndarray) -> tuple[np.ndarray, bool]:
    """Return the weights of the shortest convex combination of rows, and whether it is one.

    SciPy's `nnls` can stop early on vectors that are equal but for rounding, and up to SciPy 1.14
    meets singular systems: then another solver takes over. The result is tested in any case.
    """
    features = vectors.T
    if features.shape[0] > features.shape[1]:
        features = np.asarray(np.linalg.qr(features, mode="r"))
    # min ||F alpha||^2 + (1' alpha - 1)^2 over alpha >= 0 has the direction of the best weights.
    system = np.concatenate([features, np.ones((1, features.shape[1]))])
    target = np.zeros(system.shape[0])
    target[-1] = 1
    with ignore_warnings(LinAlgWarning):
        try:
            alpha, _ = optimize.nnls(system, target, maxiter=30 * system.shape[1])
        except (RuntimeError, np.linalg.LinAlgError):
            alpha = np.zeros(system.shape[1])
    if not alpha.any() or _excess(vectors, alpha) > 0:
        options = {"bounds": (0, np.inf), "method": "bvls", "tol": 1e-12}
        alpha = np.maximum(optimize.lsq_linear(system, target, **options).x, 0)
    if not alpha.any():
        return np.full(len(vectors), 1 / len(vectors)), False
    weights = alpha / alpha.sum()
    return weights, _excess(vectors, weights) <= ROUNDING


def _excess(vectors: np.ndarray, weights: np.ndarray) -> float:
    """Return how far the least product with the combination is below its squared norm's share."""
    total = vectors.T @ weights
    least = (vectors @ total).min() * weights.sum()
    return float((1 - _ENOUGH) * (total @ total) - least)


@partial(jax.jit, static_argnames=("model", "constraints"))
def _gradients(
    model: Model,
    constraints: Constraints,
    params: Params,
    x: jax.Array,
    y: jax.Array,
    columns: np.ndarray | None,
) -> Params:
    """Return the gradients of q_i for every row of x, or of q_ij with j from `columns`."""

    def constraint(params: Params, xi: jax.Array, yi: jax.Array, j: jax.Array | None) -> jax.Array:
        qi = constraints(model, params, xi[None], yi[None])[0]
        return qi if j is None else qi[j]

    axes = (None, 0, 0, None if columns is None else 0)
    return jax.vmap(jax.grad(constraint), axes)(params, x, y, columns)


def _lower(
    model: Model,
    params: Params,
    x: np.ndarray,
    y: np.ndarray,
    columns: np.ndarray | None,
    kinks: float,
) -> Callable[[np.ndarray], np.ndarray]:
    """Return V -> for every constraint the gradient with the least product with V, (n, len V)."""
    hidden, readout = (np.asarray(w, np.float64) for w in params)
    x = np.asarray(x, np.float64)
    first, second = (layer.scale for layer in model.spec.layers(x.shape[1]))
    z = first * x @ hidden.T
    sizes = first * np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(hidden, axis=1)
    phi = model.spec.activation
    assert isinstance(phi, Activation)  # homogeneous, checked by the caller
    positive, negative = phi.positive, -phi.negative
    slopes = np.where(z > 0, positive, np.where(z < 0, negative, 0.0))
    at_kink = np.abs(z) <= kinks * sizes
    low, high = min(positive, negative), max(positive, negative)
    # The margin of constraint i is sum_j coefficient_ij phi(z_ij), linear in the readout.
    k = 1 if columns is None else readout.shape[0]
    signs = np.zeros((len(x), k))
    if columns is None:
        signs[:, 0] = y
    else:
        signs[np.arange(len(x)), y] += 1
        signs[np.arange(len(x)), columns] -= 1
    coefficients = second * signs @ readout.reshape(k, -1)

    def lower(total: np.ndarray) -> np.ndarray:
        total_hidden = total[: hidden.size].reshape(hidden.shape)
        total_readout = total[hidden.size :].reshape(k, -1)
        score = first * coefficients * (x @ total_hidden.T)
        score += second * (signs @ total_readout) * z
        s = np.where(at_kink, np.where(score > 0, low, high), slopes)
        by_hidden = (first * coefficients * s)[:, :, None] * x[:, None, :]
        by_readout = second * signs[:, :, None] * (s * z)[:, None, :]
        n = len(x)
        return np.concatenate([by_hidden.reshape(n, -1), by_readout.reshape(n, -1)], axis=1)

    return lower
