"""Products with Gram matrices. A stand-in of one function, to be replaced by the tiled one."""

import jax
import jax.numpy as jnp

from kernelgap.typing import ArrayLike


def matmul(kernel, x1, v, x2: ArrayLike | None = None, *, tile=None, mesh=None) -> jax.Array:
    """K(x1, x2) @ v, of the shape of v with n1 rows."""
    del tile, mesh
    return _product(kernel, x1, v, x2)


@jax.jit
def _product(kernel, x1, v, x2):
    return jnp.matmul(kernel(x1, x2), v, precision=jax.lax.Precision.HIGHEST)
