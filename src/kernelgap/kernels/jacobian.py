"""The empirical NTK of any function, from the gradients for a few examples at a time.

K(x, z)_{ab} = <grad f_a(params; x), grad f_b(params; z)> is a product of Jacobians. The Gram matrix
is evaluated tile by tile, a tile being the product of two blocks of `chunk` rows, leaf by leaf of
the parameters, in the factors that `kernelgap.kernels.gradients` finds. The block of rows is
differentiated once, the block of columns once per tile, which is cheap compared with the product.
"""

import math
from functools import partial, reduce
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.outputs import check_apply
from kernelgap.kernels.gradients import Gradient, Outer, example_gradients
from kernelgap.typing import Apply, PyTree

ENTRIES = 2**27
"""Largest number of entries in a block of gradients whose number of rows is not given."""
_TILE = 2**25  # entries of a tile, of which several are held


class FunctionSpec(NamedTuple):
    """Static description of the empirical NTK of a function."""

    apply: Apply
    chunk: int | None


def checked_function(apply: Apply, chunk: int | None) -> FunctionSpec:
    """Return the description of a function; raise unless it is callable and hashable."""
    if not callable(apply):
        raise TypeError(f"`model` must be a homogeneous_mlp or a function apply(params, x); "
                        f"got {type(apply).__name__}")  # fmt: skip
    try:
        hash(apply)
    except TypeError:
        raise TypeError(f"`model` must be hashable, so that compiled code can be reused; "
                        f"{type(apply).__name__} is not. Wrap it in a function, with its "
                        f"arrays in `params`") from None  # fmt: skip
    if chunk is not None:
        chunk = checks.integer(chunk, "chunk", minimum=1)
    return FunctionSpec(apply, chunk)


def gram(
    spec: FunctionSpec, params: PyTree, x1: jax.Array, x2: jax.Array | None, get: str
) -> jax.Array:
    """Return the kernel between all rows of x1 and x2, or among x1 when x2 is None."""
    del get
    outputs = check_apply(spec.apply, params, x1)
    rows = _blocks(spec, params, x1, outputs)
    columns = rows if x2 is None else _blocks(spec, params, x2, outputs)
    if len(rows) * len(columns) == 1:
        values = _whole(spec, params, x1, x2)
    else:
        scan = not array_checks.is_concrete(*jax.tree.leaves((rows, columns, params)))
        tiles = (_scanned_tiles if scan else _python_tiles)(
            spec, params, rows, None if x2 is None else columns
        )
        values = _joined(tiles, x1.shape[0], (x1 if x2 is None else x2).shape[0], x2 is None)
    return array_checks.nan_unless(array_checks.all_finite(params), _as_outputs(values, outputs))


def diagonal(spec: FunctionSpec, params: PyTree, x: jax.Array, get: str) -> jax.Array:
    """Return K(x_i, x_i) for each row."""
    del get
    outputs = check_apply(spec.apply, params, x)
    blocks = _blocks(spec, params, x, outputs)
    part = partial(_diagonal, spec, params)
    if len(blocks) == 1 or array_checks.is_concrete(*jax.tree.leaves((blocks, params))):
        values = jnp.concatenate([jax.block_until_ready(part(block)) for block in blocks])
    else:
        values = jax.lax.map(jax.checkpoint(part), blocks)
        values = values.reshape(-1, *values.shape[2:])
    values = _as_outputs(values[: x.shape[0]], outputs)
    return array_checks.nan_unless(array_checks.all_finite(params), values)


