"""Kernel ridge regression and minimum-norm interpolation."""

import warnings
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.arrays import cast
from kernelgap._numerics.blas import limit_blas_threads
from kernelgap._numerics.quick import quick_jit
from kernelgap.kernels.functions import KernelFunction, checked_kernel
from kernelgap.kernels.tiled import sharding
from kernelgap.predictors.interface import (
    Direct,
    KernelPredictor,
    Solver,
    checked_solver,
    mesh_of,
    most_iterations,
    one_versus_rest,
    outcome,
    task,
)
from kernelgap.predictors.operators import GramMatrix, Operator, operator_jit, prepare
from kernelgap.predictors.refinement import Effort, as_product, prepared, refined, relative
from kernelgap.predictors.scaling import normalised, power_of_two, representable, rescaled
from kernelgap.typing import ArrayLike

_REFINEMENTS = 12  # each lowers the residual by a factor of a thousand, or to rounding


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
        y = _indicators(one_versus_rest(y, x, classes))
    l2 = checks.number(l2, "l2", minimum=0)
    checks.choice(reduction, "reduction", ("mean", "sum"))
    checks.number(tol, "tol", minimum=0, exclusive=True)
    solver = checked_solver(solver)
    x, y = sharding.placed(mesh_of(solver), x, y)
    operator = prepare(kernel, x, solver)
    direct = isinstance(operator, GramMatrix) and (solver == "auto" or isinstance(solver, Direct))
    operator, root = normalised(operator)
    most = most_iterations(solver, _REFINEMENTS)
    count = x.shape[0] if reduction == "mean" else 1
    numbers = (cast(number, x.dtype) for number in (l2, count, tol))
    problem = operator, root, y, *numbers

    def run(thorough: bool) -> _Fit:
        effort = Effort(None if direct else x.shape[1], thorough, most)
        return limit_blas_threads(x.shape[0] if direct else 0, lambda: _fit(*problem, effort))

    traced = not array_checks.is_concrete(*jax.tree.leaves(problem))
    fit = run(thorough=direct and traced)
    # Seldom needed: outside of jit it is compiled only on use.
    if direct and not traced and (not fit.sound or fit.status):
        fit = run(thorough=True)
    coef = representable(fit.coef, fit.lost)
    if array_checks.is_concrete(fit.status) and fit.status:
        other = "or " if direct else "solver=Direct() or "
        warnings.warn(
            f"kernel_ridge stopped at a relative residual of {float(fit.residual):.1e}, above "
            f"tol={tol:.1e}, in {x.dtype}, because of rounding or of equal inputs with different "
            f"targets. Try a larger l2, centred inputs, {other}float64 (jax_enable_x64)",
            RuntimeWarning,
            stacklevel=2,
        )
    return KernelPredictor(kernel, x, coef, *fit[1:6], task(classes or 0))


@quick_jit
def _indicators(signs: jax.Array) -> jax.Array:
    return (signs + 1) / 2 - 1 / signs.shape[1]


class _Fit(NamedTuple):
    coef: Float[Array, "n *k"]
    margin: Float[Array, ""]
    gap: Float[Array, ""]
    residual: Float[Array, ""]
    iterations: Int[Array, ""]
    status: Int[Array, ""]
    sound: Bool[Array, ""]  # False if a matrix turned out to be singular to rounding
    lost: Bool[Array, ""]  # True if coefficients leave the range of the dtype


@partial(operator_jit, static_argnames="effort")
def _fit(
    operator: Operator,
    root: jax.Array,
    y: jax.Array,
    l2: jax.Array,
    count: jax.Array,
    tol: jax.Array,
    effort: Effort,
) -> _Fit:
    """Solve (root^2 K + count l2 I) coef = y."""
    size = power_of_two(jnp.max(jnp.abs(y), axis=0, keepdims=y.ndim == 2))
    l2 = count * l2 / jnp.square(root)
    targets = (y / size).reshape(y.shape[0], -1)
    system = prepared(operator, l2, effort)
    coef, error, iterations = refined(system, operator, l2, targets, tol, effort)
    fitted = as_product(operator, coef, targets - error - l2 * coef)
    energy = jnp.sum(coef * fitted)
    # P - D = ||error||^2, with the dual point l2 coef.
    primal = jnp.sum(jnp.square(targets - fitted)) + l2 * energy
    gap = jnp.sum(jnp.square(error)) / jnp.where(primal > 0, primal, 1)
    norm = jnp.sqrt(jnp.where(energy > 0, energy, 1))
    margin = jnp.where(energy > 0, jnp.min(targets * fitted) / norm, 0)
    residual = jnp.max(relative(error, targets))
    # NaN corrections are rejected. What they leave is 0, and a product with it shows their cause.
    given, start = jax.lax.stop_gradient((operator, coef))
    cause = jax.lax.cond(
        jnp.any(start != 0), lambda: jnp.sum(start), lambda: jnp.sum(given.product(start))
    )
    residual = jnp.where(jnp.isfinite(energy + cause), residual, jnp.nan)
    coef = jnp.where(jnp.isfinite(residual), coef, jnp.nan).reshape(y.shape)
    coef, lost = rescaled(coef, size / jnp.square(root))
    signs = y.ndim == 1 and jnp.all(jnp.abs(y) == 1)
    margin, gap = jnp.where(signs, root * margin, jnp.nan), jnp.where(l2 > 0, gap, jnp.nan)
    status = outcome(residual, tol)
    return _Fit(coef, margin, gap, residual, iterations, status, system.sound, lost)
