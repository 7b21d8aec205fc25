"""Gram matrices as operators: held in memory, or evaluated in every product.

Both forms are pytrees with the same five methods, so that one compiled solver serves both.
`accurate` compensates its sums: in products with dual variables terms cancel by factors of a
thousand and more, and in float32 a plain product loses the digits that a certificate needs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Int

from kernelgap._numerics import array_checks
from kernelgap._numerics.quick import ROWS, quick_jit
from kernelgap.kernels.functions import KernelFunction, checked_block, diagonal
from kernelgap.kernels.tiled import memory, sharding
from kernelgap.kernels.tiled.blocks import gram_matrix
from kernelgap.kernels.tiled.products import accurate_matmul, symmetric_matmul
from kernelgap.kernels.tiled.summation import accurate_product, rounded_shift, shifted_back
from kernelgap.predictors.interface import Direct, MatrixFree, Solver, mesh_of

_T = TypeVar("_T")

_TRACED = 20_000  # largest n for which the Gram matrix is held if the memory is not known
SMALL = 1500
"""Inputs up to which factorisations are as fast as products."""
FALLBACK = 8000
"""Inputs up to which factorisations are tried where products failed."""


def factorises(operator: "Operator", solver: Solver) -> tuple[bool, bool]:
    """Return whether to factorise at once, and whether to do so where products fail."""
    held, free = isinstance(operator, GramMatrix), solver == "auto"
    at_once = held and (isinstance(solver, Direct) or (free and operator.size <= SMALL))
    return at_once, held and free and not at_once and operator.size <= FALLBACK


def matmul(a: jax.Array, b: jax.Array) -> jax.Array:
    """Return the product in full precision: TF32 would move kernel values by 1e-3."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


