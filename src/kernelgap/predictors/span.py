"""The best predictor in the span of n kernel functions, fitted on the population.

Paper A's lower bound holds for EVERY function sum_i beta_i K(x_i, .) of n training inputs, with any
beta, not only for the result of one training rule. To show it, beta is fitted on a sample of the
population much larger than n; the n training inputs only serve as centres.
"""

import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.arrays import cast
from kernelgap._numerics.blas import limit_blas_threads
from kernelgap._numerics.quick import quick_jit
from kernelgap.kernels.functions import KernelFunction, checked_kernel, diagonal
from kernelgap.kernels.tiled import sharding
from kernelgap.kernels.tiled.blocks import has_blocks, host_diagonal
from kernelgap.predictors.interface import (
    Direct,
    KernelPredictor,
    MatrixFree,
    Solver,
    checked_solver,
    most_iterations,
    not_a_number,
    outcome,
    task,
)
from kernelgap.predictors.linear import Linear, factorised
from kernelgap.predictors.operators import GramMatrix, dense, matmul
from kernelgap.predictors.scaling import (
    Multiple,
    middle,
    normalised,
    power_of_two,
    representable,
    rescaled,
)
from kernelgap.predictors.span_on_host import Fit, fit_on_host
from kernelgap.typing import ArrayLike

_REFINEMENTS = 20
_TILE = 4096  # rows


def best_in_span(
    kernel: KernelFunction,
    centers: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    tol: float = 1e-3,
    solver: Solver = "auto",
) -> KernelPredictor:
    r"""Return the least-squares fit to (x, y) in the span of K(., c_1), ..., K(., c_n).

    Minimises sum_i (f(x_i) - y_i)^2 over f = sum_j coef_j K(., c_j), with a ridge at rounding
    level. With x a large sample of the population this approximates the best predictor of the
    span in squared error; its error on (x, y) is too small and that on fresh data too large, both
    by a share of order n / len(x), so that the two bracket the truth.

    The functions are first made orthonormal in the kernel's Hilbert space. Without that the
    normal equations square a condition number of 1e4 and float32 returns noise or NaN.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`.
        centers: The n centres, shape (n, d).
        x: Inputs of shape (N, d), N >= n; N = 16 n is a good choice.
        y: Targets of shape (N,).
        tol: Largest relative distance between the values of f and of the best fit, positive.
        solver: `MatrixFree(tile=)` evaluates `tile` rows of K(x, centers) at a time, in memory for
            n^2 + n tile numbers; `Direct()` all of them at once. `"auto"` is a tile of 4096 rows.
            The Gram matrix of the centres is factorised in any case. `max_iterations` counts
            corrections, and is 20 by default.

    Returns:
        A `KernelPredictor` with centres `centers`; `kkt_residual` is the gradient of the squared
        error in the norm in which it is a distance of values: the root mean square of f - f* over
        that of f*, the exact minimiser, on the inputs x, computed from the values of
        f itself; `margin` and `duality_gap` are NaN. Where the centres' functions are linearly
        dependent to rounding, as those of repeated or zero centres are, f is the best fit in their
        span.

    Raises:
        MemoryError: If the Gram matrix of the centres does not fit.

    Warns:
        RuntimeWarning: If `kkt_residual` stays above `tol`.

    Example:
        >>> import jax, kernelgap as kg
        >>> keys = jax.random.split(jax.random.key(0))
        >>> centers, _ = kg.datasets.xor_noise(keys[0], 100, 10)
        >>> x, y = kg.datasets.xor_noise(keys[1], 1600, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> best = kg.predictors.best_in_span(kernel, centers, x, y)
        >>> print(float((best.predict(x) != y).mean()))
        0.0

    References:
        Paper A, the kernel lower bound of its separation theorem (details recalled). The
        estimator is this project's own.
    """
    kernel = checked_kernel(kernel)
    centers = array_checks.solvable(centers, "centers")
    x = array_checks.solvable(x, d=centers.shape[1])
    array_checks.same_dtype(centers, x, "centers", "x")
    y = array_checks.targets(y, x.shape[0]).astype(x.dtype)
    checks.number(tol, "tol", minimum=0, exclusive=True)
    x, centers, y, kernel = sharding.together(x, centers, y, kernel)
    tile, most = _rows_at_once(solver, x.shape[0]), most_iterations(solver, _REFINEMENTS)
    if x.shape[0] < centers.shape[0]:
        raise ValueError(f"`x` must have at least as many rows as `centers`; "
                         f"got {x.shape[0]} and {centers.shape[0]}")  # fmt: skip
    operator, root = normalised(dense(kernel, centers))
    assert isinstance(operator, GramMatrix)
    problem = kernel, root, operator, centers, x, y, cast(tol, x.dtype)

    def run(thorough: bool) -> Fit:
        return limit_blas_threads(centers.shape[0], lambda: _fit(*problem, tile, thorough, most))

    def run_on_host() -> Fit | None:
        return fit_on_host(kernel, root, operator.gram, *problem[3:], tile, most)

    traced, fit = not array_checks.is_concrete(*jax.tree.leaves(problem)), None
    if has_blocks(kernel, centers, x, y):
        fit = limit_blas_threads(centers.shape[0], run_on_host)
    elif not traced:
        fit = run(thorough=False)
    if fit is None or (not traced and (not fit.sound or fit.status)):
        fit = run(thorough=True)  # compiled only on use, which is rare
    coef = representable(fit.coef, fit.lost)
    if not traced:
        _warn_of_sizes(kernel, x, centers.shape[0])
        zero = np.diagonal(operator.gram) == 0
        if (vanishing := zero & np.asarray(centers).any(axis=1)).any():
            warnings.warn(
                f"best_in_span: row {int(np.argmax(vanishing))} of `centers` has kernel value 0 in "
                f"{x.dtype}, and spans nothing; if it is very small, scale it",
                RuntimeWarning,
                stacklevel=2,
            )
    if array_checks.is_concrete(fit.status) and fit.status:
        warnings.warn(
            f"best_in_span stopped at a relative distance of {float(fit.residual):.1e} from the "
            f"best fit, above tol={tol:.1e}, in {x.dtype}; centre the inputs or use float64 "
            "(jax_enable_x64)",
            RuntimeWarning,
            stacklevel=2,
        )
    nan = not_a_number(x.dtype)
    return KernelPredictor(kernel, centers, coef, nan, nan, *fit[1:4], task(0))


