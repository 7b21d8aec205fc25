"""Partial applications that compare by value, hash and pickle."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import numpy as np


class Closure(partial):
    """A `functools.partial` that equals any other with the same function and arguments.

    Equal closures hash alike, so that JAX compiles a program once for all of them. Concrete arrays
    among the arguments, such as keys, are compared by value. The function must be defined at module
    level, so that pickle finds it by name.

    Example:
        >>> import math
        >>> from kernelgap._closure import Closure
        >>> Closure(math.log, 8)(2), Closure(math.log, 8) == Closure(math.log, 8)
        (3.0, True)
    """

    def __new__(cls, function: Callable, /, *args: Any, **keywords: Any) -> "Closure":
        """Copy NumPy arrays, since their owner may write to them."""
        args = tuple(map(_copy, args))
        return super().__new__(cls, function, *args, **{k: _copy(v) for k, v in keywords.items()})

    def _identity(self) -> tuple:
        named = frozenset((name, _comparable(value)) for name, value in self.keywords.items())
        return self.func, named, *map(_comparable, self.args)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Closure) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __repr__(self) -> str:
        named = [f"{name}={value!r}" for name, value in self.keywords.items()]
        name = getattr(self.func, "__qualname__", repr(self.func)).lstrip("_")
        return f"{name}({', '.join([*map(repr, self.args), *named])})"


def _copy(value: Any) -> Any:
    return value.copy()[()] if isinstance(value, np.ndarray) else value


def _comparable(value: Any) -> tuple:
    # Types matter as well: 1 and np.float32(1) are equal, but promote differently.
    if not isinstance(value, jax.Array):
        return type(value), value
    if isinstance(value, jax.core.Tracer) or not value.is_fully_addressable:
        return type(value), id(value)
    is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    entries = np.asarray(jax.random.key_data(value) if is_key else value).tobytes()
    return jax.Array, str(value.aval), entries
