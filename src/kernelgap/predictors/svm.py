r"""The hard-margin kernel support vector machine without bias.

Over f in the kernel's Hilbert space, maximise min_i y_i f(x_i) / ||f||. With Q = (y y') o K the
dual problem is min_{alpha >= 0} alpha' Q alpha / 2 - 1' alpha. It is the limit, as lambda -> 0, of
l2-regularised kernel logistic regression.

For every alpha >= 0 the margin of its own f is a lower bound and, with p = alpha / sum(alpha),
sqrt(p' Q p) is an upper bound on the best margin: the pair is the certificate.
"""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.blas import limit_blas_threads, single_blas_thread
from kernelgap._numerics.modes import forward_only
from kernelgap.kernels.functions import KernelFunction, checked_kernel
from kernelgap.kernels.tiled import memory, sharding
from kernelgap.predictors import dual, working_sets
from kernelgap.predictors.block_exchange import exchange
from kernelgap.predictors.dual import Certificate
from kernelgap.predictors.interface import (
    Direct,
    Iterative,
    KernelPredictor,
    MatrixFree,
    Solver,
    Status,
    checked_solver,
    mesh_of,
    most_iterations,
    one_versus_rest,
    task,
)
from kernelgap.predictors.operators import (
    GramMatrix,
    Operator,
    factorises,
    prepare,
    refuse_vanishing,
)
from kernelgap.predictors.scaling import normalised, unscaled
from kernelgap.predictors.separability import first_of_equal, refuse, status_of
from kernelgap.typing import ArrayLike

_HELD, _BLOCK = 20_000, 4096  # points that are factorised, of a matrix in memory and of no matrix


def hard_margin_svm(
    kernel: KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    *,
    classes: int | None = None,
    tol: float = 1e-4,
    solver: Solver = "auto",
    throw: bool = True,
) -> KernelPredictor:
    r"""Return the maximum-margin classifier without bias in a kernel's Hilbert space.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`.
        x: Inputs of shape (n, d).
        y: Labels of shape (n,), -1 or +1, both present; or, with `classes`, integers
            0..classes-1, all present, for one machine per class against the rest.
        classes: Number of classes, at least 2, or None for labels -1 and +1.
        tol: Relative duality gap to reach, positive. The iteration goes on to a tenth of it as
            long as that helps.
        solver: `"auto"` and `MatrixFree()` solve on sets of points that grow until no other point
            falls short of the margin. Where nearly all points are support vectors, the Gram matrix
            is factorised once, up to 20,000 points, or in `MatrixFree(block=)` up to `block`
            points, which it then holds; beyond, products with it are used, 50 to 100 as a rule but
            1000 where it is nearly singular. `Direct()` factorises the Gram matrix,
            three to five times where most points are support vectors, and moves one support vector
            at a time where that stalls. `Iterative()` holds the Gram matrix and uses only products.
            Under `jit`, `"auto"` is one of the last two. `max_iterations` is 1000 by default (one
            more refines a direct solution).
        throw: Raise an error where the kernel does not separate the data; if False, return a
            result with the `Status` INSEPARABLE or INDEFINITE, whose `coef`, `margin`,
            `duality_gap` and `kkt_residual` are NaN.

    Returns:
        A `KernelPredictor` whose `coef` are alpha_i y_i, scaled so that support vectors have
        y f(x) = 1, with `margin` (a lower bound on the best), `duality_gap` = 1 -
        (margin / upper)^2, and `kkt_residual`, the largest violation of the optimality conditions,
        ``|y_i f(x_i) - 1|`` on the support or 1 - y_i f(x_i) off it. With `classes`, `coef` has
        shape (n, classes) and `margin` and the certificate have shape (classes,). They hold for the
        kernel as evaluated in its dtype, and are computed with compensated sums: float32 resolves
        gaps of about 1e-5 for n in the ten thousands. Under `jit` or `vmap` nothing is raised, as
        with `throw=False`, and invalid inputs have the status INVALID. Only forward-mode
        differentiation is supported (`jax.jvp`, `jax.jacfwd`); reverse mode raises an error.

    Raises:
        ValueError: If the data are not separable by this kernel.
        MemoryError: If the Gram matrix does not fit and `solver` asks for it.

    Warns:
        RuntimeWarning: If the gap stays above `tol`; float64 then goes further. A gap of 1 means
            that the data were shown neither to be separable nor to be inseparable.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 200, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> svm = kg.predictors.hard_margin_svm(kernel, x, y)
        >>> bool(svm.duality_gap < 1e-4), bool((svm.predict(x) == y).all())
        (True, True)

    References:
        Paper A (the kernel predictor it compares with). Methods: E. Osuna, R. Freund, F. Girosi,
        NNSP 1997 (working sets); L. Portugal et al., Math. Comp.
        1994 (block pivoting); C. Lawson, R. Hanson, Solving Least Squares Problems, 1974, ch. 23;
        Z. Frangella, J. Tropp, M. Udell, SIAM J. Matrix Anal. Appl. 2023 (preconditioner for large
        n). Inexact exchanges and the certificate are this project's own.
    """
    kernel = checked_kernel(kernel)
    x = array_checks.solvable(x)
    checks.number(tol, "tol", minimum=0, exclusive=True)
    solver = checked_solver(solver)
    if not isinstance(throw, bool):
        raise TypeError(f"`throw` must be True or False; got {throw!r:.40}")
    if classes is None:
        y = array_checks.signs(y, x.shape[0]).astype(x.dtype)
        if array_checks.is_concrete(y) and len(present := np.unique(np.asarray(y))) == 1:
            raise ValueError(f"`y` must hold both classes -1 and +1; got only {present[0]:+g}")
        signs = y[:, None]
    else:
        signs = one_versus_rest(y, x, classes)
    x, signs = sharding.placed(mesh_of(solver), x, signs)
    operator = prepare(kernel, x, solver)
    if throw:
        refuse_vanishing(operator, x, any_row=True)
    operator, root = normalised(operator)
    own = operator.diagonal()

    machines = []
    for j, (labels, machine) in enumerate(_solve_all(operator, x, signs.T, tol, solver)):
        alpha, certificate, iterations, factorised = machine
        status = status_of(own, x, labels, certificate, tol)
        fit: Any = labels * alpha, certificate.margin, certificate.gap, certificate.residual
        if concrete := array_checks.is_concrete(status):
            which = "the data" if classes is None else f"class {j} and the rest"
            if throw:
                refuse(operator, x, labels, certificate, Status(int(status)), which)
            # Reverse mode has no number to state, and is refused below.
            if int(status) == Status.ABOVE_TOL and array_checks.is_concrete(certificate.gap):
                cure = "" if factorised else "solver=Direct() or "
                reached = float(certificate.gap)
                warnings.warn(
                    f"hard_margin_svm stopped at a relative duality gap of {reached:.1e}, above "
                    f"tol={tol:.1e}, for {which} after {int(iterations)} iterations in {x.dtype}; "
                    f"{cure}float64 (jax_enable_x64) goes further",
                    RuntimeWarning,
                    stacklevel=2,
                )
        if array_checks.is_concrete(root, *fit):  # NumPy needs no programs
            root, *fit = (np.asarray(value, x.dtype) for value in (root, *fit))
        if concrete and int(status) > Status.ABOVE_TOL:
            fit = [np.full(np.shape(value), np.nan, x.dtype) for value in fit]
        else:
            coef, margin, *others = fit
            fit = unscaled(coef, 1 / root**2), root * margin, *others
            fit = array_checks.nan_unless(concrete or status <= Status.ABOVE_TOL.value, fit)
        machines.append((*fit, iterations, status))
    parts = machines[0]
    if classes is not None:
        host = array_checks.is_concrete(*jax.tree.leaves(machines))
        stack = partial((np if host else jnp).stack, axis=-1)
        parts = tuple(map(stack, zip(*machines, strict=True)))
    # Not by jnp.asarray, where `jax_debug_nans` refuses NaN.
    parts = tuple(v if isinstance(v, jax.Array) else jax.device_put(np.asarray(v)) for v in parts)
    coef, margin, gap, residual, iterations, status = forward_only(parts, "hard_margin_svm")
    numbers = margin, gap, residual, iterations, status
    return KernelPredictor(kernel, x, coef, *numbers, task(classes or 2))


