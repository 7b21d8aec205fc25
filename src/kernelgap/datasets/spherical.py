"""Inputs on the unit sphere."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.quick import quick_jit
from kernelgap.typing import DTypeLike, Key


def sphere(key: Key, n: int, d: int, *, dtype: DTypeLike | None = None) -> Float[Array, "n d"]:
    """Sample inputs uniformly from the unit sphere of R^d.

    Args:
        key: JAX random key.
        n: Number of samples, at least 1.
        d: Input dimension, at least 1; in one dimension the sphere is {-1, +1}.
        dtype: Floating dtype; JAX's default when None.

    Returns:
        Inputs of shape (n, d).

    Example:
        >>> import jax, kernelgap as kg
        >>> x = kg.datasets.sphere(jax.random.key(0), 100, 15)
        >>> bool(jax.numpy.allclose((x**2).sum(axis=1), 1))
        True

    References:
        The inputs of paper B (B. Xie, Y. Liang, L. Song, AISTATS 2017).
    """
    checks.random_key(key)
    n = checks.integer(n, "n", minimum=1)
    d = checks.integer(d, "d", minimum=1)
    dtype = array_checks.floating_dtype(dtype)
    return _directions(key, n, d, dtype)


@partial(quick_jit, static_argnames=("n", "d", "dtype"), level=1)
def _directions(key: Key, n: int, d: int, dtype: DTypeLike) -> jax.Array:
    # Squares of small draws underflow in half precision: compute the direction in float32.
    wide = jnp.float32 if jnp.finfo(dtype).bits < 32 else dtype
    direction = jax.random.normal(key, (n, d), wide)
    return (direction / jnp.linalg.norm(direction, axis=1, keepdims=True)).astype(dtype)
