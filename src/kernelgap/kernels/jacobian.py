"""The empirical NTK of any function, from the Jacobians of a few examples at a time.

K(x, z)_{ab} = <grad f_a(params; x), grad f_b(params; z)> is a product of Jacobians. The Gram matrix
is evaluated tile by tile, a tile being the product of two blocks of `chunk` rows, leaf by leaf of
the parameters. The block of rows is differentiated once, that of columns once per tile, which
is cheap next to the product with `chunk` rows.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.outputs import check_apply
from kernelgap.typing import Apply, PyTree

ENTRIES = 2**27
"""Entries of a block of Jacobians, where the user does not say how many rows it has."""


class FunctionSpec(NamedTuple):
    """What is static in the empirical NTK of a function."""

    apply: Apply
    chunk: int | None


def checked_function(apply: Apply, chunk: int | None) -> FunctionSpec:
    """Refuse what is no function, cannot be compared, or a chunk below 1."""
    if not callable(apply):
        raise TypeError(f"`model` must be a homogeneous_mlp or a function apply(params, x); "
                        f"got {type(apply).__name__}")  # fmt: skip
    try:
        hash(apply)
    except TypeError:
        raise TypeError(f"`model` must be hashable, so that compiled code is found again; "
                        f"{type(apply).__name__} is not. Wrap it in a function, with its "
                        f"arrays in `params`") from None  # fmt: skip
    if chunk is not None:
        chunk = checks.integer(chunk, "chunk", minimum=1)
    return FunctionSpec(apply, chunk)


def gram(
    spec: FunctionSpec, params: PyTree, x1: jax.Array, x2: jax.Array | None, get: str
) -> jax.Array:
    """The kernel between all rows of x1 and x2, or among x1 when x2 is None."""
    del get
    outputs = check_apply(spec.apply, params, x1)
    rows = _blocks(spec, params, x1, outputs)
    columns = rows if x2 is None else _blocks(spec, params, x2, outputs)
    if _in_python(len(rows) * len(columns), rows, columns, params):
        tiles = _python_tiles(spec, params, rows, None if x2 is None else columns)
    else:
        tiles = _scanned_tiles(spec, params, rows, columns)
    n1, n2 = x1.shape[0], (x1 if x2 is None else x2).shape[0]
    found = _joined(tiles, n1, n2, x2 is None)
    return array_checks.nan_unless(array_checks.all_finite(params), _as_outputs(found, outputs))


def diagonal(spec: FunctionSpec, params: PyTree, x: jax.Array, get: str) -> jax.Array:
    """K(x_i, x_i) for each row."""
    del get
    outputs = check_apply(spec.apply, params, x)
    blocks = _blocks(spec, params, x, outputs)
    part = partial(_diagonal, spec, params)
    if _in_python(len(blocks), blocks, params):
        found = jnp.concatenate([jax.block_until_ready(part(block)) for block in blocks])
    else:
        found = jax.lax.map(jax.checkpoint(part), blocks)
        found = found.reshape(-1, *found.shape[2:])
    found = _as_outputs(found[: x.shape[0]], outputs)
    return array_checks.nan_unless(array_checks.all_finite(params), found)


def _blocks(
    spec: FunctionSpec, params: PyTree, x: jax.Array, outputs: jax.ShapeDtypeStruct
) -> jax.Array:
    """The examples in blocks of equal size, (blocks, rows, ...), the last one filled up."""
    size = sum(leaf.size for leaf in jax.tree.leaves(params)) * math.prod(outputs.shape[1:])
    n = x.shape[0]
    blocks = -(-n // (spec.chunk or max(1, ENTRIES // max(1, size))))
    chunk = -(-n // blocks)  # of nearly equal size: the last one is not mostly filling
    # Filled with a true example: zeros could be where the function has no derivative.
    rows = jnp.minimum(jnp.arange(blocks * chunk), n - 1)
    return x[rows].reshape(blocks, chunk, *x.shape[1:])


def _in_python(steps: int, *arrays: PyTree) -> bool:
    """Whether Python does the loop: outside of jit, or where there is nothing to repeat.

    XLA runs convolutions in the bodies of its loops far slower on the CPU: 15 times in one case.
    """
    return steps == 1 or array_checks.is_concrete(*jax.tree.leaves(arrays))


def _python_tiles(
    spec: FunctionSpec, params: PyTree, rows: jax.Array, columns: jax.Array | None
) -> jax.Array:
    """All tiles, (blocks, blocks, rows, rows, k, k); those above the diagonal are mirrored."""
    tiles: list[list[jax.Array]] = []
    for i, block in enumerate(rows):
        left = _jacobian(spec, params, block)
        others = [rows[j] for j in range(i)] if columns is None else columns
        # Waiting keeps the blocks of tiles that are yet to come out of memory.
        found = [
            jax.block_until_ready(_product(left, _jacobian(spec, params, other)))
            for other in others
        ]
        tiles.append(found if columns is not None else [*found, _product(left, left)])
    if columns is None:
        for i, row in enumerate(tiles):
            row += [tiles[j][i].transpose(1, 0, 3, 2) for j in range(i + 1, len(tiles))]
    return jnp.stack([jnp.stack(row) for row in tiles])


@partial(jax.jit, static_argnames="spec")
def _scanned_tiles(
    spec: FunctionSpec, params: PyTree, rows: jax.Array, columns: jax.Array
) -> jax.Array:
    """The same by loops of XLA's, that compile in a time that does not grow with n."""

    # Without checkpoints a gradient in params would store every Jacobian.
    @jax.checkpoint
    def tile(left: list[jax.Array], block: jax.Array) -> jax.Array:
        return _product(left, _jacobian(spec, params, block))

    @jax.checkpoint
    def row(block: jax.Array) -> jax.Array:
        left = _jacobian(spec, params, block)
        return jax.lax.map(partial(tile, left), columns)

    return jax.lax.map(row, rows)


