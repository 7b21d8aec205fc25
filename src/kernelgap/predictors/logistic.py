r"""l2-regularised kernel logistic regression, and its path to the hard margin.

Over f in the kernel's Hilbert space, minimise reduce_i log(1 + exp(-y_i f(x_i))) + l2 ||f||^2. With
w = 1/n for means and 1 for sums, and b = 2 l2 / w, that is w times the minimum of
sum_i log(1 + exp(-y_i f(x_i))) + b ||f||^2 / 2. `logistic_newton.py` solves and
certifies it.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.arrays import cast
from kernelgap._numerics.blas import limit_blas_threads
from kernelgap._numerics.modes import forward_only
from kernelgap._numerics.quick import quick_jit
from kernelgap.kernels.functions import KernelFunction, checked_kernel
from kernelgap.kernels.tiled import sharding
from kernelgap.predictors.interface import (
    KernelPredictor,
    Solver,
    checked_solver,
    mesh_of,
    most_iterations,
    one_versus_rest,
    outcome,
    task,
)
from kernelgap.predictors.logistic_newton import Fit, newton
from kernelgap.predictors.operators import Operator, factorises, prepare, refuse_vanishing
from kernelgap.predictors.scaling import normalised, representable, rescaled
from kernelgap.typing import ArrayLike


def kernel_logistic(
    kernel: KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    *,
    l2: float | jax.Array,
    reduction: Literal["mean", "sum"] = "mean",
    classes: int | None = None,
    tol: float = 1e-5,
    solver: Solver = "auto",
) -> KernelPredictor:
    r"""Return the kernel logistic regression with an l2 penalty.

    Minimises reduce_i log(1 + exp(-y_i f(x_i))) + l2 ||f||^2 over f in the kernel's Hilbert space.

    This is `objectives.regularized_logistic` with power 2 and the norm of the Hilbert space. As
    l2 -> 0 the direction of f tends to that of `hard_margin_svm`; see `logistic_path`.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`.
        x: Inputs of shape (n, d).
        y: Labels of shape (n,), -1 or +1; or, with `classes`, integers 0..classes-1, all present,
            for one regression per class against the rest.
        l2: Strength of the penalty, positive; may be traced.
        reduction: `"mean"` or `"sum"` over the samples.
        classes: Number of classes, at least 2, or None for labels -1 and +1.
        tol: Relative duality gap (P - D) / P to reach, positive.
        solver: `Direct()` factorises, `Iterative()` holds the Gram matrix and uses only products,
            `MatrixFree()` does not hold it; `"auto"` chooses by n and by the free memory. Their
            `max_iterations` counts Newton steps, each one linear system, and is 200 by default.

    Returns:
        A `KernelPredictor`; `kkt_residual` is the largest difference between b y_i coef_i and
        sigmoid(-y_i f(x_i)), relative to the largest of these, with b = 2 l2 for the sum and
        2 n l2 for the mean. `margin` is the smallest y_i f(x_i) / ||f||, which is negative if a
        sample is on the wrong side. With `classes`, `coef` has shape (n, classes) and `margin` and
        the certificate have shape (classes,). Under `jit` and `vmap`, invalid inputs raise nothing
        and have the status INVALID. Only forward-mode differentiation is supported.

    Raises:
        MemoryError: If the Gram matrix does not fit and `solver` asks for it.

    Warns:
        RuntimeWarning: If the gap stays above `tol`.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 200, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> fit = kg.predictors.kernel_logistic(kernel, x, y, l2=1e-4)
        >>> bool(fit.duality_gap < 1e-5), bool((fit.predict(x) == y).all())
        (True, True)

    References:
        Paper A, its regularised loss over functions linear in the parameters. Newton's method:
        C. Rasmussen, C. Williams, Gaussian Processes for Machine Learning, 2006, algorithm 3.1. The
        certificate is derived by this project.
    """
    l2 = checks.number(l2, "l2", minimum=0, exclusive=True)
    return _path(kernel, x, y, [l2], reduction, classes, tol, solver)[0]


def logistic_path(
    kernel: KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    *,
    l2s: Sequence[float],
    reduction: Literal["mean", "sum"] = "mean",
    classes: int | None = None,
    tol: float = 1e-5,
    solver: Solver = "auto",
) -> list[KernelPredictor]:
    r"""Return `kernel_logistic` for decreasing `l2s`, each from the solution before it.

    On separable data margins rise, as l2 -> 0, to that of `hard_margin_svm`: the theorem on weak
    regularisation of paper A, for functions that are linear in their parameters. The Gram matrix
    is evaluated once.

    Args:
        kernel: As in `kernel_logistic`, like all following arguments but `l2s`.
        x: Inputs of shape (n, d).
        y: Labels of shape (n,).
        l2s: Strengths of the penalty, positive and decreasing.
        reduction: `"mean"` or `"sum"`.
        classes: Number of classes, or None.
        tol: Relative duality gap to reach for each l2.
        solver: `"auto"`, `Direct()`, `Iterative()` or `MatrixFree()`; `max_iterations` holds for
            each l2.

    Returns:
        A `KernelPredictor` for each l2.

    Raises:
        MemoryError: If the Gram matrix does not fit and `solver` asks for it.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 100, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> path = kg.predictors.logistic_path(kernel, x, y, l2s=(1e-2, 1e-4, 1e-6))
        >>> best = kg.predictors.hard_margin_svm(kernel, x, y).margin
        >>> bool(path[0].margin < path[1].margin < path[2].margin < best)
        True

    References:
        Paper A, the theorem on weak regularisation; S. Rosset, J. Zhu, T. Hastie, NeurIPS 2003.
    """
    l2s = checks.decreasing(l2s, "l2s")
    return _path(kernel, x, y, l2s, reduction, classes, tol, solver)


def _path(
    kernel: KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    l2s: Sequence[Any],
    reduction: str,
    classes: int | None,
    tol: float,
    solver: Solver,
) -> list[KernelPredictor]:
    kernel = checked_kernel(kernel)
    x = array_checks.solvable(x)
    checks.number(tol, "tol", minimum=0, exclusive=True)
    solver = checked_solver(solver)
    checks.choice(reduction, "reduction", ("mean", "sum"))
    if classes is None:
        signs = array_checks.signs(y, x.shape[0]).astype(x.dtype)
    else:
        signs = one_versus_rest(y, x, classes)
    x, signs = sharding.placed(mesh_of(solver), x, signs)
    operator = prepare(kernel, x, solver)
    refuse_vanishing(operator, x, any_row=False)
    operator, root = normalised(operator)
    columns = [signs] if classes is None else list(signs.T)
    starts = [jax.device_put(np.zeros(x.shape[0], x.dtype))] * len(columns)
    count = cast(2 * x.shape[0] if reduction == "mean" else 2, x.dtype)
    path = []
    for l2 in l2s:
        b, fits = _weight(count, cast(l2, x.dtype), root), []
        for labels, start in zip(columns, starts, strict=True):
            fits.append(_fit(operator, x, labels, b, start, tol, solver))
        starts = [fit.coef for fit in fits]
        fit, status, lost = _finished(fits, root, cast(tol, x.dtype), classes is None)
        fit = forward_only(fit, "kernel_logistic")
        certificate = fit.margin, fit.gap, fit.residual, fit.iterations, status
        coef, kind = representable(fit.coef, lost), task(classes or 2)
        path.append(KernelPredictor(kernel, x, coef, *certificate, kind))
    return path


@quick_jit
def _weight(count: jax.Array, l2: jax.Array, root: jax.Array) -> jax.Array:
    """Return b for the kernel over root^2."""
    return count * l2 / jnp.square(root)


@partial(quick_jit, static_argnames="single")
def _finished(
    fits: list[Fit], root: jax.Array, tol: jax.Array, single: bool
) -> tuple[Fit, jax.Array, jax.Array]:
    """Return the fit of all outputs for the kernel itself, its status, and what `rescaled` lost."""
    fit = fits[0] if single else jax.tree.map(lambda *a: jnp.stack(a, -1), *fits)
    coef, lost = rescaled(fit.coef, 1 / jnp.square(root))
    fit = fit._replace(coef=coef, margin=root * fit.margin)
    return fit, outcome(fit.gap, tol), lost


def _fit(
    operator: Operator,
    x: jax.Array,
    y: jax.Array,
    b: jax.Array,
    start: jax.Array,
    tol: float,
    solver: Solver,
) -> Fit:
    """Fit by products or factorisations, and warn where the gap stays above `tol`."""
    n, d = x.shape
    most, goal = most_iterations(solver, 200), cast(tol, x.dtype)

    def run(direct: bool) -> Fit:
        rank = 0 if direct else d  # not used, so that inputs of every d share compiled code
        call = (operator, y, b, start, goal, rank, most, direct)
        return limit_blas_threads(n if direct else 0, lambda: newton(*call))

    direct, fallback = factorises(operator, solver)
    fit = run(direct)
    if not array_checks.is_concrete(fit.gap):
        return array_checks.nan_unless(array_checks.all_finite(x, y, b), fit)
    if fallback and not fit.gap.item() <= tol:
        fit = run(True)
    fit = array_checks.nan_unless(array_checks.all_finite(x, y, b), fit)
    if not fit.gap.item() <= tol:
        cure = "" if direct else "solver=Direct() or "
        warnings.warn(
            f"kernel_logistic stopped at a relative duality gap of {float(fit.gap):.1e}, above "
            f"tol={tol:.1e}, after {int(fit.iterations)} Newton steps in {x.dtype}; "
            f"{cure}float64 (jax_enable_x64) goes further",
            RuntimeWarning,
            stacklevel=4,
        )
    return fit
