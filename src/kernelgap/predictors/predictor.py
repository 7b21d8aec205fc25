"""What every kernel method returns: a function in the span of the kernel, with its certificate."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kernelgap import _checks
from kernelgap._display import compact_repr, html_repr
from kernelgap.kernels import matmul as kernel_matmul
from kernelgap.kernels.functions import KernelFunction
from kernelgap.typing import ArrayLike, Scalar


class KernelPredictor(NamedTuple):
    """The function f(x) = sum_i coef_i K(x, x_i).

    Attributes:
        kernel: the kernel.
        x: centres x_i, shape (n, d).
        coef: coefficients, (n,) or (n, k).
        margin: min_i y_i f(x_i) / ||f|| in the norm of the kernel's Hilbert space; NaN where the
            labels are no signs. For one machine per class this and what follows have shape (k,).
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

    __repr__ = compact_repr
    _repr_html_ = html_repr

    @property
    def support_size(self) -> jax.Array:
        """Number of coefficients that are not 0, shape () or (k,)."""
        return jnp.sum(self.coef != 0, axis=0)

    def decision_function(self, x: ArrayLike) -> jax.Array:
        """The values of f at the rows of x: shape (n_new,), or (n_new, k)."""
        x = _checks.inputs(x, d=self.x.shape[1])
        if x.dtype != self.x.dtype:
            known = jax.dtypes.canonicalize_dtype(self.x.dtype) == self.x.dtype
            cure = f"Convert it, for example with x.astype({str(self.x.dtype)!r})"
            raise TypeError(
                f"`x` must have the dtype of the centres, {self.x.dtype}; got {x.dtype}. "
                f"{cure if known else 'Set jax_enable_x64, as when they were fitted'}"
            )
        return kernel_matmul(self.kernel, x, self.coef, x2=self.x)

    def predict(self, x: ArrayLike) -> jax.Array:
        """Predicted labels: the sign of f (0 counts as -1), or the class of the largest output."""
        values = self.decision_function(x)
        if values.ndim == 2:
            return jnp.argmax(values, axis=1)
        return jnp.where(values > 0, 1, -1).astype(values.dtype)


def not_a_number(dtype: np.dtype) -> jax.Array:
    """NaN for a field that has no meaning, which `jax_debug_nans` lets pass."""
    return jax.device_put(np.asarray(np.nan, dtype))


def one_versus_rest(y: ArrayLike, x: jax.Array, classes: int) -> jax.Array:
    """Signs of shape (n, classes): +1 where the label is the class, -1 elsewhere."""
    classes = _checks.integer(classes, "classes", minimum=2)
    y = _checks.classes(y, x.shape[0], classes)
    if _checks.is_concrete(y):
        missing = sorted(set(range(classes)) - set(np.unique(np.asarray(y)).tolist()))
        if missing:
            raise ValueError(f"`y` must hold every class 0..{classes - 1}; missing: {missing[:5]}")
    own = y[:, None] == jnp.arange(classes, dtype=y.dtype)[None, :]
    signs = jnp.where(own, 1, -1).astype(x.dtype)
    valid = True if _checks.is_concrete(y) else jnp.all(jnp.any(own, axis=0)) & jnp.all(y < classes)
    return _checks.nan_unless(valid, signs)
