r"""The dual of the hard-margin SVM for large n: block exchanges with inexact solves.

min_{alpha >= 0} alpha' Q alpha / 2 - 1' alpha, Q = (y y') o K. Each step improves the solution on
the set of free variables by preconditioned conjugate gradients, by a factor of a hundred, and moves
every index that violates an optimality condition to the other side. The certificate is that of
the feasible point max(z, 0), in every step. Where exchanges no longer help, one index moves at a
time, the largest that violates a condition (Murty's rule).

Reference: L. Portugal, J. Judice, L. Vicente, Math. Comp. 1994 (block pivoting, exact solves); the
inexact form is this project's.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kernelgap.predictors.certificate import Certificate, certify
from kernelgap.predictors.conjugate import nystroem, solve, woodbury
from kernelgap.predictors.operators import Operator

_PATIENCE = 6  # steps without progress before single exchanges, and before they are given up
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
    best: Float[Array, " n"]
    certificate: Certificate  # of the best
    violations: Int[Array, ""]
    fewest: Int[Array, ""]  # fewest violations seen
    stalled: Int[Array, ""]  # steps since violations or gap improved
    iteration: Int[Array, ""]
    products: Int[Array, ""]


@partial(jax.jit, static_argnames=("d", "max_iterations"))
def exchange(
    operator: Operator, y: Float[Array, " n"], tol: Float[Array, ""], d: int, max_iterations: int
) -> Exchange:
    """Minimise until the relative duality gap is at most `tol`, or progress ends."""
    n, eps = operator.size, jnp.finfo(operator.dtype).eps
    approximation = nystroem(operator, d)
    factor = y[:, None] * approximation.factor
    slack = jnp.maximum(tol / 8, 4 * eps)

    def signed(v: jax.Array) -> jax.Array:
        return y * operator.product(y * v)

    def accurate(v: jax.Array) -> jax.Array:
        return y * operator.accurate(y * v, approximation.mean)

    def step(s: _State) -> _State:
        free = s.free.astype(operator.dtype)
        inverse = woodbury(free[:, None] * factor, jnp.full(n, approximation.rest))
        change = solve(
            lambda v: free * signed(v),
            lambda v: free * inverse(v),
            free * (1 - s.outputs),
            tol=0.01,
            max_products=_PRODUCTS,
        )
        z = s.z + change.value
        near = s.certificate.gap < _NEAR
        outputs = jax.lax.cond(near, accurate, signed, z)
        violated = jnp.where(s.free, ~(z >= 0), ~(outputs >= 1 - slack))  # NaN violates
        count = jnp.sum(violated)
        fewer = count < s.fewest
        single = jnp.arange(n) == jnp.max(jnp.where(violated, jnp.arange(n), -1))
        moved = jnp.where(s.stalled >= _PATIENCE, violated & single, violated)
        # What leaves the free set is set to 0, so that the next start is feasible.
        feasible = jnp.maximum(z, 0)
        outputs = outputs + signed(feasible - z)
        found = certify(feasible, outputs)
        before = s.certificate
        better = (found.gap < before.gap) | (
            (found.gap == before.gap) & (found.upper < before.upper)
        )
        progress = fewer | (found.gap < 0.7 * before.gap)
        return _State(
            free=s.free ^ moved,
            z=feasible,
            outputs=outputs,
            best=jnp.where(better, feasible, s.best),
            certificate=jax.tree.map(partial(jnp.where, better), found, before),
            violations=count,
            fewest=jnp.where(fewer, count, s.fewest),
            stalled=jnp.where(progress, 0, s.stalled + 1),
            iteration=s.iteration + 1,
            products=s.products + change.products + 2,
        )

    def running(s: _State) -> jax.Array:
        hopeless = ~(jnp.square(s.certificate.upper) > eps * approximation.scale)
        finite = jnp.all(jnp.isfinite(s.outputs))
        wanted = (s.certificate.gap > tol) & finite & ~hopeless
        # On the right free set, a step that does not help has met rounding.
        patience = jnp.where(s.violations == 0, 2, 2 * _PATIENCE)
        return wanted & (s.stalled < patience) & (s.iteration < max_iterations)

    zeros, one = jnp.zeros(n, operator.dtype), jnp.ones((), operator.dtype)
    nothing = Certificate(0 * one, jnp.inf * one, one, one)
    start = _State(
        free=jnp.ones(n, bool),
        z=zeros,
        outputs=zeros,
        best=zeros,
        certificate=nothing,
        violations=jnp.asarray(n),
        fewest=jnp.asarray(n + 1),
        stalled=jnp.asarray(0),
        iteration=jnp.asarray(0),
        products=jnp.asarray(0),
    )
    s = jax.lax.while_loop(running, step, start)
    return Exchange(s.best, s.certificate, s.iteration, s.products)
