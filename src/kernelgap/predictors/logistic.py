r"""l2-regularised kernel logistic regression, and its path to the hard margin.

Over f in the kernel's Hilbert space, minimise reduce_i log(1 + exp(-y_i f(x_i))) + l2 ||f||^2. With
w = 1/n for means and 1 for sums, and b = 2 l2 / w, that is w times the minimum of
sum_i log(1 + exp(-y_i f(x_i))) + b ||f||^2 / 2.

The solver and its certificate are in `predictors/newton.py`.
"""

import warnings
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from kernelgap import _checks
from kernelgap._blas import limit_blas_threads
from kernelgap._modes import forward_only
from kernelgap.kernels.functions import KernelFunction, check_rows, checked_kernel
from kernelgap.kernels.tiled import sharding
from kernelgap.predictors.conflicts import refuse_vanishing
from kernelgap.predictors.newton import Fit, newton
from kernelgap.predictors.operators import GramMatrix, normalised, prepare, unscaled
from kernelgap.predictors.predictor import KernelPredictor, one_versus_rest
from kernelgap.typing import ArrayLike

Method = Literal["auto", "direct", "iterative", "matrix_free"]

_SMALL = 1500  # inputs up to which factorisations are as fast as products
_FALLBACK = 8000  # inputs up to which factorisations are tried where products failed