def _blocks(
    spec: FunctionSpec, params: PyTree, x: jax.Array, outputs: jax.ShapeDtypeStruct
) -> jax.Array:
    """Return the examples in blocks of equal size, (blocks, rows, ...); the last one is padded."""
    example = jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype)
    of_one = _jacobian.eval_shape(spec, params, example)
    size = sum(leaf.size for leaf in jax.tree.leaves(of_one))
    n, k = x.shape[0], math.prod(outputs.shape[1:])
    fitting = min(ENTRIES // max(1, size), math.isqrt(_TILE) // k)
    blocks = -(-n // (spec.chunk or max(1, fitting)))
    if blocks == 1:
        return x[None]
    chunk = -(-n // blocks)  # blocks of nearly equal size need little padding
    # Pad with a real example: the function may have no derivative at zeros.
    rows = jnp.minimum(jnp.arange(blocks * chunk), n - 1)
    return x[rows].reshape(blocks, chunk, *x.shape[1:])


def _python_tiles(
    spec: FunctionSpec, params: PyTree, rows: jax.Array, columns: jax.Array | None
) -> jax.Array:
    """Return all tiles, (blocks, blocks, rows, rows, k, k); mirror those above the diagonal.

    On the CPU, XLA runs convolutions within its own loops far slower: 15 times in one case.
    """
    tiles: list[list[jax.Array]] = []
    for i, block in enumerate(rows):
        left = _jacobian(spec, params, block)
        others = [rows[j] for j in range(i)] if columns is None else columns
        # Waiting keeps the Jacobians of later tiles out of memory.
        row_tiles = [
            jax.block_until_ready(_product(left, _jacobian(spec, params, other)))
            for other in others
        ]
        tiles.append(row_tiles if columns is not None else [*row_tiles, _product(left, left)])
    if columns is None:
        for i, row in enumerate(tiles):
            row += [tiles[j][i].transpose(1, 0, 3, 2) for j in range(i + 1, len(tiles))]
    return jnp.stack([jnp.stack(row) for row in tiles])


@partial(jax.jit, static_argnames="spec")
def _scanned_tiles(
    spec: FunctionSpec, params: PyTree, rows: jax.Array, columns: jax.Array | None
) -> jax.Array:
    """Return all tiles by XLA loops, whose compile time does not grow with n."""
    columns = rows if columns is None else columns

    # Without checkpoints a gradient in params would store every Jacobian.
    @jax.checkpoint
    def tile(left: list[jax.Array], block: jax.Array) -> jax.Array:
        return _product(left, _jacobian(spec, params, block))

    @jax.checkpoint
    def row(block: jax.Array) -> jax.Array:
        left = _jacobian(spec, params, block)
        return jax.lax.map(partial(tile, left), columns)

    return jax.lax.map(row, rows)


@partial(jax.jit, static_argnames="spec")
def _whole(
    spec: FunctionSpec, params: PyTree, x1: jax.Array, x2: jax.Array | None
) -> Float[Array, "n1 n2 k k"]:
    """Return the Gram matrix as one tile."""
    left = _jacobian(spec, params, x1)
    if x2 is not None:
        return _product(left, _jacobian(spec, params, x2))
    return _symmetrised(_product(left, left))


@partial(jax.jit, static_argnames=("n1", "n2", "symmetric"))
def _joined(tiles: jax.Array, n1: int, n2: int, symmetric: bool) -> jax.Array:
    """Return the Gram matrix (n1, n2, k, k) without the rows that pad the blocks."""
    joined = jnp.moveaxis(tiles, 2, 1)
    i, rows, j, columns, k, _ = joined.shape
    joined = joined.reshape(i * rows, j * columns, k, k)[:n1, :n2]
    return _symmetrised(joined) if symmetric else joined


def _symmetrised(values: jax.Array) -> jax.Array:
    """Return the mean with the transpose: products with itself are symmetric up to rounding."""
    return (values + values.transpose(1, 0, 3, 2)) / 2


def _as_outputs(values: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
    """Return values in the dtype of the outputs; drop output axes that the function lacks."""
    values = values.astype(outputs.dtype)
    return values.squeeze((-2, -1)) if len(outputs.shape) == 1 else values


@partial(jax.jit, static_argnames="spec")
def _jacobian(spec: FunctionSpec, params: PyTree, x: Float[Array, "rows *shape"]) -> list[Gradient]:
    return example_gradients(spec.apply, params, x)


@jax.jit
def _product(left: list[Gradient], right: list[Gradient]) -> Float[Array, "rows columns k k"]:
    """Return the products of all leaves, summed."""

    def products(a: jax.Array, b: jax.Array) -> jax.Array:
        flat = (array.reshape(-1, array.shape[-1]) for array in (a, b))
        product = jnp.matmul(next(flat), next(flat).T, precision=jax.lax.Precision.HIGHEST)
        return product.reshape(*a.shape[:-1], *b.shape[:-1])

    def of_leaf(a: Gradient, b: Gradient) -> jax.Array:
        if isinstance(a, Outer):
            assert isinstance(b, Outer)  # both are gradients in the same parameters
            return products(a.delta, b.delta) * products(a.h, b.h)[:, None, :, None]
        assert not isinstance(b, Outer)
        return products(a, b)

    values = map(of_leaf, _widened(left), _widened(right))
    return reduce(jnp.add, values).transpose(0, 2, 1, 3)


@partial(jax.jit, static_argnames="spec")
def _diagonal(
    spec: FunctionSpec, params: PyTree, x: Float[Array, "rows *shape"]
) -> Float[Array, "rows k k"]:
    """Return the products of each example with itself, summed over leaves."""

    def of_leaf(a: Gradient) -> jax.Array:
        rows = a.delta if isinstance(a, Outer) else a
        values = jnp.einsum("iap,ibp->iab", rows, rows, precision=jax.lax.Precision.HIGHEST)
        if not isinstance(a, Outer):
            return values
        return values * jnp.sum(jnp.square(a.h), axis=1)[:, None, None]

    return reduce(jnp.add, map(of_leaf, _widened(_jacobian(spec, params, x))))


def _widened(rows: list[Gradient]) -> list[Gradient]:
    """Return the gradients in the widest of their dtypes, float32 at least."""
    dtypes = [jnp.dtype(jnp.float32), *(array.dtype for array in jax.tree.leaves(rows))]
    dtype = max(dtypes, key=lambda dtype: jnp.finfo(dtype).bits)
    return jax.tree.map(lambda array: array.astype(dtype), rows)
