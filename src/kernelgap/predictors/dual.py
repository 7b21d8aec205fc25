r"""The dual of the hard-margin SVM: min_{alpha >= 0} alpha' Q alpha / 2 - 1' alpha.

Two methods. `_exchange` solves for alpha on a free set and moves every index that violates an
optimality condition to the other side, which ends after three to five solves when most points
are support vectors. It may cycle, and needs Q positive definite on the free set; where it stalls,
`_pivot` moves one index at a time and decreases the objective in every step (Lawson and Hanson's
method for nonnegative least squares). Last, `_polish` refines on the support. A ridge at rounding
level keeps factorisations alive; the certificate is always that of Q itself.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kernelgap._checks import is_concrete
from kernelgap.predictors.certificate import Certificate, certify
from kernelgap.predictors.operators import GramMatrix, matmul

_PATIENCE = 3  # exchanges that may fail to lower the count of violations, idle pivots


def solve(
    gram: Float[Array, "n n"], y: Float[Array, " n"], tol: float, max_iterations: int
) -> tuple[Float[Array, " n"], Certificate, Int[Array, ""]]:
    """Find alpha >= 0, its certificate, and the number of linear systems solved."""
    q = _signed(gram, y)
    # A sample may fall short of its margin by slack without moving the gap beyond tol.
    slack = jnp.asarray(tol / 8, q.dtype)
    exchanged = _exchange(q, slack, max_iterations)
    alpha, iterations = exchanged.alpha, exchanged.iteration
    # Seldom needed: outside of jit it is not even compiled then.
    if not (is_concrete(exchanged.optimal) and bool(exchanged.optimal)):
        alpha, iterations = _pivot(q, slack, exchanged, max_iterations)
    return *_polish(q, alpha), iterations + 1


@jax.jit
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


@partial(jax.jit, static_argnames=("max_iterations",))
def _exchange(q: jax.Array, slack: jax.Array, max_iterations: int) -> _Exchange:
    def step(s: _Exchange) -> _Exchange:
        start = jnp.where(s.free, s.point, 0)
        factor = _factor(q, s.free, _least_ridge(q))
        z = start + _cho_solve(factor, jnp.where(s.free, 1 - matmul(q, start), 0))
        # Samples off the support are judged here once and for all: no rounding beyond slack.
        outputs = _accurate(q, z)
        violated = jnp.where(s.free, ~(z >= 0), ~(outputs >= 1 - slack))  # NaN violates
        count = jnp.sum(violated)
        candidate = jnp.maximum(z, 0)
        gap = certify(candidate, matmul(q, candidate)).gap
        better = (gap < s.gap) | (count == 0)  # its gap is noisy, its optimality is not
        better |= (s.iteration == 0) & jnp.isfinite(gap)  # anything is better than nothing
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
        return ~s.optimal & finite & (s.stalled < _PATIENCE) & (s.iteration < max_iterations)

    zeros = jnp.zeros(q.shape[0], q.dtype)
    start = _Exchange(
        free=jnp.ones(q.shape[0], bool),
        point=zeros,
        alpha=zeros,
        gap=jnp.ones((), q.dtype),
        fewest=jnp.asarray(q.shape[0] + 1),
        stalled=jnp.asarray(0),
        optimal=jnp.asarray(False),
        iteration=jnp.asarray(0),
    )
    return jax.lax.while_loop(running, step, start)


class _Pivot(NamedTuple):
    alpha: Float[Array, " n"]  # feasible, positive only on the free set
    free: Bool[Array, " n"]
    optimal: Bool[Array, ""]
    hopeless: Bool[Array, ""]  # a convex combination of signed points is 0, to rounding
    idle: Int[Array, ""]  # steps of length 0 in a row
    iteration: Int[Array, ""]


@partial(jax.jit, static_argnames=("max_iterations",))
def _pivot(
    q: jax.Array, slack: jax.Array, exchanged: _Exchange, max_iterations: int
) -> tuple[jax.Array, jax.Array]:
    def step(s: _Pivot) -> _Pivot:
        factor = _factor(q, s.free, _least_ridge(q))
        error = jnp.where(s.free, 1 - matmul(q, s.alpha), 0)
        z = jnp.where(s.free, s.alpha + _cho_solve(factor, error), 0)
        blocked = s.free & ~(z > 0)
        # Towards z as far as all stay nonnegative; whoever reaches 0 first leaves the free set.
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
        joined = free.at[worst].set(True)
        optimal = inside & ((shortfall[worst] <= slack) | (certificate.gap <= 2 * slack))
        moved = inside | (length > 0)
        alpha = jnp.where(jnp.isfinite(certificate.upper), alpha, s.alpha)
        return _Pivot(
            alpha=alpha,
            hopeless=~(jnp.square(certificate.upper) > float(jnp.finfo(q.dtype).eps) * _size(q)),
            free=jnp.where(inside & ~optimal, joined, free),
            optimal=optimal,
            idle=jnp.where(moved, 0, s.idle + 1),
            iteration=s.iteration + 1,
        )

    def running(s: _Pivot) -> jax.Array:
        return ~s.optimal & ~s.hopeless & (s.idle < _PATIENCE) & (s.iteration < max_iterations)

    # A point far from optimal has a support far from optimal: then start from nothing.
    near = exchanged.optimal | (exchanged.gap < 0.1)
    alpha = jnp.where(near, exchanged.alpha, 0)
    start = _Pivot(
        alpha=alpha,
        free=alpha > 0,
        optimal=exchanged.optimal,
        hopeless=jnp.asarray(False),
        idle=jnp.asarray(0),
        iteration=exchanged.iteration,
    )
    s = jax.lax.while_loop(running, step, start)
    ours, theirs = (certify(a, matmul(q, a)) for a in (s.alpha, exchanged.alpha))
    # Where neither separates, keep what shows it best: the smaller upper bound.
    better = (ours.gap < theirs.gap) | (~(theirs.gap < 1) & (ours.upper < theirs.upper))
    return jnp.where(better, s.alpha, exchanged.alpha), s.iteration


@jax.jit
def _polish(q: jax.Array, alpha: jax.Array) -> tuple[jax.Array, Certificate]:
    """Refine on the support with residuals from compensated sums; keep what is better."""
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
    """Cholesky factor of Q + ridge on the free set and of a multiple of the identity elsewhere."""
    masked = jnp.where(free[:, None] & free[None, :], q, 0)
    return jnp.linalg.cholesky(masked + jnp.diag(jnp.where(free, ridge, _size(q))))


def _cho_solve(factor: jax.Array, b: jax.Array) -> jax.Array:
    return jax.scipy.linalg.cho_solve((factor, True), b)