@partial(jax.jit, static_argnames=("n1", "n2", "symmetric"))
def _joined(tiles: jax.Array, n1: int, n2: int, symmetric: bool) -> jax.Array:
    """The Gram matrix (n1, n2, k, k) without the rows that blocks were filled up with."""
    joined = jnp.moveaxis(tiles, 2, 1)
    i, rows, j, columns, k, _ = joined.shape
    joined = joined.reshape(i * rows, j * columns, k, k)[:n1, :n2]
    # Products of a matrix with itself are symmetric only up to rounding.
    return (joined + joined.transpose(1, 0, 3, 2)) / 2 if symmetric else joined


def _as_outputs(found: jax.Array, outputs: jax.ShapeDtypeStruct) -> jax.Array:
    """In the dtype of the outputs, and without output axes where the function has none."""
    found = found.astype(outputs.dtype)
    return found[..., 0, 0] if len(outputs.shape) == 1 else found


@partial(jax.jit, static_argnames="spec")
def _jacobian(
    spec: FunctionSpec, params: PyTree, x: Float[Array, "rows *shape"]
) -> list[Float[Array, "rows k _"]]:
    """The Jacobian of each example in each leaf."""

    def outputs(params: PyTree, example: jax.Array) -> jax.Array:
        return spec.apply(params, example[None]).reshape(-1)

    found = jax.vmap(jax.jacrev(outputs), (None, 0))(params, x)
    return [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(found)]


@jax.jit
def _product(
    left: list[Float[Array, "rows k _"]], right: list[Float[Array, "columns k _"]]
) -> Float[Array, "rows columns k k"]:
    """The products of all leaves, summed."""
    return _sum("iap,jbp->ijab", left, right)


@partial(jax.jit, static_argnames="spec")
def _diagonal(
    spec: FunctionSpec, params: PyTree, x: Float[Array, "rows *shape"]
) -> Float[Array, "rows k k"]:
    """The same of each example with itself."""
    rows = _jacobian(spec, params, x)
    return _sum("iap,ibp->iab", rows, rows)


def _sum(formula: str, left: list[jax.Array], right: list[jax.Array]) -> jax.Array:
    """The products of all leaves, summed in the widest of their dtypes, float32 at least."""
    dtypes = [jnp.dtype(jnp.float32), *(leaf.dtype for leaf in left)]
    dtype = max(dtypes, key=lambda dtype: jnp.finfo(dtype).bits)
    total = jnp.zeros((), dtype)
    for a, b in zip(left, right, strict=True):
        a, b = a.astype(dtype), b.astype(dtype)
        total += jnp.einsum(formula, a, b, precision=jax.lax.Precision.HIGHEST)
    return total
