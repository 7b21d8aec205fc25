"""What every kernel method returns: a function in the span of the kernel, with its certificate."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kernelgap import _checks
from kernelgap.kernels import Kernel
from kernelgap.typing import ArrayLike, Scalar

KernelFunction = Callable[..., jax.Array]
"""`kernel(x1, x2=None) -> (n1, n2)`: a `kernels.Kernel` or any function of that form."""


class KernelPredictor(NamedTuple):
    """The function f(x) = sum_i coef_i K(x, x_i).

    Attributes:
        kernel: the kernel.
        x: centres x_i, shape (n, d).
        coef: coefficients, (n,) or (n, k).
        margin: min_i y_i f(x_i) / ||f|| in the norm of the kernel's Hilbert space; NaN where the
            labels are no signs.
        gap: relative duality gap (P - D) / P of the optimisation problem solved; NaN where the
            method has none (then see `residual`).
        residual: how far the optimality conditions are from holding, relative.
        iterations: number of linear systems solved.
    """

    kernel: KernelFunction
    x: jax.Array
    coef: jax.Array
    margin: Scalar
    gap: Scalar
    residual: Scalar
    iterations: jax.Array

    def decision_function(self, x: ArrayLike) -> jax.Array:
        """The values of f at the rows of x: shape (n_new,), or (n_new, k)."""
        return matmul(self.kernel(x, self.x), self.coef)

    def predict(self, x: ArrayLike) -> jax.Array:
        """Predicted labels: the sign of f (0 counts as -1), or the class of the largest output."""
        values = self.decision_function(x)
        if values.ndim == 2:
            return jnp.argmax(values, axis=1)
        return jnp.where(values > 0, 1, -1).astype(values.dtype)


def checked_kernel(kernel: KernelFunction) -> KernelFunction:
    """The kernel as a pytree, so that predictors pass through `jit`; refuse what is no function."""
    if not callable(kernel):
        raise TypeError(f"`kernel` must be a function kernel(x1, x2=None), such as "
                        f"kernels.ntk(model); got {type(kernel).__name__}")  # fmt: skip
    return kernel if isinstance(kernel, Kernel) else jax.tree_util.Partial(kernel)


def checked_gram(kernel: KernelFunction, x: jax.Array) -> jax.Array:
    """kernel(x), refused unless it is (n, n)."""
    gram = kernel(x)
    n = x.shape[0]
    if gram.shape != (n, n):
        raise ValueError(f"`kernel` must return shape ({n}, {n}) for {n} inputs; got {gram.shape}")
    if _checks.is_concrete(gram) and not bool(_all_finite(gram)):
        raise ValueError("`kernel` returned NaN or inf on `x`; expected a finite Gram matrix")
    return gram


@jax.jit
def _all_finite(array: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(array))


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """The product in full precision: TF32 would move kernel values by 1e-3."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
