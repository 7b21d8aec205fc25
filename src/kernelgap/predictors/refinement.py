"""Solutions of (K + l2 I) coef = y that are refined by accurate residuals, with derivatives."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from kernelgap.predictors.linear import Linear, factorised, nystroem, solve, woodbury
from kernelgap.predictors.operators import GramMatrix, Operator
from kernelgap.predictors.scaling import middle, power_of_two

_PRODUCTS = 1000  # products of a correction


class System(NamedTuple):
    """K + l2 I, scaled by powers of two on both sides, and an approximate inverse of that."""

    operator: Operator
    l2: Float[Array, ""]
    unit: Float[Array, "n 1"]
    inverse: Linear
    shift: Float[Array, ""]  # near the mean of K
    sound: Bool[Array, ""]  # False if a matrix turned out to be singular to rounding


class Refined(NamedTuple):
    """A solution, y - (K + l2 I) coef by compensated sums, and the number of corrections."""

    coef: Float[Array, "n k"]
    error: Float[Array, "n k"]
    iterations: Int[Array, ""]


class Effort(NamedTuple):
    """Static options: how to prepare a system and to refine a solution.

    Attributes:
        d: Number of dimensions for which products alone are used; None to factorise.
        thorough: True to be right for matrices that are singular or indefinite to rounding.
        max_iterations: The largest number of corrections.
    """

    d: int | None
    thorough: bool
    max_iterations: int


def prepared(operator: Operator, l2: jax.Array, effort: Effort) -> System:
    """Factorise the system, or approximate it. It is not differentiated."""
    operator, l2 = jax.lax.stop_gradient((operator, l2))
    # With a ridge, large rows must not hide small ones. Without one all rows are interpolated, and
    # the large coefficients of small rows would hide the others.
    sizes = jnp.sqrt(operator.diagonal() + l2)
    extreme = power_of_two(sizes / middle(sizes), ordinary=32.0)
    unit = jnp.where(l2 > 0, 1 / extreme, 1)[:, None]
    if effort.d is None:
        assert isinstance(operator, GramMatrix)
        scaled = unit * operator.gram * unit.T
        inverse, sound = factorised(scaled, l2 * unit**2, thorough=effort.thorough)
        return System(operator, l2, unit, inverse, jnp.mean(operator.diagonal()), sound)
    approximation = nystroem(operator, effort.d)
    diagonal = (approximation.remainder + l2) * unit[:, 0] ** 2
    inverse = woodbury(unit * approximation.factor, diagonal)
    return System(operator, l2, unit, inverse, approximation.mean, jnp.asarray(True))


@partial(jax.custom_jvp, nondiff_argnums=(5,))
def refined(
    system: System,
    operator: Operator,
    l2: Float[Array, ""],
    y: Float[Array, "n k"],
    tol: Float[Array, ""],
    effort: Effort,
) -> Refined:
    """Solve (K + l2 I) coef = y; derivatives follow from this equation."""
    del operator, l2
    system, b = jax.lax.stop_gradient((system, system.unit * y))
    unit = system.unit

    def product(v: jax.Array) -> jax.Array:
        return unit * (system.operator.product(unit * v) + system.l2 * (unit * v))

    def correction(left: jax.Array, error: jax.Array) -> jax.Array:
        if effort.d is None and not effort.thorough:
            return system.inverse(left)
        goal = jnp.maximum(1e-3, 0.3 * tol / jnp.where(jnp.max(error) > 0, jnp.max(error), 1))
        return solve(product, system.inverse, left, tol=goal, max_products=_PRODUCTS).value

    def remainder(coef: jax.Array) -> jax.Array:
        coef = unit * coef
        return b - unit * (system.operator.accurate(coef, system.shift) + system.l2 * coef)

    # Next to a factorisation corrections are cheap, so that they go on to rounding.
    goal = tol if effort.d is not None else 4 * float(jnp.finfo(b.dtype).eps)
    coef, left, error, iterations = _refine(remainder, correction, b, goal, effort.max_iterations)
    if not effort.thorough:
        return Refined(unit * coef, left / unit, iterations)

    def general() -> tuple:
        assert isinstance(system.operator, GramMatrix)
        # Rounding may have made K indefinite: use LAPACK's solver for general matrices.
        matrix = unit * system.operator.gram * unit.T + jnp.diag(system.l2 * unit[:, 0] ** 2)
        factors = jax.scipy.linalg.lu_factor(matrix)

        def correction(left: jax.Array, _: jax.Array) -> jax.Array:
            return jax.scipy.linalg.lu_solve(factors, left)

        *solved, size, more = _refine(remainder, correction, b, tol, effort.max_iterations)
        better = size < 0.5 * error
        both = zip(solved, (coef, left), strict=True)
        return *(jnp.where(better, new, old) for new, old in both), iterations + more

    coef, left, iterations = jax.lax.cond(
        jnp.any(error > tol), general, lambda: (coef, left, iterations)
    )
    return Refined(unit * coef, left / unit, iterations)


@refined.defjvp
def _refined_jvp(effort: Effort, primals: tuple, tangents: tuple) -> tuple[Refined, Refined]:
    """(K + l2 I) d coef = d y - (d K + d l2 I) coef. The error is left as it is."""
    system, operator, l2, _, tol = primals
    solution = refined(*primals, effort)

    def product(operator: Operator, l2: jax.Array, v: jax.Array) -> jax.Array:
        return operator.product(v) + l2 * v

    def change_of(operator: Operator, l2: jax.Array) -> jax.Array:
        return product(operator, l2, solution.coef)

    _, moved = jax.jvp(change_of, (operator, l2), tangents[1:3])
    change = jax.lax.custom_linear_solve(
        partial(product, operator, l2),
        tangents[3] - moved,
        lambda _, b: refined(system, operator, l2, b, tol, effort).coef,
        symmetric=True,
    )
    steady: Any = np.zeros(np.shape(solution.iterations), jax.dtypes.float0)
    return solution, Refined(change, jnp.zeros_like(change), steady)


@jax.custom_jvp
def as_product(operator: Operator, coef: jax.Array, values: jax.Array) -> jax.Array:
    """Return `values`, which are K coef, with the derivative of this product."""
    del operator, coef
    return values


@as_product.defjvp
def _as_product_jvp(primals: tuple, tangents: tuple) -> tuple[jax.Array, jax.Array]:
    operator, coef, values = primals
    _, change = jax.jvp(lambda operator, coef: operator.product(coef), (operator, coef),
                        tangents[:2])  # fmt: skip
    return values, change


def relative(error: jax.Array, y: jax.Array) -> jax.Array:
    """Return the size of each column of the error, relative to that of y."""
    sizes = jnp.linalg.norm(y, axis=0)
    return jnp.linalg.norm(error, axis=0) / jnp.where(sizes > 0, sizes, 1)


def _refine(
    remainder: Linear,
    correction: Callable[[jax.Array, jax.Array], jax.Array],
    b: jax.Array,
    tol: float | jax.Array,
    max_iterations: int,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """Correct by accurate residuals to `tol` or rounding.

    Return the solution, its residual and the size of that, and the number of corrections.
    """

    def step(state: tuple) -> tuple:
        coef, left, error, _, iteration = state
        after = coef + correction(left, error)
        still = remainder(after)
        size = relative(still, b)
        better = size < error
        progress = jnp.any(size < 0.5 * error)
        coef, left = (jnp.where(better, new, old) for new, old in ((after, coef), (still, left)))
        return coef, left, jnp.where(better, size, error), progress, iteration + 1

    def running(state: tuple) -> jax.Array:
        _, _, error, progress, iteration = state
        return jnp.any(error > tol) & progress & (iteration < max_iterations)

    error = jnp.where(jnp.any(b != 0, axis=0), 1, 0).astype(b.dtype)
    start = jnp.zeros_like(b), b, error, jnp.asarray(True), jnp.asarray(0)
    coef, left, error, _, iterations = jax.lax.while_loop(running, step, start)
    return coef, left, error, iterations
