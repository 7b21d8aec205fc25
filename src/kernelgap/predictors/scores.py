"""Labels from the values of a predictor, and how well values fit."""

import jax
import jax.numpy as jnp

from kernelgap._numerics import array_checks
from kernelgap._numerics.quick import quick_jit


@quick_jit
def labels(values: jax.Array) -> jax.Array:
    """Return the sign of each value (0 counts as -1), or the class of the largest one."""
    if values.ndim == 2:
        return jnp.argmax(values, axis=1)
    return jnp.where(values > 0, 1, -1).astype(values.dtype)


@quick_jit
def accuracy(values: jax.Array, y: jax.Array) -> jax.Array:
    """Return the share of right labels; NaN for labels that were refused."""
    valued = ~jnp.any(jnp.isnan(values.reshape(len(values), -1)), axis=1)
    given = labels(values)
    right = jnp.mean(((given == y.astype(given.dtype)) & valued).astype(values.dtype))
    if jnp.issubdtype(y.dtype, jnp.floating):  # a traced label that is not a sign is NaN
        return array_checks.nan_unless(array_checks.all_finite(y), right)
    return array_checks.nan_unless(jnp.all(y < values.shape[1]), right)


@quick_jit
def r_squared(values: jax.Array, y: jax.Array) -> jax.Array:
    """Return the coefficient of determination, the mean over outputs; NaN for one sample."""
    left = jnp.sum(jnp.square(y - values), axis=0)
    whole = jnp.sum(jnp.square(y - jnp.mean(y, axis=0, keepdims=True)), axis=0)
    ratio = 1 - left / jnp.where(whole > 0, whole, 1)
    fit = jnp.mean(jnp.where(whole > 0, ratio, jnp.where(left == 0, 1, left * 0)))
    return fit if len(y) > 1 else jnp.full((), jnp.nan, values.dtype)
