"""Kernels and coefficients brought to ordinary sizes by powers of two, which round nothing."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks
from kernelgap._numerics.quick import quick_jit
from kernelgap.kernels.functions import KernelFunction
from kernelgap.predictors.operators import GramMatrix, Operator

_Coef = TypeVar("_Coef", jax.Array, np.ndarray)


@partial(jax.tree_util.register_dataclass, data_fields=["kernel", "factor"], meta_fields=[])
@dataclass(frozen=True)
class Multiple:
    """A kernel times a number."""

    kernel: KernelFunction
    factor: Float[Array, ""]

    def __call__(self, x1: jax.Array, x2: jax.Array | None = None) -> jax.Array:
        """Return the Gram matrix."""
        return self.factor * (self.kernel(x1) if x2 is None else self.kernel(x1, x2))


def normalised(operator: Operator) -> tuple[Operator, Float[Array, ""]]:
    """Return K / root^2, with entries of order one, and root, a power of two; 1 as a rule.

    Solvers square the entries. Scaling by a power of two rounds nothing.
    """
    root = _root(operator)
    if array_checks.is_concrete(root):
        limits = jnp.finfo(operator.dtype)
        if float(root) ** 2 < limits.tiny / limits.eps:
            raise ValueError(f"`x` is too small for {operator.dtype}: the kernel's values on it "
                             f"lose digits below {float(limits.tiny):.1g}. Divide `x` by its "
                             "largest entry")  # fmt: skip
        if root.item() == 1:
            return operator, root
    factor = 1 / jnp.square(root)
    if isinstance(operator, GramMatrix):
        return GramMatrix(operator.gram * factor), root
    own = None if operator.own is None else factor * operator.own
    return replace(operator, kernel=Multiple(operator.kernel, factor), own=own), root


@quick_jit
def _root(operator: Operator) -> jax.Array:
    return power_of_two(jnp.sqrt(jnp.max(operator.diagonal())), ordinary=2.0**20)


def power_of_two(size: _Coef, *, ordinary: float = 1.0) -> _Coef:
    """Return the power of two next to a size; 1 for 0 and for sizes within `ordinary` of 1."""
    xp: Any = np if isinstance(size, (np.ndarray, np.generic)) else jnp
    size = size if xp is np else jax.lax.stop_gradient(size)
    extreme = (size > ordinary) | ((size < 1 / ordinary) & (size > 0))
    _, exponent = xp.frexp(xp.where(extreme & xp.isfinite(size), size, xp.ones_like(size)))
    return xp.ldexp(xp.ones_like(size), exponent - 1)


def middle(sizes: jax.Array) -> jax.Array:
    """Return an entry that half of the entries do not exceed."""
    return jnp.sort(sizes)[len(sizes) // 2]


def unscaled(coef: _Coef, factor: Any) -> _Coef:
    """Return coefficients times a power of two; raise if the dtype cannot hold them."""
    if isinstance(coef, np.ndarray):  # of NumPy, which compiles nothing
        return representable(*_rescaled(np, coef, factor))
    return representable(*rescaled(coef, factor))


@quick_jit
def rescaled(coef: jax.Array, factor: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return coefficients times a power of two, and True if the dtype cannot hold them."""
    return _rescaled(jnp, coef, factor)


def _rescaled(xp: Any, coef: _Coef, factor: Any) -> tuple[_Coef, Any]:
    scaled = coef * factor
    return scaled, xp.any((coef != 0) & ((scaled == 0) | ~xp.isfinite(scaled)))


def representable(coef: _Coef, lost: Any) -> _Coef:
    """Return `rescaled` coefficients; raise if the dtype cannot hold them."""
    if array_checks.is_concrete(lost) and bool(lost):
        raise ValueError(f"`x` is too large or too small: coefficients of the solution leave the "
                         f"range of {coef.dtype}. Divide `x` by its largest entry")  # fmt: skip
    return coef
