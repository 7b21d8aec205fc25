"""Kernel ridge regression and minimum-norm interpolation."""

import warnings
from functools import partial
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from kernelgap import _checks
from kernelgap._blas import limited
from kernelgap._modes import forward_only
from kernelgap.kernels.functions import KernelFunction, check_rows, checked_kernel
from kernelgap.predictors.conjugate import nystroem, solve, woodbury
from kernelgap.predictors.operators import GramMatrix, Operator, matmul, prepare
from kernelgap.predictors.predictor import KernelPredictor, one_versus_rest
from kernelgap.typing import ArrayLike

_REFINEMENTS = 12  # of an iterative solve, each by a factor of a thousand or until rounding
_PRODUCTS = 1000  # of one of them


def kernel_ridge(
    kernel: KernelFunction,
    x: ArrayLike,
    y: ArrayLike,
    *,
    l2: float | jax.Array = 0.0,
    reduction: Literal["mean", "sum"] = "sum",
    classes: int | None = None,
    tol: float = 1e-5,
    method: Literal["auto", "direct", "iterative", "matrix_free"] = "auto",
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> KernelPredictor:
    r"""Kernel ridge regression, or interpolation of least norm.

    Minimises reduce_i (f(x_i) - y_i)^2 + l2 ||f||^2 over f in the kernel's Hilbert space.
    The solution is f = sum_i coef_i K(., x_i) with (K + l2 I) coef = y. With `l2=0` it is the
    interpolant of least norm; where the Gram matrix is singular, the least-squares solution of
    least norm. This is for the sum over i, with which `l2` is scikit-learn's `alpha`; for the mean,
    `l2` is alpha / n.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`.
        x: inputs of shape (n, d).
        y: targets of shape (n,), or (n, k) for k outputs at once; or, with `classes`, integers
            0..classes-1, all present, fitted by their indicators minus 1 / classes.
        l2: ridge >= 0; may be traced.
        reduction: `"sum"` or `"mean"` over the samples. The same f needs l2_sum = n * l2_mean.
        classes: number of classes, at least 2, or None for real targets.
        tol: relative residual that iterative methods must reach, positive; the direct one goes to
            rounding.
        method: `"direct"` factorises K + l2 I (an eigendecomposition where that fails),
            `"iterative"` holds the Gram matrix and uses only products, `"matrix_free"` does not
            hold it; `"auto"` is direct if the Gram matrix fits into memory, else matrix-free.
        tile: largest side of a tile, for `"matrix_free"`; see `kernels.matmul`.
        mesh: devices that share the products, for `"matrix_free"`.

    Returns:
        A `KernelPredictor`; `residual` is ||(K + l2 I) coef - y|| / ||y||, of the worst output,
        `gap` the relative duality gap for l2 > 0 (NaN for l2 = 0: the dual then says nothing),
        `margin` min_i y_i f(x_i) / ||f|| where y of shape (n,) holds signs only, else NaN.
        `iterations` is 1 for direct solves and the number of refinements else.

    Raises:
        TypeError: if `kernel` is not callable, or x, y are not floating, `l2` is no number or
            `mesh` no mesh.
        ValueError: if shapes disagree, x or y is not finite, `l2` < 0, `tol` <= 0, or an option is
            unknown.
        MemoryError: if the Gram matrix does not fit and `method` asks for it.

    Warns:
        RuntimeWarning: if an iterative method stays above `tol`.

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
    x = _checks.solvable(x)
    check_rows(kernel, x)
    if classes is None:
        y = _checks.targets(y, x.shape[0], columns=True).astype(x.dtype)
    else:
        y = (one_versus_rest(y, x, classes) + 1) / 2 - 1 / classes
    l2 = _checks.number(l2, "l2", minimum=0)
    _checks.choice(reduction, "reduction", ("mean", "sum"))
    _checks.number(tol, "tol", minimum=0, exclusive=True)
    _checks.choice(method, "method", ("auto", "direct", "iterative", "matrix_free"))
    operator = prepare(kernel, x, method, tile, mesh)
    l2 = jnp.asarray(l2, x.dtype) * (x.shape[0] if reduction == "mean" else 1)
    if isinstance(operator, GramMatrix) and method != "iterative":
        fit = limited(x.shape[0], lambda: _direct(operator, y, l2))
    else:
        goal = jnp.asarray(tol, x.dtype)
        fit = limited(0, lambda: _iterative(operator, y, l2, goal, x.shape[1]))
        if _checks.is_concrete(fit.residual) and not bool(fit.residual <= tol):
            warnings.warn(
                f"kernel_ridge stopped at a relative residual of {float(fit.residual):.1e}, above "
                f"tol={tol:.1e}, in {x.dtype}; a larger l2, method='direct' or float64 "
                "(jax_enable_x64) goes further",
                RuntimeWarning,
                stacklevel=2,
            )
        fit = forward_only(fit, f"kernel_ridge by method={method!r}")
    return KernelPredictor(kernel, x, *fit)


class _Fit(NamedTuple):
    coef: Float[Array, "n *k"]
    margin: Float[Array, ""]
    gap: Float[Array, ""]
    residual: Float[Array, ""]
    iterations: Int[Array, ""]


def _certified(
    coef: jax.Array, fitted: jax.Array, y: jax.Array, l2: jax.Array, iterations: jax.Array
) -> _Fit:
    """The certificate of coef, given fitted = K coef."""
    error = y - fitted - l2 * coef
    energy = jnp.sum(coef * fitted)
    # P - D = ||error||^2, with the dual point l2 coef.
    primal = jnp.sum(jnp.square(y - fitted)) + l2 * energy
    nan = jnp.asarray(jnp.nan, y.dtype)
    gap = jnp.where(l2 > 0, jnp.sum(jnp.square(error)) / primal, nan)
    margin = nan
    if y.ndim == 1:
        margin = jnp.where(jnp.all(jnp.abs(y) == 1), jnp.min(y * fitted) / jnp.sqrt(energy), nan)
    return _Fit(coef, margin, gap, _relative(error, y), iterations)


def _relative(error: jax.Array, y: jax.Array) -> jax.Array:
    """The relative size of the error, in the column where it is largest."""
    sizes = jnp.linalg.norm(y, axis=0)
    return jnp.max(jnp.linalg.norm(error, axis=0) / jnp.where(sizes > 0, sizes, 1))


@jax.jit
def _direct(operator: GramMatrix, y: jax.Array, l2: jax.Array) -> _Fit:
    coef = _factorise(operator.gram + l2 * jnp.eye(operator.size, dtype=operator.dtype), y)
    return _certified(coef, operator.product(coef), y, l2, jnp.asarray(1))


def _factorise(system: jax.Array, y: jax.Array) -> jax.Array:
    """Cholesky, or the pseudo-inverse where that fails, with one step of refinement."""
    factor = jnp.linalg.cholesky(system)
    coef = jax.scipy.linalg.cho_solve((factor, True), y)
    coef += jax.scipy.linalg.cho_solve((factor, True), y - matmul(system, coef))
    # A factor of a matrix that is singular but for rounding exists often and solves nothing.
    error = jnp.linalg.norm(y - matmul(system, coef))
    solved = error <= 1e-3 * jnp.linalg.norm(y)  # False for NaN

    def singular() -> jax.Array:
        values, vectors = jnp.linalg.eigh(system)
        cut = float(jnp.finfo(system.dtype).eps) * system.shape[0] * jnp.max(jnp.abs(values))
        inverse = jnp.where(values > cut, 1 / jnp.where(values > cut, values, 1), 0)
        inverse = inverse.reshape((-1,) + (1,) * (y.ndim - 1))

        def pseudo_solve(b: jax.Array) -> jax.Array:
            return matmul(vectors, inverse * matmul(vectors.T, b))

        coef = pseudo_solve(y)
        return coef + pseudo_solve(y - matmul(system, coef))

    return jax.lax.cond(solved, lambda: coef, singular)


@partial(jax.jit, static_argnames=("d",))
def _iterative(operator: Operator, y: jax.Array, l2: jax.Array, tol: jax.Array, d: int) -> _Fit:
    """Conjugate gradients, refined with accurate residuals until `tol` or rounding."""
    approximation = nystroem(operator, d)
    targets = y.reshape(y.shape[0], -1)
    inverse = woodbury(
        approximation.factor, jnp.full(operator.size, approximation.rest + l2, operator.dtype)
    )

    def accurate(coef: jax.Array) -> jax.Array:
        return jax.lax.map(lambda c: operator.accurate(c, approximation.mean), coef.T).T

    def step(state: tuple) -> tuple:
        coef, fitted, error, _, iteration = state
        left = targets - fitted - l2 * coef
        change = solve(
            lambda v: operator.product(v) + l2 * v,
            inverse,
            left,
            tol=jnp.maximum(1e-3, 0.3 * tol / jnp.where(error > 0, error, 1)),
            max_products=_PRODUCTS,
        )
        after = coef + change.value
        outputs = accurate(after)
        found = _relative(targets - outputs - l2 * after, targets)
        better = found < error
        keep = jax.tree.map(
            lambda new, old: jnp.where(better, new, old), (after, outputs, found),
            (coef, fitted, error),
        )  # fmt: skip
        return *keep, found < 0.5 * error, iteration + 1

    def running(state: tuple) -> jax.Array:
        _, _, error, progress, iteration = state
        return (error > tol) & progress & (iteration < _REFINEMENTS)

    zeros = jnp.zeros_like(targets)
    start = zeros, zeros, jnp.ones((), y.dtype), jnp.asarray(True), jnp.asarray(0)
    coef, fitted, _, _, iterations = jax.lax.while_loop(running, step, start)
    return _certified(coef.reshape(y.shape), fitted.reshape(y.shape), y, l2, iterations)
