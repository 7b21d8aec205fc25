"""Gram matrices that are kept: in device memory, over a mesh, or in a file, by panels of rows.

No second matrix of their size is ever held, whatever the kernel keeps while it evaluates a panel,
and no size needs to divide another.
"""

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from kernelgap import _checks
from kernelgap.kernels import memory, sharding
from kernelgap.kernels.files import GramArray, GramFile, describe
from kernelgap.kernels.functions import KernelFunction, checked_block, checked_kernel, diagonal
from kernelgap.typing import ArrayLike

_ADVICE = "Write it to a file with `out`, or use kernels.matmul, which never holds it"


def gram(
    kernel: KernelFunction,
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    out: str | os.PathLike | np.ndarray | None = None,
    resume: bool = False,
    overwrite: bool = False,
    tile: int | None = None,
    mesh: Mesh | None = None,
) -> jax.Array | np.ndarray:
    """The Gram matrix K(x1, x2) by panels of rows, in memory, over devices, or on disk.

    Args:
        kernel: `kernel(x1, x2=None)`, such as `kernels.ntk(model)`, or any function of that form.
        x1: inputs of shape (n1, d).
        x2: inputs of shape (n2, d); None for x2 = x1: then the diagonal is the kernel's exact one.
        out: None for a JAX array; the name of a `.npy` file to write; or a writable array (a
            memory-map, say) of shape (n1, n2) and the kernel's dtype to fill.
        resume: go on with the unfinished file of an interrupted run with the same arguments.
        overwrite: replace the file `out` if there is one.
        tile: rows of a panel, at least 1; by default 1024 on a CPU, 8192 elsewhere.
        mesh: devices over which rows are split, a `jax.sharding.Mesh`; all of its axes are used.
            Without `out` the result stays there, split by rows, if n1 is a multiple of the number
            of devices; else every device gets all of it.

    Returns:
        An array of shape (n1, n2): a JAX array, or for a file the read-only memory-map of it.
        Symmetric when x2 is None: exactly in a file, where each tile is evaluated once, to
        rounding of one dot product in memory.

    Raises:
        TypeError: if `kernel` is not callable, x1 or x2 is not floating, `tile` no integer, `mesh`
            no mesh.
        ValueError: if shapes disagree, an array is empty or not finite, `tile` < 1, `out` has the
            wrong shape or dtype or no name ending in .npy, the unfinished file belongs to other
            arguments, or `out` is used over several processes.
        FileExistsError: if `out` exists and `overwrite` is False, or an unfinished file exists and
            neither `resume` nor `overwrite` is set.
        FileNotFoundError: if the folder of `out` does not exist.
        MemoryError: if the result, or a panel of it, cannot fit.

    Example:
        >>> import jax, kernelgap as kg
        >>> x, _ = kg.datasets.xor_noise(jax.random.key(0), 100, 10)
        >>> kernel = kg.kernels.ntk(kg.models.homogeneous_mlp((512,), parameterization="ntk"))
        >>> kg.kernels.gram(kernel, x, x[:30], tile=32).shape
        (100, 30)
    """
    kernel = checked_kernel(kernel)
    x1 = _checks.inputs(x1, "x1")
    x2 = None if x2 is None else _checks.inputs(x2, "x2", d=x1.shape[1])
    tile = None if tile is None else _checks.integer(tile, "tile", minimum=1)
    mesh = sharding.checked_mesh(mesh)
    if out is None and (resume or overwrite):
        raise ValueError("`resume` and `overwrite` are about the file `out`; got out=None")
    n1, n2 = x1.shape[0], (x1 if x2 is None else x2).shape[0]
    device = sharding.first_device(mesh)
    tile = min(tile or memory.default_tile((device or jax.local_devices()[0]).platform), n1)
    size = x1.dtype.itemsize
    if out is not None:
        if mesh is not None and mesh.is_multi_process:
            raise ValueError("`out` is written by one process; got a mesh over several. Let each "
                             "write its rows: gram(kernel, x[a:b], x, out=...)")  # fmt: skip
        memory.require(
            2 * tile * n2 * size + memory.working_set(tile, n2, size),
            f"a panel of {tile} rows of this Gram matrix",
            "A smaller `tile` needs less",
            device,
        )
        about = describe(kernel, x1, x2)
        if isinstance(out, np.ndarray):
            target: GramArray | GramFile = GramArray(out, about, resume or overwrite)
        else:
            target = GramFile(out, about, resume, overwrite)
        return _fill(target, kernel, x1, x2, tile, mesh)
    parts = sharding.devices(mesh)
    share = 1 if n1 % parts else parts
    memory.require(
        n1 * n2 * size // share + memory.working_set(tile, n2, size),
        f"the Gram matrix of shape ({n1}, {n2})",
        _ADVICE,
        device,
        traced=not _checks.is_concrete(x1, *([] if x2 is None else [x2])),
    )
    x1 = sharding.replicate(x1, mesh)
    return _in_memory(kernel, x1, None if x2 is None else sharding.replicate(x2, mesh), tile, mesh)


