"""The best predictor that a kernel method could have found, had it known the population.

Paper A's lower bound holds for EVERY function sum_i beta_i K(x_i, .) of n training inputs, any
beta: not for what one training rule finds. To show it, beta is fitted on a sample of the
population much larger than n, with the n training inputs as centres only.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kernelgap import _checks
from kernelgap._blas import limited
from kernelgap.kernels.functions import KernelFunction, check_rows, checked_kernel
from kernelgap.predictors.operators import dense, matmul
from kernelgap.predictors.predictor import KernelPredictor
from kernelgap.typing import ArrayLike


def best_in_span(
    kernel: KernelFunction,
    centers: ArrayLike,
    x: ArrayLike,
    y: ArrayLike,
    *,
    tile: int = 4096,
) -> KernelPredictor:
    r"""The least-squares fit to (x, y) in the span of K(., c_1), ..., K(., c_n).

    Minimises sum_i (f(x_i) - y_i)^2 over f = sum_j coef_j K(., c_j), with a ridge at rounding
    level. With x a large sample of the population this approximates the best predictor of the
    span in squared error; its error on (x, y) is too small and that on fresh data too large, both
    by a share of order n / len(x), so that the two bracket the truth.

    The functions are first made orthonormal in the kernel's Hilbert space. Without that the
    normal equations square a condition number of 1e4 and float32 returns noise or NaN.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`.
        centers: the n centres, shape (n, d).
        x: inputs of shape (N, d), N >= n; N = 16 n is a good choice.
        y: targets of shape (N,).
        tile: rows of x handled at a time, at least 1; memory is n^2 + n * tile.

    Returns:
        A `KernelPredictor` with centres `centers`; `residual` is the relative gradient of the
        least-squares problem, `margin` and `gap` are NaN.

    Raises:
        TypeError: if `kernel` is not callable, or arrays are not floating.
        ValueError: if shapes disagree, N < n, `tile` < 1, or values are not finite.

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
        estimator is this project's.
    """
    kernel = checked_kernel(kernel)
    centers = _checks.solvable(centers, "centers")
    x = _checks.solvable(x, d=centers.shape[1])
    check_rows(kernel, x)
    y = _checks.targets(y, x.shape[0]).astype(x.dtype)
    tile = _checks.integer(tile, "tile", minimum=1)
    if x.shape[0] < centers.shape[0]:
        raise ValueError(f"`x` must have at least as many rows as `centers`; "
                         f"got {x.shape[0]} and {centers.shape[0]}")  # fmt: skip
    gram = dense(kernel, centers).gram
    coef, residual = limited(
        centers.shape[0], lambda: _fit(kernel, gram, centers, x, y, min(tile, x.shape[0]))
    )
    nan = jnp.asarray(jnp.nan, x.dtype)
    return KernelPredictor(kernel, centers, coef, nan, nan, residual, jnp.asarray(1))


@partial(jax.jit, static_argnames=("tile",))
def _fit(
    kernel: KernelFunction,
    gram: Float[Array, "n n"],
    centers: Float[Array, "n d"],
    x: Float[Array, "N d"],
    y: Float[Array, " N"],
    tile: int,
) -> tuple[Float[Array, " n"], Float[Array, ""]]:
    n, eps = gram.shape[0], float(jnp.finfo(gram.dtype).eps)
    eye = jnp.eye(n, dtype=gram.dtype)
    root = jnp.linalg.cholesky(gram + 16 * eps * jnp.mean(jnp.diagonal(gram)) * eye)
    # Padded rows are copies of a real input with weight 0.
    pad = -x.shape[0] % tile
    x = jnp.pad(x, ((0, pad), (0, 0)), mode="edge").reshape(-1, tile, x.shape[1])
    weight = jnp.pad(jnp.ones_like(y), (0, pad)).reshape(-1, tile)
    y = jnp.pad(y, (0, pad)).reshape(-1, tile)

    def accumulate(carry: tuple, item: tuple) -> tuple[tuple, None]:
        second, first = carry
        rows, targets, w = item
        features = jax.scipy.linalg.solve_triangular(root, kernel(rows, centers).T, lower=True)
        features = features * w[None, :]
        return (second + matmul(features, features.T), first + matmul(features, targets)), None

    zero = (jnp.zeros((n, n), gram.dtype), jnp.zeros(n, gram.dtype))
    (second, first), _ = jax.lax.scan(accumulate, zero, (x, y, weight))
    ridge = eps / 8 * jnp.trace(second) * eye
    factor = jnp.linalg.cholesky(second + ridge)
    fit = jax.scipy.linalg.cho_solve((factor, True), first)
    gradient = first - matmul(second, fit)
    fit = fit + jax.scipy.linalg.cho_solve((factor, True), gradient)
    residual = jnp.linalg.norm(first - matmul(second, fit)) / jnp.linalg.norm(first)
    return jax.scipy.linalg.solve_triangular(root.T, fit, lower=False), residual