def _solve_all(
    operator: Operator, x: jax.Array, signs: jax.Array, tol: float, solver: Solver
) -> list[tuple[jax.Array | np.ndarray, tuple]]:
    """Return the labels and what `_solve` returns for each machine."""
    concrete = array_checks.is_concrete(x, signs, *jax.tree.leaves(operator))
    if not concrete or isinstance(solver, Direct | Iterative):
        return [(labels, _solve(operator, x, labels, tol, solver, None)) for labels in signs]
    rows, labels = np.asarray(x), np.asarray(signs)
    first, most = first_of_equal(rows), most_iterations(solver, 1000)
    held = isinstance(operator, GramMatrix)
    block = (isinstance(solver, MatrixFree) and solver.block) or (_HELD if held else _BLOCK)
    if not held:
        memory.require(
            min(block, len(rows)) ** 2 * rows.itemsize,
            "a block of the Gram matrix",
            "A smaller `block` of MatrixFree needs less",
            sharding.first_device(None, x),
        )

    def fit(labels: np.ndarray) -> working_sets.Found:
        return working_sets.solve(operator, rows, labels, first, tol, most, block)

    if len(signs) == 1 or not held:
        starts = list(map(fit, labels))
    else:  # NumPy alone: the settings of JAX do not pass to other threads
        workers = ThreadPoolExecutor(min(len(signs), os.cpu_count() or 1))
        with single_blas_thread(), workers as pool:
            starts = list(pool.map(fit, labels))
    return [
        (each, _solve(operator, x, each, tol, solver, start))
        for each, start in zip(labels, starts, strict=True)
    ]


def _solve(
    operator: Operator,
    x: jax.Array,
    y: jax.Array | np.ndarray,
    tol: float,
    solver: Solver,
    start: working_sets.Found | None,
) -> tuple[jax.Array | np.ndarray, Certificate, jax.Array | int, bool]:
    """Return alpha, its certificate, the number of linear systems, and whether they were direct."""
    n, d = x.shape
    most, used = most_iterations(solver, 1000), 0
    direct, fallback = factorises(operator, solver)
    if start is not None:
        used = start.systems
        if start.certificate.gap <= tol or start.final or used >= most:
            return start.alpha, start.certificate, used, direct

    y = jnp.asarray(y)

    def factorise() -> tuple[jax.Array, Certificate, jax.Array]:
        assert isinstance(operator, GramMatrix)
        alpha, certificate, systems = dual.factorise(operator.gram, y, tol, most - used)
        return alpha, certificate, systems + used

    if direct:
        return *limit_blas_threads(n, factorise), True
    target = jnp.asarray(tol / 10, x.dtype)  # exchanges accept ten times this
    result = limit_blas_threads(0, lambda: exchange(operator, y, target, d, most - used))
    gap = result.certificate.gap
    if fallback and array_checks.is_concrete(gap) and not bool(gap <= tol):
        return *limit_blas_threads(n, factorise), True
    return result.alpha, result.certificate, result.iterations + used, False
