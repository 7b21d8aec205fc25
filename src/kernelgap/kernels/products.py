r"""Products K(x1, x2) V without the Gram matrix, tile by tile.

A tile is evaluated, used and forgotten, so that memory is n (d + k) plus some tiles, for any n.
With x2 None each tile below the diagonal serves twice: T V_j goes to block i and T' V_i to block
j. Over the devices of a mesh the list of tiles is dealt out evenly and the partial results are
added up.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from kernelgap import _checks
from kernelgap.kernels import memory, sharding
from kernelgap.kernels.functions import KernelFunction, checked_block, checked_kernel
from kernelgap.typing import ArrayLike

_CHUNK = 32  # rows that compensated sums handle side by side


def matmul(
    kernel: KernelFunction,
    x1: ArrayLike,
    v: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> jax.Array:
    r"""K(x1, x2) @ v without ever holding K(x1, x2).

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`, or any function of that form.
        x1: inputs of shape (n1, d).
        v: (n2,) or (n2, k), one row per column of the Gram matrix.
        x2: inputs of shape (n2, d); None for x2 = x1, which halves the work.
        tile: largest side of a tile, at least 1; by default 1024 on a CPU, 8192 elsewhere. No
            number of inputs needs to be a multiple of it.
        mesh: devices that share the work, a `jax.sharding.Mesh`; all of its axes are used. In a
            program of several processes each passes the same arguments and gets the same result.

    Returns:
        An array of shape (n1,) or (n1, k). It can be differentiated: tiles are then computed
        again in the backward pass instead of being kept.

    Raises:
        TypeError: if `kernel` is not callable, x1, x2 or v is not floating, `tile` no integer, or
            `mesh` no mesh.
        ValueError: if shapes disagree, an array is empty or not finite, or `tile` < 1.
        MemoryError: if not even tiles and vectors fit.

    Example:
        >>> import jax, jax.numpy as jnp, kernelgap as kg
        >>> x, y = kg.datasets.xor_noise(jax.random.key(0), 100, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> product = kg.kernels.matmul(kernel, x, y, tile=32)
        >>> bool(jnp.allclose(product, kernel(x) @ y, atol=1e-4))
        True
    """
    kernel = checked_kernel(kernel)
    x1 = _checks.inputs(x1, "x1")
    x2 = None if x2 is None else _checks.inputs(x2, "x2", d=x1.shape[1])
    v = _checks.targets(v, (x1 if x2 is None else x2).shape[0], "v", columns=True)
    v = v.astype(x1.dtype)
    tile = None if tile is None else _checks.integer(tile, "tile", minimum=1)
    mesh = sharding.checked_mesh(mesh)
    device = sharding.first_device(mesh)
    side = tile or memory.default_tile((device or jax.local_devices()[0]).platform)
    n = max(a.shape[0] for a in (x1, x2) if a is not None)
    columns = 1 if v.ndim == 1 else v.shape[1]
    memory.require(
        memory.working_set(min(side, n), min(side, n), x1.dtype.itemsize)
        + 4 * n * (x1.shape[1] + columns) * x1.dtype.itemsize,
        "a product with this kernel",
        "A smaller `tile` needs less",
        device,
        traced=not _checks.is_concrete(x1, v, *([] if x2 is None else [x2])),
    )
    x1, v = sharding.replicate(x1, mesh), sharding.replicate(v, mesh)
    if x2 is None:
        return symmetric_matmul(kernel, x1, v, side, mesh)
    return _cross_matmul(kernel, x1, sharding.replicate(x2, mesh), v, side, mesh)


@partial(jax.jit, static_argnames=("tile", "mesh"))
def symmetric_matmul(
    kernel: KernelFunction,
    x: Float[Array, "n d"],
    v: Float[Array, "n *k"],
    tile: int,
    mesh: Mesh | None,
) -> Float[Array, "n *k"]:
    """K(x, x) @ v, each tile evaluated once."""
    count, side = _tiles(x.shape[0], tile)
    xs, vs = _blocks(x, count, side, mode="edge"), _blocks(v, count, side)

    def sums(xs: jax.Array, vs: jax.Array, pairs: tuple, weights: jax.Array) -> jax.Array:
        @jax.checkpoint
        def both(i: jax.Array, j: jax.Array, vi: jax.Array, vj: jax.Array) -> tuple:
            block = _tile(kernel, xs, i, j)
            return _product(block, vj), _product(block, vi, axis=0)

        def add(total: jax.Array, item: tuple) -> tuple[jax.Array, None]:
            (i, j), weight = item
            to_i, to_j = both(i, j, weight * vs[i], weight * vs[j])
            to_j = jnp.where(i == j, 0, to_j)
            return total.at[i].add(to_i).at[j].add(to_j), None

        found, _ = jax.lax.scan(add, jnp.zeros_like(vs), (pairs, weights))
        return sharding.total(found, mesh)

    pairs, weights = _dealt(np.tril_indices(count), sharding.devices(mesh), v.dtype)
    run = sharding.split(sums, mesh, [False, False, True, True], result=False)
    return run(xs, vs, pairs, weights).reshape(-1, *v.shape[1:])[: v.shape[0]]


@partial(jax.jit, static_argnames=("tile", "mesh"))
def _cross_matmul(
    kernel: KernelFunction,
    x1: Float[Array, "n1 d"],
    x2: Float[Array, "n2 d"],
    v: Float[Array, "n2 *k"],
    tile: int,
    mesh: Mesh | None,
) -> Float[Array, "n1 *k"]:
    """K(x1, x2) @ v."""
    count1, side1 = _tiles(x1.shape[0], tile)
    count2, side2 = _tiles(x2.shape[0], tile)
    xs1, xs2 = _blocks(x1, count1, side1, mode="edge"), _blocks(x2, count2, side2, mode="edge")
    shape = (count1, side1, *v.shape[1:])

    def sums(
        xs1: jax.Array, xs2: jax.Array, vs: jax.Array, pairs: tuple, weights: jax.Array
    ) -> jax.Array:
        @jax.checkpoint
        def one(xi: jax.Array, xj: jax.Array, vj: jax.Array) -> jax.Array:
            return _product(checked_block(kernel, xi, xj), vj)

        def add(total: jax.Array, item: tuple) -> tuple[jax.Array, None]:
            (i, j), weight = item
            return total.at[i].add(one(xs1[i], xs2[j], weight * vs[j])), None

        found, _ = jax.lax.scan(add, jnp.zeros(shape, v.dtype), (pairs, weights))
        return sharding.total(found, mesh)

    pairs, weights = _dealt(_all(count1, count2), sharding.devices(mesh), v.dtype)
    run = sharding.split(sums, mesh, [False, False, False, True, True], result=False)
    found = run(xs1, xs2, _blocks(v, count2, side2), pairs, weights)
    return found.reshape(-1, *v.shape[1:])[: x1.shape[0]]


@partial(jax.jit, static_argnames=("tile", "mesh"))
def accurate_matmul(
    kernel: KernelFunction,
    x: Float[Array, "n d"],
    v: Float[Array, " n"],
    shift: Float[Array, ""],
    tile: int,
    mesh: Mesh | None,
) -> Float[Array, " n"]:
    """K(x, x) @ v with compensated sums, where terms cancel by factors of a thousand and more.

    `shift` is a constant that is taken from all entries and given back in a sum of its own: with
    the mean of the entries most of the cancellation happens there.
    """
    count, side = _tiles(x.shape[0], tile, multiple=_CHUNK)
    xs, vs = _blocks(x, count, side, mode="edge"), _blocks(v, count, side)

    def sums(xs: jax.Array, vs: jax.Array, pairs: tuple, weights: jax.Array) -> jax.Array:
        def add(carry: tuple, item: tuple) -> tuple[tuple, None]:
            total, lost = carry
            (i, j), weight = item
            terms = (_tile(kernel, xs, j, i) - shift) * (weight * vs[j])[:, None]
            found, rest = compensated_sum(terms, (total[i], lost[i]))
            return (total.at[i].set(found), lost.at[i].set(rest)), None

        zeros = jnp.zeros((count, side), v.dtype)
        (total, lost), _ = jax.lax.scan(add, (zeros, zeros), (pairs, weights))
        # Over devices, totals are added apart from what rounding lost of them.
        return sharding.total(total, mesh) + sharding.total(lost, mesh)

    pairs, weights = _dealt(_all(count, count), sharding.devices(mesh), v.dtype)
    run = sharding.split(sums, mesh, [False, False, True, True], result=False)
    found = run(xs, vs, pairs, weights).reshape(-1)[: v.shape[0]]
    return found + shift * accurate_sum(v)


def add_compensated(
    carry: tuple[jax.Array, jax.Array], term: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """A sum and what rounding lost of it, with one more term (Neumaier)."""
    total, lost = carry
    after = total + term
    kept = after - total
    return after, lost + ((total - (after - kept)) + (term - kept))


def compensated_sum(
    terms: Float[Array, "m n"], start: tuple[Float[Array, " n"], Float[Array, " n"]]
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """The sum over the first axis and what rounding lost of it, from a start of both.

    In two passes, m being a multiple of _CHUNK: over rows _CHUNK apart, then over what is left.
    """

    def add(carry: tuple, term: jax.Array) -> tuple[tuple, None]:
        return add_compensated(carry, term), None

    wide = terms.reshape(-1, _CHUNK, terms.shape[1])
    zeros = jnp.zeros(wide.shape[1:], terms.dtype)
    (total, lost), _ = jax.lax.scan(add, (zeros, zeros), wide)
    (found, rest), _ = jax.lax.scan(add, start, total)
    return found, rest + jnp.sum(lost, axis=0)


def accurate_sum(v: Float[Array, " n"]) -> Float[Array, ""]:
    """The compensated sum of a vector."""
    terms = _blocks(v, -(-v.shape[0] // _CHUNK), _CHUNK).reshape(-1, 1)
    zero = jnp.zeros(1, v.dtype)
    total, lost = compensated_sum(terms, (zero, zero))
    return (total + lost)[0]


def _tiles(n: int, tile: int, multiple: int = 1) -> tuple[int, int]:
    """How many tiles of which side: even ones, so that little is padded."""
    count = -(-n // tile)
    side = -(-n // count)
    return count, -(-side // multiple) * multiple


def _blocks(array: jax.Array, count: int, side: int, mode: str = "constant") -> jax.Array:
    """Rows in blocks. Inputs are padded by copies (an "edge"), which no kernel can choke on."""
    widths = [(0, count * side - array.shape[0])] + [(0, 0)] * (array.ndim - 1)
    return jnp.pad(array, widths, mode=mode).reshape(count, side, *array.shape[1:])


def _tile(kernel: KernelFunction, xs: jax.Array, i: jax.Array, j: jax.Array) -> jax.Array:
    """The Gram matrix of blocks i and j, with the kernel's own diagonal where they are equal."""
    return jax.lax.cond(
        i == j,
        lambda: checked_block(kernel, xs[i], None),
        lambda: checked_block(kernel, xs[i], xs[j]),
    )


def _all(rows: int, columns: int) -> tuple[np.ndarray, ...]:
    return tuple(index.ravel() for index in np.indices((rows, columns)))


def _dealt(
    pairs: tuple[np.ndarray, ...], devices: int, dtype: np.dtype
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Tiles for each device, equally many: what is missing gets a weight of 0."""
    pad = -len(pairs[0]) % devices
    weights = np.pad(np.ones(len(pairs[0]), dtype), (0, pad))
    return tuple(np.pad(index.astype(np.int32), (0, pad)) for index in pairs), weights


def _product(block: jax.Array, v: jax.Array, axis: int = 1) -> jax.Array:
    """The block times v, or its transpose times v (axis 0), which is not formed."""
    dimensions = (((axis,), (0,)), ((), ()))
    return jax.lax.dot_general(block, v, dimensions, precision=jax.lax.Precision.HIGHEST)
