"""Rows of inputs at a common scale, and their inner products, from which kernels are computed."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def scaled_rows(
    x: Float[Array, "n d"], *, between: tuple[float, float] = (1.0, 1.0)
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """Return rows and roots, x = rows * root^2, with the largest entry of each row near 1.

    Squares of the rows neither overflow nor underflow, whatever the scale of x. Roots are powers
    of two, so that nothing is rounded and a homogeneous kernel factors them out exactly. Zero rows
    have root 1. Rows whose largest entry lies within `between` stay as they are; others are scaled
    to near the closer end of that range.
    """
    top = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=1))
    ratio = jnp.where(top > 0, top / jnp.clip(top, *between), 1)
    _, exponent = jnp.frexp(ratio)
    root = jnp.ldexp(jnp.ones_like(ratio), jnp.floor_divide(exponent - 1, 2))
    return x / jnp.square(root)[:, None], root


def rescaled(values: jax.Array, root1: jax.Array, root2: jax.Array, degree: int) -> jax.Array:
    """Return values of rows times root1^(2 degree) root2^(2 degree), if they can be represented."""
    root = root1 * root2
    if degree > 1:
        root = jnp.minimum(root**degree, jnp.finfo(root.dtype).max)  # 0 * inf would be NaN
    return values * root * root


def inner_products(
    x1: Float[Array, "n1 d"], x2: Float[Array, "n2 d"] | None
) -> tuple[Float[Array, " n1"], Float[Array, " n2"], Float[Array, "n1 n2"]]:
    """Return squared norms of both sets and all inner products; an exact diagonal if x2 is None."""
    norms1 = jnp.sum(jnp.square(x1), axis=1)
    norms2 = norms1 if x2 is None else jnp.sum(jnp.square(x2), axis=1)
    # TF32 or bfloat16 products would move kernel values by 1e-3; ask for full precision.
    products = jnp.matmul(x1, (x1 if x2 is None else x2).T, precision=jax.lax.Precision.HIGHEST)
    if x2 is None:
        products = jnp.where(jnp.eye(x1.shape[0], dtype=bool), norms1[:, None], products)
    return norms1, norms2, products