def _rows_at_once(solver: Solver, n: int) -> int:
    """Return the number of rows of x to process at a time."""
    solver = checked_solver(solver)
    if solver == "auto":
        return min(_TILE, n)
    if isinstance(solver, MatrixFree) and solver.mesh is None:
        return min(solver.tile or _TILE, n)
    if not isinstance(solver, Direct):
        raise ValueError(f"`solver` of best_in_span must be 'auto', Direct() or MatrixFree(tile=), "
                         f"without a mesh; got {solver!r:.60}")  # fmt: skip
    return n


def _warn_of_sizes(kernel: KernelFunction, x: jax.Array, n: int) -> None:
    """Warn if the largest rows hide the others, because squares of features are summed."""
    own = host_diagonal if has_blocks(kernel, x) else _diagonal
    squares = np.asarray(own(kernel, x), np.float64)
    lost = float(jnp.finfo(x.dtype).eps) * np.max(squares) * n
    if lost > 1e-2 * np.sum(np.minimum(squares, np.median(squares))):
        warnings.warn(
            f"best_in_span: rows of `x` differ in size so much that {x.dtype} does not resolve "
            "the fit to the small ones; scale the rows, or use float64 (jax_enable_x64)",
            RuntimeWarning,
            stacklevel=3,
        )


_diagonal = quick_jit(diagonal)


