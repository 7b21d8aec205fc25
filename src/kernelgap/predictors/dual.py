r"""The dual of the hard-margin SVM by factorisations, and what a dual point proves.

The dual is min_{alpha >= 0} alpha' Q alpha / 2 - 1' alpha with Q = (y y') o K. `_exchange` solves
for alpha on a free set and moves every index that violates an optimality condition to the other
side, which ends after three to five solves when most points are support vectors. It may cycle, and
needs Q positive definite on the free set; where it stalls, `_pivot` moves one index at a time and
decreases the objective in every step (Lawson and Hanson's method for nonnegative least squares).
Finally, `_polish` refines on the support. A ridge at rounding level keeps factorisations from
failing; the certificate is always that of Q itself. `block_exchange.py` solves the same problem
with products alone.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from kernelgap._numerics.arrays import is_concrete
from kernelgap._numerics.quick import quick_jit
from kernelgap.predictors.operators import GramMatrix, matmul
from kernelgap.typing import Scalar

_PATIENCE = 3  # exchanges that may fail to lower the number of violations; pivots of length 0


class Certificate(NamedTuple):
    """Certificate of a dual point alpha: margin <= best margin <= upper.

    Attributes:
        margin: min_i y_i f(x_i) / ||f|| of f = sum_i alpha_i y_i K(x_i, .).
        upper: ||sum_i p_i y_i K(x_i, .)|| for p = alpha / sum(alpha).
        gap: 1 - (margin / upper)^2, the relative duality gap; 1 if the margin is not positive.
        residual: The largest violation of the optimality conditions.
    """

    margin: Scalar
    upper: Scalar
    gap: Scalar
    residual: Scalar


def certify(alpha: jax.Array | np.ndarray, outputs: jax.Array | np.ndarray) -> Certificate:
    """Return the certificate of alpha >= 0, given outputs = Q alpha = y f; NumPy's for NumPy's."""
    xp: Any = np if isinstance(alpha, np.ndarray) else jnp
    norm = xp.sqrt(xp.maximum(alpha @ outputs, 0))
    total = xp.sum(alpha)
    positive = (norm > 0) & (total > 0)
    margin = xp.where(positive, xp.min(outputs) / xp.where(positive, norm, 1), 0)
    upper = xp.where(total > 0, norm / xp.where(total > 0, total, 1), xp.inf)
    violation = xp.where(alpha > 0, xp.abs(outputs - 1), xp.maximum(1 - outputs, 0))
    ratio = xp.maximum(margin, 0) / xp.where(positive, upper, 1)
    gap = xp.maximum(1 - xp.square(ratio), 0)
    return Certificate(margin, upper, gap, xp.max(violation))


def violations(
    free: Bool[Array, " n"], z: Float[Array, " n"], slopes: Float[Array, " n"], slack: jax.Array
) -> Bool[Array, " n"]:
    """Return where z >= 0 fails on the free set, or slopes >= 1 off it; NaN is a violation."""
    return jnp.where(free, ~(z >= 0), ~(slopes >= 1 - slack))


def factorise(
    gram: Float[Array, "n n"], y: Float[Array, " n"], tol: float, max_iterations: int
) -> tuple[Float[Array, " n"], Certificate, Int[Array, ""]]:
    """Return alpha >= 0, its certificate, and the number of linear systems solved."""
    q = _signed(gram, y)
    # A sample may fall short of its margin by slack without moving the gap beyond tol.
    slack = jnp.asarray(tol / 8, q.dtype)
    exchanged = _exchange(q, slack, max_iterations)
    alpha, iterations = exchanged.alpha, exchanged.iteration
    # Seldom needed: outside of jit it is compiled only on use.
    if not (is_concrete(exchanged.optimal) and bool(exchanged.optimal)):
        alpha, iterations = _pivot(q, slack, exchanged, max_iterations)
    return *_polish(q, alpha), iterations + 1


@quick_jit
def _signed(gram: jax.Array, y: jax.Array) -> jax.Array:
    return gram * y[:, None] * y[None, :]


class _Exchange(NamedTuple):
    free: Bool[Array, " n"]  # where alpha may be positive
    point: Float[Array, " n"]  # the last solution on a free set, of any sign
    alpha: Float[Array, " n"]  # the feasible point of least gap
    gap: Float[Array, ""]
    fewest: Int[Array, ""]  # fewest violations seen
    stalled: Int[Array, ""]  # exchanges since
    optimal: Bool[Array, ""]
    iteration: Int[Array, ""]


@partial(quick_jit, static_argnames="max_iterations")
def _exchange(q: jax.Array, slack: jax.Array, max_iterations: int) -> _Exchange:
    def step(s: _Exchange) -> _Exchange:
        start = jnp.where(s.free, s.point, 0)
        factor = _factor(q, s.free, _least_ridge(q))
        z = start + _cho_solve(factor, jnp.where(s.free, 1 - matmul(q, start), 0))
        # Samples off the support are not checked again: allow no rounding beyond slack.
        violated = violations(s.free, z, _accurate(q, z), slack)
        count = jnp.sum(violated)
        candidate = jnp.maximum(z, 0)
        gap = certify(candidate, matmul(q, candidate)).gap
        better = (gap < s.gap) | (count == 0)  # its gap is noisy, but its optimality is certain
        better |= (s.iteration == 0) & jnp.isfinite(gap)  # any support is better than none
        fewer = count < s.fewest
        return _Exchange(
            free=s.free ^ violated,
            point=z,
            alpha=jnp.where(better, candidate, s.alpha),
            gap=jnp.where(better, gap, s.gap),
            fewest=jnp.where(fewer, count, s.fewest),
            stalled=jnp.where(fewer, 0, s.stalled + 1),
            optimal=(count == 0) | (gap <= 2 * slack),
            iteration=s.iteration + 1,
        )

    def running(s: _Exchange) -> jax.Array:
        finite = jnp.all(jnp.isfinite(s.point))
        hopeful = finite & (s.stalled < _PATIENCE)
        return ~s.optimal & hopeful & (s.iteration < max_iterations)

    n, none = q.shape[0], jnp.asarray(0)
    zeros, gap, false = jnp.zeros(n, q.dtype), jnp.ones((), q.dtype), jnp.asarray(False)
    everywhere = jnp.ones(n, bool)
    start = _Exchange(everywhere, zeros, zeros, gap, jnp.asarray(n + 1), none, false, none)
    return jax.lax.while_loop(running, step, start)


class _Pivot(NamedTuple):
    alpha: Float[Array, " n"]  # feasible, positive only on the free set
    free: Bool[Array, " n"]
    optimal: Bool[Array, ""]
    hopeless: Bool[Array, ""]  # a convex combination of signed points is 0, to rounding
    idle: Int[Array, ""]  # steps of length 0 in a row
    iteration: Int[Array, ""]


@partial(quick_jit, static_argnames="max_iterations")
def _pivot(
    q: jax.Array, slack: jax.Array, exchanged: _Exchange, max_iterations: int
) -> tuple[jax.Array, jax.Array]:
    def step(s: _Pivot) -> _Pivot:
        factor = _factor(q, s.free, _least_ridge(q))
        error = jnp.where(s.free, 1 - matmul(q, s.alpha), 0)
        z = jnp.where(s.free, s.alpha + _cho_solve(factor, error), 0)
        blocked = s.free & ~(z > 0)
        # Move towards z while all stay nonnegative; the first to reach 0 leaves the free set.
        lengths = jnp.where(blocked, s.alpha / jnp.maximum(s.alpha - z, s.alpha), jnp.inf)
        lengths = jnp.where(blocked & (s.alpha <= 0), 0, lengths)
        length = jnp.minimum(jnp.min(lengths), 1)
        inside = ~jnp.any(blocked)
        alpha = jnp.where(inside, z, jnp.maximum(s.alpha + length * (z - s.alpha), 0))
        free = s.free & (inside | (lengths > length))
        alpha = jnp.where(free, alpha, 0)
        # Optimal on the free set: the most violated sample joins it.
        outputs = matmul(q, alpha)
        certificate = certify(alpha, outputs)
        shortfall = jnp.where(free, -jnp.inf, 1 - outputs)
        worst = jnp.argmax(shortfall)
        optimal = inside & ((shortfall[worst] <= slack) | (certificate.gap <= 2 * slack))
        square = jnp.square(certificate.upper)
        return _Pivot(
            alpha=jnp.where(jnp.isfinite(certificate.upper), alpha, s.alpha),
            hopeless=~(square > float(jnp.finfo(q.dtype).eps) * _size(q)),
            free=jnp.where(inside & ~optimal, free.at[worst].set(True), free),
            optimal=optimal,
            idle=jnp.where(inside | (length > 0), 0, s.idle + 1),
            iteration=s.iteration + 1,
        )

    def running(s: _Pivot) -> jax.Array:
        hopeful = ~s.hopeless & (s.idle < _PATIENCE)
        return ~s.optimal & hopeful & (s.iteration < max_iterations)

    # A point far from optimal has a support far from optimal: start from the empty set then.
    near = exchanged.optimal | (exchanged.gap < 0.1)
    alpha = jnp.where(near, exchanged.alpha, 0)
    false, none = jnp.asarray(False), jnp.asarray(0)
    start = _Pivot(alpha, alpha > 0, exchanged.optimal, false, none, exchanged.iteration)
    s = jax.lax.while_loop(running, step, start)
    ours, theirs = (certify(a, matmul(q, a)) for a in (s.alpha, exchanged.alpha))
    # If neither separates, the smaller upper bound is the stronger proof.
    better = (ours.gap < theirs.gap) | (~(theirs.gap < 1) & (ours.upper < theirs.upper))
    return jnp.where(better, s.alpha, exchanged.alpha), s.iteration


@quick_jit
def _polish(q: jax.Array, alpha: jax.Array) -> tuple[jax.Array, Certificate]:
    """Refine on the support with residuals from compensated sums; keep the better point."""
    support = alpha > 0
    factor = _factor(q, support, _least_ridge(q))

    def refine(_: int, z: jax.Array) -> jax.Array:
        error = jnp.where(support, 1 - _accurate(q, z), 0)
        return jnp.where(support, z + _cho_solve(factor, error), 0)

    polished = jnp.maximum(jax.lax.fori_loop(0, 2, refine, alpha), 0)
    before = certify(alpha, _accurate(q, alpha))
    after = certify(polished, _accurate(q, polished))
    keep = after.gap < before.gap  # False where a factorisation failed
    return jax.tree.map(lambda a, b: jnp.where(keep, a, b), (polished, after), (alpha, before))


def _accurate(q: jax.Array, v: jax.Array) -> jax.Array:
    return GramMatrix(q).accurate(v, jnp.zeros((), q.dtype))


def _size(q: jax.Array) -> jax.Array:
    return jnp.median(jnp.diagonal(q))  # one large row must not hide the others


def _least_ridge(q: jax.Array) -> jax.Array:
    return 4 * float(jnp.finfo(q.dtype).eps) * _size(q)


def _factor(q: jax.Array, free: jax.Array, ridge: jax.Array) -> jax.Array:
    """Return the Cholesky factor of Q + ridge on the free set and a multiple of I elsewhere."""
    masked = jnp.where(free[:, None] & free[None, :], q, 0)
    return jnp.linalg.cholesky(masked + jnp.diag(jnp.where(free, ridge, _size(q))))


def _cho_solve(factor: jax.Array, b: jax.Array) -> jax.Array:
    return jax.scipy.linalg.cho_solve((factor, True), b)
