"""Gram matrices stored in device memory, over a mesh, or in a file, evaluated tile by tile.

No second matrix of that size is ever held, whatever the kernel allocates while it evaluates a tile,
and no size needs to divide another.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from kernelgap._numerics import array_checks, checks
from kernelgap._numerics.quick import quick_jit
from kernelgap._support.extras import progress_bar
from kernelgap.kernels.functions import (
    KernelFunction,
    check_rows,
    checked_block,
    checked_inputs,
    checked_kernel,
    diagonal,
)
from kernelgap.kernels.tiled import memory, sharding
from kernelgap.kernels.tiled.files import GramArray, GramFile, describe
from kernelgap.typing import ArrayLike


def gram(
    kernel: KernelFunction,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    out: str | os.PathLike | np.ndarray | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = False,
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> jax.Array | np.ndarray:
    """Return the Gram matrix K(x1, x2) by tiles: in memory, split over devices, or on disk.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`, or any function of that form
            that JAX can trace, pure and symmetric in its two inputs.
        x1: Inputs of shape (n1, d).
        x2: Inputs of shape (n2, d); None for x2 = x1, which makes the diagonal exact.
        out: None for a JAX array; the name of a `.npy` file to write; or a writable array (a
            memory-map, say) of shape (n1, n2) and the dtype of x1 to fill.
        resume: Continue the unfinished file of an interrupted run with the same arguments, if there
            is one. The result is that of an uninterrupted run.
        overwrite: Replace the file `out` once the new one is complete and, unless `resume` is set,
            discard an unfinished one.
        progress: With `out`, show a bar over rows on stderr (extra `studies`).
        tile: Largest side of a tile, at least 1; by default 1024 on a CPU, 8192 elsewhere.
        mesh: Devices over which rows are split, a `jax.sharding.Mesh`; all of its axes are used.
            Without `out` the result stays on these devices, split by rows, if n1 is a multiple of
            their number; else every device gets all of it.

    Returns:
        An array of shape (n1, n2): a JAX array, the array `out`, or a read-only memory-map of the
        file. When x2 is None it is symmetric: exactly with `out`, where each tile is evaluated
        once, and up to the rounding of one dot product in memory.

    Raises:
        TypeError: If `kernel` returns another dtype than that of x1, or `out` is used under a
            transformation.
        ValueError: If `kernel` returns the wrong shape, the mesh has no device of this process, the
            unfinished file belongs to other arguments, or `out` is used over several processes.
        ImportError: If tqdm is missing for `progress`.
        FileExistsError: If `out` exists and `overwrite` is False, or an unfinished file exists and
            neither `resume` nor `overwrite` is set.
        FileNotFoundError: If the folder of `out` does not exist.
        OSError: If the disk has no room for the file.
        MemoryError: If the result, or a tile of it, does not fit.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 100, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> kg.kernels.gram(kernel, x, x[:30], tile=32).shape
        (100, 30)
    """
    kernel = checked_kernel(kernel)
    x1, x2 = checked_inputs(x1, x2)
    check_rows(kernel, x1)
    tile = None if tile is None else checks.integer(tile, "tile", minimum=1)
    mesh = sharding.checked_mesh(mesh)
    if out is None and (resume or overwrite):
        raise ValueError("`resume` and `overwrite` need a file as `out`; got out=None")
    if out is None and progress:
        raise ValueError("`progress` needs `out`, which is filled panel by panel; got out=None")
    n1, n2 = x1.shape[0], (x1 if x2 is None else x2).shape[0]
    device = sharding.first_device(mesh, x1)
    tile = tile or memory.default_tile(device.platform)
    traced = not array_checks.is_concrete(x1, x2, *jax.tree.leaves(kernel))
    if out is None:
        memory.require(
            _needed(n1, n2, x1, tile, mesh) * sharding.sharing_memory(mesh),
            f"the Gram matrix of shape ({n1}, {n2})",
            "Write it to a file with `out`, or use kernels.matmul, which never holds it",
            device,
            traced=traced,
        )
        x1, x2, kernel = sharding.placed(mesh, x1, x2, kernel)
        return _in_memory(kernel, x1, x2, tile, mesh)
    if traced:
        raise TypeError("`out` is filled now, not under jit, vmap or grad; got traced arguments")
    if mesh is not None and mesh.is_multi_process:
        raise ValueError("`out` is written by one process; got a mesh over several. Let each "
                         "write its rows: gram(kernel, x[a:b], x, out=...)")  # fmt: skip
    rows, columns = min(tile, n1), min(tile, n2)
    memory.require(
        memory.working_set(rows, columns, x1.dtype.itemsize) * sharding.sharing_memory(mesh),
        f"a tile of shape ({rows}, {columns}) of this Gram matrix",
        "A smaller `tile` needs less",
        device,
    )
    if isinstance(out, np.ndarray):
        target: GramArray | GramFile = GramArray(out, (n1, n2), x1.dtype, resume or overwrite)
    else:
        about = describe(kernel, x1, x2, tile)
        target = GramFile(out, about, resume=resume, overwrite=overwrite)
    try:
        with progress_bar(n1, "gram", unit="row", done=target.done, enabled=progress) as bar:
            return _fill(target, kernel, x1, x2, tile, mesh, bar.update)
    except KeyboardInterrupt as stop:
        stop.add_note(target.what_is_kept())
        raise


def _needed(n1: int, n2: int, x1: jax.Array, tile: int, mesh: Mesh | None) -> int:
    """Return the bytes of a Gram matrix on one device: its rows, a tile, and the inputs."""
    parts, size = sharding.devices(mesh), x1.dtype.itemsize
    rows = -(-n1 // parts)
    held = rows * n2 if n1 % parts == 0 else rows * n2 + 2 * parts * rows * n2
    inputs = 2 * (n1 + n2) * x1.shape[1]
    return (held + inputs) * size + memory.working_set(min(tile, rows), min(tile, n2), size)


@partial(quick_jit, static_argnames=("tile", "mesh"))
def _in_memory(
    kernel: KernelFunction,
    x1: Float[Array, "n1 d"],
    x2: Float[Array, "n2 d"] | None,
    tile: int,
    mesh: Mesh | None,
) -> Float[Array, "n1 n2"]:
    n1, parts = x1.shape[0], sharding.devices(mesh)
    each = -(-n1 // parts)
    index = np.arange(each * parts, dtype=np.int32)
    even = each * parts == n1

    def part(kernel: KernelFunction, x1: jax.Array, x2: jax.Array | None) -> jax.Array:
        own = sharding.share(np.minimum(index, n1 - 1), mesh)
        values = _rows(kernel, x1[own], own, x1, x2, tile)
        # JAX can only split arrays evenly.
        return values if even else sharding.gathered(values, mesh).reshape(-1, values.shape[1])[:n1]

    return sharding.split(part, mesh, result=even)(kernel, x1, x2)


def _rows(
    kernel: KernelFunction,
    rows: jax.Array,
    index: jax.Array,
    x1: jax.Array,
    x2: jax.Array | None,
    tile: int,
) -> jax.Array:
    """Return the rows of the Gram matrix with the given `index`, tile by tile."""
    others = x1 if x2 is None else x2
    n, m = rows.shape[0], others.shape[0]
    height, width = min(tile, n), min(tile, m)

    def write(values: jax.Array, corner: jax.Array) -> tuple[jax.Array, None]:
        top, left = corner
        tile_rows = jax.lax.dynamic_slice_in_dim(rows, top, height)
        block = checked_block(kernel, tile_rows, jax.lax.dynamic_slice_in_dim(others, left, width))
        if x2 is None:
            own = jax.lax.dynamic_slice_in_dim(index, top, height)
            on_diagonal = own[:, None] == left + jnp.arange(width, dtype=index.dtype)[None, :]
            block = jnp.where(on_diagonal, diagonal(kernel, tile_rows)[:, None], block)
        return jax.lax.dynamic_update_slice(values, block, (top, left)), None

    # The last tiles overlap the ones before them instead of reaching over the edge.
    tops = np.minimum(np.arange(0, n, height, dtype=np.int32), n - height)
    lefts = np.minimum(np.arange(0, m, width, dtype=np.int32), m - width)
    corners = np.stack([np.repeat(tops, len(lefts)), np.tile(lefts, len(tops))], axis=1)
    # Every entry is overwritten. Copies of an input have its mesh, which may be part of the type.
    start = jnp.broadcast_to(rows[0, 0], (n, m))
    return jax.lax.scan(write, start, jnp.asarray(corners))[0]


def _fill(
    target: GramArray | GramFile,
    kernel: KernelFunction,
    x1: jax.Array,
    x2: jax.Array | None,
    tile: int,
    mesh: Mesh | None,
    advance: Callable[[int], Any],
) -> np.ndarray:
    """Write all missing panels, tile by tile, and return the finished matrix.

    Of a symmetric matrix, tiles up to the diagonal are evaluated and mirrored, so that panel i
    completes rows and columns.
    """
    kernel = sharding.replicate(kernel, mesh)
    # Slice on the host: JAX would compile every slice.
    rows, columns = np.asarray(x1), np.asarray(x1 if x2 is None else x2)

    def block(*sides: np.ndarray | None) -> np.ndarray:
        placed = (None if side is None else jnp.asarray(side) for side in sides)
        return np.asarray(_in_memory(kernel, *sharding.replicate(tuple(placed), mesh), tile, mesh))

    for top in range(target.done, len(rows), tile):
        end = min(top + tile, len(rows))
        for left in range(0, end if x2 is None else len(columns), tile):
            right = min(left + tile, len(columns))
            if x2 is None and left == top:
                values = block(rows[top:end], None)
                target.write(top, top, np.tril(values) + np.tril(values, -1).T)
                continue
            values = block(rows[top:end], columns[left:right])
            target.write(top, left, values)
            if x2 is None:
                target.write(left, top, values.T)
        target.keep(end)
        advance(end - top)
    return target.finish()
