"""K(x1, x2) on the host, in blocks of few shapes: other numbers of inputs compile nothing."""

from collections.abc import Iterator

import jax
import numpy as np

from kernelgap._numerics.quick import quick_jit, runs_alone
from kernelgap.kernels.functions import KernelFunction, checked_block
from kernelgap.kernels.kernel import Kernel

_ROWS, _COLUMNS, _LEAST = 1024, 512, 64  # sides of the largest block, and of the smallest


def has_blocks(kernel: KernelFunction, *arrays: jax.Array) -> bool:
    """Return True on a single CPU, whose memory NumPy shares, unless something is traced.

    Functions that are not a `Kernel` are called as they are: errors name the shapes they get.
    """
    return isinstance(kernel, Kernel) and runs_alone([*arrays, *jax.tree.leaves(kernel)])


def cross_blocks(
    kernel: KernelFunction, x1: jax.Array, x2: jax.Array, tile: int
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yield rows, columns and values of each block of K(x1, x2), row after row."""
    for i, rows in _parts(x1, min(tile, _ROWS)):
        for j, columns in _parts(x2, min(tile, _COLUMNS)):
            block = np.asarray(_block(kernel, rows, columns))
            yield i, j, block[: i.stop - i.start, : j.stop - j.start]


def _parts(x: jax.Array, largest: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices, and their rows of x, to which copies of the last are added."""
    host, n = np.asarray(x), x.shape[0]
    side = min(largest, max(_LEAST, 1 << (n - 1).bit_length()))
    for start in range(0, n, side):
        part = slice(start, min(start + side, n))
        yield part, np.pad(host[part], ((0, side - (part.stop - start)), (0, 0)), mode="edge")


@quick_jit
def _block(kernel: KernelFunction, x1: jax.Array, x2: jax.Array) -> jax.Array:
    return checked_block(kernel, x1, x2)
