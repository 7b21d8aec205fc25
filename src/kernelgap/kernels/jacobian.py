"""The empirical NTK of any function, from the Jacobians of a few examples at a time.

K(x, z)_{ab} = <grad f_a(params; x), grad f_b(params; z)> is a product of Jacobians. The Gram matrix
is evaluated tile by tile, a tile being the product of two blocks of `chunk` rows, leaf by leaf of
the parameters. Each block is differentiated once per tile: next to the product of `chunk` rows
with it, that is cheap.
"""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from kernelgap import _checks
from kernelgap.typing import Apply, PyTree

ENTRIES = 2**24
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
        chunk = _checks.integer(chunk, "chunk", minimum=1)
    return FunctionSpec(apply, chunk)


def gram(
    spec: FunctionSpec, params: PyTree, x1: jax.Array, x2: jax.Array | None, get: str
) -> jax.Array:
    """The kernel between all rows of x1 and x2, or among x1 when x2 is None."""
    del get
    _check_outputs(spec, params, x1)
    return _gram(spec, params, x1, x2)


def diagonal(spec: FunctionSpec, params: PyTree, x: jax.Array, get: str) -> jax.Array:
    """K(x_i, x_i) for each row."""
    del get
    _check_outputs(spec, params, x)
    return _diagonal(spec, params, x)


def _check_outputs(spec: FunctionSpec, params: PyTree, x: jax.Array) -> None:
    found = jax.eval_shape(spec.apply, params, x)
    shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
    n = x.shape[0]
    if shape is None or dtype is None or len(shape) not in (1, 2) or shape[0] != n or 0 in shape:
        raise ValueError(f"`model` must return shape ({n},) or ({n}, k) for {n} examples; "
                         f"got {type(found).__name__ if shape is None else shape}")  # fmt: skip
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"`model` must return floating-point outputs; got dtype {dtype}")


@partial(jax.jit, static_argnames="spec")
def _gram(
    spec: FunctionSpec,
    params: PyTree,
    x1: Float[Array, "n1 *shape"],
    x2: Float[Array, "n2 *shape"] | None,
) -> Float[Array, "n1 n2 *outputs"]:
    rows = _blocks(spec, params, x1)
    columns = rows if x2 is None else _blocks(spec, params, x2)

    @jax.checkpoint  # else a gradient in params would store every Jacobian
    def tile(left: list[jax.Array], block: jax.Array) -> jax.Array:
        right = _jacobian(spec, params, block)
        return _sum("iap,jbp->ijab", left, right)

    @jax.checkpoint
    def row(i: jax.Array, block: jax.Array) -> jax.Array:
        left = _jacobian(spec, params, block)

        def entry(item: tuple[jax.Array, jax.Array]) -> jax.Array:
            if x2 is not None:
                return tile(left, item[1])
            # Tiles above the diagonal are mirrored below.
            shape = jax.eval_shape(tile, left, item[1])
            nothing = jnp.zeros(shape.shape, shape.dtype)
            return jax.lax.cond(item[0] <= i, lambda: tile(left, item[1]), lambda: nothing)

        return jax.lax.map(entry, (jnp.arange(len(columns)), columns))

    tiles = jax.lax.map(lambda item: row(*item), (jnp.arange(len(rows)), rows))
    # (row block, column block, i, j, a, b) -> (n1, n2, a, b), without the rows that were added.
    found = jnp.moveaxis(tiles, 2, 1)
    outputs = found.shape[4:]
    found = found.reshape(found.shape[0] * found.shape[1], -1, *outputs)
    n1, n2 = x1.shape[0], (x1 if x2 is None else x2).shape[0]
    found = found[:n1, :n2]
    if x2 is None:
        below = jnp.tri(n1, dtype=bool)[:, :, None, None]
        found = jnp.where(below, found, 0)
        mirrored = found.transpose(1, 0, 3, 2)
        same = jnp.eye(n1, dtype=bool)[:, :, None, None]
        found = jnp.where(same, (found + mirrored) / 2, found + mirrored)
    return _as_outputs(spec, params, x1, found)


@partial(jax.jit, static_argnames="spec")
def _diagonal(
    spec: FunctionSpec, params: PyTree, x: Float[Array, "n *shape"]
) -> Float[Array, "n *outputs"]:
    @jax.checkpoint
    def block_diagonal(block: jax.Array) -> jax.Array:
        rows = _jacobian(spec, params, block)
        return _sum("iap,ibp->iab", rows, rows)

    found = jax.lax.map(block_diagonal, _blocks(spec, params, x))
    found = found.reshape(-1, *found.shape[2:])[: x.shape[0]]
    return _as_outputs(spec, params, x, found)


def _as_outputs(spec: FunctionSpec, params: PyTree, x: jax.Array, found: jax.Array) -> jax.Array:
    """In the dtype of the outputs, and without output axes where the function has none."""
    outputs = jax.eval_shape(spec.apply, params, x)
    found = found.astype(outputs.dtype)
    return found[..., 0, 0] if outputs.ndim == 1 else found


def _blocks(spec: FunctionSpec, params: PyTree, x: jax.Array) -> jax.Array:
    """The examples in blocks of equal size, (blocks, rows, ...), the last one filled up."""
    n = x.shape[0]
    size = sum(math.prod(jnp.shape(leaf)) for leaf in jax.tree.leaves(params))
    size *= math.prod(jax.eval_shape(spec.apply, params, x).shape[1:])
    chunk = min(n, spec.chunk or max(1, ENTRIES // max(1, size)))
    blocks = -(-n // chunk)
    # Filled with a true example: zeros could be where the function has no derivative.
    rows = jnp.minimum(jnp.arange(blocks * chunk), n - 1)
    return x[rows].reshape(blocks, chunk, *x.shape[1:])


def _jacobian(spec: FunctionSpec, params: PyTree, x: jax.Array) -> list[jax.Array]:
    """The Jacobian of each example in each leaf, (rows, outputs, entries of the leaf)."""

    def outputs(params: PyTree, example: jax.Array) -> jax.Array:
        return spec.apply(params, example[None]).reshape(-1)

    found = jax.vmap(jax.jacrev(outputs), (None, 0))(params, x)
    return [leaf.reshape(*leaf.shape[:2], -1) for leaf in jax.tree.leaves(found)]


def _sum(formula: str, left: list[jax.Array], right: list[jax.Array]) -> jax.Array:
    """The products of all leaves, summed, in the widest of their dtypes."""
    dtype = jnp.result_type(*left)
    total = jnp.zeros((), dtype)
    for a, b in zip(left, right, strict=True):
        total += jnp.einsum(formula, a, b, precision=jax.lax.Precision.HIGHEST).astype(dtype)
    return total
