"""Kernel ridge regression and minimum-norm interpolation."""

import jax
import jax.numpy as jnp

from kernelgap import _checks
from kernelgap.predictors.predictor import (
    KernelFunction,
    KernelPredictor,
    checked_gram,
    checked_kernel,
    matmul,
)
from kernelgap.typing import ArrayLike


def kernel_ridge(
    kernel: KernelFunction, x: ArrayLike, y: ArrayLike, *, l2: float | jax.Array = 0.0
) -> KernelPredictor:
    r"""Minimise sum_i (f(x_i) - y_i)^2 + l2 ||f||^2 over the kernel's Hilbert space.

    The solution is f = sum_i coef_i K(., x_i) with (K + l2 I) coef = y. With `l2=0` it is the
    interpolant of least norm; where the Gram matrix is singular, the least-squares solution of
    least norm. `l2` is scikit-learn's `alpha`.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`.
        x: inputs of shape (n, d).
        y: targets of shape (n,), or (n, k) for k outputs at once.
        l2: ridge >= 0; may be traced.

    Returns:
        A `KernelPredictor`; `residual` is ||(K + l2 I) coef - y|| / ||y||, `gap` the relative
        duality gap for l2 > 0 (NaN for l2 = 0 with a residual that is not 0: the dual then says
        nothing), `margin` that of y read as signs, for y of shape (n,).

    Raises:
        TypeError: if `kernel` is not callable, or x, y are not floating, or `l2` is no number.
        ValueError: if shapes disagree, x or y is not finite, or `l2` < 0.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 50, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> interpolant = kg.predictors.kernel_ridge(kernel, x, y)
        >>> bool(jnp.allclose(interpolant.decision_function(x), y, atol=1e-3))
        True
    """
    kernel = checked_kernel(kernel)
    x = _checks.inputs(x)
    y = _checks.targets(y, x.shape[0], columns=True).astype(x.dtype)
    _checks.number(l2, "l2", minimum=0)
    gram = checked_gram(kernel, x)
    l2 = jnp.asarray(l2, x.dtype)
    system = gram + l2 * jnp.eye(x.shape[0], dtype=x.dtype)
    coef = _solve(system, y)
    error = y - matmul(system, coef)
    residual = jnp.linalg.norm(error) / jnp.maximum(jnp.linalg.norm(y), jnp.finfo(x.dtype).tiny)

    fitted = matmul(gram, coef)
    energy = jnp.sum(coef * fitted)
    # P / l2 and D / l2 of the problem; their difference is ||error||^2 / (2 l2).
    primal = 0.5 * jnp.sum(jnp.square(y - fitted)) / l2 + 0.5 * energy
    gap = 0.5 * jnp.sum(jnp.square(error)) / l2 / primal
    margin = jnp.asarray(jnp.nan, x.dtype)
    if y.ndim == 1:
        margin = jnp.min(y * fitted) / jnp.sqrt(energy)
    return KernelPredictor(kernel, x, coef, margin, gap, residual, jnp.asarray(1))


def _solve(system: jax.Array, y: jax.Array) -> jax.Array:
    """Cholesky, or the pseudo-inverse where that fails, with one step of refinement."""
    factor = jnp.linalg.cholesky(system)
    coef = jax.scipy.linalg.cho_solve((factor, True), y)
    coef += jax.scipy.linalg.cho_solve((factor, True), y - matmul(system, coef))
    # A factor of a matrix that is singular but for rounding exists often and solves nothing.
    error = jnp.linalg.norm(y - matmul(system, coef))
    solved = error <= 1e-3 * jnp.linalg.norm(y)  # False for NaN

    def singular() -> jax.Array:
        values, vectors = jnp.linalg.eigh(system)
        cut = jnp.finfo(system.dtype).eps * system.shape[0] * jnp.max(jnp.abs(values))
        inverse = jnp.where(values > cut, 1 / jnp.where(values > cut, values, 1), 0)
        inverse = inverse.reshape((-1,) + (1,) * (y.ndim - 1))

        def pseudo_solve(b: jax.Array) -> jax.Array:
            return matmul(vectors, inverse * matmul(vectors.T, b))

        coef = pseudo_solve(y)
        return coef + pseudo_solve(y - matmul(system, coef))

    return jax.lax.cond(solved, lambda: coef, singular)