@partial(jax.tree_util.register_dataclass, data_fields=["gram"], meta_fields=[])
@dataclass(frozen=True)
class GramMatrix:
    """The Gram matrix in memory."""

    gram: Float[Array, "n n"]

    @property
    def size(self) -> int:
        """Number of inputs."""
        return self.gram.shape[0]

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of the entries."""
        return self.gram.dtype

    def diagonal(self) -> Float[Array, " n"]:
        """Return the entries (i, i)."""
        return jnp.diagonal(self.gram)

    def columns(self, index: Int[Array, " r"]) -> Float[Array, "n r"]:
        """Return the columns with the given indices."""
        return self.gram[index].T

    def product(self, v: Float[Array, "n *k"]) -> Float[Array, "n *k"]:
        """Return K @ v."""
        return matmul(self.gram, v)

    def accurate(self, v: Float[Array, "n *k"], shift: Float[Array, ""]) -> Float[Array, "n *k"]:
        """Return K @ v by compensated sums, whose error stays small where they cancel."""
        n, shift = self.size, rounded_shift(shift)
        block = min(256, n)
        largest = jnp.max(jnp.abs(self.diagonal() - shift))  # the mean of a Gram matrix, or near it
        zeros = jnp.zeros_like(v)
        if n == block:  # a loop of one step would be compiled as a loop
            product = accurate_product(self.gram, shift, v, (zeros, zeros), largest)
            return shifted_back(product, shift, v)

        def add(carry: tuple, i: jax.Array) -> tuple[tuple, None]:
            # The last block overlaps the one before it, with weight 0: no padded copy of K.
            start = jnp.minimum(i * block, n - block)
            rows = jax.lax.dynamic_slice_in_dim(self.gram, start, block)
            weight = jax.lax.dynamic_slice_in_dim(v, start, block)
            new = (start + jnp.arange(block) >= i * block).reshape(-1, *[1] * (v.ndim - 1))
            weight = jnp.where(new, weight, 0)
            return accurate_product(rows, shift, weight, carry, largest), None

        product, _ = jax.lax.scan(add, (zeros, zeros), jnp.arange(-(-n // block)))
        return shifted_back(product, shift, v)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["kernel", "x", "own"],
    meta_fields=["tile", "mesh"],
)
@dataclass(frozen=True)
class KernelOperator:
    """The Gram matrix of x, evaluated tile by tile whenever it is needed."""

    kernel: KernelFunction
    x: Float[Array, "n d"]
    tile: int
    mesh: Mesh | None = None
    own: Float[Array, " n"] | None = None  # the diagonal, if it was evaluated before

    @property
    def size(self) -> int:
        """Number of inputs."""
        return self.x.shape[0]

    @property
    def dtype(self) -> jnp.dtype:
        """Dtype of the entries."""
        return self.x.dtype

    def diagonal(self) -> Float[Array, " n"]:
        """Return the entries (i, i)."""
        return diagonal(self.kernel, self.x) if self.own is None else self.own

    def columns(self, index: Int[Array, " r"]) -> Float[Array, "n r"]:
        """Return the columns with the given indices."""
        return checked_block(self.kernel, self.x, self.x[index])

    def product(self, v: Float[Array, "n *k"]) -> Float[Array, "n *k"]:
        """Return K @ v."""
        return symmetric_matmul(self.kernel, self.x, v, self.tile, self.mesh)

    def accurate(self, v: Float[Array, "n *k"], shift: Float[Array, ""]) -> Float[Array, "n *k"]:
        """Return K @ v by compensated sums; `shift` is near the mean of the entries."""
        return accurate_matmul(self.kernel, self.x, v, shift, self.tile, self.mesh)


Operator: TypeAlias = GramMatrix | KernelOperator


def operator_jit(
    function: Callable[..., _T], *, static_argnames: str | tuple[str, ...] = ()
) -> Callable[..., _T]:
    """Return `quick_jit(function)` for a function whose first argument is an operator.

    Level 0 is for small matrices in memory. Kernel values that are computed in the same loop as
    their sums must be rounded alike everywhere, which takes level 1.
    """
    small, usual = (
        quick_jit(function, static_argnames=static_argnames, level=level) for level in (0, 1)
    )

    @wraps(function)
    def call(operator: Operator, *args: Any, **kwargs: Any) -> _T:
        light = isinstance(operator, GramMatrix) and operator.size <= ROWS
        return (small if light else usual)(operator, *args, **kwargs)

    return call


def dense(kernel: KernelFunction, x: Float[Array, "n d"], *, copies: float = 3.0) -> GramMatrix:
    """Return the Gram matrix in memory; refuse one that cannot fit or is not finite.

    `copies` is the memory that a solver takes, in matrices of this size.
    """
    memory.require(
        _bytes(x, copies),
        f"this method with the Gram matrix of {x.shape[0]} inputs",
        "solver=MatrixFree() does not hold it",
        sharding.first_device(None, x),
        traced=not array_checks.is_concrete(x),
    )
    return _evaluated(kernel, x)


def _evaluated(kernel: KernelFunction, x: Float[Array, "n d"]) -> GramMatrix:
    gram = gram_matrix(kernel, x)
    # A product is much faster than a check of every entry, but may overflow for finite ones.
    if array_checks.is_concrete(gram) and not bool(_sums_are_finite(gram)):
        _refuse_infinite(gram)
    return GramMatrix(gram)


def prepare(kernel: KernelFunction, x: Float[Array, "n d"], solver: Solver) -> Operator:
    """Return the Gram matrix in memory or matrix-free, as the solver asks or as memory allows.

    Matrix-free, a matrix of a single tile is in memory too.
    """
    mesh = mesh_of(solver)
    x, kernel = sharding.placed(mesh, x, kernel)
    device = sharding.first_device(mesh, x)
    available = memory.available_bytes(device) if array_checks.is_concrete(x) else None
    fits = x.shape[0] <= _TRACED if available is None else _bytes(x, 1.2) <= 0.8 * available
    if solver == "auto":
        if fits:
            return _evaluated(kernel, x)
        solver = MatrixFree()
    if not isinstance(solver, MatrixFree):
        return dense(kernel, x, copies=3.0 if isinstance(solver, Direct) else 1.2)
    tile = solver.tile or memory.default_tile(device.platform)
    if fits and x.shape[0] <= tile and mesh is None:  # every product would hold all of it
        return dense(kernel, x, copies=1.2)
    own = diagonal(kernel, x)
    _refuse_infinite(own)  # the most memory that is cheap to use
    return KernelOperator(kernel, x, tile, mesh, own)


def refuse_vanishing(operator: Operator, x: jax.Array, *, any_row: bool) -> None:
    """Raise if every function of the kernel's span is 0 at any input, or at all of them."""
    own = _diagonal(operator)
    if not array_checks.is_concrete(own, x):
        return
    tiny = jnp.finfo(operator.dtype).tiny
    vanishing = np.abs(np.asarray(own)) < tiny  # XLA flushes smaller numbers to 0
    if not (vanishing.any() if any_row else vanishing.all()):
        return
    row = int(np.argmax(vanishing))
    if not np.asarray(x[row]).any():
        raise ValueError(
            f"`x` must not be zero where it is to be classified: row {row} is zero, where every "
            "function of this kernel's span is 0. Drop such rows, or append a constant feature "
            "to all of them"
        )
    raise ValueError(
        f"`x` must have rows whose kernel value is not 0 in {operator.dtype}; row {row} is not "
        "zero, but its kernel value is. Multiply x by a large constant if it is very small, or try "
        "float64 (jax_enable_x64)"
    )


@quick_jit
def _diagonal(operator: Operator) -> jax.Array:
    return operator.diagonal()


def _refuse_infinite(values: jax.Array) -> None:
    if array_checks.is_concrete(values) and not bool(_all_finite(values)):
        raise ValueError("`kernel` returned NaN or inf on `x`; expected a finite Gram matrix. "
                         "Where values overflow, divide `x` by its largest entry")  # fmt: skip


@quick_jit
def _all_finite(array: jax.Array) -> jax.Array:
    return jnp.all(jnp.isfinite(array))


@quick_jit
def _sums_are_finite(gram: jax.Array) -> jax.Array:
    return _all_finite(matmul(gram, jnp.ones(gram.shape[:1], gram.dtype)))


def _bytes(x: jax.Array, copies: float) -> int:
    return int(copies * x.shape[0] ** 2 * x.dtype.itemsize)