def kernel_logistic(
    kernel: KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    *,
    l2: float | jax.Array,
    reduction: Literal["mean", "sum"] = "mean",
    classes: int | None = None,
    tol: float = 1e-5,
    max_iterations: int = 200,
    method: Method = "auto",
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> KernelPredictor:
    r"""Kernel logistic regression with an l2 penalty.

    Minimises reduce_i log(1 + exp(-y_i f(x_i))) + l2 ||f||^2 over f in the kernel's Hilbert space.

    This is `objectives.regularized_logistic` with power 2 and the norm of the Hilbert space. As
    l2 -> 0 the direction of f tends to that of `hard_margin_svm`; see `logistic_path`.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`.
        x: inputs of shape (n, d).
        y: (n,) labels, -1 or +1; or, with `classes`, integers 0..classes-1, all present, for one
            regression per class against the rest.
        l2: positive; may be traced.
        reduction: `"mean"` or `"sum"` over the samples.
        classes: number of classes, at least 2, or None for labels -1 and +1.
        tol: relative duality gap (P - D) / P to reach, positive.
        max_iterations: at most this many Newton steps, each one linear system.
        method: `"direct"` factorises, `"iterative"` holds the Gram matrix and uses only products,
            `"matrix_free"` does not hold it; `"auto"` chooses by n and by the memory at hand.
        tile: largest side of a tile, for `"matrix_free"`; see `kernels.matmul`.
        mesh: devices that share the products, for `"matrix_free"`.

    Returns:
        A `KernelPredictor`; `gap` is the relative duality gap, `residual` the largest difference
        between b y_i coef_i and sigmoid(-y_i f(x_i)), relative to the largest of these, with b =
        2 l2 for the sum and 2 n l2 for the mean, `margin`
        the smallest y_i f(x_i) / ||f||, which is negative where a sample is on the wrong side.
        With `classes`, coef has shape (n, classes) and the rest (classes,).

    Raises:
        TypeError: if `kernel` is not callable, x is not float32 or float64, or `mesh` is no mesh.
        ValueError: if shapes disagree, x is not finite, labels are not what is said above, `l2` or
            `tol` is not positive, or an option is unknown.
        MemoryError: if the Gram matrix does not fit and `method` asks for it.

    Warns:
        RuntimeWarning: if the gap stays above `tol`.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 200, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> fit = kg.predictors.kernel_logistic(kernel, x, y, l2=1e-4)
        >>> bool(fit.gap < 1e-5), bool((fit.predict(x) == y).all())
        (True, True)

    References:
        Paper A, its regularised loss over functions linear in the parameters. Newton's method:
        C. Rasmussen, C. Williams, Gaussian Processes for Machine Learning, 2006, algorithm 3.1. The
        certificate is derived by this project.
    """
    l2 = _checks.number(l2, "l2", minimum=0, exclusive=True)
    options = (reduction, classes, tol, max_iterations, method, tile, mesh)
    return _path(kernel, x, y, [l2], *options)[0]


def logistic_path(
    kernel: KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    *,
    l2s: Sequence[float],
    reduction: Literal["mean", "sum"] = "mean",
    classes: int | None = None,
    tol: float = 1e-5,
    max_iterations: int = 200,
    method: Method = "auto",
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> list[KernelPredictor]:
    r"""`kernel_logistic` for decreasing `l2s`, each from the solution before it.

    On separable data margins rise, as l2 -> 0, to that of `hard_margin_svm`: the theorem on weak
    regularisation of paper A, for functions that are linear in their parameters. The Gram matrix
    is evaluated once.

    Args:
        kernel: as in `kernel_logistic`, like all that follows but `l2s`.
        x: inputs of shape (n, d).
        y: (n,) labels.
        l2s: positive and decreasing.
        reduction: `"mean"` or `"sum"`.
        classes: number of classes, or None.
        tol: relative duality gap, reached for each l2.
        max_iterations: Newton steps for each l2.
        method: `"auto"`, `"direct"`, `"iterative"` or `"matrix_free"`.
        tile: largest side of a tile.
        mesh: devices that share the products.

    Returns:
        A `KernelPredictor` for each l2.

    Raises:
        TypeError, ValueError, MemoryError: as in `kernel_logistic`, and if `l2s` is no sequence of
            positive decreasing numbers.

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
    l2s = _checks.decreasing(l2s, "l2s")
    return _path(kernel, x, y, l2s, reduction, classes, tol, max_iterations, method, tile, mesh)


def _path(
    kernel: KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    l2s: Sequence,
    reduction: str,
    classes: int | None,
    tol: float,
    max_iterations: int,
    method: Method,
    tile: int | None,
    mesh: Mesh | None,
) -> list[KernelPredictor]:
    kernel = checked_kernel(kernel)
    x = _checks.solvable(x)
    check_rows(kernel, x)
    _checks.number(tol, "tol", minimum=0, exclusive=True)
    max_iterations = _checks.integer(max_iterations, "max_iterations", minimum=1)
    _checks.choice(method, "method", ("auto", "direct", "iterative", "matrix_free"))
    _checks.choice(reduction, "reduction", ("mean", "sum"))
    if classes is None:
        signs = _checks.signs(y, x.shape[0]).astype(x.dtype)[:, None]
    else:
        signs = one_versus_rest(y, x, classes)
    x, signs = sharding.placed(mesh, x, signs)
    operator = prepare(kernel, x, method, tile, mesh)
    refuse_vanishing(operator, x, any_row=False)
    operator, root = normalised(operator)
    square = jnp.square(root)
    n, d = x.shape
    dense = isinstance(operator, GramMatrix)
    direct = dense and (method == "direct" or (method == "auto" and n <= _SMALL))
    fallback = dense and method == "auto" and not direct and n <= _FALLBACK
    other = "" if direct else "method='direct' or "
    scale = n if reduction == "mean" else 1
    starts = [jnp.zeros(n, x.dtype)] * signs.shape[1]
    fits = []
    for l2 in l2s:
        b = 2 * scale * jnp.asarray(l2, x.dtype) / square

        def fit(y: jax.Array, start: jax.Array, b: jax.Array = b) -> Fit:
            def run(direct: bool) -> Fit:
                goal = jnp.asarray(tol, x.dtype)
                rank = 0 if direct else d  # not used: inputs of every d share what is compiled
                return limit_blas_threads(
                    n if direct else 0,
                    lambda: newton(operator, y, b, start, goal, rank, max_iterations, direct),
                )

            found = run(direct)
            failed = _checks.is_concrete(found.gap) and not bool(found.gap <= tol)
            found = run(True) if failed and fallback else found
            return _checks.nan_unless(_checks.all_finite(x, y, b), found)

        found = [fit(signs[:, j], start) for j, start in enumerate(starts)]
        starts = [one.coef for one in found]
        for one in found:
            if _checks.is_concrete(one.gap) and not bool(one.gap <= tol):
                warnings.warn(
                    f"kernel_logistic stopped at a relative duality gap of {float(one.gap):.1e}, "
                    f"above tol={tol:.1e}, after {int(one.iterations)} Newton steps in {x.dtype}; "
                    f"{other}float64 (jax_enable_x64) goes further",
                    RuntimeWarning,
                    stacklevel=3,
                )
        stacked = found[0] if classes is None else jax.tree.map(lambda *a: jnp.stack(a, -1), *found)
        stacked = forward_only(stacked, "kernel_logistic")
        coef = unscaled(stacked.coef, 1 / square, x.dtype)
        fits.append(KernelPredictor(kernel, x, coef, root * stacked.margin, *stacked[2:]))
    return fits
