r"""The dual of the hard-margin SVM by products alone: exchanges with inexact solves.

min_{alpha >= 0} alpha' Q alpha / 2 - 1' alpha, Q = (y y') o K. Each step

1. improves the solution on the set of free variables by conjugate gradients, by a factor of a
   hundred (`_improve`);
2. looks for indices that violate an optimality condition, which change sides (`violations`);
3. certifies the feasible point max(z, 0) and keeps the best (`_keep_best`);
4. chooses another proximal problem when this one is solved or stalls (`_next_problem`).

Exchanges may cycle where Q is nearly singular. There they go on for the proximal problems
min_{alpha >= 0} alpha' Q alpha / 2 - 1' alpha + rho ||alpha - anchor||^2 / 2, which are well
conditioned; the solution of one is the anchor of the next, for a smaller rho. On inseparable data,
where the dual is unbounded, alpha then grows tenfold each time and its upper bound tends to 0.

References: L. Portugal, J. Judice, L. Vicente, Math. Comp. 1994 (block pivoting, exact solves);
R. Rockafellar, SIAM J. Control Optim. 1976 (proximal points). The inexact form and its combination
are this project's own.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kernelgap.predictors.dual import Certificate, certify, violations
from kernelgap.predictors.linear import Nystroem, Solution, nystroem, solve, woodbury
from kernelgap.predictors.operators import Operator, operator_jit

_PATIENCE = 6  # exchanges that may fail to lower the number of violations
_GIVE_UP = 40  # steps without a smaller gap or bound
_PRODUCTS = 200  # products of one inner solve
_NEAR = 0.1  # gap below which residuals are computed accurately


class Exchange(NamedTuple):
    """The best feasible point, its certificate and the work that it took."""

    alpha: Float[Array, " n"]
    certificate: Certificate
    iterations: Int[Array, ""]
    products: Int[Array, ""]


class _Problem(NamedTuple):
    """The quadratic form Q, and its approximation."""

    operator: Operator
    y: Float[Array, " n"]
    approximation: Nystroem

    @property
    def eps(self) -> float:
        return float(jnp.finfo(self.operator.dtype).eps)

    def signed(self, v: jax.Array) -> jax.Array:
        """Return Q v."""
        return self.y * self.operator.product(self.y * v)

    def accurate(self, v: jax.Array) -> jax.Array:
        """Return Q v by compensated sums."""
        return self.y * self.operator.accurate(self.y * v, self.approximation.mean)


class _State(NamedTuple):
    free: Bool[Array, " n"]  # where alpha may be positive
    z: Float[Array, " n"]  # feasible, 0 off the free set
    outputs: Float[Array, " n"]  # Q z
    anchor: Float[Array, " n"]  # of the proximal problem
    rho: Float[Array, ""]  # strength of the proximal term; 0 until exchanges stall
    best: Float[Array, " n"]
    certificate: Certificate  # of the best
    violations: Int[Array, ""]
    fewest: Int[Array, ""]  # fewest violations seen in this problem
    stalled: Int[Array, ""]  # steps since
    idle: Int[Array, ""]  # steps since the gap or the upper bound improved
    iteration: Int[Array, ""]
    products: Int[Array, ""]


@partial(operator_jit, static_argnames=("d", "max_iterations"))
def exchange(
    operator: Operator, y: Float[Array, " n"], tol: Float[Array, ""], d: int, max_iterations: int
) -> Exchange:
    """Minimise until the relative duality gap is at most `tol`, or progress ends.

    Callers accept ten times `tol`, so that below this the iteration ends sooner.
    """
    problem = _Problem(operator, y, nystroem(operator, d))
    slack = jnp.maximum(tol / 8, 4 * problem.eps)

    def step(s: _State) -> _State:
        change = _improve(problem, s)
        sound = change.residual < 0.5  # False for NaN
        z = s.z + jnp.where(sound, change.value, 0)
        near = s.certificate.gap < _NEAR
        outputs = jax.lax.cond(near, problem.accurate, problem.signed, z)
        violated = violations(s.free, z, outputs + s.rho * (z - s.anchor), slack)
        # Variables that leave the free set become 0, so that the next start is feasible.
        feasible = jnp.maximum(z, 0)
        leaving = jnp.any(feasible != z)
        outputs = jax.lax.cond(
            leaving, lambda: outputs + problem.signed(feasible - z), lambda: outputs
        )
        products = s.products + change.products + jnp.where(leaving, 2, 1)
        s = _keep_best(s, feasible, outputs)._replace(
            free=s.free ^ violated, z=feasible, outputs=outputs, products=products
        )
        return _next_problem(problem, s, jnp.sum(violated), sound)

    def running(s: _State) -> jax.Array:
        square = jnp.square(s.certificate.upper)
        hopeless = ~(square > problem.eps * problem.approximation.scale)
        wanted = (s.certificate.gap > tol) & ~hopeless
        # On the right free set, a step without progress is at the level of rounding.
        patience = jnp.where(s.certificate.gap <= 10 * tol, _PATIENCE, _GIVE_UP)
        patience = jnp.where((s.violations == 0) & (s.rho == 0), 2, patience)
        return wanted & (s.idle < patience) & (s.iteration < max_iterations)

    s = jax.lax.while_loop(running, step, _start(operator))
    return Exchange(s.best, s.certificate, s.iteration, s.products)


def _start(operator: Operator) -> _State:
    n, none = operator.size, jnp.asarray(0)
    zeros, unit = jnp.zeros(n, operator.dtype), jnp.ones((), operator.dtype)
    return _State(
        free=jnp.ones(n, bool),
        z=zeros,
        outputs=zeros,
        anchor=zeros,
        rho=0 * unit,
        best=zeros,
        certificate=Certificate(0 * unit, jnp.inf * unit, unit, unit),
        violations=jnp.asarray(n),
        fewest=jnp.asarray(n + 1),
        stalled=none,
        idle=none,
        iteration=none,
        products=none,
    )


def _improve(problem: _Problem, s: _State) -> Solution:
    """Return a change of z that lowers the residual on the free set by a factor of a hundred."""
    free = s.free.astype(s.z.dtype)
    factor = free[:, None] * (problem.y[:, None] * problem.approximation.factor)
    inverse = woodbury(factor, jnp.full(len(free), problem.approximation.remainder + s.rho))
    return solve(
        lambda v: free * (problem.signed(v) + s.rho * v),
        lambda v: free * inverse(v),
        free * (1 - s.outputs - s.rho * (s.z - s.anchor)),
        tol=0.01,
        max_products=_PRODUCTS,
    )


def _keep_best(s: _State, feasible: jax.Array, outputs: jax.Array) -> _State:
    """Keep the better of two certificates, and count the steps without progress."""
    after, before = certify(feasible, outputs), s.certificate
    better = (after.gap < before.gap) | ((after.gap == before.gap) & (after.upper < before.upper))
    progress = better & ((after.gap < 0.7 * before.gap) | (after.upper < 0.7 * before.upper))
    return s._replace(
        best=jnp.where(better, feasible, s.best),
        certificate=jax.tree.map(partial(jnp.where, better), after, before),
        idle=jnp.where(progress, 0, s.idle + 1),
        iteration=s.iteration + 1,
    )


def _next_problem(problem: _Problem, s: _State, count: jax.Array, sound: jax.Array) -> _State:
    """Choose the next proximal problem: a weaker one after a solution, a stronger after a failure.

    After a failure the iteration restarts from the best point; otherwise the problem is kept.
    """
    scale, remainder = problem.approximation.scale, problem.approximation.remainder
    fewer = count < s.fewest
    stalled = jnp.where(fewer, 0, s.stalled + 1)
    failed = (stalled >= _PATIENCE) | ~sound
    solved = (count == 0) & (s.rho > 0) & ~failed
    moved = solved | failed
    least, most = 4 * problem.eps * scale, jnp.maximum(remainder, 1e-3 * scale)
    rho = jnp.where(failed, jnp.maximum(10 * s.rho, most), s.rho)
    rho = jnp.where(solved, jnp.maximum(s.rho / 10, least), rho)

    def restart() -> tuple:
        # Restart from the best point at its optimal scale.
        values = problem.accurate(s.best)
        square = s.best @ values
        unit = jnp.where(square > 0, jnp.sum(s.best) / jnp.where(square > 0, square, 1), 1)
        return (s.best > 0) | (unit * values < 1), unit * s.best, unit * values

    free, z, outputs = jax.lax.cond(failed, restart, lambda: (s.free, s.z, s.outputs))
    return s._replace(
        free=free,
        z=z,
        outputs=outputs,
        anchor=jnp.where(moved, z, s.anchor),
        rho=rho,
        violations=count,
        fewest=jnp.where(moved, len(s.z) + 1, jnp.where(fewer, count, s.fewest)),
        stalled=jnp.where(moved, 0, stalled),
    )
