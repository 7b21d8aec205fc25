r"""Newton's method for l2-regularised kernel logistic regression, with its certificate.

Minimise sum_i log(1 + exp(-y_i f(x_i))) + b ||f||^2 / 2 over f in the kernel's Hilbert space. The
solution is f = sum_i coef_i K(x_i, .) with b coef_i = y_i p_i, p_i = sigmoid(-y_i f(x_i)).

With u^2 = p (1 - p), coefficients change by u s, where

    (b I + u K u) s = (y p - b coef) / u.

For any f = sum_i coef_i K(x_i, .) with q_i = b y_i coef_i in [0, 1], the dual point q proves that f
is within sum_i KL(q_i || p_i) of the optimum (Fenchel duality; the terms are the slacks of the
samples' Fenchel-Young inequalities). An iterate is certified at the nearest such f.

Reference: C. Rasmussen, C. Williams, Gaussian Processes for Machine Learning, 2006, alg. 3.1 (the
system); the certificate is derived by this project.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from kernelgap.predictors.linear import Nystroem, nystroem, solve, woodbury
from kernelgap.predictors.operators import GramMatrix, Operator, operator_jit

_MAX_HALVINGS = 30  # line-search halvings per Newton step
_PATIENCE = 6  # largest number of steps in a row that lower neither the gap nor the objective


class Fit(NamedTuple):
    """Coefficients and their certificate, as in `KernelPredictor`."""

    coef: Float[Array, " n"]
    margin: Float[Array, ""]
    gap: Float[Array, ""]
    residual: Float[Array, ""]
    iterations: Int[Array, ""]


class _State(NamedTuple):
    coef: Float[Array, " n"]
    outputs: Float[Array, " n"]  # f = K coef
    best: Float[Array, " n"]  # the feasible coefficients of least gap
    best_outputs: Float[Array, " n"]
    gap: Float[Array, ""]  # of the best
    stalled: Int[Array, ""]  # steps since the gap or the objective fell
    iteration: Int[Array, ""]


@partial(operator_jit, static_argnames=("d", "max_iterations", "direct"))
def newton(
    operator: Operator,
    y: Float[Array, " n"],
    b: Float[Array, ""],
    start: Float[Array, " n"],
    tol: Float[Array, ""],
    d: int,
    max_iterations: int,
    direct: bool,
) -> Fit:
    """Minimise from `start` until the relative duality gap is at most `tol`, or progress ends."""
    approximation = None if direct else nystroem(operator, d)
    mean = jnp.mean(operator.columns(jnp.zeros(1, int))) if approximation is None else (
        approximation.mean
    )  # fmt: skip

    def objective(coef: jax.Array, outputs: jax.Array) -> jax.Array:
        # Divided by w. Both terms are small when l2 is, so that their sum keeps its digits.
        return jnp.sum(jax.nn.softplus(-y * outputs)) + 0.5 * b * jnp.sum(coef * outputs)

    def step(s: _State) -> _State:
        p = jax.nn.sigmoid(-y * s.outputs)
        u = jnp.sqrt(p * jax.nn.sigmoid(y * s.outputs))
        u = jnp.maximum(u, float(jnp.finfo(u.dtype).tiny) ** 0.5)
        change = u * _solve(operator, approximation, u, b, (y * p - b * s.coef) / u)
        slope = operator.product(change)

        def too_long(state: tuple) -> jax.Array:
            length, halvings = state
            value = objective(s.coef + length * change, s.outputs + length * slope)
            return ~(value <= before) & (halvings < _MAX_HALVINGS)

        # Rounding may hide the decrease of the last steps.
        before = objective(s.coef, s.outputs) * (1 + 4 * float(jnp.finfo(b.dtype).eps))
        length, _ = jax.lax.while_loop(
            too_long, lambda state: (state[0] / 2, state[1] + 1), (jnp.ones_like(b), jnp.asarray(0))
        )
        coef = s.coef + length * change
        feasible = _feasible(coef, y, b)
        values = operator.accurate(feasible, mean)
        gap = relative_gap(feasible, values, y, b)
        better = gap < s.gap
        progress = better | (objective(coef, s.outputs + length * slope) < 0.999 * before)
        return _State(
            coef=coef,
            outputs=values + operator.product(coef - feasible),
            best=jnp.where(better, feasible, s.best),
            best_outputs=jnp.where(better, values, s.best_outputs),
            gap=jnp.where(better, gap, s.gap),
            stalled=jnp.where(progress, 0, s.stalled + 1),
            iteration=s.iteration + 1,
        )

    def running(s: _State) -> jax.Array:
        finite = jnp.all(jnp.isfinite(s.outputs))
        return (s.gap > tol) & finite & (s.stalled < _PATIENCE) & (s.iteration < max_iterations)

    outputs = operator.accurate(start, mean)
    unit, zero = jnp.ones_like(b), jnp.asarray(0)
    begin = _State(start, outputs, start, outputs, unit, zero, zero)
    s = jax.lax.while_loop(running, step, begin)
    p = jax.nn.sigmoid(-y * s.best_outputs)
    largest, energy = jnp.max(p), jnp.sum(s.best * s.best_outputs)
    residual = jnp.max(jnp.abs(b * y * s.best - p)) / jnp.where(largest > 0, largest, 1)
    norm = jnp.sqrt(jnp.where(energy > 0, energy, 1))
    margin = jnp.where(energy > 0, jnp.min(y * s.best_outputs) / norm, 0)
    return Fit(s.best, margin, s.gap, residual, s.iteration)


def _feasible(coef: jax.Array, y: jax.Array, b: jax.Array) -> jax.Array:
    """Return the nearest coefficients with q = b y coef in [0, 1]."""
    q = b * y * coef
    return jnp.where(q < 0, 0, jnp.where(q > 1, y / b, coef))


def _solve(
    operator: Operator,
    approximation: Nystroem | None,
    u: jax.Array,
    b: jax.Array,
    right: jax.Array,
) -> jax.Array:
    """Solve (b I + u K u) s = right."""
    if approximation is None:
        assert isinstance(operator, GramMatrix)
        system = u[:, None] * operator.gram * u[None, :]
        trace, eps = jnp.trace(system), float(jnp.finfo(u.dtype).eps)
        eye = jnp.eye(len(u), dtype=u.dtype)
        # A ridge at rounding level keeps the factorisation from failing; it costs steps, not
        # accuracy.
        factor = jnp.linalg.cholesky(system + (b + 4 * eps * trace / len(u)) * eye)
        factor = jax.lax.cond(
            jnp.all(jnp.isfinite(factor)),
            lambda: factor,
            lambda: jnp.linalg.cholesky(system + (b + 4 * eps * trace) * eye),
        )
        return jax.scipy.linalg.cho_solve((factor, True), right)
    inverse = woodbury(
        u[:, None] * approximation.factor, b + approximation.remainder * jnp.square(u)
    )
    return solve(
        lambda v: b * v + u * operator.product(u * v), inverse, right, tol=0.01, max_products=200
    ).value


def relative_gap(coef: jax.Array, outputs: jax.Array, y: jax.Array, b: jax.Array) -> jax.Array:
    """Return sum_i KL(q_i || p_i) / P, at most 1; 1 if q = b y coef is not within [0, 1]."""
    q, margins = b * y * coef, y * outputs
    inside = jnp.all((q >= 0) & (q <= 1 + 4 * float(jnp.finfo(q.dtype).eps)))
    q = jnp.clip(q, 0, 1)
    primal = jnp.sum(jax.nn.softplus(-margins)) + 0.5 * b * jnp.sum(coef * outputs)
    divergence = jnp.sum(_bregman(q, -margins) + _bregman(1 - q, margins))
    # NaN proves nothing.
    return jnp.where(inside & (divergence < primal), divergence / primal, 1)


def _bregman(q: jax.Array, logit: jax.Array) -> jax.Array:
    """Return q log(q / p) - q + p >= 0, for q >= 0 and p = sigmoid(logit)."""
    p = jax.nn.sigmoid(logit)
    safe = jnp.maximum(p, float(jnp.finfo(p.dtype).tiny))
    change = (q - safe) / safe
    # Use the series for q near p, where the other form is all rounding.
    close = jnp.square(change) * safe * (0.5 - change / 6 + jnp.square(change) / 12)
    # The logarithm of p itself: p underflows long before its logarithm is small.
    log_ratio = jnp.log(jnp.where(q > 0, q, 1)) + jax.nn.softplus(-logit)
    apart = jnp.where(q > 0, q * log_ratio, 0) - q + p
    return jnp.where(jnp.abs(change) < 0.01, close, jnp.maximum(apart, 0))
