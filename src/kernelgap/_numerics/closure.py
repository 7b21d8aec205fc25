"""Partial applications that are equal by description, hashable and picklable."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np


class Closure(partial):
    """A `functools.partial` that equals another one of the same function and equal arguments.

    Closures of equal arguments hash alike, so that what was compiled for one serves the other.
    Arrays in the arguments, such as keys and parameters, are compared by their values, tracers by
    identity. The function must be defined at the top of a module for pickle to find it by name.

    Example:
        >>> import math
        >>> from kernelgap._numerics.closure import Closure
        >>> Closure(math.log, 8)(2), Closure(math.log, 8) == Closure(math.log, 8)
        (3.0, True)
    """

    def __new__(cls, function: Callable, /, *args: Any, **keywords: Any) -> "Closure":
        """Copy the NumPy arrays, because their owner may write to them."""
        args, keywords = jax.tree.map(_owned, (args, keywords))
        return super().__new__(cls, function, *args, **keywords)

    def _identity(self) -> tuple:
        leaves, tree = jax.tree.flatten((self.args, self.keywords))
        return self.func, tree, *map(_comparable, leaves)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Closure) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        named = [f"{name}={value!r}" for name, value in self.keywords.items()]
        name = getattr(self.func, "__qualname__", repr(self.func)).lstrip("_")
        return f"{name}({', '.join([*map(repr, self.args), *named])})"


def _owned(value: Any) -> Any:
    return value.copy()[()] if isinstance(value, np.ndarray) else value


def _comparable(value: Any) -> tuple:
    # The types count as well: 1 and np.float32(1) are equal, but do not promote alike.
    if not isinstance(value, jax.Array):
        return type(value), value
    if isinstance(value, jax.core.Tracer) or not value.is_fully_addressable:
        return type(value), id(value)
    is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    entries = np.asarray(jax.random.key_data(value) if is_key else value).tobytes()
    return jax.Array, str(value.aval), entries