@partial(jax.jit, static_argnames=("tile", "mesh"))
def _in_memory(
    kernel: KernelFunction,
    x1: Float[Array, "n1 d"],
    x2: Float[Array, "n2 d"] | None,
    tile: int,
    mesh: Mesh | None,
) -> Float[Array, "n1 n2"]:
    n1, parts = x1.shape[0], sharding.devices(mesh)
    each = -(-n1 // parts)
    rows = jnp.pad(x1, ((0, each * parts - n1), (0, 0)), mode="edge")
    index = np.arange(each * parts, dtype=np.int32)
    run = sharding.split(
        lambda rows, index, x1, x2: _panels(kernel, rows, index, x1, x2, tile),
        mesh,
        [True, True, False, False],
        result=True,
    )
    found = run(rows, index, x1, x2)
    return found if each * parts == n1 else found[:n1]


def _panels(
    kernel: KernelFunction,
    rows: jax.Array,
    index: jax.Array,
    x1: jax.Array,
    x2: jax.Array | None,
    tile: int,
) -> jax.Array:
    """Some rows of the Gram matrix; `index` says which they are."""

    def panel(start: jax.Array | int, height: int) -> jax.Array:
        some = jax.lax.dynamic_slice_in_dim(rows, start, height)
        block = checked_block(kernel, some, x1 if x2 is None else x2)
        if x2 is not None:
            return block
        own = jax.lax.dynamic_slice_in_dim(index, start, height)
        on_diagonal = own[:, None] == jnp.arange(x1.shape[0], dtype=index.dtype)[None, :]
        return jnp.where(on_diagonal, diagonal(kernel, some)[:, None], block)

    n = rows.shape[0]
    if n <= tile:
        return panel(0, n)

    def write(found: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        return jax.lax.dynamic_update_slice_in_dim(found, panel(start, tile), start, 0), None

    # The last panel overlaps the one before it instead of reaching over the edge.
    starts = np.minimum(np.arange(0, n, tile, dtype=np.int32), n - tile)
    columns = (x1 if x2 is None else x2).shape[0]
    return jax.lax.scan(write, jnp.zeros((n, columns), rows.dtype), jnp.asarray(starts))[0]


def _fill(
    target: GramArray | GramFile,
    kernel: KernelFunction,
    x1: jax.Array,
    x2: jax.Array | None,
    tile: int,
    mesh: Mesh | None,
) -> np.ndarray:
    """Write all panels that are missing; return the finished matrix.

    A symmetric matrix goes tile by tile up to the diagonal, each mirrored: few shapes to compile.
    """
    n1, width = x1.shape[0], tile if x2 is None else x2.shape[0]
    for start in range(target.done, n1, tile):
        end = min(start + tile, n1)
        rows = sharding.replicate(x1[start:end], mesh)
        array = target.open()
        for first in range(0, end if x2 is None else width, width):
            others = None if first == start and x2 is None else (x1 if x2 is None else x2)
            others = None if others is None else others[first : first + width]
            others = None if others is None else sharding.replicate(others, mesh)
            block = np.asarray(_in_memory(kernel, rows, others, end - start, mesh))
            array[start:end, first : first + block.shape[1]] = block
            if x2 is None and others is not None:
                array[first : first + block.shape[1], start:end] = block.T
        target.close(array, end)
    return target.finish()
