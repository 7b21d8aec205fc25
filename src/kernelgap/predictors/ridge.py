"""Kernel ridge regression and minimum-norm interpolation."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.blas import limit_blas_threads
from kernelgap.kernels.functions import KernelFunction, checked_kernel
from kernelgap.kernels.tiled import sharding
from kernelgap.predictors.interface import (
    Direct,
    KernelPredictor,
    Solver,
    checked_solver,
    mesh_of,
    most_iterations,
    not_a_number,
    one_versus_rest,
    outcome,
    task,
)
from kernelgap.predictors.linear import Linear, factorised, nystroem, solve, woodbury
from kernelgap.predictors.operators import (
    GramMatrix,
    Operator,
    normalised,
    power_of_two,
    prepare,
    unscaled,
)
from kernelgap.typing import ArrayLike

_REFINEMENTS = 12  # each lowers the residual by a factor of a thousand, or to rounding
_PRODUCTS = 1000  # products of one of them


def kernel_ridge(
    kernel: KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    *,
    l2: float | jax.Array = 0.0,
    reduction: Literal["mean", "sum"] = "sum",
    classes: int | None = None,
    tol: float = 1e-5,
    solver: Solver = "auto",
) -> KernelPredictor:
    r"""Return the kernel ridge regression, or the interpolant of least norm.

    Minimises reduce_i (f(x_i) - y_i)^2 + l2 ||f||^2 over f in the kernel's Hilbert space.
    The solution is f = sum_i coef_i K(., x_i) with (K + l2 I) coef = y. With `l2=0` it is the
    interpolant of least norm; where the Gram matrix is singular, the least-squares solution of
    least norm. For the sum over i, `l2` is scikit-learn's `alpha`; for the mean, `l2` is
    alpha / n and the equations have n l2 in place of l2.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`.
        x: Inputs of shape (n, d).
        y: Targets of shape (n,), or (n, k) for k outputs at once; or, with `classes`, integers
            0..classes-1, all present, fitted by their indicators minus 1 / classes.
        l2: Strength of the ridge, >= 0; may be traced.
        reduction: `"sum"` or `"mean"` over the samples. The same f needs l2_sum = n * l2_mean.
        classes: Number of classes, at least 2, or None for real targets.
        tol: Relative residual to reach, positive; a direct solution is refined to rounding.
        solver: `Direct()` factorises K + l2 I and refines (by eigenvectors where it is singular to
            rounding, by LAPACK's general solver where rounding made it indefinite), `Iterative()`
            holds the Gram matrix and uses only products, `MatrixFree()` does not hold it; `"auto"`
            is direct if the Gram matrix fits into memory, else matrix-free. Their
            `max_iterations` counts refinements of a solution, and is 12 by default.

    Returns:
        A `KernelPredictor`; `kkt_residual` is ||(K + l2 I) coef - y|| / ||y|| of the worst output,
        `duality_gap` the relative gap for l2 > 0 (NaN for l2 = 0, where the dual proves nothing),
        `margin` min_i y_i f(x_i) / ||f|| if y of shape (n,) holds signs only, else NaN.
        `iterations` is the number of solutions that were added up. The residual is computed with
        compensated sums, from the coefficients as they are.

    Raises:
        MemoryError: If the Gram matrix does not fit and `solver` asks for it.

    Warns:
        RuntimeWarning: If the residual stays above `tol`, because rounding prevents a smaller one,
            or because equal inputs have different targets and `l2` is 0.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 50, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> interpolant = kg.predictors.kernel_ridge(kernel, x, y)
        >>> bool(jnp.allclose(interpolant.decision_function(x), y, atol=1e-3))
        True

    References:
        C. Saunders, A. Gammerman, V. Vovk, ICML 1998 (recalled). Preconditioner of the iterative
        methods: Z. Frangella, J. Tropp, M. Udell, SIAM J. Matrix Anal. Appl. 2023. The duality gap
        is derived.
    """
    kernel = checked_kernel(kernel)
    x = array_checks.solvable(x)
    if classes is None:
        y = array_checks.targets(y, x.shape[0], columns=True).astype(x.dtype)
    else:
        y = (one_versus_rest(y, x, classes) + 1) / 2 - 1 / classes
    l2 = checks.number(l2, "l2", minimum=0)
    checks.choice(reduction, "reduction", ("mean", "sum"))
    checks.number(tol, "tol", minimum=0, exclusive=True)
    solver = checked_solver(solver)
    x, y = sharding.placed(mesh_of(solver), x, y)
    operator = prepare(kernel, x, solver)
    l2 = jnp.asarray(l2, x.dtype) * (x.shape[0] if reduction == "mean" else 1)
    direct = isinstance(operator, GramMatrix) and (solver == "auto" or isinstance(solver, Direct))
    operator, root = normalised(operator)
    unit = power_of_two(jnp.max(jnp.abs(y), axis=0, keepdims=y.ndim == 2))
    goal, d = jnp.asarray(tol, x.dtype), None if direct else x.shape[1]
    problem = operator, y / unit, l2 / jnp.square(root), goal

    def run(thorough: bool) -> _Fit:
        most = most_iterations(solver, _REFINEMENTS)
        return limit_blas_threads(
            x.shape[0] if direct else 0, lambda: _fit(*problem, d, thorough, most)
        )

    traced = not array_checks.is_concrete(*jax.tree.leaves(problem))
    fit = run(thorough=direct and traced)
    # Seldom needed: outside of jit it is compiled only on use.
    if direct and not traced and not bool(fit.sound & (fit.residual <= tol)):
        fit = run(thorough=True)
    coef = unscaled(fit.coef, unit / jnp.square(root), x.dtype)
    if array_checks.is_concrete(fit.residual) and not bool(fit.residual <= tol):
        other = "or " if direct else "solver=Direct() or "
        warnings.warn(
            f"kernel_ridge stopped at a relative residual of {float(fit.residual):.1e}, above "
            f"tol={tol:.1e}, in {x.dtype}, because of rounding or of equal inputs with different "
            f"targets. Try a larger l2, centred inputs, {other}float64 (jax_enable_x64)",
            RuntimeWarning,
            stacklevel=2,
        )
    signs = y.ndim == 1 and jnp.all(jnp.abs(y) == 1)
    margin, gap = _where(signs, root * fit.margin), _where(l2 > 0, fit.gap)
    fields = margin, gap, *fit[3:5], outcome(fit.residual, tol), task(classes or 0)
    return KernelPredictor(kernel, x, coef, *fields)


def _where(meaningful: bool | jax.Array, value: jax.Array) -> jax.Array:
    nan = not_a_number(value.dtype)
    if array_checks.is_concrete(meaningful):
        return value if meaningful else nan
    return jnp.where(meaningful, value, nan)


class _Fit(NamedTuple):
    coef: Float[Array, "n *k"]
    margin: Float[Array, ""]  # meaningful where y holds signs
    gap: Float[Array, ""]  # meaningful where l2 > 0
    residual: Float[Array, ""]
    iterations: Int[Array, ""]
    sound: Bool[Array, ""]  # False if a matrix turned out to be singular to rounding


@partial(jax.jit, static_argnames=("d", "thorough", "max_iterations"))
def _fit(
    operator: Operator,
    y: jax.Array,
    l2: jax.Array,
    tol: jax.Array,
    d: int | None,
    thorough: bool,
    max_iterations: int,
) -> _Fit:
    """Solve (K + l2 I) coef = y: by a factorisation for d None, else by products alone.

    A thorough factorisation is right for matrices that are singular or indefinite to rounding.
    """
    targets = y.reshape(y.shape[0], -1)
    # The solver is not differentiated: derivatives follow from the equation that it solves.
    frozen, strength = jax.lax.stop_gradient((operator, l2))
    # With a ridge, large rows must not hide small ones. Without one all rows are interpolated, and
    # the large coefficients of small rows would hide the others.
    sizes = jnp.sqrt(frozen.diagonal() + strength)
    extreme = power_of_two(sizes / jnp.median(sizes), ordinary=32.0)
    unit = jnp.where(strength > 0, 1 / extreme, 1)[:, None]
    if d is None:
        assert isinstance(frozen, GramMatrix)
        scaled = unit * frozen.gram * unit.T
        inverse, sound = factorised(scaled, strength * unit**2, thorough=thorough)
        shift = jnp.mean(frozen.diagonal())
    else:
        approximation = nystroem(frozen, d)
        diagonal = (approximation.remainder + strength) * unit[:, 0] ** 2
        inverse, sound = woodbury(unit * approximation.factor, diagonal), jnp.asarray(True)
        shift = approximation.mean

    def product(v: jax.Array) -> jax.Array:
        return unit * (frozen.product(unit * v) + strength * (unit * v))

    def conjugate(left: jax.Array, error: jax.Array) -> jax.Array:
        return solve(
            product,
            inverse,
            left,
            tol=jnp.maximum(1e-3, 0.3 * tol / jnp.where(jnp.max(error) > 0, jnp.max(error), 1)),
            max_products=_PRODUCTS,
        ).value

    def solver(_: Linear, b: jax.Array) -> tuple[jax.Array, jax.Array]:
        b = unit * b

        def remainder(coef: jax.Array) -> jax.Array:
            coef = unit * coef
            return b - unit * (_accurate(frozen, coef, shift) + strength * coef)

        # Next to a factorisation corrections are cheap, so that they go on to rounding.
        goal = tol if d is not None else 4 * float(jnp.finfo(b.dtype).eps)
        coef, error, iterations = _refined(remainder, conjugate, b, goal, max_iterations)
        if not thorough:
            return unit * coef, iterations

        def general() -> tuple:
            assert isinstance(frozen, GramMatrix)
            # Rounding may have made K indefinite: use LAPACK's solver for general matrices.
            system = unit * frozen.gram * unit.T + jnp.diag(strength * unit[:, 0] ** 2)
            factors = jax.scipy.linalg.lu_factor(system)

            def correction(left: jax.Array, _: jax.Array) -> jax.Array:
                return jax.scipy.linalg.lu_solve(factors, left)

            other = _refined(remainder, correction, b, tol, max_iterations)
            better = other[1] < 0.5 * error
            return jnp.where(better, other[0], coef), iterations + other[2]

        coef, iterations = jax.lax.cond(jnp.any(error > tol), general, lambda: (coef, iterations))
        return unit * coef, iterations

    coef, iterations = jax.lax.custom_linear_solve(
        lambda v: operator.product(v) + l2 * v, targets, solver, symmetric=True, has_aux=True
    )
    fitted = _accurate(operator, coef, shift)
    error = targets - fitted - l2 * coef
    energy = jnp.sum(coef * fitted)
    # P - D = ||error||^2, with the dual point l2 coef.
    primal = jnp.sum(jnp.square(targets - fitted)) + l2 * energy
    gap = jnp.sum(jnp.square(error)) / jnp.where(primal > 0, primal, 1)
    norm = jnp.sqrt(jnp.where(energy > 0, energy, 1))
    margin = jnp.where(energy > 0, jnp.min(targets * fitted) / norm, 0)
    residual = jnp.max(_relative(error, targets))
    coef = jnp.where(jnp.isfinite(residual), coef, jnp.nan)  # NaN corrections are rejected
    return _Fit(coef.reshape(y.shape), margin, gap, residual, iterations, sound)


def _accurate(operator: Operator, v: jax.Array, shift: jax.Array) -> jax.Array:
    return jax.lax.map(lambda column: operator.accurate(column, shift), v.T).T


def _relative(error: jax.Array, y: jax.Array) -> jax.Array:
    """Return the size of each column of the error, relative to that of y."""
    sizes = jnp.linalg.norm(y, axis=0)
    return jnp.linalg.norm(error, axis=0) / jnp.where(sizes > 0, sizes, 1)


def _refined(
    remainder: Linear,
    correction: Callable[[jax.Array, jax.Array], jax.Array],
    b: jax.Array,
    tol: float | jax.Array,
    max_iterations: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Correct by accurate residuals to `tol` or rounding; return solution, errors, corrections."""

    def step(state: tuple) -> tuple:
        coef, left, error, _, iteration = state
        after = coef + correction(left, error)
        still = remainder(after)
        size = _relative(still, b)
        better = size < error
        progress = jnp.any(size < 0.5 * error)
        coef, left = (jnp.where(better, new, old) for new, old in ((after, coef), (still, left)))
        return coef, left, jnp.where(better, size, error), progress, iteration + 1

    def running(state: tuple) -> jax.Array:
        _, _, error, progress, iteration = state
        return jnp.any(error > tol) & progress & (iteration < max_iterations)

    error = jnp.where(jnp.any(b != 0, axis=0), 1, 0).astype(b.dtype)
    start = jnp.zeros_like(b), b, error, jnp.asarray(True), jnp.asarray(0)
    coef, _, error, _, iterations = jax.lax.while_loop(running, step, start)
    return coef, error, iterations
