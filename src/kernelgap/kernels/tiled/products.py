r"""Products K(x1, x2) V without the Gram matrix, tile by tile.

A tile is evaluated, used and discarded, so that memory is n (d + k) plus a few tiles, for any n.
With x2 None each tile below the diagonal is used twice: T V_j is added to block i and T' V_i to
block j. The tiles are distributed evenly over the devices of a mesh, and partial results are
added up. Below, `kernel` is a pytree (`functions.checked_kernel`) and so passes through `jit`.
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.quick import quick_jit
from kernelgap.kernels.functions import (
    KernelFunction,
    check_rows,
    checked_block,
    checked_inputs,
    checked_kernel,
)
from kernelgap.kernels.kernel import widened
from kernelgap.kernels.tiled import memory, sharding
from kernelgap.kernels.tiled.blocks import cross_blocks, has_blocks
from kernelgap.kernels.tiled.summation import (
    accurate_product,
    compensated_sum,
    rounded_shift,
    shifted_back,
)
from kernelgap.typing import ArrayLike


def matmul(
    kernel: KernelFunction,
    x1: ArrayLike,
    v: ArrayLike,
    *,
    x2: ArrayLike | None = None,
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> jax.Array:
    r"""Return K(x1, x2) @ v without ever holding K(x1, x2).

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`, or any function of that form
            that JAX can trace, pure and symmetric in its two inputs.
        x1: Inputs of shape (n1, d).
        v: (n2,) or (n2, k), one row per column of the Gram matrix; it is cast to the dtype of x1.
        x2: Inputs of shape (n2, d); None for x2 = x1, which halves the work.
        tile: Largest side of a tile, at least 1; by default 1024 on a CPU, 8192 elsewhere. It need
            not divide the numbers of inputs.
        mesh: Devices that share the work, a `jax.sharding.Mesh`; all of its axes are used. In a
            program of several processes, every process must pass the same arguments, and gets the
            same result.

    Returns:
        An array of shape (n1,) or (n1, k), on every device of the mesh. It can be differentiated;
        tiles are then computed again in the backward pass instead of being stored.

    Raises:
        TypeError: If `kernel` returns another dtype than that of x1.
        ValueError: If `kernel` returns the wrong shape, or the mesh has no device of this process.
        MemoryError: If tiles and vectors do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 100, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> product = kg.kernels.matmul(kernel, x, y, tile=32)
        >>> bool(jnp.allclose(product, kernel(x) @ y, atol=1e-4))
        True
    """
    kernel = checked_kernel(kernel)
    x1, x2 = checked_inputs(x1, x2)
    check_rows(kernel, x1)
    v = array_checks.targets(v, (x1 if x2 is None else x2).shape[0], "v", columns=True)
    v = v.astype(x1.dtype)
    tile = None if tile is None else checks.integer(tile, "tile", minimum=1)
    return multiply(kernel, x1, v, x2, tile, sharding.checked_mesh(mesh))


def multiply(
    kernel: KernelFunction,
    x1: Float[Array, "n1 d"],
    v: Float[Array, "n2 *k"],
    x2: Float[Array, "n2 d"] | None,
    tile: int | None,
    mesh: Mesh | None,
) -> Float[Array, "n1 *k"]:
    """Return K(x1, x2) @ v for arguments that have been checked."""
    device = sharding.first_device(mesh, x1)
    tile = tile or memory.default_tile(device.platform)
    memory.require(
        _needed(x1, v, tile) * sharding.sharing_memory(mesh),
        "a product with this kernel",
        "A smaller `tile` needs less",
        device,
        traced=not array_checks.is_concrete(x1, x2, v, *jax.tree.leaves(kernel)),
    )
    x1, v, x2, kernel = sharding.placed(mesh, x1, v, x2, kernel)
    dtype = v.dtype
    x1, x2, v = widened((x1, x2, v))
    if x2 is None:
        return symmetric_matmul(kernel, x1, v, tile, mesh).astype(dtype)
    if mesh is None and has_blocks(kernel, x1, x2, v):
        weights = np.asarray(v)
        total = np.zeros((x1.shape[0], *v.shape[1:]), v.dtype)
        for i, j, block in cross_blocks(kernel, x1, x2, tile):
            total[i] += block @ weights[j]
        return jax.device_put(total).astype(dtype)
    return _cross_matmul(kernel, x1, x2, v, tile, mesh).astype(dtype)


@partial(quick_jit, static_argnames=("tile", "mesh"))
def symmetric_matmul(
    kernel: KernelFunction,
    x: Float[Array, "n d"],
    v: Float[Array, "n *k"],
    tile: int,
    mesh: Mesh | None,
) -> Float[Array, "n *k"]:
    """Return K(x, x) @ v, evaluating each tile once."""
    count, side = _tiles(x.shape[0], tile, mesh)
    xs, vs = _blocks(x, count, side, mode="edge"), _blocks(v, count, side)
    pairs = np.tril_indices(count)

    def sums(kernel: KernelFunction, xs: jax.Array, vs: jax.Array) -> jax.Array:
        @jax.checkpoint
        def both(i: jax.Array, j: jax.Array, weight: jax.Array) -> tuple:
            block = _tile(kernel, xs, i, j)
            below = jnp.where(i == j, 0, weight)  # a tile on the diagonal is used once
            return _product(block, weight * vs[j]), _product(block, below * vs[i], axis=0)

        def add(total: jax.Array, item: tuple) -> tuple[jax.Array, None]:
            (i, j), weight = item
            to_i, to_j = both(i, j, weight)
            return total.at[i].add(to_i).at[j].add(to_j), None

        blocks, _ = jax.lax.scan(add, jnp.zeros_like(vs), _dealt(pairs, v.dtype, mesh))
        return sharding.total(blocks, mesh)

    blocks = sharding.split(sums, mesh, result=False)(kernel, xs, vs)
    return blocks.reshape(count * side, *v.shape[1:])[: v.shape[0]]


@partial(quick_jit, static_argnames=("tile", "mesh"))
def _cross_matmul(
    kernel: KernelFunction,
    x1: Float[Array, "n1 d"],
    x2: Float[Array, "n2 d"],
    v: Float[Array, "n2 *k"],
    tile: int,
    mesh: Mesh | None,
) -> Float[Array, "n1 *k"]:
    """Return K(x1, x2) @ v."""
    count1, side1 = _tiles(x1.shape[0], tile, mesh)
    count2, side2 = _tiles(x2.shape[0], tile, mesh)
    xs1, xs2 = _blocks(x1, count1, side1, mode="edge"), _blocks(x2, count2, side2, mode="edge")
    pairs, shape = _all(count1, count2), (count1, side1, *v.shape[1:])

    def sums(kernel: KernelFunction, xs1: jax.Array, xs2: jax.Array, vs: jax.Array) -> jax.Array:
        @jax.checkpoint
        def product(i: jax.Array, j: jax.Array, weight: jax.Array) -> jax.Array:
            return _product(checked_block(kernel, xs1[i], xs2[j]), weight * vs[j])

        def add(total: jax.Array, item: tuple) -> tuple[jax.Array, None]:
            (i, j), weight = item
            return total.at[i].add(product(i, j, weight)), None

        blocks, _ = jax.lax.scan(add, jnp.zeros(shape, v.dtype), _dealt(pairs, v.dtype, mesh))
        return sharding.total(blocks, mesh)

    blocks = sharding.split(sums, mesh, result=False)(kernel, xs1, xs2, _blocks(v, count2, side2))
    return blocks.reshape(count1 * side1, *v.shape[1:])[: x1.shape[0]]


@partial(quick_jit, static_argnames=("tile", "mesh"))
def accurate_matmul(
    kernel: KernelFunction,
    x: Float[Array, "n d"],
    v: Float[Array, "n *k"],
    shift: Float[Array, ""],
    tile: int,
    mesh: Mesh | None,
) -> Float[Array, "n *k"]:
    """Return K(x, x) @ v where terms cancel by factors of a thousand and more.

    See `summation.accurate_product`; sums over tiles are compensated. `shift` is a constant that is
    subtracted from all entries and added back in a separate sum: if it is the mean of the entries,
    much of the cancellation happens there.
    """
    count, side = _tiles(x.shape[0], tile, mesh)
    xs, vs = _blocks(x, count, side, mode="edge"), _blocks(v, count, side)
    pairs, shift = _all(count, count), rounded_shift(shift)

    def sums(kernel: KernelFunction, shift: jax.Array, xs: jax.Array, vs: jax.Array) -> tuple:
        def add(carry: tuple, item: tuple) -> tuple[tuple, None]:
            total, lost = carry
            (i, j), weight = item
            # The result of `cond` is in memory, so that all uses below see the same roundings.
            block = _tile(kernel, xs, j, i)
            after, residue = accurate_product(block, shift, weight * vs[j], (total[i], lost[i]))
            return (total.at[i].set(after), lost.at[i].set(residue)), None

        zeros = jnp.zeros_like(vs)
        (total, lost), _ = jax.lax.scan(add, (zeros, zeros), _dealt(pairs, v.dtype, mesh))
        # Totals of devices cancel too, so that they are added in the same way.
        start = jnp.zeros_like(total), sharding.total(lost, mesh)
        return compensated_sum(sharding.gathered(total, mesh), start)

    blocks = sharding.split(sums, mesh, result=False)(kernel, shift, xs, vs)
    total, lost = (part.reshape(-1, *v.shape[1:])[: v.shape[0]] for part in blocks)
    return shifted_back((total, lost), shift, v)


def _needed(x1: jax.Array, v: jax.Array, tile: int) -> int:
    """Return the bytes of a product on one device: a tile, and padded inputs and outputs."""
    rows, columns, size = x1.shape[0], v.shape[0], x1.dtype.itemsize
    vectors = (rows + columns) * (x1.shape[1] + math.prod(v.shape[1:])) * size
    return memory.working_set(min(tile, rows), min(tile, columns), size) + vectors


def _tiles(n: int, tile: int, mesh: Mesh | None) -> tuple[int, int]:
    """Return number and side of tiles: equal ones to save padding, and enough for all devices."""
    # 8 p tiles in a square are 4 p in a triangle: of four rounds only the last leaves devices idle.
    least = 1 if mesh is None else math.isqrt(8 * mesh.size - 1) + 1
    side = -(-n // max(-(-n // tile), least))
    return -(-n // side), side


def _blocks(array: jax.Array, count: int, side: int, mode: str = "constant") -> jax.Array:
    """Split rows into blocks. Inputs are padded by copies (an "edge"), valid for every kernel."""
    widths = [(0, count * side - array.shape[0])] + [(0, 0)] * (array.ndim - 1)
    return jnp.pad(array, widths, mode=mode).reshape(count, side, *array.shape[1:])


def _tile(kernel: KernelFunction, xs: jax.Array, i: jax.Array, j: jax.Array) -> jax.Array:
    """Return the Gram matrix of blocks i and j, with the kernel's own diagonal where i = j."""
    return jax.lax.cond(
        i == j,
        lambda: checked_block(kernel, xs[i], None),
        lambda: checked_block(kernel, xs[i], xs[j]),
    )


def _all(rows: int, columns: int) -> tuple[np.ndarray, ...]:
    return tuple(index.ravel() for index in np.indices((rows, columns)))


def _dealt(pairs: tuple[np.ndarray, ...], dtype: np.dtype, mesh: Mesh | None) -> tuple:
    """Return this device's tiles and their weights; missing tiles are filled up with weight 0."""
    pad = -len(pairs[0]) % sharding.devices(mesh)
    padded = [np.pad(index.astype(np.int32), (0, pad)) for index in pairs]
    weights = np.pad(np.ones(len(pairs[0]), dtype), (0, pad))
    i, j, weights = (sharding.share(array, mesh) for array in (*padded, weights))
    return (i, j), weights


def _product(block: jax.Array, v: jax.Array, axis: int = 1) -> jax.Array:
    """Return block @ v, or block' @ v for axis 0, without forming the transpose."""
    dimensions = (((axis,), (0,)), ((), ()))
    return jax.lax.dot_general(block, v, dimensions, precision=jax.lax.Precision.HIGHEST)
