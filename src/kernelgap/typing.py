"""Names for the types that kernelgap's signatures share.

Public functions take anything `jax.numpy.asarray` takes and say the shape in their docstring;
what they return carries its shape in the annotation.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.typing
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

ArrayLike: TypeAlias = jax.typing.ArrayLike
"""What `jax.numpy.asarray` takes, that is arrays of JAX and NumPy, and numbers."""

DTypeLike: TypeAlias = jax.typing.DTypeLike
"""What names a dtype, such as `"float32"` or `jax.numpy.float32`."""

Key: TypeAlias = PRNGKeyArray | Shaped[Array, "..."]
"""A JAX random key, new style (`jax.random.key`) or old (`jax.random.PRNGKey`)."""

if sys.version_info >= (3, 12) and not TYPE_CHECKING:
    from typing import TypeAliasType

    # `help` prints the names of such aliases, and spells out plain unions of nine types.
    ArrayLike = TypeAliasType("ArrayLike", ArrayLike)
    DTypeLike = TypeAliasType("DTypeLike", DTypeLike)
    Key = TypeAliasType("Key", Key)

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

__all__ = ["Apply", "ArrayLike", "DTypeLike", "Device", "Key", "Loss", "PyTree", "Scalar"]
