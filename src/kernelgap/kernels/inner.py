"""Inner products of inputs, from which the kernels of this room are computed."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def inner_products(
    x1: Float[Array, "n1 d"], x2: Float[Array, "n2 d"] | None
) -> tuple[Float[Array, " n1"], Float[Array, " n2"], Float[Array, "n1 n2"]]:
    """Squared norms of both sets, and all products; with x2 None, exactly the norms where equal."""
    norms1 = jnp.sum(jnp.square(x1), axis=1)
    norms2 = norms1 if x2 is None else jnp.sum(jnp.square(x2), axis=1)
    # TF32 or bfloat16 products would move kernel values by 1e-3; ask for full precision.
    products = jnp.matmul(x1, (x1 if x2 is None else x2).T, precision=jax.lax.Precision.HIGHEST)
    if x2 is None:
        products = jnp.where(jnp.eye(x1.shape[0], dtype=bool), norms1[:, None], products)
    return norms1, norms2, products