@partial(quick_jit, static_argnames=("tile", "thorough", "max_iterations"), rows=2048)
def _fit(
    kernel: KernelFunction,
    root: Float[Array, ""],
    operator: GramMatrix,
    centers: Float[Array, "n d"],
    x: Float[Array, "N d"],
    y: Float[Array, " N"],
    tol: Float[Array, ""],
    tile: int,
    thorough: bool,
    max_iterations: int,
) -> Fit:
    """Fit in the span of the kernel over root^2, whose Gram matrix of the centres is given."""
    factor, largest = 1 / jnp.square(root), power_of_two(jnp.max(jnp.abs(y)))
    kernel, y, gram = Multiple(kernel, factor), y / largest, operator.gram
    # Scaling the centres to one size does not change their span.
    sizes = jnp.sqrt(jnp.diagonal(gram))
    median = middle(sizes)
    unit = 1 / power_of_two(sizes / jnp.where(median > 0, median, 1), ordinary=32.0)
    orthonormal, back, sound = _orthonormalised(unit[:, None] * gram * unit[None, :], thorough)
    # Padded rows are copies of a real input with weight 0.
    pad = -x.shape[0] % tile
    rows = jnp.pad(x, ((0, pad), (0, 0)), mode="edge").reshape(-1, tile, x.shape[1])
    weights = jnp.pad(jnp.ones_like(y), (0, pad)).reshape(-1, tile)
    targets = jnp.pad(y, (0, pad)).reshape(-1, tile)

    def accumulate(carry: tuple, item: tuple) -> tuple[tuple, None]:
        second, first = carry
        inputs, wanted, weight = item
        features = orthonormal((kernel(inputs, centers) * unit[None, :]).T) * weight[None, :]
        return (second + matmul(features, features.T), first + matmul(features, wanted)), None

    zero = jnp.zeros_like(gram), jnp.zeros_like(gram[0])
    (second, first), _ = jax.lax.scan(accumulate, zero, (rows, targets, weights))
    ridge = float(jnp.finfo(gram.dtype).eps) / 8 * jnp.trace(second)
    inverse, regular = factorised(second, ridge, thorough=thorough)

    def left(coef: jax.Array) -> jax.Array:
        """Return the gradient in orthonormal coordinates, from the values of f itself."""

        def add(total: jax.Array, item: tuple) -> tuple[jax.Array, None]:
            inputs, wanted, weight = item
            block = kernel(inputs, centers) * unit[None, :]
            return total + matmul(block.T, weight * (wanted - matmul(block, coef))), None

        total, _ = jax.lax.scan(add, jnp.zeros_like(coef), (rows, targets, weights))
        return orthonormal(total[:, None])[:, 0]

    def size(gradient: jax.Array, change: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.maximum(gradient @ change, 0))

    best = inverse(first[:, None])[:, 0]
    whole = size(first, best)
    whole = jnp.where(whole > 0, whole, 1)

    def step(state: tuple) -> tuple:
        coef, change, error, _, iteration = state
        after = coef + back(change[:, None])[:, 0]
        remainder = left(after)
        correction = inverse(remainder[:, None])[:, 0]
        apart = size(remainder, correction) / whole
        pairs = zip((after, correction, apart), (coef, change, error), strict=True)
        keep = (jnp.where(apart < error, new, old) for new, old in pairs)
        return *keep, apart < 0.9 * error, iteration + 1

    def running(state: tuple) -> jax.Array:
        _, _, error, progress, iteration = state
        return (error > tol) & progress & (iteration < max_iterations)

    start = jnp.zeros_like(first), best, jnp.ones_like(tol), jnp.asarray(True), jnp.asarray(0)
    coef, _, error, _, iterations = jax.lax.while_loop(running, step, start)
    error = jnp.where(jnp.any(first != 0), error, 0)
    # NaN corrections are rejected, so that their cause shows only here.
    finite = jnp.isfinite(jnp.sum(first) + jnp.trace(second))
    coef, error = (jnp.where(finite, value, jnp.nan) for value in (coef, error))
    coef, lost = rescaled(unit * coef, largest * factor)
    return Fit(coef, error, iterations, outcome(error, tol), sound & regular, lost)


def _orthonormalised(gram: jax.Array, thorough: bool) -> tuple[Linear, Linear, jax.Array]:
    """Return v -> W v and v -> W' v with W' W = K^{-1}, and whether Cholesky's method sufficed.

    Where it does not, and if `thorough`, W' W is the pseudo-inverse.
    """
    n, eps = gram.shape[0], float(jnp.finfo(gram.dtype).eps)
    diagonal = jnp.diagonal(gram)
    ridge = 16 * eps * jnp.mean(diagonal) * jnp.eye(n, dtype=gram.dtype)
    factor = jnp.linalg.cholesky(gram + ridge)
    least = max(n, 64) * eps * jnp.max(diagonal)
    sound = jnp.min(jnp.square(jnp.diagonal(factor))) > least  # False for NaN

    def triangular(v: jax.Array, transposed: int) -> jax.Array:
        return jax.scipy.linalg.solve_triangular(factor, v, lower=True, trans=transposed)

    if not thorough:
        return partial(triangular, transposed=0), partial(triangular, transposed=1), sound
    values, vectors = jnp.linalg.eigh(gram)
    kept = values > n * eps * jnp.max(jnp.abs(values))
    weights = jnp.where(kept, 1 / jnp.sqrt(jnp.where(kept, values, 1)), 0)[:, None]

    def apply(v: jax.Array) -> jax.Array:
        return jnp.where(sound, triangular(v, 0), weights * matmul(vectors.T, v))

    def transposed(v: jax.Array) -> jax.Array:
        return jnp.where(sound, triangular(v, 1), matmul(vectors, weights * v))

    return apply, transposed, sound
