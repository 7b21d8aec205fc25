r"""The dual of the hard-margin SVM for large n: block exchanges with inexact solves.

min_{alpha >= 0} alpha' Q alpha / 2 - 1' alpha, Q = (y y') o K. Each step improves the solution on
the set of free variables by preconditioned conjugate gradients, by a factor of a hundred, and moves
every index that violates an optimality condition to the other side. The certificate is that of
the feasible point max(z, 0), in every step.

Exchanges may cycle where Q is nearly singular. There they go on for the proximal problems
min_{alpha >= 0} alpha' Q alpha / 2 - 1' alpha + rho ||alpha - anchor||^2 / 2, which are well
conditioned; the solution of one is the anchor of the next, for a smaller rho. On inseparable data,
where the dual is unbounded, alpha then grows tenfold each time and its upper bound tends to 0.

References: L. Portugal, J. Judice, L. Vicente, Math. Comp. 1994 (block pivoting, exact solves);
R. Rockafellar, SIAM J. Control Optim. 1976 (proximal points). The inexact form and its combination
are this project's.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kernelgap.predictors.certificate import Certificate, certify
from kernelgap.predictors.conjugate import nystroem, solve, woodbury
from kernelgap.predictors.operators import Operator

_PATIENCE = 6  # exchanges that may fail to lower the count of violations
_GIVE_UP = 40  # steps without a smaller gap or bound
_PRODUCTS = 200  # of one inner solve
_NEAR = 0.1  # gap below which residuals are computed accurately


class Exchange(NamedTuple):
    """The best feasible point found, its certificate and what it took."""

    alpha: Float[Array, " n"]
    certificate: Certificate
    iterations: Int[Array, ""]
    products: Int[Array, ""]


class _State(NamedTuple):
    free: Bool[Array, " n"]  # where alpha may be positive
    z: Float[Array, " n"]  # feasible, 0 off the free set
    outputs: Float[Array, " n"]  # Q z
    anchor: Float[Array, " n"]  # of the proximal problem
    rho: Float[Array, ""]  # its strength, 0 as long as exchanges do without
    best: Float[Array, " n"]
    certificate: Certificate  # of the best
    violations: Int[Array, ""]
    fewest: Int[Array, ""]  # fewest violations seen in this problem
    stalled: Int[Array, ""]  # steps since
    idle: Int[Array, ""]  # steps since the gap or the upper bound improved
    iteration: Int[Array, ""]
    products: Int[Array, ""]


@partial(jax.jit, static_argnames=("d", "max_iterations"))
def exchange(
    operator: Operator, y: Float[Array, " n"], tol: Float[Array, ""], d: int, max_iterations: int
) -> Exchange:
    """Minimise until the relative duality gap is at most `tol`, or progress ends.

    Below ten times `tol`, which callers are content with, it ends sooner.
    """
    n, eps = operator.size, float(jnp.finfo(operator.dtype).eps)
    approximation = nystroem(operator, d)
    factor = y[:, None] * approximation.factor
    strong = 1e-3 * approximation.scale
    slack = jnp.maximum(tol / 8, 4 * eps)

    def signed(v: jax.Array) -> jax.Array:
        return y * operator.product(y * v)

    def accurate(v: jax.Array) -> jax.Array:
        return y * operator.accurate(y * v, approximation.mean)

    def step(s: _State) -> _State:
        free = s.free.astype(operator.dtype)
        inverse = woodbury(free[:, None] * factor, jnp.full(n, approximation.rest + s.rho))
        change = solve(
            lambda v: free * (signed(v) + s.rho * v),
            lambda v: free * inverse(v),
            free * (1 - s.outputs - s.rho * (s.z - s.anchor)),
            tol=0.01,
            max_products=_PRODUCTS,
        )
        sound = change.residual < 0.5  # False for NaN
        z = s.z + jnp.where(sound, change.value, 0)
        near = s.certificate.gap < _NEAR
        outputs = jax.lax.cond(near, accurate, signed, z)
        slope = outputs + s.rho * (z - s.anchor)
        violated = jnp.where(s.free, ~(z >= 0), ~(slope >= 1 - slack))  # NaN violates
        count = jnp.sum(violated)
        fewer = count < s.fewest
        # What leaves the free set is set to 0, so that the next start is feasible.
        feasible = jnp.maximum(z, 0)
        leaving = jnp.any(feasible != z)
        outputs = jax.lax.cond(leaving, lambda: outputs + signed(feasible - z), lambda: outputs)
        found = certify(feasible, outputs)
        before = s.certificate
        better = (found.gap < before.gap) | (
            (found.gap == before.gap) & (found.upper < before.upper)
        )
        progress = better & ((found.gap < 0.7 * before.gap) | (found.upper < 0.7 * before.upper))
        # The next proximal problem: a weaker one after a solution, a stronger one after a failure.
        stalled = jnp.where(fewer, 0, s.stalled + 1)
        failed = (stalled >= _PATIENCE) | ~sound
        solved = (count == 0) & (s.rho > 0) & ~failed
        moved = solved | failed
        least, most = 4 * eps * approximation.scale, jnp.maximum(approximation.rest, strong)
        rho = jnp.where(failed, jnp.maximum(10 * s.rho, most), s.rho)
        rho = jnp.where(solved, jnp.maximum(s.rho / 10, least), rho)
        best = jnp.where(better, feasible, s.best)
        free = s.free ^ violated

        def restart() -> tuple:
            # From the best point, with the scale that is best for it.
            values = accurate(best)
            square = best @ values
            scale = jnp.where(square > 0, jnp.sum(best) / jnp.where(square > 0, square, 1), 1)
            return (best > 0) | (scale * values < 1), scale * best, scale * values

        free, z, outputs = jax.lax.cond(failed, restart, lambda: (free, feasible, outputs))
        return _State(
            free=free,
            z=z,
            outputs=outputs,
            anchor=jnp.where(moved, z, s.anchor),
            rho=rho,
            best=best,
            certificate=jax.tree.map(partial(jnp.where, better), found, before),
            violations=count,
            fewest=jnp.where(moved, n + 1, jnp.where(fewer, count, s.fewest)),
            stalled=jnp.where(moved, 0, stalled),
            idle=jnp.where(progress, 0, s.idle + 1),
            iteration=s.iteration + 1,
            products=s.products + change.products + jnp.where(leaving, 2, 1),
        )

    def running(s: _State) -> jax.Array:
        hopeless = ~(jnp.square(s.certificate.upper) > eps * approximation.scale)
        wanted = (s.certificate.gap > tol) & ~hopeless
        # On the right free set, a step that does not help has met rounding.
        patience = jnp.where(s.certificate.gap <= 10 * tol, _PATIENCE, _GIVE_UP)
        patience = jnp.where((s.violations == 0) & (s.rho == 0), 2, patience)
        return wanted & (s.idle < patience) & (s.iteration < max_iterations)

    zeros, one = jnp.zeros(n, operator.dtype), jnp.ones((), operator.dtype)
    nothing = Certificate(0 * one, jnp.inf * one, one, one)
    start = _State(
        free=jnp.ones(n, bool),
        z=zeros,
        outputs=zeros,
        anchor=zeros,
        rho=0 * one,
        best=zeros,
        certificate=nothing,
        violations=jnp.asarray(n),
        fewest=jnp.asarray(n + 1),
        stalled=jnp.asarray(0),
        idle=jnp.asarray(0),
        iteration=jnp.asarray(0),
        products=jnp.asarray(0),
    )
    s = jax.lax.while_loop(running, step, start)
    return Exchange(s.best, s.certificate, s.iteration, s.products)
