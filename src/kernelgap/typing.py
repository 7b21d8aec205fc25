"""Type aliases used in the signatures of kernelgap.

Public functions accept anything that `jax.numpy.asarray` accepts; their docstrings state the
shapes. Return annotations carry the shapes of the results.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import jax
import jax.typing
from jaxtyping import Array, Float, PRNGKeyArray, Shaped

ArrayLike: TypeAlias = jax.typing.ArrayLike
"""Anything that `jax.numpy.asarray` accepts: JAX arrays, NumPy arrays and numbers."""

DTypeLike: TypeAlias = jax.typing.DTypeLike
"""Anything that specifies a dtype, such as `"float32"` or `jax.numpy.float32`."""

Key: TypeAlias = PRNGKeyArray | Shaped[Array, "..."]
"""A JAX random key, new style (`jax.random.key`) or old (`jax.random.PRNGKey`)."""

if sys.version_info >= (3, 12) and not TYPE_CHECKING:
    from typing import TypeAliasType

    # `help` prints these aliases by name; it would spell out plain unions of nine types.
    ArrayLike = TypeAliasType("ArrayLike", ArrayLike)
    DTypeLike = TypeAliasType("DTypeLike", DTypeLike)
    Key = TypeAliasType("Key", Key)

Scalar: TypeAlias = Float[Array, ""]
"""A floating-point array of shape ()."""

PyTree: TypeAlias = Any
"""Parameters: any nested structure of tuples, lists and dicts with arrays as leaves."""

Apply: TypeAlias = Callable[[PyTree, jax.Array], jax.Array]
"""`apply(params, x) -> outputs`, with `x` of shape (n, d) and outputs (n,) or (n, k)."""

Loss: TypeAlias = Callable[[PyTree, jax.Array, jax.Array], jax.Array]
"""`loss(params, x, y) -> scalar`."""

__all__ = ["Apply", "ArrayLike", "DTypeLike", "Key", "Loss", "PyTree", "Scalar"]
