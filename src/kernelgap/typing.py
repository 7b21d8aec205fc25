"""Names for the types that kernelgap's signatures share.

Public functions take anything `jax.numpy.asarray` takes and say the shape in their docstring;
what they return carries its shape in the annotation.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

Key: TypeAlias = PRNGKeyArray | Shaped[Array, "..."]
"""A JAX random key, new style (`jax.random.key`) or old (`jax.random.PRNGKey`)."""

Scalar: TypeAlias = Float[Array, ""]
"""A floating-point array of shape ()."""

PyTree: TypeAlias = Any
"""Parameters: any nest of tuples, lists and dicts with arrays at its leaves."""

Apply: TypeAlias = Callable[[PyTree, jax.Array], jax.Array]
"""`apply(params, x) -> outputs`, with `x` of shape (n, d) and outputs (n,) or (n, k)."""

Loss: TypeAlias = Callable[[PyTree, jax.Array, jax.Array], jax.Array]
"""`loss(params, x, y) -> scalar`."""

Device: TypeAlias = Any
"""A `jax.Device`."""

__all__ = ["Apply", "ArrayLike", "Device", "Key", "Loss", "PyTree", "Scalar"]
